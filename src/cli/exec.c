/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exec - a command in a sandbox, joined to this terminal.
 *
 * How this works: one HTTP request on the api's socket carries three
 * descriptors beside it (SCM_RIGHTS): our own input, output and error, or
 * three times the far end of a new pseudo terminal. The answer is a line of
 * JSON when it runs and one with the exit status when it ended. Signals and
 * the size of the window follow: signals by a second request, the size
 * through the pseudo terminal itself.
 */
#include "cli/cli.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

struct session {
	struct cli *c;
	int sock, master, sig_fd;	/* master -1: no terminal */
	struct buf in;			/* the answer as received */
	bool head_done, chunked;
	struct buf body;		/* the answer's bytes */
	bool eof;
	int64_t exec_id;
	int status;			/* -1: not known yet */
	bool stdin_open;
	struct buf to_master;		/* typed, not taken yet */
};

/* ---- the request ------------------------------------------------------------------ */

static int send_with_fds(int sock, struct span head, const int fds[3])
{
	union {
		char b[CMSG_SPACE(sizeof(int) * 3)];
		struct cmsghdr align;
	} ctl;
	struct iovec iov = { (void *)(uintptr_t)head.p, head.n };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl.b,
			     .msg_controllen = sizeof ctl.b };
	ssize_t n;

	memset(&ctl, 0, sizeof ctl);
	struct cmsghdr *cm = CMSG_FIRSTHDR(&mh);

	cm->cmsg_level = SOL_SOCKET;
	cm->cmsg_type = SCM_RIGHTS;
	cm->cmsg_len = CMSG_LEN(sizeof(int) * 3);
	memcpy(CMSG_DATA(cm), fds, sizeof(int) * 3);
	do
		n = sendmsg(sock, &mh, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return cl_write_full(sock, head.p + n, head.n - (size_t)n);
}

static int request(struct session *s, bool tty, const int fds[3])
{
	CL_BUF struct buf b;
	CL_FREE char *text = NULL;
	const char *term = getenv("TERM");
	json_t *argv = json_array(), *body;
	int r = 0;

	for (unsigned i = 1; i < s->c->nargs; i++)
		if (json_array_append_new(argv, json_string(s->c->arg[i])))
			r = cli_fail(EXIT_USAGE, "argument %u is not UTF-8 text", i);
	body = json_pack("{s:o, s:b}", "argv", argv, "tty", tty);
	if (tty && term && name_ok(span_str(term)))
		(void)json_object_set_new(body, "term", json_string(term));
	text = json_dumps(body, JSON_COMPACT);
	json_decref(body);
	if (r)
		return r;
	if (!text)
		return cli_fail(EXIT_FAILED, "no memory");
	buf_init(&b, 1u << 20);
	(void)buf_printf(&b, "POST /v1/tenants/%s/exec HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
			 "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", s->c->arg[0],
			 strlen(text), text);
	if (b.failed)
		return cli_fail(EXIT_FAILED, "the command is too long");
	r = send_with_fds(s->sock, buf_span(&b), fds);
	return r ? cli_fail(EXIT_FAILED, "the service: %s", strerror(-r)) : 0;
}

/* ---- the answer --------------------------------------------------------------------- */

/* head of the answer: status line and whether it is chunked; our own service wrote it */
static int take_head(struct session *s)
{
	const char *end = s->in.n ? memmem(s->in.p, s->in.n, "\r\n\r\n", 4) : NULL;
	uint32_t status;

	if (!end)
		return 0;
	struct span head = { s->in.p, (size_t)(end - s->in.p) };

	if (head.n < 12 || memcmp(head.p, "HTTP/1.1 ", 9) != 0 ||
	    num_parse_u32((struct span){ head.p + 9, 3 }, 999, &status))
		return cli_fail(EXIT_FAILED, "the service answered something that is not HTTP");
	for (struct span line; head.n;) {
		if (!span_cut(&head, '\n', &line)) {
			line = head;
			head.n = 0;
		}
		if (line.n >= 18 && strncasecmp(line.p, "transfer-encoding:", 18) == 0)
			s->chunked = true;
	}
	if (status != 200)
		s->status = -(int)status;
	buf_consume(&s->in, (size_t)(end - s->in.p) + 4);
	s->head_done = true;
	return 0;
}

/* whole chunks from in to body */
static int take_chunks(struct session *s)
{
	for (;;) {
		const char *eol = s->in.n ? memmem(s->in.p, s->in.n, "\r\n", 2) : NULL;
		size_t n = 0;

		if (!eol)
			return 0;
		for (const char *p = s->in.p; p < eol; p++) {
			int d = *p >= '0' && *p <= '9' ? *p - '0' : *p >= 'a' && *p <= 'f' ? *p - 'a' + 10 :
				*p >= 'A' && *p <= 'F' ? *p - 'A' + 10 : -1;

			if (d < 0 || n > (1u << 24))
				return cli_fail(EXIT_FAILED, "the service's answer is broken");
			n = n * 16 + (size_t)d;
		}
		size_t lead = (size_t)(eol - s->in.p) + 2;

		if (s->in.n < lead + n + 2)
			return 0;
		if (n == 0) {
			s->eof = true;
			return 0;
		}
		if (buf_add(&s->body, s->in.p + lead, n))
			return cli_fail(EXIT_FAILED, "the service's answer is too long");
		buf_consume(&s->in, lead + n + 2);
	}
}

/* lines of the body: {"exec_id":N} then {"exit":N} */
static void take_lines(struct session *s)
{
	for (;;) {
		char *eol = s->body.n ? memchr(s->body.p, '\n', s->body.n) : NULL;
		json_t *v, *e;

		if (!eol || s->status < -1)
			return;
		v = json_loadb(s->body.p, (size_t)(eol - s->body.p), JSON_REJECT_DUPLICATES, NULL);
		e = json_object_get(v, "exec_id");
		if (e)
			s->exec_id = json_integer_value(e);
		e = json_object_get(v, "exit");
		if (e)
			s->status = (int)json_integer_value(e);
		json_decref(v);
		buf_consume(&s->body, (size_t)(eol - s->body.p) + 1);
	}
}

static int on_socket(struct session *s)
{
	char piece[4096];
	ssize_t n = read(s->sock, piece, sizeof piece);
	int r = 0;

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n <= 0) {
		s->eof = true;
		return 0;
	}
	if (buf_add(&s->in, piece, (size_t)n))
		return cli_fail(EXIT_FAILED, "the service's answer is too long");
	if (!s->head_done)
		r = take_head(s);
	if (r || !s->head_done)
		return r;
	if (s->chunked)
		r = take_chunks(s);
	else if (buf_add(&s->body, s->in.p, s->in.n) == 0)
		buf_clear(&s->in);
	take_lines(s);
	return r;
}

/* ---- the terminal --------------------------------------------------------------------- */

static void copy_size(int master)
{
	struct winsize w;

	if (ioctl(0, TIOCGWINSZ, &w) == 0)
		(void)ioctl(master, TIOCSWINSZ, &w);	/* the kernel tells the other side */
}

static int open_pty(int *out_master, int *out_slave)
{
	char name[64];
	int m = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), sl;

	if (m < 0)
		return cli_fail(EXIT_FAILED, "no pseudo terminal: %s", strerror(errno));
	if (grantpt(m) < 0 || unlockpt(m) < 0 || ptsname_r(m, name, sizeof name) != 0 ||
	    (sl = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0) {
		(void)cl_close(m);
		return cli_fail(EXIT_FAILED, "no pseudo terminal: %s", strerror(errno));
	}
	copy_size(m);
	(void)cl_set_nonblock(m);
	*out_master = m;
	*out_slave = sl;
	return 0;
}

static void send_signal(struct session *s, int signo)
{
	json_t *body = json_pack("{s:i}", "signal", signo);

	if (s->exec_id)
		(void)client_call(s->c, "POST", client_path("/v1/tenants/%s/exec/%lld/signal", s->c->arg[0],
							    (long long)s->exec_id), body, NULL, NULL);
	json_decref(body);
}

static void on_signal(struct session *s)
{
	struct signalfd_siginfo si;

	while (read(s->sig_fd, &si, sizeof si) == (ssize_t)sizeof si) {
		if (si.ssi_signo == SIGWINCH) {
			if (s->master >= 0)
				copy_size(s->master);
		} else {
			send_signal(s, (int)si.ssi_signo);
		}
	}
}

static void from_master(struct session *s)
{
	char piece[16384];
	ssize_t n = read(s->master, piece, sizeof piece);

	if (n > 0)
		(void)cl_write_full(1, piece, (size_t)n);	/* our own output is gone: the command ends by its own */
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		s->master = cl_close(s->master);
}

static void to_master(struct session *s)
{
	ssize_t n = write(s->master, s->to_master.p, s->to_master.n);

	if (n > 0)
		buf_consume(&s->to_master, (size_t)n);
}

static void typed(struct session *s)
{
	char piece[4096];
	ssize_t n = read(0, piece, sizeof piece);

	if (n > 0)
		(void)buf_add(&s->to_master, piece, (size_t)n);	/* bounded: see relay() */
	else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		static const char eot = 4;

		s->stdin_open = false;
		(void)buf_add(&s->to_master, &eot, 1);	/* end of file, as a terminal says it */
	}
}

/* until the answer's end, then what the terminal still holds */
static int relay(struct session *s)
{
	while (!s->eof) {
		bool room = s->to_master.n < 65536;
		struct pollfd p[4] = {
			{ .fd = s->sock, .events = POLLIN },
			{ .fd = s->sig_fd, .events = POLLIN },
			{ .fd = s->master, .events = (short)(POLLIN | (s->to_master.n ? POLLOUT : 0)) },
			{ .fd = s->master >= 0 && s->stdin_open && room ? 0 : -1, .events = POLLIN },
		};
		int r = 0;

		if (poll(p, 4, -1) < 0 && errno != EINTR)
			return cli_fail(EXIT_FAILED, "poll: %s", strerror(errno));
		if (p[1].revents)
			on_signal(s);
		if (p[2].revents & POLLOUT)
			to_master(s);
		if (s->master >= 0 && (p[2].revents & (POLLIN | POLLHUP | POLLERR)))
			from_master(s);
		if (p[3].revents)
			typed(s);
		if (p[0].revents)
			r = on_socket(s);
		if (r)
			return r;
	}
	for (int i = 0; s->master >= 0 && i < 64; i++) {
		struct pollfd p = { .fd = s->master, .events = POLLIN };

		if (poll(&p, 1, 50) <= 0)
			break;
		from_master(s);
	}
	return 0;
}

static int result(struct session *s)
{
	json_t *v;
	int r;

	if (s->status >= 0)
		return s->status;
	if (s->status == -1)
		return cli_fail(EXIT_FAILED, "the service went away; the command was ended");
	v = json_loadb(s->body.p ? s->body.p : "", s->body.n, JSON_REJECT_DUPLICATES, NULL);
	r = client_failed(s->c, -s->status, v);
	json_decref(v);
	return r;
}

int cmd_exec(struct cli *c)
{
	struct session s = { .c = c, .master = -1, .status = -1, .stdin_open = true };
	bool tty = cli_opt(c, "tty") || (!cli_opt(c, "no-tty") && isatty(0) && isatty(1)), raw = false;
	struct termios was, now;
	struct cl_err err = { 0 };
	sigset_t set;
	int slave = -1, r;

	if (!tenant_id_ok(span_str(c->arg[0])))
		return cli_fail(EXIT_USAGE, "'%s' is not a tenant id", c->arg[0]);
	s.sock = client_connect(c, &err);
	if (s.sock < 0)
		return client_do(c, "GET", "/v1/version", NULL, NULL);	/* says why */
	buf_init(&s.in, 1u << 20);
	buf_init(&s.body, 1u << 20);
	buf_init(&s.to_master, 1u << 20);
	sigemptyset(&set);
	for (const int *n = (const int[]){ SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGUSR1, SIGUSR2, 0 }; *n; n++)
		sigaddset(&set, *n);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	s.sig_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	r = s.sig_fd < 0 ? cli_fail(EXIT_FAILED, "signalfd: %s", strerror(errno)) : 0;
	if (r == 0 && tty)
		r = open_pty(&s.master, &slave);
	if (r == 0)
		r = request(&s, tty, tty ? (const int[3]){ slave, slave, slave } : (const int[3]){ 0, 1, 2 });
	slave = cl_close(slave);
	if (r == 0 && tty && isatty(0) && tcgetattr(0, &was) == 0) {
		now = was;
		cfmakeraw(&now);
		raw = tcsetattr(0, TCSADRAIN, &now) == 0;
	}
	if (r == 0)
		r = relay(&s);
	if (raw)
		(void)tcsetattr(0, TCSADRAIN, &was);	/* nothing else to do */
	if (r == 0)
		r = result(&s);
	(void)cl_close(s.sock);
	(void)cl_close(s.master);
	(void)cl_close(s.sig_fd);
	buf_done(&s.in);
	buf_done(&s.body);
	buf_done(&s.to_master);
	return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exec - a command in a sandbox; logs of an agent.
 *
 * The operator's tool sends its three descriptors with the request; they go
 * on to cloisterd as they are. The answer is two lines of JSON: one when it
 * runs, one when it ended.
 */
#include "api/api.h"

#include <stdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ARGV_MAX 32768u
#define LOG_TICK_US 300000
#define LOG_PIECE 65536u
#define LOG_TAIL_MAX (4u << 20)

struct run {
	struct wait w;		/* first: on_gone finds it in req->ctx */
	struct run *next, **prev;
	uint32_t exec_id;
	bool begun;
};

static void run_unlink(struct run *x)
{
	*x->prev = x->next;
	if (x->next)
		x->next->prev = x->prev;
	free(x);
}

static void send_signal(struct api *a, uint32_t no, uint32_t exec_id, uint32_t signo);

/* the operator's terminal is gone: so is what ran in it */
static void gone(struct wait *w)
{
	struct run *x = (struct run *)(void *)w;

	if (x->begun)
		send_signal(w->a, w->no, x->exec_id, SIGKILL);
}

static void ignored(void *ctx, uint32_t type, const union wire_any *msg, int *fds, size_t nfds)
{
	(void)ctx;
	(void)type;
	(void)msg;
	(void)fds;
	(void)nfds;
}

static void send_signal(struct api *a, uint32_t no, uint32_t exec_id, uint32_t signo)
{
	struct msg_exec_signal m = { .no = no, .exec_id = exec_id, .signo = signo };

	(void)chan_call(&a->control, MSG_EXEC_SIGNAL, &m, NULL, 0, ignored, NULL);	/* it may have ended */
}

/* cloisterd's answer names the run by its number: the client may have left meanwhile */
static struct run *run_find(struct api *a, uint32_t exec_id)
{
	for (struct run *x = a->runs; x; x = x->next)
		if (x->exec_id == exec_id)
			return x;
	return NULL;
}

static void begun(void *ctx, uint32_t type, const union wire_any *msg, int *fds, size_t nfds)
{
	struct run *x = ctx;
	struct httpd_req *r = x->w.req;
	char line[64], text[700] = "cloisterd is gone";
	int code = type == MSG_REPLY ? (int)msg->reply.code : EPIPE;

	(void)fds;
	(void)nfds;
	if (code == 0) {
		int n = snprintf(line, sizeof line, "{\"exec_id\":%u}\n", x->exec_id);

		x->begun = true;
		if (!r) {
			send_signal(x->w.a, x->w.no, x->exec_id, SIGKILL);
			return;
		}
		httpd_start(r, 200, SPAN("Content-Type: application/x-ndjson\r\nCache-Control: no-store\r\n"), UINT64_MAX);
		(void)httpd_write(r, (struct span){ line, (size_t)n });	/* a client that left: on_gone follows */
		return;
	}
	if (type == MSG_REPLY)
		utf8_scrub(msg->reply.text, text, sizeof text);
	record_admin(x->w.a, x->w.id, "exec", "failed", x->w.id, text);
	run_unlink(x);
	if (!r)
		return;
	r->ctx = NULL;
	respond_error(r, code == ENOENT || code == ESRCH ? 409 : code == EPIPE ? 503 : 422, NULL, "%s",
		      *text ? text : "it could not be started");
}

void exec_done(struct api *a, uint32_t no, uint32_t exec_id, uint32_t status)
{
	struct run *x = run_find(a, exec_id);
	struct httpd_req *r;
	char line[64];
	int n;

	if (!x || x->w.no != no || !x->begun)
		return;
	r = x->w.req;
	run_unlink(x);
	if (!r)
		return;
	r->ctx = NULL;
	n = snprintf(line, sizeof line, "{\"exit\":%u}\n", status);
	(void)httpd_write(r, (struct span){ line, (size_t)n });	/* the end follows in any case */
	httpd_finish(r);
}

/* NUL-ended strings of a JSON list; false: an answer was given */
static bool strings(struct call *c, const json_t *list, struct buf *out)
{
	const json_t *v;
	size_t i;

	if (!json_is_array(list) || json_array_size(list) == 0 || json_array_size(list) > 256) {
		respond_error(c->req, 422, NULL, "'argv' must be a list of 1 to 256 texts");
		return false;
	}
	json_array_foreach(list, i, v) {
		if (!json_is_string(v) || json_string_length(v) != strlen(json_string_value(v))) {
			respond_error(c->req, 422, NULL, "'argv' must be a list of texts without NUL");
			return false;
		}
		(void)buf_add(out, json_string_value(v), json_string_length(v) + 1);
	}
	if (out->failed)
		respond_error(c->req, 413, NULL, "the command is longer than %u bytes", ARGV_MAX);
	return !out->failed;
}

/* the words of the command, with spaces between them */
static void record_command(struct api *a, const char *id, struct span argv)
{
	char line[1024];
	size_t n = argv.n < sizeof line ? argv.n : sizeof line;

	for (size_t i = 0; i < n; i++)
		line[i] = argv.p[i] ? argv.p[i] : ' ';
	line[n - 1] = '\0';	/* the last one's end, or cut off: it is a note */
	record_admin(a, id, "exec", "ok", id, line);
}

void on_exec(struct call *c)
{
	const char *term = json_string_value(json_object_get(c->body, "term"));
	struct api *a = c->a;
	CL_BUF struct buf argv, env;
	struct msg_tenant_exec m;
	struct run *x;
	int fds[3];

	if (c->req->nfds != 3) {
		respond_error(c->req, 400, "use: cloister exec", "three descriptors must come with this request");
		return;
	}
	buf_init(&argv, ARGV_MAX);
	buf_init(&env, 1024);
	if (!strings(c, json_object_get(c->body, "argv"), &argv))
		return;
	if (term && name_ok(span_str(term))) {
		(void)buf_printf(&env, "TERM=%s", term);
		(void)buf_add(&env, "", 1);
	}
	x = calloc(1, sizeof *x);
	if (!x) {
		respond_error(c->req, 503, NULL, "no memory");
		return;
	}
	x->w = (struct wait){ .a = a, .req = c->req, .gone = gone, .no = c->t->no, .fd = -1 };
	(void)span_copy(span_str(c->t->id), x->w.id, sizeof x->w.id);
	do
		a->next_exec++;
	while (a->next_exec == 0 || run_find(a, a->next_exec));
	x->exec_id = a->next_exec;
	x->next = a->runs;
	x->prev = &a->runs;
	if (x->next)
		x->next->prev = &x->next;
	a->runs = x;
	c->req->ctx = &x->w;
	m = (struct msg_tenant_exec){ .no = c->t->no, .exec_id = x->exec_id,
		.tty = json_is_true(json_object_get(c->body, "tty")), .argv = buf_span(&argv), .env = buf_span(&env) };
	for (int i = 0; i < 3; i++)
		fds[i] = c->req->fds[i];
	record_command(a, c->t->id, buf_span(&argv));
	if (chan_call(&a->control, MSG_TENANT_EXEC, &m, fds, 3, begun, x)) {
		run_unlink(x);
		c->req->ctx = NULL;
		respond_error(c->req, 503, NULL, "cloisterd cannot be told");
		return;
	}
	/* sent (duplicated): ours must close, or the far end never sees an end of file */
	for (int i = 0; i < 3; i++)
		c->req->fds[i] = cl_close(c->req->fds[i]);
}

void on_exec_signal(struct call *c)
{
	json_int_t signo = json_integer_value(json_object_get(c->body, "signal"));
	uint32_t exec_id;
	struct run *x;

	if (num_parse_u32(c->arg[1], UINT32_MAX, &exec_id) || !(x = run_find(c->a, exec_id)) || x->w.no != c->t->no) {
		respond_error(c->req, 404, NULL, "nothing of that number runs");
		return;
	}
	if (signo < 1 || signo > 31) {
		respond_error(c->req, 422, NULL, "'signal' must be a number from 1 to 31");
		return;
	}
	send_signal(c->a, c->t->no, exec_id, (uint32_t)signo);
	respond(c->req, 200, json_pack("{s:b}", "ok", 1));
}

/* ---- logs ---------------------------------------------------------------------------------- */

struct following {
	struct wait w;		/* first: on_gone finds it in req->ctx */
	struct loop_timer tick;
	uint32_t lines;
	bool follow, waiting;	/* waiting: cloisterd has been asked again */
	ino_t inode;		/* of the file that is followed */
	off_t at;
};

static void follow_free(struct following *f)
{
	loop_timer_del(&f->tick);
	(void)cl_close(f->w.fd);
	free(f);
}

static void follow_gone(struct wait *w)
{
	struct following *f = (struct following *)(void *)w;

	if (!f->waiting)
		follow_free(f);	/* else its answer frees it */
}

static void follow_end(struct following *f)
{
	struct httpd_req *r = f->w.req;

	r->ctx = NULL;
	httpd_finish(r);
	follow_free(f);
}

/* where the last @lines lines of the first @size bytes begin */
static off_t tail_from(int fd, off_t size, uint32_t lines)
{
	char piece[8192];
	off_t at = size, end = size > (off_t)LOG_TAIL_MAX ? size - (off_t)LOG_TAIL_MAX : 0;
	uint32_t seen = 0;

	while (at > end) {
		size_t n = at - end > (off_t)sizeof piece ? sizeof piece : (size_t)(at - end);
		ssize_t k = pread(fd, piece, n, at - (off_t)n);

		if (k != (ssize_t)n)
			return at;
		for (size_t i = n; i > 0; i--)
			/* the newline at the very end belongs to the last line */
			if (piece[i - 1] == '\n' && at - (off_t)n + (off_t)i != size && ++seen >= lines)
				return at - (off_t)n + (off_t)i;
		at -= (off_t)n;
	}
	return end;
}

/* what came since; false when the client is gone or slow (the rest comes at the next tick) */
static void read_on(struct following *f)
{
	char piece[8192];

	for (size_t total = 0; total < LOG_PIECE * 4;) {
		ssize_t n = pread(f->w.fd, piece, sizeof piece, f->at);
		int r;

		if (n <= 0)
			return;
		f->at += n;
		total += (size_t)n;
		r = httpd_write(f->w.req, (struct span){ piece, (size_t)n });
		if (r)
			return;
	}
}

static void got_logs(void *ctx, uint32_t type, const union wire_any *msg, int *fds, size_t nfds);

static void on_log_tick(struct loop_timer *t)
{
	struct following *f = t->ctx;
	struct msg_tenant_logs m = { .no = f->w.no };
	struct stat st;

	read_on(f);
	/* renamed away and a new one begun: the old one has no more to say */
	if (fstat(f->w.fd, &st) == 0 && f->at >= st.st_size) {
		f->waiting = true;
		if (chan_call(&f->w.a->control, MSG_TENANT_LOGS, &m, NULL, 0, got_logs, f) == 0)
			return;
		f->waiting = false;
		follow_end(f);
		return;
	}
	if (loop_timer_set(f->w.a->loop, t, LOG_TICK_US, on_log_tick, f))
		follow_end(f);
}

static void got_logs(void *ctx, uint32_t type, const union wire_any *msg, int *fds, size_t nfds)
{
	struct following *f = ctx;
	struct httpd_req *r = f->w.req;
	bool first = f->w.fd < 0;
	struct stat st;
	char text[400] = "cloisterd is gone";

	f->waiting = false;
	if (!r) {
		follow_free(f);
		return;
	}
	if (type != MSG_REPLY || msg->reply.code || nfds == 0 || fstat(fds[0], &st) < 0 || !S_ISREG(st.st_mode)) {
		if (!first) {
			follow_end(f);
			return;
		}
		if (type == MSG_REPLY)
			utf8_scrub(msg->reply.text, text, sizeof text);
		r->ctx = NULL;
		follow_free(f);
		if (type == MSG_REPLY)
			respond_error(r, 409, "start it: cloister tenant start", "%s", *text ? text : "there is no log yet");
		else
			respond_error(r, 503, NULL, "%s", text);
		return;
	}
	if (first || st.st_ino != f->inode) {
		(void)cl_close(f->w.fd);
		f->w.fd = fds[0];
		fds[0] = -1;
		f->inode = st.st_ino;
		f->at = first ? tail_from(f->w.fd, st.st_size, f->lines) : 0;
	}
	if (first)
		httpd_start(r, 200, SPAN("Content-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n"
					 "X-Content-Type-Options: nosniff\r\n"), UINT64_MAX);
	read_on(f);
	if (!f->follow) {
		/* a log is at most a few times the tail: all of it now, the kernel's and our buffers hold it */
		for (off_t before = -1; before != f->at;) {
			before = f->at;
			read_on(f);
		}
		follow_end(f);
	} else if (loop_timer_set(f->w.a->loop, &f->tick, LOG_TICK_US, on_log_tick, f)) {
		follow_end(f);
	}
}

void on_logs(struct call *c)
{
	struct msg_tenant_logs m = { .no = c->t->no };
	struct span s = query_get(c->req, "lines");
	struct following *f;
	uint32_t lines = 200;

	if (s.n && num_parse_u32(s, 1000000, &lines)) {
		respond_error(c->req, 422, NULL, "lines must be a number up to 1000000");
		return;
	}
	f = calloc(1, sizeof *f);
	if (!f) {
		respond_error(c->req, 503, NULL, "no memory");
		return;
	}
	f->w = (struct wait){ .a = c->a, .req = c->req, .gone = follow_gone, .no = c->t->no, .fd = -1 };
	f->lines = lines ? lines : 1;
	f->follow = span_eq_str(query_get(c->req, "follow"), "1");
	f->waiting = true;
	c->req->ctx = &f->w;
	if (chan_call(&c->a->control, MSG_TENANT_LOGS, &m, NULL, 0, got_logs, f)) {
		c->req->ctx = NULL;
		follow_free(f);
		respond_error(c->req, 503, NULL, "cloisterd cannot be told");
	}
}

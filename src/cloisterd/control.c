/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The channel to init. Whoever has the tenant's uid may have taken init
 * over: what comes is judged, bounded and believed as little as possible.
 * Descriptors that come with it are refused by the kernel (recv without
 * room for them).
 */
#include "cloisterd/links.h"
#include "cloisterd/tenant.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define READS_A_ROUND 16
#define EXEC_REFUSED 125	/* status of a program that init could not start */
#define UNIX98_PTY_SLAVE_MAJOR 136
#define UNIX98_PTY_MAJORS 8
#define MEM_MAJOR 1
#define NULL_MINOR 3

int control_send(struct tenant *t, enum init_type type, uint32_t id, uint64_t a, uint64_t b,
		 struct span bytes, const int *fds, size_t nfds)
{
	struct init_msg m = { .magic = INIT_MAGIC, .type = type, .id = id,
			      .len = (uint32_t)bytes.n, .a = a, .b = b };
	union {
		char b[CMSG_SPACE(sizeof(int) * 3)];
		struct cmsghdr align;
	} ctl;
	struct iovec iov[2] = { { &m, sizeof m },
				{ (void *)(uintptr_t)bytes.p, bytes.n } };
	struct msghdr mh = { .msg_iov = iov, .msg_iovlen = bytes.n ? 2 : 1 };

	if (t->control_fd < 0 || bytes.n > INIT_BYTES_MAX || nfds > 3)
		return -EINVAL;
	if (nfds) {
		memset(&ctl, 0, sizeof ctl);
		mh.msg_control = ctl.b;
		mh.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
		struct cmsghdr *cm = CMSG_FIRSTHDR(&mh);

		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
		memcpy(CMSG_DATA(cm), fds, sizeof(int) * nfds);
	}
	for (;;) {
		if (sendmsg(t->control_fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
			return 0;
		if (errno != EINTR)
			return -errno;	/* EAGAIN: init does not read; the caller gives up */
	}
}

static void exec_done(struct tenant *t, uint32_t id, uint32_t status)
{
	for (size_t i = 0; i < INIT_EXECS_MAX; i++) {
		struct exec_slot *s = &t->exec[i];

		if (s->id != id)
			continue;
		struct chan *c = links_chan(t->d, PROGRAM_API);
		struct msg_exec_done m = { .no = t->no, .exec_id = s->exec_id,
					   .status = status & 0xff };

		if (c && t->d->program[PROGRAM_API].pid == s->api_pid)
			(void)chan_send(c, MSG_EXEC_DONE, 0, &m, NULL, 0);
		*s = (struct exec_slot){ .id = 0 };
		return;
	}
}

void control_gone(struct tenant *t)
{
	for (size_t i = 0; i < INIT_EXECS_MAX; i++)
		if (t->exec[i].id)
			exec_done(t, t->exec[i].id, 137);
}

static void handle(struct tenant *t, const struct init_msg *m, struct span bytes)
{
	switch ((enum init_type)m->type) {
	case INIT_SELFTEST:
		if (t->phase != PH_TESTING)
			tenant_breach(t, "a self-test out of turn");
		else
			tenant_walls(t, m->a, m->b, bytes);
		return;
	case INIT_STARTED:
		cl_log(CL_INFO, "agent-started", "tenant=%s pid=%d", t->id, (int)t->pid);
		return;
	case INIT_EXITED:
		tenant_agent_exited(t, (uint32_t)(m->a & 0xff));
		return;
	case INIT_DONE:
		if (m->id)
			exec_done(t, m->id, (uint32_t)(m->a & 0xff));
		return;
	case INIT_REFUSED:
		if (m->id)
			exec_done(t, m->id, EXEC_REFUSED);
		return;
	case INIT_NONE:
	case INIT_SETUP:
	case INIT_START:
	case INIT_STOP:
	case INIT_SIGNAL:
	case INIT_EXEC:
	case INIT_TYPE_COUNT:
	default:
		tenant_breach(t, "a message that is not init's");
		return;
	}
}

void control_read(struct loop_io *io, uint32_t events)
{
	struct tenant *t = io->ctx;
	union {
		struct init_msg m;
		char b[sizeof(struct init_msg) + INIT_EVIDENCE_MAX + 1];
	} in;

	(void)events;
	for (int i = 0; i < READS_A_ROUND && t->control_fd >= 0; i++) {
		ssize_t n = recv(t->control_fd, &in, sizeof in, MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			/* init has closed it: it is dead or as good as dead */
			loop_io_del(&t->control_io);
			if (t->phase == PH_UP || t->phase == PH_TESTING)
				tenant_end(t, 0, AFTER_CRASH);
			return;
		}
		if (!init_msg_ok(&in.m, (size_t)n, true)) {
			tenant_breach(t, "a message that is not well-formed");
			return;
		}
		handle(t, &in.m, (struct span){ in.b + sizeof in.m, in.m.len });
		if (t->phase == PH_NONE)
			return;
	}
}

/* ---- exec ------------------------------------------------------------------------ */

/* Strings, each ended by a NUL, 1..PLAN_STRINGS_MAX of them unless @empty_ok. */
static bool strings_ok(struct span s, bool empty_ok)
{
	size_t n = 0;

	if (s.n == 0)
		return empty_ok;
	if (s.p[s.n - 1] != '\0')
		return false;
	for (size_t i = 0; i < s.n; i++)
		n += s.p[i] == '\0';
	return n <= PLAN_STRINGS_MAX;
}

/*
 * What may be handed into a sandbox: pipes, connected stream sockets,
 * regular files, a pty's slave, /dev/null. No directory, no path descriptor,
 * no other device: each would be a way out.
 */
static bool fd_harmless(int fd)
{
	struct stat st;
	int type = 0, flags = fcntl(fd, F_GETFL);
	socklen_t n = sizeof type;

	if (flags < 0 || (flags & O_PATH) || fstat(fd, &st) < 0)
		return false;
	switch (st.st_mode & S_IFMT) {
	case S_IFREG:
	case S_IFIFO:
		return true;
	case S_IFSOCK:
		return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) == 0 && type == SOCK_STREAM;
	case S_IFCHR:
		return (major(st.st_rdev) >= UNIX98_PTY_SLAVE_MAJOR &&
			major(st.st_rdev) < UNIX98_PTY_SLAVE_MAJOR + UNIX98_PTY_MAJORS) ||
		       (major(st.st_rdev) == MEM_MAJOR && minor(st.st_rdev) == NULL_MINOR);
	default:
		return false;
	}
}

static struct exec_slot *slot_new(struct tenant *t)
{
	for (size_t i = 0; i < INIT_EXECS_MAX; i++)
		if (t->exec[i].id == 0) {
			if (++t->next_exec == 0)
				t->next_exec = 1;	/* 0 is the agent */
			t->exec[i].id = t->next_exec;
			return &t->exec[i];
		}
	return NULL;
}

int on_tenant_exec(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds)
{
	const struct msg_tenant_exec *m = &msg->tenant_exec;
	struct program *p = links_program(c);
	struct tenant *t = tenant_get(p->d, m->no);
	struct cl_err err = { 0 };
	CL_BUF struct buf b;

	if (nfds != 3 || m->tty > 1 || !strings_ok(m->argv, false) || !strings_ok(m->env, true))
		return -EBADMSG;
	if (!t)
		return chan_reply(c, seq, ENOENT, "no tenant number %u", m->no);
	for (size_t i = 0; i < nfds; i++)
		if (!fd_harmless(fds[i]))
			return chan_reply(c, seq, EPERM,
					  "descriptor %zu is not a pipe, file or terminal", i);
	if (t->phase != PH_UP)
		return chan_reply(c, seq, EAGAIN, "%s is %s, not running", t->id,
				  tenant_state_name(t->state));
	if (tenant_thaw(t, &err))
		return chan_reply(c, seq, err.code, "%s", cl_err_str(&err));
	struct exec_slot *s = slot_new(t);

	if (!s)
		return chan_reply(c, seq, EBUSY, "%s: %d programs run there already", t->id,
				  INIT_EXECS_MAX);
	s->exec_id = m->exec_id;
	s->api_pid = p->pid;
	buf_init(&b, INIT_BYTES_MAX);
	(void)buf_add_span(&b, m->argv);
	(void)buf_add_span(&b, m->env);
	int r = b.failed ? -ENOMEM : control_send(t, INIT_EXEC, s->id, m->tty, m->argv.n,
						  buf_span(&b), fds, nfds);

	if (r) {
		*s = (struct exec_slot){ .id = 0 };
		return chan_reply(c, seq, -r, "%s: init cannot be asked", t->id);
	}
	return chan_reply(c, seq, 0, "started");
}

int on_exec_signal(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds)
{
	const struct msg_exec_signal *m = &msg->exec_signal;
	struct program *p = links_program(c);
	struct tenant *t = tenant_get(p->d, m->no);

	(void)fds;
	if (nfds || m->signo < 1 || m->signo > 64)
		return -EBADMSG;
	for (size_t i = 0; t && i < INIT_EXECS_MAX; i++) {
		struct exec_slot *s = &t->exec[i];

		if (s->id == 0 || s->exec_id != m->exec_id || s->api_pid != p->pid)
			continue;
		int r = control_send(t, INIT_SIGNAL, s->id, m->signo, 0, (struct span){ "", 0 },
				     NULL, 0);

		return chan_reply(c, seq, -r, "%s", r ? "init cannot be asked" : "sent");
	}
	return chan_reply(c, seq, ESRCH, "no such program runs there");
}

int on_tenant_logs(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds)
{
	struct tenant *t = tenant_get(links_program(c)->d, msg->tenant_logs.no);
	struct msg_reply ok = { .code = 0, .text = SPAN("logs") };
	struct cl_err err = { 0 };
	int out[2];

	(void)fds;
	if (nfds)
		return -EBADMSG;
	if (!t)
		return chan_reply(c, seq, ENOENT, "no tenant number %u", msg->tenant_logs.no);
	CL_CLOSE int dir = tenant_dirfd(t, &err);

	if (dir < 0)
		return chan_reply(c, seq, err.code, "%s", cl_err_str(&err));
	int r = logs_open(dir, out);

	if (r)
		return chan_reply(c, seq, -r, "%s has no log yet", t->id);
	r = chan_send(c, MSG_REPLY, seq, &ok, out, out[1] >= 0 ? 2 : 1);
	(void)cl_close(out[0]);
	(void)cl_close(out[1]);
	return r;
}

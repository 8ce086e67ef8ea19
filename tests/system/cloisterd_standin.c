/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stand-in for ledger, broker, api and model, by the name it is started
 * under. It keeps the rules of a program (ARCHITECTURE.md): drops to its user,
 * says READY, ends when its channel closes. As the api it takes the
 * test's requests from api.sock: one wire message a datagram-like frame
 * (u32 length, u32 count of descriptors, bytes), and sends back what cloisterd sends.
 */
#include "base/drop.h"
#include "base/programs.h"
#include "wire/wire.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct loop *loop;
static struct chan ctl;
static struct loop_io accept_io, client_io, listener_io[64];
static int client_fd = -1;
static bool is_api, is_broker;

/* ---- api: frames from and to the test ------------------------------------------- */

static void to_test(struct span bytes, const int *fds, size_t nfds)
{
	union {
		char b[CMSG_SPACE(sizeof(int) * WIRE_FDS_MAX)];
		struct cmsghdr align;
	} ctl_buf;
	uint32_t head[2] = { (uint32_t)bytes.n, (uint32_t)nfds };
	struct iovec iov = { head, sizeof head };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (client_fd < 0)
		return;
	if (nfds) {
		memset(&ctl_buf, 0, sizeof ctl_buf);
		mh.msg_control = ctl_buf.b;
		mh.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
		struct cmsghdr *cm = CMSG_FIRSTHDR(&mh);

		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
		memcpy(CMSG_DATA(cm), fds, sizeof(int) * nfds);
	}
	if (sendmsg(client_fd, &mh, MSG_NOSIGNAL) != (ssize_t)sizeof head ||
	    cl_write_full(client_fd, bytes.p, bytes.n))
		cl_log(CL_WARNING, "standin", "error=\"the test does not read\"");
}

static void on_client(struct loop_io *io, uint32_t events)
{
	static char in[WIRE_MAX];
	union {
		char b[CMSG_SPACE(sizeof(int) * WIRE_FDS_MAX)];
		struct cmsghdr align;
	} ctl_buf;
	uint32_t head[2];
	struct iovec iov = { head, sizeof head };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl_buf.b,
			     .msg_controllen = sizeof ctl_buf.b };
	int fds[WIRE_FDS_MAX];
	union wire_any msg;
	uint32_t type, seq, n;

	(void)events;
	if (recvmsg(client_fd, &mh, MSG_WAITALL | MSG_CMSG_CLOEXEC) != (ssize_t)sizeof head ||
	    head[0] > sizeof in || head[1] > WIRE_FDS_MAX ||
	    cl_read_full(client_fd, in, head[0])) {
		loop_io_del(io);
		client_fd = cl_close(client_fd);
		return;
	}
	struct cmsghdr *cm = CMSG_FIRSTHDR(&mh);

	if (head[1] && cm)
		memcpy(fds, CMSG_DATA(cm), sizeof(int) * head[1]);
	if (wire_decode((struct span){ in, head[0] }, &type, &seq, &n, &msg, NULL) == 0)
		(void)chan_send(&ctl, type, seq, &msg, fds, head[1]);
	for (uint32_t i = 0; i < head[1]; i++)
		(void)cl_close(fds[i]);
}

static void on_accept(struct loop_io *io, uint32_t events)
{
	int fd = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC);

	(void)events;
	if (fd < 0)
		return;
	loop_io_del(&client_io);
	(void)cl_close(client_fd);
	client_fd = fd;
	(void)loop_io_add(loop, &client_io, fd, EPOLLIN, on_client, NULL);
}

/* ---- everyone --------------------------------------------------------------------- */

static int relay(uint32_t type, uint32_t seq, const void *msg, const int *fds, size_t nfds)
{
	CL_BUF struct buf b;

	buf_init(&b, WIRE_MAX);
	if (is_api && wire_encode(type, seq, (uint32_t)nfds, msg, &b, NULL) == 0)
		to_test(buf_span(&b), fds, nfds);
	return 0;
}

#define RELAY(NAME, name)                                                                          \
	static int on_##name(struct chan *c, uint32_t seq, const union wire_any *m, int *fds, size_t n) \
	{                                                                                          \
		(void)c;                                                                           \
		return relay(MSG_##NAME, seq, &m->name, fds, n);                                   \
	}
RELAY(REPLY, reply)
RELAY(TENANT_STATE, tenant_state)
RELAY(TENANT_EVENT, tenant_event)
RELAY(EXEC_DONE, exec_done)
RELAY(LISTING, listing)

static int on_link(struct chan *c, uint32_t seq, const union wire_any *m, int *fds, size_t nfds)
{
	(void)c;
	(void)seq;
	if (nfds != 1)
		return -EBADMSG;
	cl_log(CL_INFO, "link", "role=%s", wire_role_name((enum wire_role)m->link.role));
	fds[0] = -1;	/* held open until the process ends, as a program would */
	return 0;
}

/* A connection inside a sandbox stands for the agent's first getUpdates. */
static void on_agent(struct loop_io *io, uint32_t events)
{
	struct msg_tenant_ready m = { .no = (uint32_t)(io - listener_io) };
	int fd = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC);

	(void)events;
	if (fd >= 0)
		(void)chan_send(&ctl, MSG_TENANT_READY, 0, &m, NULL, 0);
	(void)cl_close(fd);
}

static int on_listen(struct chan *c, uint32_t seq, const union wire_any *m, int *fds, size_t nfds)
{
	uint32_t no = m->tenant_listen.no;

	(void)c;
	(void)seq;
	if (nfds != 1 || no >= CL_ARRAY_LEN(listener_io))
		return -EBADMSG;
	if (listener_io[no].loop) {
		int old = listener_io[no].fd;

		loop_io_del(&listener_io[no]);
		(void)cl_close(old);
	}
	(void)cl_set_nonblock(fds[0]);
	int r = loop_io_add(loop, &listener_io[no], cl_take_fd(&fds[0]), EPOLLIN, on_agent, NULL);

	return r;
}

static int on_gone(struct chan *c, uint32_t seq, const union wire_any *m, int *fds, size_t nfds)
{
	uint32_t no = m->tenant_gone.no;

	(void)c;
	(void)seq;
	(void)fds;
	(void)nfds;
	if (no < CL_ARRAY_LEN(listener_io) && listener_io[no].loop) {
		int fd = listener_io[no].fd;

		loop_io_del(&listener_io[no]);
		(void)cl_close(fd);
	}
	return 0;
}

static int on_record(struct chan *c, uint32_t seq, const union wire_any *m, int *fds, size_t nfds)
{
	static uint64_t number;
	struct msg_recorded a = { .number = ++number, .code = 0 };

	(void)m;
	(void)fds;
	(void)nfds;
	return chan_send(c, MSG_RECORDED, seq, &a, NULL, 0);
}

static const struct chan_rule rules[] = {
	{ MSG_LINK, CHAN_ANY, 0, on_link },
	{ MSG_REPLY, CHAN_ANY, 0, on_reply },
	{ MSG_LISTING, CHAN_ANY, 0, on_listing },
	{ MSG_TENANT_STATE, CHAN_ANY, 0, on_tenant_state },
	{ MSG_TENANT_EVENT, CHAN_ANY, 0, on_tenant_event },
	{ MSG_EXEC_DONE, CHAN_ANY, 0, on_exec_done },
	{ MSG_TENANT_LISTEN, CHAN_ANY, 0, on_listen },
	{ MSG_TENANT_GONE, CHAN_ANY, 0, on_gone },
	{ MSG_RECORD, CHAN_ANY, 0, on_record },
};

static void on_closed(struct chan *c)
{
	(void)c;
	loop_stop(loop);
}

static uint32_t number_after(int argc, char **argv, const char *name)
{
	uint32_t n = 0;

	for (int i = 1; i + 1 < argc; i++)
		if (strcmp(argv[i], name) == 0)
			(void)num_parse_u32(span_str(argv[i + 1]), UINT32_MAX, &n);
	return n;
}

int main(int argc, char **argv)
{
	const char *base = strrchr(argv[0], '/');
	struct cl_err err = { 0 };

	base = base ? base + 1 : argv[0];
	cl_log_init(base);
	is_api = strcmp(base, "cloister-api") == 0;
	is_broker = strcmp(base, "cloister-broker") == 0;
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "--die") == 0)
			return 7;
	if (drop_to_user(number_after(argc, argv, "--uid"), number_after(argc, argv, "--gid"), &err) ||
	    loop_new(&loop, &err) ||
	    chan_init(&ctl, loop, PROGRAM_CONTROL_FD, ROLE_CLOISTERD, rules, CL_ARRAY_LEN(rules),
		      on_closed, NULL) ||
	    (is_api && loop_io_add(loop, &accept_io, API_UNIX_FD, EPOLLIN, on_accept, NULL)) ||
	    chan_send(&ctl, MSG_READY, 0, &(struct msg_ready){ .unused_ = 0 }, NULL, 0)) {
		cl_log(CL_ERROR, "standin", "error=%s", cl_kvs(cl_err_str(&err)));
		return 1;
	}
	return loop_run(loop) ? 1 : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A channel: one end of a SEQPACKET socketpair on the loop. What a peer may
 * send is one const table; anything absent from it, out of state, too often
 * or malformed kills the connection.
 */
#include "wire/wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define OUT_MAX_BYTES (64u << 20)

struct chan_out {
	struct chan_out *next;
	size_t n, nfds;
	int fds[WIRE_FDS_MAX];
	char bytes[];
};

struct chan_pending {
	struct chan_pending *next;
	uint32_t seq;
	chan_answer_fn *fn;
	void *ctx;
};

static void close_fds(int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		fds[i] = cl_close(fds[i]);
}

static void drop(struct chan *c)
{
	struct chan_out *o;

	loop_io_del(&c->io);
	c->fd = cl_close(c->fd);
	while ((o = c->out_first)) {
		c->out_first = o->next;
		close_fds(o->fds, o->nfds);
		free(o);
	}
	c->out_last = NULL;
	c->out_bytes = 0;
	/* everyone who waits learns that no answer will come */
	struct chan_pending *p = c->pending;

	c->pending = NULL;
	while (p) {
		struct chan_pending *next = p->next;

		p->fn(p->ctx, MSG_NONE, NULL, NULL, 0);
		free(p);
		p = next;
	}
}

static void chan_kill(struct chan *c)
{
	if (c->fd < 0)
		return;
	drop(c);
	if (c->closed)
		c->closed(c);
}

void chan_done(struct chan *c)
{
	if (c->fd >= 0)
		drop(c);
}

/* Return: 0 sent, -EAGAIN try later, other: broken */
static int send_one(struct chan *c, const void *p, size_t n, const int *fds, size_t nfds)
{
	union {
		char b[CMSG_SPACE(sizeof(int) * WIRE_FDS_MAX)];
		struct cmsghdr align;
	} ctl;
	struct iovec iov = { .iov_base = (void *)(uintptr_t)p, .iov_len = n };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

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
		ssize_t k = sendmsg(c->fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (k >= 0)
			return 0;
		if (errno == EINTR)
			continue;
		return errno == EWOULDBLOCK || errno == ENOBUFS ? -EAGAIN : -errno;
	}
}

static int flush(struct chan *c)
{
	struct chan_out *o;

	while ((o = c->out_first)) {
		int r = send_one(c, o->bytes, o->n, o->fds, o->nfds);

		if (r)
			return r;
		c->out_first = o->next;
		if (!c->out_first)
			c->out_last = NULL;
		c->out_bytes -= o->n;
		close_fds(o->fds, o->nfds);
		free(o);
	}
	return 0;
}

int chan_send(struct chan *c, uint32_t type, uint32_t seq, const void *msg, const int *fds,
	      size_t nfds)
{
	CL_BUF struct buf b;
	struct cl_err err;
	int r;

	if (c->fd < 0)
		return -EPIPE;
	buf_init(&b, WIRE_MAX);
	r = wire_encode(type, seq, (uint32_t)nfds, msg, &b, &err);
	if (r) {
		cl_log(CL_ERROR, "wire-encode", "to=%s error=%s", wire_role_name(c->peer),
		       cl_kvs(cl_err_str(&err)));
		return r;
	}
	if (!c->out_first) {
		r = send_one(c, b.p, b.n, fds, nfds);
		if (r == 0)
			return 0;
		if (r != -EAGAIN)
			return r;	/* the reader's side will see the end as well */
	}
	if (c->out_bytes + b.n > OUT_MAX_BYTES)
		return -ENOBUFS;

	struct chan_out *o = malloc(sizeof *o + b.n);

	if (!o)
		return -ENOMEM;
	*o = (struct chan_out){ .n = b.n };
	memcpy(o->bytes, b.p, b.n);
	for (size_t i = 0; i < nfds; i++) {
		o->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
		if (o->fds[i] < 0) {
			r = -errno;
			close_fds(o->fds, i);
			free(o);
			return r;
		}
		o->nfds++;
	}
	if (c->out_last)
		c->out_last->next = o;
	else
		c->out_first = o;
	c->out_last = o;
	c->out_bytes += o->n;
	return loop_io_mod(&c->io, EPOLLIN | EPOLLOUT);
}

int chan_reply(struct chan *c, uint32_t seq, int code, const char *fmt, ...)
{
	char text[1000];
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (n < 0)
		n = 0;
	if ((size_t)n >= sizeof text)
		n = (int)sizeof text - 1;
	struct msg_reply m = { .code = (uint32_t)(code < 0 ? -code : code),
			       .text = { text, (size_t)n } };

	return chan_send(c, MSG_REPLY, seq, &m, NULL, 0);
}

int chan_call(struct chan *c, uint32_t type, const void *msg, const int *fds, size_t nfds,
	      chan_answer_fn *fn, void *ctx)
{
	struct chan_pending *p = malloc(sizeof *p);

	if (!p)
		return -ENOMEM;
	/* Requests are numbered from 0x40000000 and answers repeat the number.
	 * Types that answer (handle()) are never requests: the ends cannot mix. */
	*p = (struct chan_pending){ .next = c->pending, .fn = fn, .ctx = ctx };
	c->next_seq = (c->next_seq + 1) & 0x3fffffffu;
	p->seq = c->next_seq | 0x40000000u;
	int r = chan_send(c, type, p->seq, msg, fds, nfds);

	if (r) {
		free(p);
		return r;
	}
	p->next = c->pending;
	c->pending = p;
	return 0;
}

/* Is it the answer to one of our own requests? */
static bool answered(struct chan *c, uint32_t type, uint32_t seq, const union wire_any *msg,
		     int *fds, size_t nfds)
{
	for (struct chan_pending **pp = &c->pending; *pp; pp = &(*pp)->next) {
		struct chan_pending *p = *pp;

		if (p->seq != seq)
			continue;
		*pp = p->next;
		p->fn(p->ctx, type, msg, fds, nfds);
		free(p);
		return true;
	}
	return false;
}

static const struct chan_rule *rule_for(struct chan *c, uint32_t type)
{
	for (size_t i = 0; i < c->nrules; i++)
		if (c->rules[i].type == type)
			return &c->rules[i];
	return NULL;
}

static int handle(struct chan *c, struct span in, int *fds, size_t nfds)
{
	union wire_any msg;
	struct cl_err err = { 0 };
	uint32_t type = 0, seq = 0, want = 0;
	int r = wire_decode(in, &type, &seq, &want, &msg, &err);

	if (r == 0 && want != nfds)
		r = cl_fail(&err, EBADMSG, "wire: %s: %zu descriptors came, %u said",
			    wire_type_name(type), nfds, want);
	if (r == 0 && (seq & 0x40000000u) && (type == MSG_REPLY || type == MSG_RESULT ||
	    type == MSG_RECORDED || type == MSG_SPAWNED || type == MSG_SPAWN_FAILED ||
	    type == MSG_LISTING)) {
		if (answered(c, type, seq, &msg, fds, nfds))
			return 0;
		r = cl_fail(&err, EBADMSG, "wire: %s: nobody waits for seq %u",
			    wire_type_name(type), seq);
	}
	if (r == 0) {
		const struct chan_rule *ru = rule_for(c, type);
		int64_t second = loop_now_us(c->loop) / 1000000;

		if (!ru || !(ru->states & c->state)) {
			r = cl_fail(&err, EPERM, "wire: %s may not send %s %s",
				    wire_role_name(c->peer), wire_type_name(type),
				    ru ? "in this state" : "at all");
		} else {
			if (c->rate[type].second != second) {
				c->rate[type].second = second;
				c->rate[type].n = 0;
			}
			if (ru->per_second && ++c->rate[type].n > ru->per_second)
				r = cl_fail(&err, EPERM, "wire: %s sends %s too often",
					    wire_role_name(c->peer), wire_type_name(type));
			else
				r = ru->fn(c, seq, &msg, fds, nfds);
			if (r && !err.code)
				(void)cl_fail(&err, -r, "wire: %s from %s refused",
					      wire_type_name(type), wire_role_name(c->peer));
		}
	}
	if (r)
		cl_log(CL_ERROR, "wire-breach", "peer=%s error=%s", wire_role_name(c->peer),
		       cl_kvs(cl_err_str(&err)));
	return r;
}

static void on_io(struct loop_io *io, uint32_t events)
{
	static char in[WIRE_MAX];	/* one thread, never nested: handlers do not read */
	struct chan *c = io->ctx;

	if (events & EPOLLOUT) {
		int r = flush(c);

		if (r == 0)
			r = loop_io_mod(&c->io, EPOLLIN);
		if (r && r != -EAGAIN) {
			chan_kill(c);
			return;
		}
	}
	for (int i = 0; i < 64 && c->fd >= 0; i++) {
		union {
			char b[CMSG_SPACE(sizeof(int) * WIRE_FDS_MAX)];
			struct cmsghdr align;
		} ctl;
		struct iovec iov = { .iov_base = in, .iov_len = sizeof in };
		struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl.b,
				     .msg_controllen = sizeof ctl.b };
		int fds[WIRE_FDS_MAX];
		size_t nfds = 0;
		ssize_t k = recvmsg(c->fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

		if (k < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (k <= 0) {
			chan_kill(c);
			return;
		}
		for (struct cmsghdr *cm = CMSG_FIRSTHDR(&mh); cm; cm = CMSG_NXTHDR(&mh, cm)) {
			if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
				continue;
			size_t m = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(int);

			for (size_t j = 0; j < m; j++) {
				int fd;

				memcpy(&fd, CMSG_DATA(cm) + j * sizeof fd, sizeof fd);
				if (nfds < WIRE_FDS_MAX)
					fds[nfds++] = fd;
				else
					(void)cl_close(fd);
			}
		}
		int r = (mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) ? -EBADMSG :
			handle(c, (struct span){ in, (size_t)k }, fds, nfds);

		close_fds(fds, nfds);
		if (r && c->fd >= 0) {
			chan_kill(c);
			return;
		}
	}
}

int chan_init(struct chan *c, struct loop *l, int fd, enum wire_role peer,
	      const struct chan_rule *rules, size_t nrules, chan_closed_fn *closed, void *ctx)
{
	*c = (struct chan){ .peer = peer, .fd = fd, .state = 1, .ctx = ctx, .loop = l,
			    .rules = rules, .nrules = nrules, .closed = closed };
	return loop_io_add(l, &c->io, fd, EPOLLIN, on_io, c);
}

int chan_pair(int out[2])
{
	int size = 4 << 20;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, out) < 0)
		return -errno;
	for (int i = 0; i < 2; i++) {
		/* FORCE needs CAP_NET_ADMIN; without it the default must do */
		if (setsockopt(out[i], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) < 0)
			(void)setsockopt(out[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	}
	return 0;
}

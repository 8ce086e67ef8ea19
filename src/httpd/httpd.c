/* SPDX-License-Identifier: Apache-2.0 */
#include "httpd/conn.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>

#define ACCEPTS_A_TURN 64
#define NO_FDS_PAUSE_US 100000

int httpd_new(struct httpd **out, struct loop *l, const struct httpd_ops *ops,
	      const struct httpd_limits *limits, struct cl_err *err)
{
	struct httpd *h = calloc(1, sizeof *h);

	if (!h || !(h->io_buf = malloc(READ_MAX))) {
		free(h);
		return cl_fail(err, ENOMEM, "httpd");
	}
	h->loop = l;
	h->ops = *ops;
	if (limits)
		h->lim = *limits;
#define DEFAULT(f, v) \
	do { \
		if (!h->lim.f) \
			h->lim.f = (v); \
	} while (0)
	DEFAULT(head_max, 65536);
	DEFAULT(body_max, 1u << 20);
	DEFAULT(head_timeout_ms, 10000);
	DEFAULT(idle_timeout_ms, 75000);
	DEFAULT(body_timeout_ms, 30000);
	DEFAULT(out_high, 256u << 10);
	DEFAULT(conns_max, 1024);
	DEFAULT(buffered_max, 256u << 20);
#undef DEFAULT
	*out = h;
	return 0;
}

static void hold(struct listener *l)
{
	if (!l->held && loop_io_mod(&l->io, 0) == 0)
		l->held = true;
}

void listener_unhold(struct listener *l)
{
	if (l->held && l->nconns < l->h->lim.conns_max && l->pause.heap_at == 0 &&
	    loop_io_mod(&l->io, EPOLLIN) == 0)
		l->held = false;
}

static void on_pause_end(struct loop_timer *t)
{
	listener_unhold(t->ctx);
}

static void on_accept(struct loop_io *io, uint32_t events)
{
	struct listener *l = io->ctx;
	int one = 1;

	(void)events;
	for (int i = 0; i < ACCEPTS_A_TURN; i++) {
		if (l->nconns >= l->h->lim.conns_max) {
			hold(l);
			return;
		}
		int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			/* fails on unix sockets, where there is nothing to delay */
			(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
			conn_new(l, fd);
			continue;
		}
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		if (errno != EAGAIN) {	/* no descriptors or memory: breathe, then go on */
			hold(l);
			if (loop_timer_set(l->h->loop, &l->pause, NO_FDS_PAUSE_US, on_pause_end, l))
				listener_unhold(l);
		}
		return;
	}
}

int httpd_listen(struct httpd *h, int fd, void *listener_ctx, uint32_t *out_id)
{
	struct listener *l = calloc(1, sizeof *l);
	int r = l ? cl_set_nonblock(fd) : -ENOMEM;

	if (r == 0)
		r = loop_io_add(h->loop, &l->io, fd, EPOLLIN, on_accept, l);
	if (r) {
		free(l);
		(void)cl_close(fd);
		return r;
	}
	l->h = h;
	l->fd = fd;
	l->ctx = listener_ctx;
	l->id = ++h->next_id;
	l->next = h->listeners;
	h->listeners = l;
	if (out_id)
		*out_id = l->id;
	return 0;
}

/* Close @c and tell its handler now: who asked for this forgets the listener's context next. */
static void cut(struct conn *c)
{
	struct httpd *h = c->h;
	struct req *q = c->req;

	c->req = NULL;
	c->serial++;
	conn_kill(c, false);
	if (!q)
		return;
	if (h->ops.on_gone)
		h->ops.on_gone(&q->pub);
	req_free(q);
}

static void listener_free(struct listener *l)
{
	while (l->conns)
		cut(l->conns);
	loop_io_del(&l->io);
	loop_timer_del(&l->pause);
	(void)cl_close(l->fd);
	free(l);
}

void httpd_unlisten(struct httpd *h, uint32_t id)
{
	for (struct listener **pp = &h->listeners; *pp; pp = &(*pp)->next) {
		struct listener *l = *pp;

		if (l->id != id)
			continue;
		*pp = l->next;
		/* connections that died this round and have not told their handlers yet */
		conns_tell(h, l->ctx);
		listener_free(l);
		return;
	}
}

void httpd_free(struct httpd *h)
{
	if (!h)
		return;
	while (h->listeners)
		httpd_unlisten(h, h->listeners->id);
	loop_timer_del(&h->ready_timer);
	conns_sweep(h);
	free(h->io_buf);
	free(h);
}

struct span httpd_header(const struct httpd_req *r, const char *name)
{
	struct span want = span_str(name);

	for (size_t i = 0; i < r->nheaders; i++)
		if (span_eq_nocase(r->headers[i].name, want))
			return r->headers[i].value;
	return (struct span){ NULL, 0 };
}

size_t httpd_header_count(const struct httpd_req *r, const char *name)
{
	struct span want = span_str(name);
	size_t n = 0;

	for (size_t i = 0; i < r->nheaders; i++)
		n += span_eq_nocase(r->headers[i].name, want);
	return n;
}

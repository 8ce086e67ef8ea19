/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How this works: one edge-triggered registration a socket (in, out and
 * hang-up at once), so a request costs no epoll_ctl. can_read and can_write
 * remember the edges; conn_run() goes as far as both and the state allow.
 * Bytes are read into one shared buffer and kept only when a head or body is
 * not whole: an idle connection holds no buffer. A handler may do anything
 * inside a callback, end the request and the whole httpd included: after each
 * callback the serial tells whether the request is still there, and memory of
 * a dead connection is freed at the end of the round.
 */
#include "httpd/conn.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- the ready list --------------------------------------------------------- */

static void conn_free(struct conn *c)
{
	for (size_t i = 0; i < c->nfds; i++)
		(void)cl_close(c->fds[i]);
	buf_done(&c->in);
	buf_done(&c->out);
	free(c);
}

/* A connection that died while its handler was at work: told now. */
static void tell_gone(struct conn *c)
{
	struct req *q = c->req;

	c->req = NULL;
	c->serial++;
	if (!q)
		return;
	if (c->h->ops.on_gone)
		c->h->ops.on_gone(&q->pub);
	req_free(q);
}

static void on_ready(struct loop_timer *t)
{
	struct httpd *h = t->ctx;
	struct conn *c;

	/* what becomes ready meanwhile waits for the next round, behind this mark */
	h->batch = h->ready;
	h->ready = NULL;
	while ((c = h->batch)) {
		h->batch = c->ready_next;
		c->ready = false;
		if (!c->dead) {
			conn_run(c);
			continue;	/* when it died now it is in the list again */
		}
		tell_gone(c);
		conn_free(c);
	}
}

void conns_tell(struct httpd *h, void *ctx)
{
	for (struct conn *c = h->ready; c; c = c->ready_next)
		if (c->dead && c->req && c->req->pub.listener_ctx == ctx)
			tell_gone(c);
	for (struct conn *c = h->batch; c; c = c->ready_next)
		if (c->dead && c->req && c->req->pub.listener_ctx == ctx)
			tell_gone(c);
}

void conns_sweep(struct httpd *h)
{
	struct conn *c;

	while ((c = h->ready)) {
		h->ready = c->ready_next;
		tell_gone(c);
		conn_free(c);
	}
}

void conn_ready(struct conn *c)
{
	struct httpd *h = c->h;

	if (c->ready)
		return;
	c->ready = true;
	c->ready_next = h->ready;
	h->ready = c;
	if (h->ready_timer.heap_at == 0)
		/* fails only without memory for the heap, which holds this slot since httpd_new */
		(void)loop_timer_set(h->loop, &h->ready_timer, 0, on_ready, h);
}

/* ---- time --------------------------------------------------------------------- */

static void on_timer(struct loop_timer *t)
{
	struct conn *c = t->ctx;
	int64_t now = loop_now_us(c->h->loop);

	if (c->dead || c->deadline_us == 0)
		return;
	if (c->deadline_us > now) {
		if (loop_timer_set(c->h->loop, t, c->deadline_us - now, on_timer, c))
			conn_kill(c, true);
		return;
	}
	c->deadline_us = 0;
	if (c->state == CONN_HEAD && c->head_began)
		conn_bad(c, 408, "the request did not arrive in time");
	else if (c->state == CONN_REQ && !c->req->body_done && !c->req->started &&
		 conn_waiting(c) == 0)
		conn_bad(c, 408, "the body did not arrive in time");
	else
		conn_kill(c, true);
}

void conn_deadline(struct conn *c, int64_t in_us)
{
	if (in_us <= 0) {
		c->deadline_us = 0;
		return;
	}
	c->deadline_us = loop_now_us(c->h->loop) + in_us;
	/* an armed timer that fires earlier looks at the deadline again */
	if (c->timer.heap_at && c->timer.at_us <= c->deadline_us)
		return;
	if (loop_timer_set(c->h->loop, &c->timer, in_us, on_timer, c))
		conn_kill(c, true);
}

/* ---- birth and death ------------------------------------------------------------ */

static void on_io(struct loop_io *io, uint32_t events)
{
	struct conn *c = io->ctx;

	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		c->can_read = true;
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		c->peer_done = true;
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		c->can_write = true;
	conn_run(c);
}

void conn_new(struct listener *l, int fd)
{
	struct httpd *h = l->h;
	struct conn *c = calloc(1, sizeof *c);

	if (!c) {
		(void)cl_close(fd);
		return;
	}
	c->l = l;
	c->h = h;
	c->fd = fd;
	c->can_write = true;
	c->serial = 1;
	buf_init(&c->in, h->lim.head_max + READ_MAX);
	buf_init(&c->out, OUT_MAX);
	c->next = l->conns;
	c->pprev = &l->conns;
	if (c->next)
		c->next->pprev = &c->next;
	l->conns = c;
	l->nconns++;
	if (loop_io_add(h->loop, &c->io, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, on_io, c)) {
		conn_kill(c, false);
		return;
	}
	conn_deadline(c, (int64_t)h->lim.idle_timeout_ms * 1000);
}

void conn_kill(struct conn *c, bool tell)
{
	if (c->dead)
		return;
	c->dead = true;
	loop_io_del(&c->io);
	loop_timer_del(&c->timer);
	c->fd = cl_close(c->fd);
	*c->pprev = c->next;
	if (c->next)
		c->next->pprev = c->pprev;
	c->l->nconns--;
	if (c->req)
		c->l->buffered -= c->req->body.n;
	listener_unhold(c->l);
	c->l = NULL;
	if (c->req && !tell) {
		struct req *q = c->req;

		c->req = NULL;
		c->serial++;
		req_free(q);
	}
	conn_ready(c);		/* on_gone and the memory: at the end of the round */
}

void conn_kill_keep(struct conn *c, int fd)
{
	loop_io_del(&c->io);	/* before the fd goes its own way */
	c->fd = -1;
	(void)fd;
	conn_kill(c, false);
}

/* ---- out ------------------------------------------------------------------------- */

size_t conn_waiting(const struct conn *c)
{
	return c->out.n - c->out_at;
}

static void sent(struct conn *c, size_t n)
{
	c->out_at += n;
	if (c->out_at == c->out.n) {
		buf_done(&c->out);
		buf_init(&c->out, OUT_MAX);
		c->out_at = 0;
	} else if (c->out_at > (256u << 10)) {
		buf_consume(&c->out, c->out_at);
		c->out_at = 0;
	}
}

/* Return: 0 all that fits is out, -EPIPE */
static int flush(struct conn *c)
{
	while (conn_waiting(c) && c->can_write) {
		ssize_t k = send(c->fd, c->out.p + c->out_at, conn_waiting(c),
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0 && errno == EAGAIN) {
			c->can_write = false;
			break;
		}
		if (k < 0)
			return -EPIPE;
		sent(c, (size_t)k);
		if (conn_waiting(c))
			conn_deadline(c, WRITE_STALL_US);
	}
	return 0;
}

int conn_send(struct conn *c, const struct span *v, size_t n)
{
	struct iovec iov[8];
	size_t total = 0, done = 0, k = 0;

	if (c->dead)
		return -EPIPE;
	if (conn_waiting(c) && conn_waiting(c) <= 16384 && c->can_write) {
		/* usually the head of this answer: send it together */
		iov[k++] = (struct iovec){ c->out.p + c->out_at, conn_waiting(c) };
		done = conn_waiting(c);
	}
	for (size_t i = 0; i < n; i++) {
		total += v[i].n;
		if (v[i].n && k < CL_ARRAY_LEN(iov))
			iov[k++] = (struct iovec){ (void *)(uintptr_t)v[i].p, v[i].n };
	}
	ssize_t put = 0;

	if (c->can_write && (done || conn_waiting(c) == 0) && k) {
		struct msghdr mh = { .msg_iov = iov, .msg_iovlen = k };

		do
			put = sendmsg(c->fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
		while (put < 0 && errno == EINTR);
		if (put < 0 && errno != EAGAIN)
			goto gone;
		if (put < 0 || (size_t)put < total + done)
			c->can_write = false;
		if (put < 0)
			put = 0;
	}
	size_t skip = (size_t)put;

	if (done) {
		size_t old = skip < done ? skip : done;

		skip -= old;
		if (old)
			sent(c, old);
	}
	for (size_t i = 0; i < n; i++) {
		size_t cut = skip < v[i].n ? skip : v[i].n;

		skip -= cut;
		if (v[i].n > cut && buf_add(&c->out, v[i].p + cut, v[i].n - cut))
			goto gone;
	}
	if (conn_waiting(c) && !c->can_write)
		conn_deadline(c, WRITE_STALL_US);
	else if (conn_waiting(c))
		conn_ready(c);
	return c->dead ? -EPIPE : 0;
gone:
	conn_kill(c, true);
	return -EPIPE;
}

/* ---- in --------------------------------------------------------------------------- */

/* Collect descriptors that came along. Return: 0, -EBADMSG too many or unwanted */
static int take_fds(struct conn *c, struct msghdr *mh)
{
	int r = mh->msg_flags & MSG_CTRUNC ? -EBADMSG : 0;

	for (struct cmsghdr *cm = CMSG_FIRSTHDR(mh); cm; cm = CMSG_NXTHDR(mh, cm)) {
		if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
			continue;
		size_t m = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		for (size_t j = 0; j < m; j++) {
			int fd;

			memcpy(&fd, CMSG_DATA(cm) + j * sizeof fd, sizeof fd);
			if (c->nfds < HTTPD_FDS_MAX && c->state == CONN_HEAD) {
				c->fds[c->nfds++] = fd;
			} else {
				(void)cl_close(fd);
				r = -EBADMSG;
			}
		}
	}
	return r;
}

/* Return: bytes, 0 end, -EAGAIN, -errno */
static ssize_t read_some(struct conn *c, void *p, size_t n)
{
	union {
		char b[CMSG_SPACE(sizeof(int) * HTTPD_FDS_MAX)];
		struct cmsghdr align;
	} ctl;
	struct iovec iov = { .iov_base = p, .iov_len = n };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t k;

	if (!c->h->lim.take_fds) {
		do
			k = recv(c->fd, p, n, MSG_DONTWAIT);
		while (k < 0 && errno == EINTR);
		return k < 0 ? -errno : k;
	}
	mh.msg_control = ctl.b;
	mh.msg_controllen = sizeof ctl.b;
	do
		k = recvmsg(c->fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (k < 0 && errno == EINTR);
	if (k < 0)
		return -errno;
	return take_fds(c, &mh) ? -EBADMSG : k;
}

static int on_whole_head(struct conn *c, struct span head);

/* is @serial's request still the one at work? */
static bool same(struct conn *c, uint64_t serial)
{
	return !c->dead && c->serial == serial && c->req;
}

/* The body of the current request. Takes from *in what belongs to it. */
static void eat_body(struct conn *c, struct span *in)
{
	struct req *q = c->req;
	uint64_t serial = c->serial;
	int64_t patience = (int64_t)c->h->lim.body_timeout_ms * 1000;

	while (same(c, serial) && !q->body_done && !q->paused) {
		struct span piece = { NULL, 0 };
		bool last = false;

		if (q->framing == HTTP_CHUNKED) {
			int r = http_chunked_next(&q->chunked, in, &piece);

			if (r < 0) {
				conn_bad(c, 400, "malformed chunk");
				return;
			}
			if (r == HTTP_CHUNK_MORE)
				return;
			last = r == HTTP_CHUNK_END;
		} else {
			size_t n = in->n < q->left ? in->n : (size_t)q->left;

			piece = (struct span){ in->p, n };
			q->left -= n;
			in->p += n;
			in->n -= n;
			last = q->left == 0;
			if (n == 0 && !last)
				return;
		}
		if (conn_waiting(c) == 0)
			conn_deadline(c, last ? 0 : patience);
		q->body_done = last;
		if (q->mode == HTTPD_STREAM) {
			c->h->ops.on_body(&q->pub, piece, last);
			continue;
		}
		if (q->body.n + piece.n > q->body_max || buf_add_span(&q->body, piece)) {
			conn_bad(c, 413, "the body is larger than is allowed here");
			return;
		}
		c->l->buffered += piece.n;
		if (c->l->buffered > c->h->lim.buffered_max) {
			conn_bad(c, 503, "too many large bodies at one time");
			return;
		}
		if (last) {
			q->pub.body = buf_span(&q->body);
			c->h->ops.on_request(&q->pub);
		}
	}
}

/* Take as much of @in as there is use for now; Return: what is left */
static struct span eat(struct conn *c, struct span in)
{
	while (!c->dead) {
		if (c->state == CONN_HEAD) {
			/* pipelined: not before the last answers are nearly out */
			if (in.n == 0 || conn_waiting(c) >= c->h->lim.out_high)
				break;
			if (!c->head_began) {
				c->head_began = true;
				c->looked = 0;
				conn_deadline(c, (int64_t)c->h->lim.head_timeout_ms * 1000);
			}
			ssize_t n = http_head_end(in, &c->looked, c->h->lim.head_max);

			if (n == 0)
				break;
			if (n < 0) {
				conn_bad(c, n == -E2BIG ? 431 : 400,
					 n == -E2BIG ? "the head is too large" : "malformed head");
				continue;
			}
			struct span head = { in.p, (size_t)n };

			in.p += n;
			in.n -= (size_t)n;
			c->head_began = false;
			c->looked = 0;
			c->rest = in;
			int stop = on_whole_head(c, head);

			c->rest = (struct span){ NULL, 0 };
			if (stop)
				continue;
		} else if (c->state == CONN_REQ) {
			if (c->req->body_done || c->req->paused)
				break;
			size_t before = in.n;
			uint64_t serial = c->serial;

			eat_body(c, &in);
			if (in.n == before && c->serial == serial)
				break;
		} else {
			c->lingered += in.n;
			in.n = 0;
			break;
		}
	}
	return in;
}

static bool wants_input(const struct conn *c)
{
	if (c->state == CONN_REQ)
		return !c->req->body_done && !c->req->paused;
	if (c->state == CONN_FLUSH)
		return false;
	/* backpressure: no next request before the last answer is nearly out */
	return c->state == CONN_LINGER || conn_waiting(c) < c->h->lim.out_high;
}

static void keep(struct conn *c, struct span left)
{
	if (c->dead)
		return;
	if (left.n == 0) {
		if (c->in.cap) {
			buf_done(&c->in);
			buf_init(&c->in, c->h->lim.head_max + READ_MAX);
		}
		return;
	}
	if (c->in.n && left.p >= c->in.p && left.p < c->in.p + c->in.n) {
		buf_consume(&c->in, c->in.n - left.n);
		return;
	}
	if (buf_add_span(&c->in, left))
		conn_kill(c, true);
}

/* Read and eat until there is nothing to read or no use for it. Return: more may be there */
static bool pump(struct conn *c)
{
	for (int i = 0; i < READS_A_TURN && !c->dead; i++) {
		if (c->in.n && (c->state != CONN_HEAD || !c->head_began)) {
			size_t before = c->in.n;
			uint64_t serial = c->serial;

			keep(c, eat(c, buf_span(&c->in)));
			if (!c->dead && c->in.n == before && c->serial == serial && !wants_input(c))
				return false;
		}
		if (c->dead || !wants_input(c) || !c->can_read)
			return false;
		size_t room = c->in.n ? c->in.max - c->in.n : READ_MAX;

		if (room > READ_MAX)
			room = READ_MAX;
		if (room == 0)
			return false;	/* pipelined far ahead: wait for the answer before */
		ssize_t k = read_some(c, c->h->io_buf, room);

		if (k == -EAGAIN) {
			c->can_read = false;
			return false;
		}
		if (k <= 0) {
			c->can_read = false;
			if (c->state == CONN_HEAD && conn_waiting(c) && k == 0) {
				c->state = CONN_FLUSH;	/* it still wants its answer */
				return false;
			}
			conn_kill(c, true);
			return false;
		}
		if (k < (ssize_t)room && !c->peer_done && !c->h->lim.take_fds)
			c->can_read = false;
		struct span got = { c->h->io_buf, (size_t)k };

		if (c->in.n) {
			if (buf_add_span(&c->in, got)) {
				conn_kill(c, true);
				return false;
			}
			keep(c, eat(c, buf_span(&c->in)));
		} else {
			keep(c, eat(c, got));
		}
	}
	return !c->dead;
}

static void drained(struct conn *c)
{
	if (c->state == CONN_REQ && c->req->want_drain && conn_waiting(c) < c->h->lim.out_high / 2) {
		c->req->want_drain = false;
		if (c->h->ops.on_drain)
			c->h->ops.on_drain(&c->req->pub);
	}
	if (c->dead || conn_waiting(c))
		return;
	if (c->state == CONN_REQ && c->req->body_done)
		conn_deadline(c, 0);	/* the handler has all the time it wants */
	if (c->state == CONN_FLUSH) {
		/* what the client is still sending must not reset what it has yet to read */
		(void)shutdown(c->fd, SHUT_WR);
		c->state = CONN_LINGER;
		conn_deadline(c, LINGER_US);
	}
}

void conn_run(struct conn *c)
{
	if (c->running || c->dead) {
		if (!c->dead)
			conn_ready(c);
		return;
	}
	c->running = true;
	size_t waiting = conn_waiting(c);

	if (waiting && flush(c))
		conn_kill(c, true);
	if (!c->dead)
		drained(c);
	bool more = !c->dead && pump(c);

	if (!c->dead && conn_waiting(c) && c->can_write) {
		if (flush(c))
			conn_kill(c, true);
		else
			drained(c);
	} else if (!c->dead && c->state == CONN_FLUSH) {
		drained(c);
		more = true;
	}
	if (!c->dead && c->peer_done) {
		if (c->state == CONN_REQ && (c->req->body_done || !c->can_read))
			conn_kill(c, true);	/* nobody is there to take the answer */
		else if (c->state == CONN_LINGER && !c->can_read)
			conn_kill(c, true);
	}
	if (!c->dead && c->state == CONN_LINGER && c->lingered > LINGER_MAX)
		conn_kill(c, true);
	c->running = false;
	if (more && !c->dead)
		conn_ready(c);
}

/* ---- requests --------------------------------------------------------------------- */

static struct req *req_new(struct conn *c, struct span head, const struct http_head *p)
{
	size_t table = p->n * sizeof(struct http_header);
	struct req *q = calloc(1, sizeof *q + table + head.n);

	if (!q)
		return NULL;
	struct http_header *h = (struct http_header *)(void *)q->store;
	char *bytes = q->store + table;

#define MOVED(s) ((struct span){ bytes + ((s).p - head.p), (s).n })
	memcpy(bytes, head.p, head.n);
	for (size_t i = 0; i < p->n; i++)
		h[i] = (struct http_header){ MOVED(p->h[i].name), MOVED(p->h[i].value) };
	q->pub.headers = h;
	q->pub.nheaders = p->n;
	q->pub.method = MOVED(p->method);
	q->pub.target = MOVED(p->target);
#undef MOVED
	q->pub.path = q->pub.target;
	struct span rest = q->pub.target;

	if (span_cut(&rest, '?', &q->pub.path))
		q->pub.query = rest;
	q->c = c;
	q->framing = p->body;
	q->left = p->length;
	q->body_done = p->body == HTTP_NO_BODY;
	q->pub.has_body = p->body != HTTP_NO_BODY;
	q->pub.content_length = p->body == HTTP_CHUNKED ? UINT64_MAX : p->length;
	q->is_head = span_eq_str(q->pub.method, "HEAD");
	q->is_connect = span_eq_str(q->pub.method, "CONNECT");
	q->pub.listener_ctx = c->l->ctx;
	q->pub.nfds = c->nfds;
	memcpy(q->pub.fds, c->fds, sizeof(int) * c->nfds);
	c->nfds = 0;
	http_chunked_init(&q->chunked, true);
	return q;
}

void req_free(struct req *q)
{
	for (size_t i = 0; i < q->pub.nfds; i++)
		(void)cl_close(q->pub.fds[i]);
	if (q->c->l)	/* else the listener's count went with it, or with conn_kill() */
		q->c->l->buffered -= q->body.n;
	buf_done(&q->body);
	free(q);
}

void req_end(struct conn *c)
{
	struct req *q = c->req;
	bool whole = q->body_done;

	c->req = NULL;
	c->serial++;
	req_free(q);
	if (c->dead)
		return;
	if (!whole || c->close_after) {
		c->state = CONN_FLUSH;
		conn_deadline(c, WRITE_STALL_US);
	} else {
		c->state = CONN_HEAD;
		c->head_began = false;
		if (conn_waiting(c) == 0)
			conn_deadline(c, (int64_t)c->h->lim.idle_timeout_ms * 1000);
	}
	conn_ready(c);
}

/* Return: 0 go on with the state, 1 refused */
static int on_whole_head(struct conn *c, struct span head)
{
	struct http_head p;
	const char *why = "";
	int r = http_request(head, &p, &why);

	if (r) {
		conn_bad(c, -r, why);
		return 1;
	}
	struct req *q = req_new(c, head, &p);

	if (!q) {
		conn_kill(c, false);
		return 1;
	}
	uint64_t serial = ++c->serial;

	c->req = q;
	c->state = CONN_REQ;
	c->close_after = p.close;
	conn_deadline(c, q->body_done ? 0 : (int64_t)c->h->lim.body_timeout_ms * 1000);
	q->body_max = c->h->lim.body_max;
	q->mode = HTTPD_STREAM;	/* while on_head runs: nothing to free */
	int mode = c->h->ops.on_head(&q->pub, &q->body_max);

	if (!same(c, serial))
		return 0;
	q->mode = mode;
	if (mode == HTTPD_DONE) {
		q->paused = true;	/* it answers later, without looking at the body */
		conn_deadline(c, 0);
		return 0;
	}
	if (mode == HTTPD_BUFFER) {
		if (q->framing == HTTP_LENGTH && q->left > q->body_max) {
			conn_bad(c, 413, "the body is larger than is allowed here");
			return 1;
		}
		buf_init(&q->body, q->body_max);
	}
	if (p.expect && !q->body_done && !q->started) {
		struct span go = SPAN("HTTP/1.1 100 Continue\r\n\r\n");

		if (conn_send(c, &go, 1))
			return 1;
	}
	if (q->body_done) {
		if (mode == HTTPD_STREAM)
			c->h->ops.on_body(&q->pub, (struct span){ NULL, 0 }, true);
		else
			c->h->ops.on_request(&q->pub);
	}
	return 0;
}

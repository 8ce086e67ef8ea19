/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One upstream connection: connect, TLS, send, read strictly, back to its pool.
 * Edge-triggered like httpd; memory of a dead one is freed at the end of the round.
 */
#include "broker/route/up_conn.h"

#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void conn_run(struct up_conn *k);

static void on_ready(struct loop_timer *t)
{
	struct up *u = t->ctx;
	struct up_conn *list = u->ready, *k;

	u->ready = NULL;
	while ((k = list)) {
		list = k->ready_next;
		k->ready = false;
		if (k->dead) {
			SSL_free(k->ssl);
			free(k);
		} else {
			conn_run(k);
		}
	}
}

void up_conn_ready(struct up_conn *k)
{
	struct up *u = k->u;

	if (k->ready)
		return;
	k->ready = true;
	k->ready_next = u->ready;
	u->ready = k;
	if (u->ready_timer.heap_at == 0)
		(void)loop_timer_set(u->loop, &u->ready_timer, 0, on_ready, u); /* the heap has grown before */
}

void up_conns_free(struct up *u)
{
	while (u->conns)
		up_conn_kill(u->conns);
	loop_timer_del(&u->ready_timer);
	while (u->ready) {
		struct up_conn *k = u->ready;

		u->ready = k->ready_next;
		SSL_free(k->ssl);
		free(k);
	}
}

static void idle_unlink(struct up_conn *k)
{
	if (!k->pprev_idle)
		return;
	*k->pprev_idle = k->next_idle;
	if (k->next_idle)
		k->next_idle->pprev_idle = k->pprev_idle;
	k->pprev_idle = NULL;
	k->u->st.idle--;
}

void up_conn_kill(struct up_conn *k)
{
	if (k->dead)
		return;
	k->dead = true;
	idle_unlink(k);
	*k->pprev = k->next;
	if (k->next)
		k->next->pprev = k->pprev;
	k->u->st.open--;
	if (k->call)
		k->call->conn = NULL;
	k->call = NULL;
	loop_io_del(&k->io);
	loop_timer_del(&k->timer);
	if (k->ssl && k->state == UPC_IDLE)
		(void)SSL_shutdown(k->ssl);	/* a courtesy */
	k->fd = cl_close(k->fd);
	up_conn_ready(k);
}

static void on_timer(struct loop_timer *t)
{
	struct up_conn *k = t->ctx;
	int64_t now = loop_now_us(k->u->loop);

	if (k->dead || k->deadline_us == 0)
		return;
	if (k->deadline_us > now) {
		if (loop_timer_set(k->u->loop, t, k->deadline_us - now, on_timer, k) == 0)
			return;
	}
	struct up_call *c = k->call;
	enum up_conn_state s = k->state;

	up_conn_kill(k);
	if (!c)
		return;
	if (s == UPC_CONNECT || s == UPC_TLS)
		up_call_next_addr(c, "timeout", "it did not answer in time");
	else
		up_call_fail(c, "timeout", c->have_head ? "the answer stopped half way"
						       : "no answer came in time", true);
}

static void deadline(struct up_conn *k, int64_t in_us)
{
	k->deadline_us = in_us ? loop_now_us(k->u->loop) + in_us : 0;
	if (!in_us || (k->timer.heap_at && k->timer.at_us <= k->deadline_us))
		return;
	(void)loop_timer_set(k->u->loop, &k->timer, in_us, on_timer, k); /* no memory: the total time holds */
}

static void on_io(struct loop_io *io, uint32_t events)
{
	struct up_conn *k = io->ctx;

	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		k->can_read = true;
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		k->ended = true;
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		k->can_write = true;
	conn_run(k);
}

int up_conn_open(struct up_call *c, const union addr *a)
{
	struct up *u = c->u;
	struct up_conn *k = calloc(1, sizeof *k);
	int one = 1, r;

	if (!k)
		return -ENOMEM;
	k->u = u;
	k->fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
	if (k->fd < 0) {
		r = -errno;
		free(k);
		return r;
	}
	(void)setsockopt(k->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (connect(k->fd, &a->sa, addr_len(a)) < 0 && errno != EINPROGRESS)
		r = -errno;
	else
		r = loop_io_add(u->loop, &k->io, k->fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, on_io, k);
	if (r) {
		(void)cl_close(k->fd);
		free(k);
		return r;
	}
	k->next = u->conns;
	k->pprev = &u->conns;
	if (k->next)
		k->next->pprev = &k->next;
	u->conns = k;
	u->st.open++;
	u->st.connects++;
	k->pool = c->pool;
	k->call = c;
	c->conn = k;
	deadline(k, (int64_t)c->connect_ms * 1000);
	return 0;
}

void up_conn_use(struct up_conn *k, struct up_call *c)
{
	idle_unlink(k);
	k->state = UPC_BUSY;
	k->reused = true;
	k->call = c;
	c->conn = k;
	k->u->st.reused++;
	deadline(k, (int64_t)c->idle_ms * 1000);
	up_conn_ready(k);
}

/* ---- sending ------------------------------------------------------------------ */

/* Return: 0 all is out or must wait, -EPIPE */
static int send_some(struct up_conn *k)
{
	struct up_call *c = k->call;
	size_t total = c->head.n + c->body.n;

	while (c->sent < total && k->can_write) {
		struct iovec v[2];
		size_t nv = 0;
		ssize_t n;

		if (c->sent < c->head.n) {
			v[nv++] = (struct iovec){ c->head.p + c->sent, c->head.n - c->sent };
			if (c->body.n)
				v[nv++] = (struct iovec){ (void *)(uintptr_t)c->body.p, c->body.n };
		} else {
			size_t at = c->sent - c->head.n;

			v[nv++] = (struct iovec){ (void *)(uintptr_t)(c->body.p + at), c->body.n - at };
		}
		if (k->ssl) {
			/* head and beginning of the body in one record */
			char *tmp = k->u->io_buf + UP_READ;
			size_t m = 0;

			for (size_t i = 0; i < nv && m < 16384; i++) {
				size_t t = v[i].iov_len < 16384 - m ? v[i].iov_len : 16384 - m;

				memcpy(tmp + m, v[i].iov_base, t);
				m += t;
			}
			n = up_tls_write(k, tmp, m);
			explicit_bzero(tmp, m);		/* a credential was in it */
			if (n == -EAGAIN)
				break;
			if (n <= 0)
				return -EPIPE;
		} else {
			struct msghdr mh = { .msg_iov = v, .msg_iovlen = nv };

			n = sendmsg(k->fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
			if (n < 0 && errno == EINTR)
				continue;
			if (n < 0 && errno == EAGAIN) {
				k->can_write = false;
				break;
			}
			if (n < 0)
				return -EPIPE;
		}
		c->sent += (size_t)n;
		deadline(k, (int64_t)c->idle_ms * 1000);
	}
	return 0;
}

/* ---- the answer ------------------------------------------------------------------ */

static void broken(struct up_conn *k, const char *words)
{
	struct up_call *c = k->call;

	up_conn_kill(k);
	up_call_fail(c, "answer", words, true);
}

/*
 * The connection ended. A pooled one that the peer was just closing is no
 * failure of the call: what is safe to repeat goes out once more, anew.
 */
static void ended(struct up_conn *k, const char *words)
{
	struct up_call *c = k->call;
	struct span head = buf_span(&c->head);
	bool safe = span_starts(head, SPAN("GET ")) || span_starts(head, SPAN("HEAD "));

	if (k->reused && !c->retried && !c->have_head && c->in.n == 0 && (safe || c->sent == 0)) {
		c->retried = true;
		c->sent = 0;
		up_conn_kill(k);
		up_call_start(c);
		return;
	}
	broken(k, words);
}

/* The answer is whole; @left bytes came behind it. */
static void finished(struct up_conn *k, size_t left)
{
	struct up_call *c = k->call;
	bool all_sent = c->sent == c->head.n + c->body.n;

	c->conn = NULL;
	k->call = NULL;
	if (c->close_after || left || !all_sent || k->dead) {
		up_conn_kill(k);
	} else {
		int64_t keep = k->keep_s > 1 ? (int64_t)(k->keep_s - 1) * 1000000 : UP_IDLE_US;

		k->state = UPC_IDLE;
		k->next_idle = k->pool->idle;
		k->pprev_idle = &k->pool->idle;
		if (k->next_idle)
			k->next_idle->pprev_idle = &k->next_idle;
		k->pool->idle = k;
		k->u->st.idle++;
		deadline(k, keep < UP_IDLE_US ? keep : UP_IDLE_US);
	}
	struct up_ops ops = c->ops;
	void *ctx = c->ctx;

	up_call_free(c);
	ops.on_end(ctx);
}

static void note_keep_alive(struct up_conn *k, const struct http_head *h)
{
	struct span v = http_get(h, "keep-alive"), word;

	while (v.n) {
		uint32_t s;

		if (!span_cut(&v, ',', &word)) {
			word = v;
			v.n = 0;
		}
		word = span_trim(word);
		if (span_starts(word, SPAN("timeout=")) &&
		    num_parse_u32((struct span){ word.p + 8, word.n - 8 }, 3600, &s) == 0)
			k->keep_s = (int)s;
	}
}

/* is @c still the call of @k, after a callback? */
static bool same(struct up_conn *k, struct up_call *c)
{
	return !k->dead && k->call == c;
}

/* Parse a whole head. Return: 0 go on, -1 the connection or call is gone */
static int take_head(struct up_conn *k, struct span head)
{
	struct up_call *c = k->call;
	struct http_head h;
	const char *why = "";

	if (http_response(head, c->is_head, &h, &why)) {
		broken(k, why);
		return -1;
	}
	if (h.status < 200) {
		if (h.status == 101 || ++c->interim > UP_INTERIM_MAX) {
			broken(k, "an interim answer that was not asked for");
			return -1;
		}
		return 0;
	}
	c->have_head = true;
	c->framing = h.body;
	c->left = h.length;
	c->close_after = h.close;
	note_keep_alive(k, &h);
	http_chunked_init(&c->chunked, false);
	c->ops.on_head(c->ctx, &h);
	return same(k, c) ? 0 : -1;
}

/* Body bytes. Return: 1 the body is over, 0 more is needed, -1 gone */
static int take_body(struct up_conn *k, struct span *in)
{
	struct up_call *c = k->call;

	for (;;) {
		struct span piece = { NULL, 0 };

		switch (c->framing) {
		case HTTP_NO_BODY:
			return 1;
		case HTTP_CHUNKED: {
			int r = http_chunked_next(&c->chunked, in, &piece);

			if (r < 0) {
				broken(k, "malformed chunk in the answer");
				return -1;
			}
			if (r == HTTP_CHUNK_END)
				return 1;
			if (r == HTTP_CHUNK_MORE)
				return 0;
			break;
		}
		case HTTP_LENGTH:
			if (c->left == 0)
				return 1;
			if (in->n == 0)
				return 0;
			piece = (struct span){ in->p, in->n < c->left ? in->n : (size_t)c->left };
			in->p += piece.n;
			in->n -= piece.n;
			c->left -= piece.n;
			break;
		case HTTP_CLOSE:
			if (in->n == 0)
				return 0;
			piece = *in;
			in->n = 0;
			break;
		default:
			return -1;
		}
		c->ops.on_body(c->ctx, piece);
		if (!same(k, c))
			return -1;
	}
}

/* Return: 0 want more, -1 the call is over or the connection gone */
static int eat(struct up_conn *k, struct span in)
{
	struct up_call *c = k->call;

	while (!c->have_head) {
		struct span all = in;
		size_t before = c->in.n;

		if (before || in.n == 0) {
			if (buf_add_span(&c->in, in)) {
				broken(k, "the head of the answer is too large");
				return -1;
			}
			all = buf_span(&c->in);
		}
		ssize_t n = http_head_end(all, &c->looked, UP_HEAD_MAX);

		if (n < 0) {
			broken(k, "malformed head of the answer");
			return -1;
		}
		if (n == 0) {
			if (!before && in.n && buf_add_span(&c->in, in)) {
				broken(k, "out of memory");
				return -1;
			}
			return 0;
		}
		if (take_head(k, (struct span){ all.p, (size_t)n }))
			return -1;
		c->looked = 0;
		/* what follows the head came with the last piece */
		size_t rest = all.n - (size_t)n;

		in = (struct span){ in.p + (in.n - rest), rest };
		buf_clear(&c->in);
		if (!c->have_head && in.n == 0)
			return 0;
	}
	int r = take_body(k, &in);

	if (r == 1)
		finished(k, in.n);
	return r == 0 ? 0 : -1;
}

static ssize_t read_some(struct up_conn *k)
{
	ssize_t n;

	if (k->ssl)
		return up_tls_read(k, k->u->io_buf, UP_READ);
	do
		n = recv(k->fd, k->u->io_buf, UP_READ, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN) {
		k->can_read = false;
		return -EAGAIN;
	}
	return n < 0 ? -EPIPE : n;
}

static void receive(struct up_conn *k)
{
	for (int i = 0; i < UP_READS_A_TURN; i++) {
		struct up_call *c = k->call;

		if (c->paused || !k->can_read)
			return;
		ssize_t n = read_some(k);

		if (n == -EAGAIN)
			return;
		if (n == 0 && c->have_head && c->framing == HTTP_CLOSE) {
			c->close_after = true;
			finished(k, 0);
			return;
		}
		if (n <= 0) {
			bool begun = c->have_head || c->in.n;

			ended(k, begun ? "the connection ended before the answer did"
				       : "the connection ended without an answer");
			return;
		}
		if ((size_t)n < UP_READ && !k->ssl && !k->ended)
			k->can_read = false;	/* an edge tells of more */
		deadline(k, (int64_t)c->idle_ms * 1000);
		if (eat(k, (struct span){ k->u->io_buf, (size_t)n }))
			return;
	}
	up_conn_ready(k);	/* more may be there; others first */
}

bool up_conn_silent(struct up_conn *k)
{
	char b;

	if (k->ssl)	/* session tickets come after the handshake: no bytes of an answer */
		return up_tls_read(k, &b, 1) == -EAGAIN;
	if (recv(k->fd, &b, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || errno != EAGAIN)
		return false;
	k->can_read = false;
	return true;
}

/* An idle connection that spoke or ended is of no use any more. */
static void idle_event(struct up_conn *k)
{
	if (!up_conn_silent(k))
		up_conn_kill(k);
}

static void connected(struct up_conn *k)
{
	struct up_call *c = k->call;
	int e = 0;
	socklen_t n = sizeof e;

	if (getsockopt(k->fd, SOL_SOCKET, SO_ERROR, &e, &n) < 0)
		e = errno;
	if (e) {
		up_conn_kill(k);
		up_call_next_addr(c, "connect", strerror(e));
		return;
	}
	if (!c->t.tls) {
		k->state = UPC_BUSY;
		deadline(k, (int64_t)c->idle_ms * 1000);
		return;
	}
	k->state = UPC_TLS;
	if (up_tls_start(k)) {
		up_conn_kill(k);
		up_call_fail(c, "tls", "could not be set up", false);
	}
}

static void shake(struct up_conn *k)
{
	struct up_call *c = k->call;
	char words[200];
	int r = up_tls_step(k, words, sizeof words);

	if (r == 0)
		return;
	if (r < 0) {
		up_conn_kill(k);
		up_call_next_addr(c, "tls", words);
		return;
	}
	k->state = UPC_BUSY;
	deadline(k, (int64_t)c->idle_ms * 1000);
}

static void conn_run(struct up_conn *k)
{
	if (k->dead)
		return;
	if (k->running) {
		up_conn_ready(k);
		return;
	}
	k->running = true;
	if (k->state == UPC_CONNECT && k->can_write)
		connected(k);
	if (!k->dead && k->state == UPC_TLS)
		shake(k);
	if (!k->dead && k->state == UPC_IDLE && k->can_read)
		idle_event(k);
	if (!k->dead && k->state == UPC_BUSY) {
		/* a failed send is not the end yet: the answer may say why (413 …) */
		if (send_some(k) && !k->can_read)
			ended(k, "the connection ended while the request was sent");
		else
			receive(k);
	}
	k->running = false;
}

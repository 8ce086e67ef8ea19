/* SPDX-License-Identifier: Apache-2.0 */
/* What a handler says: heads, bodies, ends. */
#include "httpd/conn.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static struct req *req_of(struct httpd_req *r)
{
	return (struct req *)r;	/* pub is the first member */
}

/* the connection, when @q is still its request and it lives */
static struct conn *conn_of(struct req *q)
{
	return q->c && q->c->req == q && !q->c->dead ? q->c : NULL;
}

static const char *date(struct httpd *h)
{
	int64_t second = cl_now_us() / 1000000;

	if (second != h->date_second) {
		time_t t = (time_t)second;
		struct tm tm;

		h->date_second = second;
		if (!gmtime_r(&t, &tm) ||
		    strftime(h->date, sizeof h->date, "%a, %d %b %Y %H:%M:%S GMT", &tm) == 0)
			h->date[0] = '\0';
	}
	return h->date;
}

/* Status line, our own fields, @more, empty line. Return: length, 0 when it does not fit */
static size_t head_line(struct conn *c, struct req *q, char *buf, size_t n, int status,
			const char *type, uint64_t length)
{
	bool none = status < 200 || status == 204 || status == 304 ||
		    (q && q->is_connect && status < 300);
	int k = snprintf(buf, n, "HTTP/1.1 %d %s\r\n", status, http_reason(status));

	if (k > 0 && status >= 200 && (size_t)k < n)
		k += snprintf(buf + k, n - (size_t)k, "Date: %s\r\n", date(c->h));
	if (k > 0 && type && (size_t)k < n)
		k += snprintf(buf + k, n - (size_t)k, "Content-Type: %s\r\n", type);
	if (k > 0 && !none && (size_t)k < n) {
		if (length == UINT64_MAX)
			k += snprintf(buf + k, n - (size_t)k, "Transfer-Encoding: chunked\r\n");
		else
			k += snprintf(buf + k, n - (size_t)k, "Content-Length: %llu\r\n",
				      (unsigned long long)length);
	}
	if (k > 0 && c->close_after && status >= 200 && !(q && q->is_connect) && (size_t)k < n)
		k += snprintf(buf + k, n - (size_t)k, "Connection: close\r\n");
	if (q) {
		q->no_out_body = none || q->is_head;
		q->out_chunked = !none && length == UINT64_MAX;
		q->out_left = none || length == UINT64_MAX ? 0 : length;
	}
	return k > 0 && (size_t)k < n ? (size_t)k : 0;
}

void httpd_respond(struct httpd_req *r, int status, const char *content_type, const char *headers,
		   struct span body)
{
	struct req *q = req_of(r);
	struct conn *c = q->c;
	char head[1024];

	if (!c || c->req != q)
		return;
	assert(!q->started);
	q->started = true;
	if (!c->dead) {
		if (!q->body_done)
			c->close_after = true;
		size_t n = head_line(c, q, head, sizeof head, status, content_type, body.n);
		struct span v[4] = { { head, n }, span_str(headers), SPAN("\r\n"), body };

		assert(n > 0);
		(void)conn_send(c, v, q->no_out_body ? 3 : 4);	/* dead: req_end() sees it */
	}
	req_end(c);
}

void httpd_respond_json(struct httpd_req *r, int status, struct span json)
{
	httpd_respond(r, status, "application/json", NULL, json);
}

void httpd_start(struct httpd_req *r, int status, struct span headers, uint64_t content_length)
{
	struct req *q = req_of(r);
	struct conn *c = conn_of(q);
	char head[512];

	if (!c)
		return;
	assert(!q->started);
	q->started = true;
	if (!q->body_done)
		c->close_after = true;
	size_t n = head_line(c, q, head, sizeof head, status, NULL, content_length);

	assert(n > 0);
	/* kept for the first piece; the end of the round sends it when none comes */
	if (buf_add(&c->out, head, n) || buf_add_span(&c->out, headers) ||
	    buf_add(&c->out, "\r\n", 2))
		conn_kill(c, true);
	else
		conn_ready(c);
}

int httpd_write(struct httpd_req *r, struct span piece)
{
	struct req *q = req_of(r);
	struct conn *c = conn_of(q);
	char line[24];
	int e;

	if (!c)
		return -EPIPE;
	assert(q->started);
	if (piece.n == 0)
		return 0;
	if (q->no_out_body)
		return 0;
	if (q->out_chunked) {
		struct span v[3] = { { line, http_chunk_line(piece.n, line) }, piece,
				     SPAN("\r\n") };

		e = conn_send(c, v, 3);
	} else {
		if (piece.n > q->out_left) {	/* never more than was announced */
			conn_kill(c, true);
			return -EPIPE;
		}
		q->out_left -= piece.n;
		e = conn_send(c, &piece, 1);
	}
	if (e)
		return e;
	if (conn_waiting(c) > c->h->lim.out_high) {
		q->want_drain = true;
		return 1;
	}
	return 0;
}

void httpd_finish(struct httpd_req *r)
{
	struct req *q = req_of(r);
	struct conn *c = q->c;

	if (!c || c->req != q)
		return;
	assert(q->started || c->dead);
	if (!c->dead && q->out_left && !q->no_out_body) {
		httpd_abort(r);		/* announced more than was written */
		return;
	}
	if (!c->dead && q->out_chunked && !q->no_out_body) {
		struct span end = SPAN("0\r\n\r\n");

		(void)conn_send(c, &end, 1);	/* dead: req_end() sees it */
	}
	req_end(c);
}

void httpd_abort(struct httpd_req *r)
{
	struct req *q = req_of(r);
	struct conn *c = q->c;

	if (!c || c->req != q)
		return;
	if (c->dead)
		req_end(c);
	else
		conn_kill(c, false);
}

void httpd_pause_body(struct httpd_req *r)
{
	struct req *q = req_of(r);
	struct conn *c = conn_of(q);

	q->paused = true;
	if (c && conn_waiting(c) == 0)
		conn_deadline(c, 0);	/* the handler's own time now */
}

void httpd_resume_body(struct httpd_req *r)
{
	struct req *q = req_of(r);
	struct conn *c = conn_of(q);

	q->paused = false;
	if (!c)
		return;
	if (conn_waiting(c) == 0 && !q->body_done)
		conn_deadline(c, (int64_t)c->h->lim.body_timeout_ms * 1000);
	conn_ready(c);		/* goes on at the end of the round: never inside the caller */
}

int httpd_peer_fd(const struct httpd_req *r)
{
	const struct req *q = (const struct req *)r;

	return q->c && !q->c->dead ? q->c->fd : -1;
}

int httpd_take(struct httpd_req *r, struct buf *out_rest)
{
	struct req *q = req_of(r);
	struct conn *c = conn_of(q);

	if (!c)
		return -EPIPE;
	while (conn_waiting(c)) {
		if (conn_send(c, NULL, 0))
			return -EPIPE;
		if (!c->can_write)
			return -EAGAIN;
		if (conn_waiting(c) > 16384)
			return -EAGAIN;
	}
	/* inside a callback c->in may still hold the head's leftovers: they are the rest */
	if (buf_add_span(out_rest, c->rest.p ? c->rest : buf_span(&c->in)))
		return -ENOMEM;
	int fd = cl_take_fd(&c->fd);

	conn_kill_keep(c, fd);
	return fd;
}

/* Words for the client whose bytes could not be read as a request. */
void conn_bad(struct conn *c, int status, const char *why)
{
	char head[512], body[256];
	struct req *q = c->req;
	bool begun = q && q->started;

	if (c->h->ops.on_bad)
		c->h->ops.on_bad(c->l->ctx, status, why);
	if (c->dead)
		return;
	if (q) {
		c->req = NULL;
		c->serial++;
		if (c->h->ops.on_gone)
			c->h->ops.on_gone(&q->pub);
		req_free(q);
	}
	if (c->dead || begun) {		/* half an answer is out: only a cut is honest */
		conn_kill(c, false);
		return;
	}
	c->close_after = true;
	int k = snprintf(body, sizeof body,
			 "{\"error\":{\"message\":\"%s\",\"type\":\"invalid_request_error\","
			 "\"code\":\"bad_request\"}}", why);
	size_t n = head_line(c, NULL, head, sizeof head, status, "application/json",
			     k > 0 ? (size_t)k : 0);
	struct span v[3] = { { head, n }, SPAN("\r\n"), { body, k > 0 ? (size_t)k : 0 } };

	c->state = CONN_FLUSH;
	conn_deadline(c, WRITE_STALL_US);
	(void)conn_send(c, v, 3);	/* dead: nobody to tell */
}

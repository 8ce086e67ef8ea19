/* SPDX-License-Identifier: Apache-2.0 */
/*
 * httpd - HTTP/1.1 server connections on the loop, over http/'s strict parser.
 * Used by the broker (towards sandboxes), the api and the simulated model.
 *
 * Life of a request: on_head (head parsed; the handler chooses what to do with
 * the body) -> on_request (buffered body complete) or on_body… (streamed) ->
 * httpd_respond, or httpd_start + httpd_write… + httpd_finish. A request may
 * be answered at any later time from the loop (long polls, upstream calls).
 * When the client leaves first, on_gone is called once and the request is
 * invalid afterwards. A request is invalid after its answer is finished.
 */
#ifndef CL_HTTPD_H
#define CL_HTTPD_H

#include "base/base.h"
#include "http/http.h"
#include "loop/loop.h"

#define HTTPD_FDS_MAX 4

struct httpd;
struct httpd_req;

struct httpd_req {
	struct span method, target;	/* target as received, origin-form (or authority for CONNECT) */
	struct span path, query;	/* target cut at '?'; not decoded */
	const struct http_header *headers;	/* .name, .value; nheaders of them */
	size_t nheaders;
	bool has_body;
	uint64_t content_length;	/* UINT64_MAX: chunked */
	struct span body;		/* in on_request: the whole buffered body */
	int fds[HTTPD_FDS_MAX];		/* unix listeners with take_fds: owned by the request, */
	size_t nfds;			/* closed at its end unless set to -1 by the handler */
	void *listener_ctx;		/* what httpd_listen() was given: who is asking (I5) */
	void *ctx;			/* the handler's own */
};

struct httpd_limits {
	size_t head_max;		/* bytes, 431 above; default 65536 */
	uint64_t body_max;		/* buffered bodies, 413 above; default 1 MiB */
	int head_timeout_ms;		/* whole head; 408; default 10000 */
	int idle_timeout_ms;		/* between requests; default 75000 */
	int body_timeout_ms;		/* between two pieces of a body; default 30000 */
	size_t out_high;		/* httpd_write says "stop" above; default 256 KiB */
	uint32_t conns_max;		/* per listener; accept pauses above; default 1024 */
	uint64_t buffered_max;		/* bytes of all buffered bodies of a listener, 503 above; default 256 MiB */
	bool take_fds;			/* unix sockets: accept SCM_RIGHTS with a request's head */
};

struct httpd_ops {
	/*
	 * Return HTTPD_BUFFER: collect the body (up to *body_max, preset from
	 * limits), then on_request. HTTPD_STREAM: on_body per piece. HTTPD_DONE:
	 * already answered here (the connection is closed if a body was coming).
	 * HTTPD_STREAM without a body: one on_body with an empty last piece.
	 */
	int (*on_head)(struct httpd_req *r, uint64_t *body_max);
	void (*on_request)(struct httpd_req *r);
	void (*on_body)(struct httpd_req *r, struct span piece, bool last);
	void (*on_gone)(struct httpd_req *r);		/* may be NULL */
	void (*on_drain)(struct httpd_req *r);		/* output below the mark again; may be NULL */
	/*
	 * The parser refused and httpd answers @status 400/408/413/431/501/503/505 by
	 * itself with a JSON error, then closes. Told here for counters; may be NULL.
	 */
	void (*on_bad)(void *listener_ctx, int status, const char *why);
};
enum { HTTPD_BUFFER, HTTPD_STREAM, HTTPD_DONE };

/* @ops and @limits are copied; limits may be NULL */
int httpd_new(struct httpd **out, struct loop *l, const struct httpd_ops *ops,
	      const struct httpd_limits *limits, struct cl_err *err);
void httpd_free(struct httpd *h);	/* closes listeners and connections; on_gone is called */

/* httpd_listen - take over listening socket @fd. @out_id names it for httpd_unlisten */
int httpd_listen(struct httpd *h, int fd, void *listener_ctx, uint32_t *out_id);
/* closes the listener and, at once, all its connections (on_gone for each live request) */
void httpd_unlisten(struct httpd *h, uint32_t id);

/* first header of that name (no case), or empty span with p NULL */
struct span httpd_header(const struct httpd_req *r, const char *name);
/* @out_n counts; a security decision on a header demands exactly one */
size_t httpd_header_count(const struct httpd_req *r, const char *name);

/* httpd_respond - whole answer at once. @headers: "Name: value\r\n" lines or NULL */
void httpd_respond(struct httpd_req *r, int status, const char *content_type, const char *headers,
		   struct span body);
void httpd_respond_json(struct httpd_req *r, int status, struct span json);

/* httpd_start - @content_length UINT64_MAX: chunked. @headers as above (span) */
void httpd_start(struct httpd_req *r, int status, struct span headers, uint64_t content_length);
/* Return 0, 1 = queued but please pause until on_drain, -EPIPE gone: on_gone
 * follows from the loop, unless the handler ends the request itself before */
int httpd_write(struct httpd_req *r, struct span piece);
/* httpd_finish - the answer is complete; @r is invalid afterwards */
void httpd_finish(struct httpd_req *r);
/* httpd_abort - cut the connection: the client must see that the answer is not whole */
void httpd_abort(struct httpd_req *r);

/* stop and go on reading this request's body (back-pressure) */
void httpd_pause_body(struct httpd_req *r);
void httpd_resume_body(struct httpd_req *r);
/* the connection's socket, borrowed: to ask the kernel who is at the other end */
int httpd_peer_fd(const struct httpd_req *r);
/*
 * httpd_take - after 101 or CONNECT's 200 was written: the raw
 * socket (now the caller's), with what was read beyond the head. @r is invalid
 * afterwards. Return: fd; -EAGAIN the answer could not be sent at once (@r still valid).
 */
int httpd_take(struct httpd_req *r, struct buf *out_rest);

#endif

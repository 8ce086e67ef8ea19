/* SPDX-License-Identifier: Apache-2.0 */
/*
 * up - HTTP/1.1 calls to the outside, for routes and channels.
 *
 * How this works: one call uses one connection from start to end; there is no
 * pipelining. Idle connections are kept in pools by (host, port, TLS,
 * credential), so that a desynchronised connection can never cross
 * credentials, and one with a single byte left over after its answer is
 * closed. Names are resolved by one helper thread; each address is checked
 * (resolve.h) and the connection made to exactly that address. TLS is always
 * verified. Redirects are never followed. A call is tried again only where
 * none of its bytes were sent.
 */
#ifndef CL_BROKER_UP_H
#define CL_BROKER_UP_H

#include "base/base.h"
#include "http/http.h"
#include "loop/loop.h"

struct up;
struct up_call;
struct up_trust;	/* a pinned set of CAs; NULL = the system's */

struct up_target {
	char host[256];		/* name or literal address, as verified and sent as SNI */
	uint16_t port;
	bool tls;
	bool allow_private;	/* may be a loopback or private address */
	char pool[72];		/* whose credential */
	const struct up_trust *trust;
};

struct up_failure {
	const char *step;	/* "resolve" "address" "connect" "tls" "send" "answer" "timeout" "busy" */
	const char *words;
	bool reached;		/* the request may have been received there */
};

/* Callbacks come from the loop, never from inside up_call(). After on_end or
 * on_fail the call is no more. Any of them may up_cancel() the call. */
struct up_ops {
	void (*on_head)(void *ctx, const struct http_head *h);	/* the final answer's; spans die with the callback */
	void (*on_body)(void *ctx, struct span piece);
	void (*on_end)(void *ctx);
	void (*on_fail)(void *ctx, const struct up_failure *f);
};

struct up_request {
	struct span head;	/* whole request head with empty line; copied, wiped after use */
	struct span body;	/* borrowed until the call ends */
	bool is_head;
	int connect_ms, idle_ms, total_ms;
};

/* up_new - starts the helper thread; @ca_file: PEM bundle, read now. The thread
 * inherits what the caller has given up: narrow the process first */
struct up_tls;
int up_tls_new(struct up_tls **out, const char *ca_file, struct cl_err *err);	/* before narrowing */
int up_new(struct up **out, struct loop *l, struct up_tls *tls, struct cl_err *err);	/* takes @tls */
void up_free(struct up *u);	/* live calls end without a callback */

int up_trust_new(struct up_trust **out, struct span pem, struct cl_err *err);
void up_trust_free(struct up_trust *t);

/*
 * up_target_parse - "https://host[:port][/prefix]"; no user, query or fragment.
 * http only when @allow_private or the host is a literal loopback address (which
 * sets allow_private). @out_prefix points into @url, "" or "/x" without last '/'.
 */
int up_target_parse(struct span url, bool allow_private, struct up_target *out,
		    struct span *out_prefix, struct cl_err *err);

/* Return: 0 and the call; -ENOMEM, -ENOBUFS too many calls */
int up_call(struct up *u, const struct up_target *t, const struct up_request *rq,
	    const struct up_ops *ops, void *ctx, struct up_call **out, struct cl_err *err);
void up_cancel(struct up_call *c);	/* no callback comes any more */
/* back-pressure: stop and go on reading the answer */
void up_pause(struct up_call *c);
void up_resume(struct up_call *c);
/* up_drop_pool - close idle connections of a credential that changed */
void up_drop_pool(struct up *u, const char *pool);

struct up_stats { uint64_t calls, connects, reused, failed; uint32_t open, idle; };
void up_stats(const struct up *u, struct up_stats *out);

#endif

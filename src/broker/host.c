/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the conversation needs of the broker: tokens, the channels to the
 * other programs, and calls to a messenger with the credential put in. The
 * bot token stands in the path, as the Bot API wants it (/bot<token>/method);
 * the head that holds it is wiped once it is sent.
 */
#include "broker/broker.h"

#include "broker/conv/conv.h"
#include "broker/route/route.h"
#include "broker/route/up.h"
#include "broker/token.h"
#include "broker/vault.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool host_token_ok(void *ctx, uint32_t no, struct span token)
{
	struct broker *b = ctx;
	struct broker_tenant *t = tenant_find(b, no);

	return t && t->known && token_ok(b->tokens, TOKEN_BOT, no, t->generation, token);
}

static void host_ready(void *ctx, uint32_t no)
{
	broker_tell_cloisterd(ctx, MSG_TENANT_READY, no);
}

static void host_wake(void *ctx, uint32_t no)
{
	broker_tell_cloisterd(ctx, MSG_TENANT_WAKE, no);
}

static void host_event(void *ctx, const char *name, struct span json)
{
	broker_event(ctx, name, json);
}

static void host_record(void *ctx, const struct record *r)
{
	(void)broker_record(ctx, r);	/* a full queue is counted and shows in stats */
}

/* honest mistakes of a client are low; an attempt to reach beyond the one chat is not */
static const char *severity_of(const char *rule)
{
	static const char *const high[] = { "conversation.recipient", "conversation.field", "conversation.token",
		"conversation.leak", "conversation.media_url", "conversation.webhook" };

	for (size_t i = 0; i < CL_ARRAY_LEN(high); i++)
		if (strcmp(rule, high[i]) == 0)
			return "high";
	return "low";
}

static void host_denied(void *ctx, uint32_t no, const char *rule, const char *reason, const char *fix,
			const char *method, int status, char *out_id, size_t out_size)
{
	struct broker *b = ctx;
	struct denial d = { .status = status, .rule = rule, .reason = reason, .fix = fix,
			    .severity = severity_of(rule), .route = "telegram", .method = "POST",
			    .path = span_str(method) };

	deny_note(b, tenant_find(b, no), &d, out_id, out_size);
}

static bool host_leaks(void *ctx, uint32_t no, struct span bytes, char *what, size_t what_size)
{
	struct broker *b = ctx;

	(void)no;	/* a live secret is nobody's to say */
	return routes_leaks(b->routes, bytes, what, what_size);
}

/* ---- calls to a messenger --------------------------------------------------------- */

struct fetch {
	struct up_call *call;
	conv_fetched_fn *fn;
	void *fn_ctx;
	int status;
	size_t max;
	struct buf body;	/* the answer */
	struct buf request;	/* the request's body: borrowed by the call */
};

static void fetch_free(struct fetch *f)
{
	buf_done(&f->body);
	buf_done(&f->request);
	free(f);
}

static void fetch_end(struct fetch *f, int status, bool reached, struct span words)
{
	f->fn(f->fn_ctx, status, reached, words);
	fetch_free(f);
}

static void fetch_head(void *ctx, const struct http_head *h)
{
	struct fetch *f = ctx;

	f->status = h->status;
}

static void fetch_body(void *ctx, struct span piece)
{
	struct fetch *f = ctx;

	if (buf_add_span(&f->body, piece) == 0)
		return;
	up_cancel(f->call);
	fetch_end(f, 0, true, SPAN("the answer is too large"));
}

static void fetch_done(void *ctx)
{
	struct fetch *f = ctx;

	fetch_end(f, f->status, true, buf_span(&f->body));
}

static void fetch_failed(void *ctx, const struct up_failure *u)
{
	char words[256];

	(void)snprintf(words, sizeof words, "%s: %s", u->step, u->words);	/* cut is fine */
	fetch_end(ctx, 0, u->reached, span_str(words));
}

static const struct up_ops fetch_ops = { fetch_head, fetch_body, fetch_done, fetch_failed };

/* A bot token goes into a path: nothing in it may end the path or the line. */
static bool path_safe(struct span s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      c == ':' || c == '_' || c == '-'))
			return false;
	}
	return s.n > 0;
}

static int fetch_request(const struct conv_fetch *f, struct span secret, struct span prefix,
			 const struct up_target *t, struct buf *head)
{
	int r = buf_reserve(head, 1024 + prefix.n + secret.n + strlen(f->path));

	(void)buf_printf(head, "%s %.*s%s/bot", f->body.n ? "POST" : "GET", SPAN_FMT(prefix),
			 f->file ? "/file" : "");
	(void)buf_add_span(head, secret);
	(void)buf_printf(head, "%s HTTP/1.1\r\nHost: %s", f->path, t->host);
	if (t->port != (t->tls ? 443 : 80))
		(void)buf_printf(head, ":%u", t->port);
	(void)buf_add_str(head, "\r\nAccept: */*\r\nAccept-Encoding: identity\r\n");
	if (f->body.n)
		(void)buf_printf(head, "Content-Type: %s\r\nContent-Length: %zu\r\n", f->content_type,
				 f->body.n);
	(void)buf_add_str(head, "\r\n");
	return r ? r : head->failed ? -E2BIG : 0;
}

static int host_fetch(void *ctx, const struct conv_fetch *want, conv_fetched_fn *fn, void *fn_ctx,
		      void **out_call, struct cl_err *err)
{
	struct broker *b = ctx;
	struct span secret = vault_get(b->vault, want->secret), prefix;
	struct up_target t = { 0 };
	struct buf head;
	struct fetch *f;
	int r;

	if (!secret.p)
		return cl_fail(err, ENOKEY, "no secret '%s': cloister secret set %s", want->secret,
			       want->secret);
	if (!path_safe(secret))
		return cl_fail(err, EINVAL, "secret '%s' is no bot token (digits, colon, letters)",
			       want->secret);
	r = up_target_parse(span_str(want->api_root), false, &t, &prefix, err);
	if (r)
		return r;
	(void)snprintf(t.pool, sizeof t.pool, "bot:%s", want->secret);	/* names are at most 64 */
	f = calloc(1, sizeof *f);
	if (!f)
		return cl_fail(err, ENOMEM, "call to the messenger");
	f->fn = fn;
	f->fn_ctx = fn_ctx;
	buf_init(&f->body, want->answer_max);
	buf_init(&f->request, want->body.n);
	buf_init(&head, 16384);
	r = buf_add_span(&f->request, want->body);
	if (r == 0)
		r = fetch_request(want, secret, prefix, &t, &head);
	if (r == 0) {
		struct up_request rq = { .head = buf_span(&head), .body = buf_span(&f->request),
					 .connect_ms = 10000, .idle_ms = want->timeout_ms,
					 .total_ms = want->timeout_ms };

		r = up_call(b->up, &t, &rq, &fetch_ops, f, &f->call, err);
	} else {
		(void)cl_fail(err, -r, "call to the messenger: too large");
	}
	buf_wipe_done(&head);
	if (r) {
		fetch_free(f);
		return r;
	}
	*out_call = f;
	return 0;
}

static void host_fetch_cancel(void *ctx, void *call)
{
	struct fetch *f = call;

	(void)ctx;
	up_cancel(f->call);
	fetch_free(f);
}

int host_init(struct broker *b, struct cl_err *err)
{
	const struct conv_host host = {
		.ctx = b, .loop = b->loop, .store_path = "conversation.db", .state_dirfd = b->state_fd,
		.token_ok = host_token_ok, .ready = host_ready, .wake = host_wake, .event = host_event,
		.record = host_record, .denied = host_denied, .leaks = host_leaks, .fetch = host_fetch,
		.fetch_cancel = host_fetch_cancel,
	};

	return conv_new(&b->conv, &host, err);
}

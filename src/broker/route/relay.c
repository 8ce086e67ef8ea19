/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How this works: one struct relay from the head of a request to the end of
 * its answer. It ends exactly once, in relay_end(), which settles the budget
 * and writes down what happened; whichever of client and upstream is still
 * there is let go first.
 */
#include "broker/route/route_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void relay_end(struct relay *y, const char *reason)
{
	struct routes *rs = y->t->b->routes;
	int64_t now = cl_now_us();

	if (y->budgeted) {
		uint64_t used = y->usage.in_tokens + y->usage.out_tokens;

		/* no counts came: what was sent and what came back, four bytes a token */
		if (!y->usage.seen && y->called && y->reserved)
			used = y->bytes_out / 4 + (y->status < 400 ? y->bytes_in / 4 : 0);
		budget_settle(&y->t->route->budget, y->reserved, used, y->called, now);
		budgets_dirty(rs);
	}
	if (y->called) {
		struct record r;

		record_begin(&r, RECORD_REQUEST_DONE, y->t->id);
		record_str(&r, RF_ID, y->id);
		record_str(&r, RF_ROUTE, y->doc->name);
		record_num(&r, RF_STATUS, (uint64_t)y->status);
		record_num(&r, RF_MS, (uint64_t)(now - y->began_us) / 1000);
		if (y->first_us)
			record_num(&r, RF_FIRST_MS, (uint64_t)(y->first_us - y->began_us) / 1000);
		record_num(&r, RF_BYTES_IN, y->bytes_in);
		record_num(&r, RF_BYTES_OUT, y->bytes_out);
		if (y->facts.model[0])
			record_str(&r, RF_MODEL, y->facts.model);
		if (y->usage.seen) {
			record_num(&r, RF_IN_TOKENS, y->usage.in_tokens);
			record_num(&r, RF_OUT_TOKENS, y->usage.out_tokens);
			record_num(&r, RF_CACHED_TOKENS, y->usage.cached_tokens);
		}
		if (reason)
			record_str(&r, RF_REASON, reason);
		(void)broker_record(y->t->b, &r);	/* kept and sent again by the record client */
	}
	if (y->scrubbing && y->scrub.found) {
		struct record r;

		record_begin(&r, RECORD_BOUNDARY, y->t->id);
		record_str(&r, RF_EVENT, "echo");
		record_str(&r, RF_SEVERITY, "high");
		record_str(&r, RF_LAYER, "credentials");
		record_str(&r, RF_ROUTE, y->doc->name);
		record_str(&r, RF_REASON, "the upstream's answer held a live credential; it was blanked");
		record_num(&r, RF_COUNT, y->scrub.found);
		record_str(&r, RF_ID, y->id);
		(void)broker_record(y->t->b, &r);
	}
	if (y->scrubbing)
		scrub_done(&y->scrub);
	up_cancel(y->call);
	*y->pprev = y->next;
	if (y->next)
		y->next->pprev = y->pprev;
	y->t->route->live--;
	route_doc_unref(y->doc);
	free(y);
}

/* The client gets an error of ours, or, when its answer has begun, a cut. */
static void relay_fail(struct relay *y, int status, const char *rule, const char *reason, const char *fix)
{
	struct httpd_req *r = y->r;
	struct denial d = { .status = status, .rule = rule, .reason = reason, .fix = fix,
			    .route = y->doc->name, .failure = true };

	y->t->b->stats.upstream_failed++;
	y->status = y->answering ? 0 : status;
	y->r = NULL;
	if (y->answering)
		httpd_abort(r);
	else
		deny_answer(y->t->b, y->t, r, y->shape, &d);
	relay_end(y, reason);
}

/* ---- the answer --------------------------------------------------------------------- */

static bool answer_header_ok(struct span name)
{
	static const char *const exact[] = { "content-type", "request-id", "x-request-id", "retry-after",
		"etag", "last-modified", "content-range", "accept-ranges", "content-disposition",
		"x-should-retry", "retry-after-ms" };
	static const char *const begin[] = { "openai-", "anthropic-", "x-ratelimit-", "ratelimit-" };

	for (size_t i = 0; i < CL_ARRAY_LEN(exact); i++)
		if (span_eq_nocase(name, span_str(exact[i])))
			return true;
	for (size_t i = 0; i < CL_ARRAY_LEN(begin); i++) {
		size_t n = strlen(begin[i]);

		if (name.n > n && span_eq_nocase((struct span){ name.p, n }, span_str(begin[i])))
			return true;
	}
	return false;
}

static void on_head(void *ctx, const struct http_head *h)
{
	struct relay *y = ctx;
	struct routes *rs = y->t->b->routes;
	struct span enc = http_get(h, "content-encoding");
	char fix[160];
	CL_BUF struct buf lines;

	y->first_us = cl_now_us();
	y->status = h->status;
	if (enc.p && !span_eq_nocase(enc, SPAN("identity"))) {
		relay_fail(y, 502, "upstream.encoding", "The provider sent a compressed answer that was not asked for.",
			   NULL);
		return;
	}
	if (h->status >= 300 && h->status < 400 && h->status != 304) {
		relay_fail(y, 502, "upstream.redirect", "The provider answered with a redirect; redirects are not followed.",
			   "set `upstream:` of the route to where it leads, if that is right");
		return;
	}
	if ((h->status == 401 || h->status == 407) && y->doc->secret[0]) {
		/* such answers often quote a part of the key */
		(void)snprintf(fix, sizeof fix, "cloister secret set %s", y->doc->secret);
		person_told(y->t, "My model refuses the key that I was given. Please ask the person who runs this "
				  "service to check it.");
		relay_fail(y, 401, "upstream.key", "The provider refused the operator's key.", fix);
		return;
	}
	buf_init(&lines, 65536);
	for (size_t i = 0; i < h->n; i++) {
		if (!answer_header_ok(h->h[i].name) ||
		    routes_leaks(rs, h->h[i].value, NULL, 0))
			continue;
		buf_add_span(&lines, h->h[i].name);
		buf_add_str(&lines, ": ");
		buf_add_span(&lines, h->h[i].value);
		buf_add_str(&lines, "\r\n");
	}
	buf_printf(&lines, "x-cloister-id: %s\r\n", y->id);
	if (lines.failed) {
		relay_fail(y, 502, "upstream.answer", "The head of the provider's answer is too large.", NULL);
		return;
	}
	scrub_init(&y->scrub, rs->scrubber);
	y->scrubbing = true;
	y->answering = true;
	/* the same length goes out as comes in: secrets are blanked, not removed */
	httpd_start(y->r, h->status, buf_span(&lines),
		    h->body == HTTP_LENGTH ? h->length : h->body == HTTP_NO_BODY ? 0 : UINT64_MAX);
}

/* Return: false: the relay has ended */
static bool put(struct relay *y, struct span piece, bool last)
{
	struct span pass;
	CL_BUF struct buf clean;
	int r;

	buf_init(&clean, 64u << 20);
	if (scrub_next(&y->scrub, piece, last, &clean, &pass)) {
		relay_fail(y, 502, "memory", "Out of memory.", NULL);
		return false;
	}
	if (clean.n)
		pass = buf_span(&clean);
	y->bytes_in += pass.n;
	r = httpd_write(y->r, pass);
	if (r == 1 && !y->paused && y->call && !last) {
		y->paused = true;
		up_pause(y->call);
	}
	return true;	/* gone clients are told by on_gone */
}

static void on_body(void *ctx, struct span piece)
{
	struct relay *y = ctx;

	usage_next(&y->usage, piece);
	(void)put(y, piece, false);	/* when it ended there the call is cancelled */
}

static void on_end(void *ctx)
{
	struct relay *y = ctx;
	struct httpd_req *r = y->r;

	y->call = NULL;
	if (!put(y, (struct span){ NULL, 0 }, true))
		return;
	y->r = NULL;
	httpd_finish(r);
	relay_end(y, NULL);
}

static void on_fail(void *ctx, const struct up_failure *f)
{
	struct relay *y = ctx;
	bool slow = strcmp(f->step, "timeout") == 0;
	char reason[400], fix[200];

	y->call = NULL;
	(void)snprintf(reason, sizeof reason, "The provider behind \"%s\" %s (%s: %s).", y->doc->name,
		       slow ? "did not answer in time" : f->reached ? "broke off" : "cannot be reached", f->step,
		       f->words);
	(void)snprintf(fix, sizeof fix, "cloister route test %s", y->doc->name);
	relay_fail(y, slow ? 504 : 502, slow ? "upstream.timeout" : "upstream.failed", reason, fix);
}

static const struct up_ops ops = { on_head, on_body, on_end, on_fail };

/* ---- the request ---------------------------------------------------------------------- */

void relay_start(struct relay *y)
{
	struct broker *b = y->t->b;
	struct up_request rq = { .body = y->r->body, .is_head = span_eq_str(y->r->method, "HEAD"),
				 .connect_ms = 10000, .idle_ms = y->doc->timeout_ms, .total_ms = 3600000 };
	struct cl_err err = { 0 };
	struct buf head;
	struct record r;
	int e;

	/* what is about to happen is in the ledger before it happens */
	record_begin(&r, RECORD_REQUEST_ALLOWED, y->t->id);
	record_str(&r, RF_ID, y->id);
	record_str(&r, RF_ROUTE, y->doc->name);
	record_text(&r, RF_METHOD, y->r->method);
	record_text(&r, RF_PATH, y->path);
	record_str(&r, RF_HOST, y->doc->target.host);
	if (y->facts.model[0])
		record_str(&r, RF_MODEL, y->facts.model);
	record_num(&r, RF_BYTES_OUT, y->bytes_out);
	if (broker_record(b, &r)) {
		relay_fail(y, 503, "ledger", "The ledger does not take records now, so nothing is let through.",
			   "see `cloister status` (is the disk full?)");
		return;
	}
	buf_init(&head, 262144);
	e = compose(y, &head, &err);
	if (e == 0) {
		rq.head = buf_span(&head);
		e = up_call(b->up, &y->doc->target, &rq, &ops, y, &y->call, &err);
	}
	buf_wipe_done(&head);
	if (e) {
		relay_fail(y, 503, "upstream.start", err.text, NULL);
		return;
	}
	y->called = true;
}

int route_head(struct broker_tenant *t, struct httpd_req *r, uint64_t *body_max)
{
	struct route_doc *doc;
	enum deny_shape shape;
	struct span path;

	t->b->stats.requests++;
	if (check_head(t, r, &doc, &path, &shape))
		return HTTPD_DONE;
	struct relay *y = calloc(1, sizeof *y);

	if (!y) {
		route_doc_unref(doc);
		httpd_respond_json(r, 503, SPAN("{\"error\":{\"message\":\"out of memory\"}}"));
		return HTTPD_DONE;
	}
	struct routes *rs = t->b->routes;

	y->t = t;
	y->r = r;
	y->doc = doc;
	y->shape = shape;
	y->path = path;
	y->began_us = cl_now_us();
	new_id("r-", y->id);
	usage_init(&y->usage);
	y->next = rs->relays;
	y->pprev = &rs->relays;
	if (y->next)
		y->next->pprev = &y->next;
	rs->relays = y;
	t->route->live++;
	r->ctx = y;
	*body_max = doc->body_max;
	return HTTPD_BUFFER;
}

void route_request(struct broker_tenant *t, struct httpd_req *r)
{
	struct relay *y = r->ctx;

	(void)t;
	if (check_body(y) || check_cost(y)) {
		y->r = NULL;	/* answered */
		relay_end(y, NULL);
		return;
	}
	relay_start(y);
}

void route_gone(struct httpd_req *r)
{
	struct relay *y = r->ctx;

	if (!y)
		return;
	y->r = NULL;
	y->status = 499;
	relay_end(y, "the agent left before the answer was whole");
}

void route_drain(struct httpd_req *r)
{
	struct relay *y = r->ctx;

	if (y && y->paused && y->call) {
		y->paused = false;
		up_resume(y->call);
	}
}

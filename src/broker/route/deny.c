/* SPDX-License-Identifier: Apache-2.0 */
/* Refusals that teach: recorded, remembered, and said in the SDK's own shape. */
#include "broker/route/route_impl.h"

#include <stdio.h>
#include <string.h>

void new_id(const char *prefix, char out[ID_SIZE])
{
	static uint8_t pool[512];	/* one system call for many */
	static size_t left;
	char hex[17];

	if (left == 0) {
		cl_random(pool, sizeof pool);
		left = sizeof pool;
	}
	left -= 8;
	cl_hex(pool + left, 8, hex);
	(void)snprintf(out, ID_SIZE, "%s%s", prefix, hex);
}

static void keep(struct routes *rs, struct broker_tenant *t, const struct denial *d, const char *id)
{
	struct denial_kept *k = &rs->denials[rs->denial_at++ % DENIALS_KEPT];

	memset(k, 0, sizeof *k);
	k->at_us = cl_now_us();
	(void)snprintf(k->id, sizeof k->id, "%s", id);
	(void)snprintf(k->tenant, sizeof k->tenant, "%s", t->id);
	(void)snprintf(k->rule, sizeof k->rule, "%s", d->rule);
	(void)snprintf(k->reason, sizeof k->reason, "%s", d->reason);
	(void)snprintf(k->fix, sizeof k->fix, "%s", d->fix ? d->fix : "");
	(void)snprintf(k->method, sizeof k->method, "%s", d->method ? d->method : "");
	utf8_scrub(d->path, k->path, sizeof k->path);
}

static void tell_api(struct broker *b, struct broker_tenant *t, const struct denial *d, const char *id)
{
	CL_BUF struct buf j;

	buf_init(&j, 8192);
	buf_printf(&j, "{\"no\":%u,\"id\":\"%s\",\"rule\":", t->no, id);
	buf_add_json_str(&j, span_str(d->rule));
	buf_add_str(&j, ",\"reason\":");
	buf_add_json_str(&j, span_str(d->reason));
	buf_add_str(&j, ",\"fix\":");
	buf_add_json_str(&j, span_str(d->fix));
	buf_add_ch(&j, '}');
	if (!j.failed)
		broker_event(b, "denial", buf_span(&j));
}

/* An agent in a loop must not fill the ledger: so many a minute, then a count. */
static bool worth_recording(struct broker *b, struct broker_tenant *t)
{
	struct route_tenant *rt = t->route;
	int64_t minute = cl_mono_us() / 60000000;
	struct record r;

	if (!rt)
		return true;
	if (rt->deny_minute != minute) {
		if (rt->deny_n > DENIALS_RECORDED) {
			record_begin(&r, RECORD_BOUNDARY, t->id);
			record_str(&r, RF_EVENT, "refusals");
			record_str(&r, RF_SEVERITY, "medium");
			record_str(&r, RF_REASON, "more refusals in a minute than are recorded one by one");
			record_num(&r, RF_COUNT, rt->deny_n);
			(void)broker_record(b, &r);	/* counted here as well */
		}
		rt->deny_minute = minute;
		rt->deny_n = 0;
	}
	return ++rt->deny_n <= DENIALS_RECORDED;
}

void deny_note(struct broker *b, struct broker_tenant *t, const struct denial *d, char *out_id,
	       size_t out_size)
{
	char id[ID_SIZE];
	struct record r;

	new_id("d-", id);
	(void)snprintf(out_id, out_size, "%s", id);
	if (!t)
		return;		/* removed meanwhile: there is nobody to tell it of */
	keep(b->routes, t, d, id);
	if (d->failure)
		return;		/* not a refusal of ours: request.done says what happened */
	b->stats.denied++;
	if (!worth_recording(b, t))
		return;
	record_begin(&r, RECORD_REQUEST_DENIED, t->id);
	record_str(&r, RF_ID, id);
	record_str(&r, RF_RULE, d->rule);
	record_str(&r, RF_REASON, d->reason);
	if (d->fix)
		record_str(&r, RF_FIX, d->fix);
	if (d->route)
		record_str(&r, RF_ROUTE, d->route);
	if (d->method)
		record_str(&r, RF_METHOD, d->method);
	record_text(&r, RF_PATH, d->path);
	record_num(&r, RF_STATUS, (uint64_t)d->status);
	if (d->severity)
		record_str(&r, RF_SEVERITY, d->severity);
	(void)broker_record(b, &r);	/* it is refused anyway */
	if (d->severity) {
		record_begin(&r, RECORD_BOUNDARY, t->id);
		record_str(&r, RF_EVENT, d->rule);
		record_str(&r, RF_SEVERITY, d->severity);
		record_str(&r, RF_LAYER, "credentials");
		record_str(&r, RF_REASON, d->reason);
		record_str(&r, RF_ID, id);
		(void)broker_record(b, &r);
	}
	tell_api(b, t, d, id);
}

static const char *error_type(enum deny_shape shape, int status)
{
	bool anthropic = shape == DENY_ANTHROPIC;

	switch (status) {
	case 401: return anthropic ? "authentication_error" : "invalid_request_error";
	case 403: return anthropic ? "permission_error" : "invalid_request_error";
	case 404: return anthropic ? "not_found_error" : "invalid_request_error";
	case 413: return anthropic ? "request_too_large" : "invalid_request_error";
	case 429: return anthropic ? "rate_limit_error" : "insufficient_quota";
	case 400: case 405: case 415: case 422: return "invalid_request_error";
	default: return anthropic ? "api_error" : "server_error";
	}
}

void deny_answer(struct broker *b, struct broker_tenant *t, struct httpd_req *r, enum deny_shape shape,
		 const struct denial *d)
{
	char id[ID_SIZE], method[17], headers[160] = "";
	struct denial full = *d;
	CL_BUF struct buf j;

	utf8_scrub(r->method, method, sizeof method);
	full.method = method;
	if (!full.path.p)
		full.path = r->path;
	deny_note(b, t, &full, id, sizeof id);
	buf_init(&j, 16384);
	buf_add_str(&j, shape == DENY_ANTHROPIC ? "{\"type\":\"error\",\"error\":{\"type\":" : "{\"error\":{\"type\":");
	buf_add_json_str(&j, span_str(error_type(shape, d->status)));
	buf_add_str(&j, ",\"message\":");

	char message[1200];

	(void)snprintf(message, sizeof message, "%s%s%s (%s)", d->reason, d->fix ? " Fix (operator): " : "",
		       d->fix ? d->fix : "", id);
	buf_add_json_str(&j, span_str(message));
	buf_add_str(&j, ",\"param\":null,\"code\":");
	buf_add_json_str(&j, span_str(d->rule));
	buf_add_str(&j, ",\"rule\":");
	buf_add_json_str(&j, span_str(d->rule));
	buf_add_str(&j, ",\"reason\":");
	buf_add_json_str(&j, span_str(d->reason));
	buf_add_str(&j, ",\"fix\":");
	buf_add_json_str(&j, span_str(d->fix));
	buf_printf(&j, ",\"id\":\"%s\"}}", id);
	/* the SDKs would try a refusal again: it would be the same */
	if (d->retry_after_s)
		(void)snprintf(headers, sizeof headers, "Retry-After: %d\r\nx-should-retry: false\r\n",
			       d->retry_after_s);
	else
		(void)snprintf(headers, sizeof headers, "x-should-retry: %s\r\n",
			       d->status == 502 || d->status == 504 ? "true" : "false");
	httpd_respond(r, d->status, "application/json", headers, j.failed ? SPAN("{}") : buf_span(&j));
}

int call_why(struct call *c)
{
	struct routes *rs = c->b->routes;
	const char *id = json_string_value(json_object_get(c->body, "id"));

	if (!id)
		return call_fail_with(c, 400, "why needs an id");
	for (size_t i = 0; i < DENIALS_KEPT; i++) {
		const struct denial_kept *k = &rs->denials[i];
		char at[32];

		if (!k->id[0] || strcmp(k->id, id) != 0)
			continue;
		cl_time_rfc3339(k->at_us, at, sizeof at);
		buf_printf(c->out, "{\"id\":\"%s\",\"at\":\"%s\",\"tenant\":\"%s\",\"rule\":", k->id, at, k->tenant);
		buf_add_json_str(c->out, span_str(k->rule));
		buf_add_str(c->out, ",\"reason\":");
		buf_add_json_str(c->out, span_str(k->reason));
		buf_add_str(c->out, ",\"fix\":");
		buf_add_json_str(c->out, span_str(k->fix));
		buf_add_str(c->out, ",\"method\":");
		buf_add_json_str(c->out, span_str(k->method));
		buf_add_str(c->out, ",\"path\":");
		buf_add_json_str(c->out, span_str(k->path));
		buf_add_ch(c->out, '}');
		return 200;
	}
	return call_fail_with(c, 404, "no such denial is remembered (the last %d are; older ones are in the ledger)",
			      DENIALS_KEPT);
}

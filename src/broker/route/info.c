/* SPDX-License-Identifier: Apache-2.0 */
/* What an agent may know about itself, and what an operator may ask about a route. */
#include "broker/route/route_impl.h"

#include "broker/route/info.h"
#include "broker/vault.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SNIPPET 300	/* bytes of an answer that `route test` shows */

static void add_route(struct broker *b, const struct route_tenant *rt, const char *name, bool *first,
		      struct buf *j)
{
	const struct route_doc *d = routes_find(b->routes, name);
	bool usable = d && (!d->secret[0] || vault_get(b->vault, d->secret).p);

	if (!d)
		return;
	buf_printf(j, "%s{\"route\":\"%s\",\"base_url\":\"http://127.0.0.1:8377/r/%s\",\"usable\":%s,\"calls\":[",
		   *first ? "" : ",", d->name, d->name, usable ? "true" : "false");
	*first = false;
	for (size_t i = 0; i < d->nallow; i++) {
		buf_printf(j, "%s\"%s ", i ? "," : "", d->allow[i].method);
		/* strict paths hold nothing that JSON escapes */
		buf_printf(j, "%s%s\"", d->allow[i].path, d->allow[i].below ? "*" : "");
	}
	buf_printf(j, "]%s}", strcmp(rt->model_route, d->name) == 0 ? ",\"also_at\":\"/v1\"" : "");
}

static void capabilities(struct broker_tenant *t, struct buf *j)
{
	const struct route_tenant *rt = t->route;
	const struct budget *g = &rt->budget;
	bool first = true;

	buf_printf(j, "{\"agent\":\"%s\",\"model\":{\"route\":", t->id);
	buf_add_json_str(j, span_str(rt->model_route));
	buf_add_str(j, ",\"id\":");
	buf_add_json_str(j, span_str(rt->model_id));
	buf_add_str(j, "},\"routes\":[");
	add_route(t->b, rt, rt->model_route, &first, j);
	for (size_t i = 0; i < rt->nroutes; i++)
		if (strcmp(rt->routes[i], rt->model_route) != 0)
			add_route(t->b, rt, rt->routes[i], &first, j);
	buf_printf(j, "],\"budget\":{\"calls_per_hour\":{\"used\":%llu,\"max\":%llu},"
		      "\"tokens_per_day\":{\"used\":%llu,\"max\":%llu}},",
		   (unsigned long long)g->used[0], (unsigned long long)g->max[0],
		   (unsigned long long)g->used[1], (unsigned long long)g->max[1]);
	buf_add_str(j, "\"conversation\":\"One chat, with the owner (chat id 1001), through /telegram. "
		       "There is no other recipient.\","
		       "\"network\":\"There is no network but this port. Calls go through the routes above with the "
		       "token from the environment; the broker adds the real credential.\"}");
}

void info_request(struct broker_tenant *t, struct httpd_req *r)
{
	CL_BUF struct buf j;

	buf_init(&j, 256u << 10);
	if (span_eq_str(r->path, "/whoami"))
		buf_printf(&j, "{\"agent\":\"%s\",\"owner_chat_id\":1001,\"sandbox\":true,"
			       "\"see\":\"/capabilities\"}", t->id);
	else
		capabilities(t, &j);
	if (j.failed)
		httpd_respond_json(r, 500, SPAN("{\"error\":{\"message\":\"out of memory\"}}"));
	else
		httpd_respond_json(r, 200, buf_span(&j));
}

bool info_path(struct span path)
{
	return span_eq_str(path, "/whoami") || span_eq_str(path, "/capabilities");
}

/* ---- explain ------------------------------------------------------------------------ */

static int explained(struct call *c, bool allowed, const char *rule, const char *fmt, ...) CL_PRINTF(4, 5);
static int explained(struct call *c, bool allowed, const char *rule, const char *fmt, ...)
{
	char text[500];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	buf_printf(c->out, "{\"allowed\":%s,\"rule\":\"%s\",\"reason\":", allowed ? "true" : "false", rule);
	buf_add_json_str(c->out, span_str(text));
	buf_add_ch(c->out, '}');
	return 200;
}

int call_explain(struct call *c)
{
	const json_t *no = json_object_get(c->body, "no");
	const char *method = json_string_value(json_object_get(c->body, "method"));
	const char *path = json_string_value(json_object_get(c->body, "path"));
	const json_t *jb = json_object_get(c->body, "body");
	struct broker_tenant *t = json_is_integer(no) ? tenant_find(c->b, (uint32_t)json_integer_value(no)) : NULL;
	struct span rest, name, body = { NULL, 0 };
	char route[65], why[256];
	bool other, may = false;

	if (!method || !path || !t || !t->route)
		return call_fail_with(c, 400, "explain needs no (of a known tenant), method and path");
	rest = span_str(path);
	if (span_starts(rest, SPAN("/r/"))) {
		rest.p += 3;
		rest.n -= 3;
		if (!span_cut(&rest, '/', &name) || span_copy(name, route, sizeof route))
			return explained(c, false, "path", "There is nothing at this path.");
		rest = (struct span){ name.p + name.n, strlen(name.p + name.n) };
	} else if (span_starts(rest, SPAN("/v1/"))) {
		(void)snprintf(route, sizeof route, "%s", t->route->model_route);
	} else {
		return explained(c, span_starts(rest, SPAN("/telegram/")) || info_path(rest), "path",
				 "Not a route's path (routes are /v1/... and /r/<route>/...).");
	}
	const struct route_doc *d = routes_find(c->b->routes, route);

	may = strcmp(route, t->route->model_route) == 0;
	for (size_t i = 0; i < t->route->nroutes; i++)
		may = may || strcmp(t->route->routes[i], route) == 0;
	if (!d)
		return explained(c, false, "route", "There is no route \"%s\".", route);
	if (!may)
		return explained(c, false, "route", "The tenant's policy does not list the route \"%s\".", route);
	if (http_path_strict(rest))
		return explained(c, false, "path", "%s", http_path_strict(rest));
	if (!route_doc_allows(d, span_str(method), rest, &other))
		return explained(c, false, other ? "route.method" : "route.path",
				 "The route \"%s\" does not allow it: `allow:` has no such row.", route);
	if (jb) {
		if (json_is_string(jb))
			body = (struct span){ json_string_value(jb), json_string_length(jb) };
		char *text = json_is_string(jb) ? NULL : json_dumps(jb, JSON_COMPACT);

		if (text)
			body = span_str(text);
		int r = body_check(body, why, sizeof why);

		if (r == 0)
			r = body_rules(body, d->rules, d->nrules, why, sizeof why);
		bool fetches = r == 0 && !d->fetch && body_fetches(body, (enum body_shape)d->kind, why, sizeof why);

		free(text);
		if (r)
			return explained(c, false, "body.rule", "%s", why);
		if (fetches)
			return explained(c, false, "body.fetch", "The provider would reach out by itself: %s.", why);
	}
	if (d->secret[0] && !vault_get(c->b->vault, d->secret).p)
		return explained(c, false, "secret.missing", "The secret \"%s\" is not set.", d->secret);
	return explained(c, true, "route", "Allowed: route \"%s\" to %s%s, within the budget.", route,
			 d->target.host, d->prefix);
}

/* ---- route test ------------------------------------------------------------------------- */

struct test {
	struct broker *b;
	uint32_t seq;
	struct up_call *call;
	struct route_doc *doc;
	struct scrubber *scrubber;
	int status;
	int64_t began_us;
	struct buf body;
};

static void test_end(struct test *x, const char *step, const char *words)
{
	CL_BUF struct buf out, clean;
	int64_t ms = (cl_mono_us() - x->began_us) / 1000;

	buf_init(&out, 16384);
	buf_init(&clean, 16384);
	if (scrubber_clean(x->scrubber, buf_span(&x->body), &clean) < 0)
		buf_clear(&clean);
	if (clean.n > SNIPPET)
		clean.n = SNIPPET;
	buf_printf(&out, "{\"ok\":%s,\"status\":%d,\"ms\":%lld,\"upstream\":",
		   x->status >= 200 && x->status < 300 ? "true" : "false", x->status, (long long)ms);
	buf_add_json_str(&out, span_str(x->doc->target.host));
	buf_add_str(&out, ",\"error\":");
	if (step) {
		char text[300];

		(void)snprintf(text, sizeof text, "%s: %s", step, words);
		buf_add_json_str(&out, span_str(text));
	} else {
		buf_add_str(&out, "null");
	}
	buf_add_str(&out, ",\"answer\":");
	buf_add_json_str(&out, buf_span(&clean));
	buf_add_ch(&out, '}');
	call_answer(x->b, x->seq, 200, buf_span(&out), -1);
	route_doc_unref(x->doc);
	scrubber_unref(x->scrubber);
	buf_done(&x->body);
	free(x);
}

static void test_head(void *ctx, const struct http_head *h)
{
	((struct test *)ctx)->status = h->status;
}

static void test_body(void *ctx, struct span piece)
{
	struct test *x = ctx;

	if (piece.n > 8192 - x->body.n)
		piece.n = 8192 - x->body.n;
	(void)buf_add_span(&x->body, piece);	/* only the beginning is shown */
}

static void test_done(void *ctx)
{
	test_end(ctx, NULL, NULL);
}

static void test_fail(void *ctx, const struct up_failure *f)
{
	test_end(ctx, f->step, f->words);
}

static const struct up_ops test_ops = { test_head, test_body, test_done, test_fail };

int call_route_test(struct call *c)
{
	const char *name = json_string_value(json_object_get(c->body, "name"));
	struct route_doc *d = name ? routes_find(c->b->routes, name) : NULL;
	static const struct http_header accept = { { "accept", 6 }, { "application/json", 16 } };
	struct broker_tenant nobody = { .b = c->b };
	struct up_request rq = { .connect_ms = 10000, .idle_ms = 30000, .total_ms = 60000 };
	struct cl_err err = { 0 };
	struct buf head;

	if (!d)
		return call_fail_with(c, 404, "no such route");
	if (!d->test.method[0])
		return call_fail_with(c, 422, "route %s has no `test:`", d->name);
	struct httpd_req r = { .method = span_str(d->test.method), .path = span_str(d->test.path),
			       .headers = &accept, .nheaders = 1 };
	struct relay y = { .t = &nobody, .r = &r, .doc = d, .path = r.path };
	struct test *x = calloc(1, sizeof *x);

	if (!x)
		return call_fail_with(c, 503, "out of memory");
	x->b = c->b;
	x->seq = c->seq;
	x->began_us = cl_mono_us();
	buf_init(&x->body, 16384);
	buf_init(&head, 262144);
	int e = compose(&y, &head, &err);

	if (e == 0) {
		rq.head = buf_span(&head);
		e = up_call(c->b->up, &d->target, &rq, &test_ops, x, &x->call, &err);
	}
	buf_wipe_done(&head);
	if (e) {
		free(x);
		return call_fail_with(c, 422, "%s", err.text);
	}
	x->doc = route_doc_ref(d);
	x->scrubber = scrubber_ref(c->b->routes->scrubber);
	return CALL_LATER;
}

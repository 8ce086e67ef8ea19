/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How this works: one check after the other, the cheap and the general ones
 * first; the first that fails answers. Nothing of the upstream is touched
 * before all of them have passed. Who is asking is the listener's tenant; the
 * token only proves that it is the agent of this start of it.
 */
#include "broker/route/route_impl.h"

#include "broker/token.h"
#include "broker/vault.h"

#include <stdio.h>
#include <string.h>

static int refuse(struct broker_tenant *t, struct httpd_req *r, enum deny_shape shape,
		  const struct denial *d)
{
	deny_answer(t->b, t, r, shape, d);
	return 1;
}

/* ---- which route -------------------------------------------------------------- */

struct where { char route[65]; struct span path; bool anthropic; };

static bool below(struct span path, struct span prefix, struct span *rest)
{
	if (!span_starts(path, prefix))
		return false;
	*rest = (struct span){ path.p + prefix.n, path.n - prefix.n };
	return true;
}

/* Return: false: not a route's path at all */
static bool find_where(struct broker_tenant *t, struct span path, struct where *w)
{
	struct routes *rs = t->b->routes;
	struct route_tenant *rt = t->route;
	struct span rest;

	memset(w, 0, sizeof *w);
	if (below(path, SPAN("/r/"), &rest)) {
		struct span name;

		w->path = rest;
		if (!span_cut(&w->path, '/', &name) || span_copy(name, w->route, sizeof w->route))
			return true;	/* route "": unknown */
		w->path = (struct span){ name.p + name.n, rest.n - name.n };
		return true;
	}
	if (below(path, SPAN("/anthropic/v1/"), &rest)) {
		w->path = (struct span){ path.p + 10, path.n - 10 };
		w->anthropic = true;
		struct route_doc *d = routes_find(rs, rt->model_route);

		if (d && d->kind == ROUTE_ANTHROPIC) {
			(void)snprintf(w->route, sizeof w->route, "%s", d->name);
			return true;
		}
		for (size_t i = 0; i < rt->nroutes; i++) {
			d = routes_find(rs, rt->routes[i]);
			if (d && d->kind == ROUTE_ANTHROPIC) {
				(void)snprintf(w->route, sizeof w->route, "%s", d->name);
				return true;
			}
		}
		(void)snprintf(w->route, sizeof w->route, "anthropic");
		return true;
	}
	if (span_starts(path, SPAN("/v1/"))) {
		w->path = path;
		(void)snprintf(w->route, sizeof w->route, "%s", rt->model_route);
		return true;
	}
	return false;
}

static bool tenant_may(const struct route_tenant *rt, const char *route)
{
	if (strcmp(rt->model_route, route) == 0)
		return true;
	for (size_t i = 0; i < rt->nroutes; i++)
		if (strcmp(rt->routes[i], route) == 0)
			return true;
	return false;
}

/* ---- the token -------------------------------------------------------------------- */

enum token_says { TOKEN_GOOD, TOKEN_NONE, TOKEN_WRONG, TOKEN_FOREIGN };

/* Every credential-like header must hold this tenant's token; one at least must be there. */
static enum token_says token_look(struct broker_tenant *t, const struct httpd_req *r)
{
	static const struct { const char *name, *prefix; } at[] = {
		{ "authorization", "Bearer " }, { "x-api-key", "" }, { "x-goog-api-key", "" }, { "api-key", "" },
		{ "xi-api-key", "" }, { "x-subscription-token", "" },
	};
	enum token_says said = TOKEN_NONE;

	for (size_t i = 0; i < r->nheaders; i++)
		for (size_t k = 0; k < CL_ARRAY_LEN(at); k++) {
			struct span v = r->headers[i].value, prefix = span_str(at[k].prefix);

			if (!span_eq_nocase(r->headers[i].name, span_str(at[k].name)))
				continue;
			if (v.n >= prefix.n && span_eq_nocase((struct span){ v.p, prefix.n }, prefix)) {
				v.p += prefix.n;
				v.n -= prefix.n;
			}
			if (token_ok(t->b->tokens, TOKEN_API, t->no, t->generation, v)) {
				if (said == TOKEN_NONE)
					said = TOKEN_GOOD;
			} else if (token_like(TOKEN_API, v)) {
				said = TOKEN_FOREIGN;
			} else if (said != TOKEN_FOREIGN) {
				said = TOKEN_WRONG;
			}
		}
	return said;
}

static int check_token(struct broker_tenant *t, struct httpd_req *r, enum deny_shape shape,
		       const char *route)
{
	struct denial d = { .status = 401, .rule = "token", .route = route,
		.reason = "This is not the capability token of this agent.",
		.fix = "cloister tenant restart (tokens are made anew at each start)" };

	switch (token_look(t, r)) {
	case TOKEN_GOOD:
		return 0;
	case TOKEN_NONE:
		d.reason = "No capability token came with the request (Authorization: Bearer sk-cloister-...).";
		break;
	case TOKEN_FOREIGN:
		/* formed like one of ours, but of another tenant or an earlier start: somebody
		 * brought it here. The answer is the same as for any wrong one. */
		d.severity = "high";
		break;
	case TOKEN_WRONG:
	default:
		d.severity = "low";
		break;
	}
	return refuse(t, r, shape, &d);
}

/* ---- the head ---------------------------------------------------------------------- */

/* Is @name a parameter of @query (decoded)? Names that cannot be decoded count as it. */
static bool query_has(struct span query, const char *name)
{
	size_t n = strlen(name);

	while (query.n) {
		struct span pair, key;
		size_t k = 0, i = 0;

		if (!span_cut(&query, '&', &pair)) {
			pair = query;
			query.n = 0;
		}
		if (!span_cut(&pair, '=', &key))
			key = pair;
		for (; i < key.n && k <= n; i++, k++) {
			int c = (unsigned char)key.p[i];

			if (c == '%') {
				uint8_t v = 0;

				for (int h = 1; h <= 2; h++) {
					char x = key.p[i + (size_t)h];	/* http_request() checked the digits */

					v = (uint8_t)(v * 16 + (x <= '9' ? x - '0' : (x | 0x20) - 'a' + 10));
				}
				c = v;
				i += 2;
			}
			if (c == '+')
				c = ' ';
			if (k == n || (c | 0x20) != ((unsigned char)name[k] | 0x20))
				break;
		}
		if (i == key.n && k == n)
			return true;
	}
	return false;
}

static int check_form(struct broker_tenant *t, struct httpd_req *r, enum deny_shape shape,
		      const struct where *w)
{
	struct denial d = { .status = 400, .rule = "path", .route = w->route };
	char reason[160];
	const char *why = http_path_strict(w->path);
	struct span enc = httpd_header(r, "content-encoding");

	if (why) {
		(void)snprintf(reason, sizeof reason, "The path is refused: %s.", why);
		d.reason = reason;
		d.severity = "low";
		return refuse(t, r, shape, &d);
	}
	if (enc.p && !span_eq_nocase(enc, SPAN("identity"))) {
		d.status = 415;
		d.rule = "encoding";
		d.reason = "Compressed request bodies are refused: they cannot be checked.";
		return refuse(t, r, shape, &d);
	}
	if (httpd_header_count(r, "content-type") > 1) {
		d.rule = "content-type";
		d.reason = "Content-Type more than once.";
		return refuse(t, r, shape, &d);
	}
	return 0;
}

static int check_route(struct broker_tenant *t, struct httpd_req *r, enum deny_shape shape,
		       const struct where *w, struct route_doc **out)
{
	char reason[300], fix[200];
	struct denial d = { .status = 404, .rule = "route", .route = w->route, .reason = reason, .fix = fix };
	struct route_doc *doc = routes_find(t->b->routes, w->route);
	bool other;

	if (!doc || !tenant_may(t->route, w->route)) {
		/* the same words whether it exists or not */
		(void)snprintf(reason, sizeof reason, "This agent has no route \"%.64s\".", w->route);
		(void)snprintf(fix, sizeof fix, "add \"%.64s\" to `routes:` of tenants/%s.yaml", w->route, t->id);
		d.status = 403;
		return refuse(t, r, shape, &d);
	}
	if (!route_doc_allows(doc, r->method, w->path, &other)) {
		d.status = other ? 405 : 403;
		d.rule = other ? "route.method" : "route.path";
		(void)snprintf(reason, sizeof reason, "The route \"%s\" does not allow %.*s %.120s.", doc->name,
			       SPAN_FMT(r->method), other ? "here" : "this path");
		(void)snprintf(fix, sizeof fix, "add it to `allow:` of routes/%s.yaml", doc->name);
		return refuse(t, r, shape, &d);
	}
	if (doc->inject == INJECT_QUERY && query_has(r->query, doc->inject_name)) {
		d.status = 400;
		d.rule = "query";
		d.severity = "low";
		(void)snprintf(reason, sizeof reason, "The parameter \"%s\" is the broker's to fill in.", doc->inject_name);
		d.fix = NULL;
		return refuse(t, r, shape, &d);
	}
	*out = doc;
	return 0;
}

static int check_secret(struct broker_tenant *t, struct httpd_req *r, enum deny_shape shape,
			const struct route_doc *doc)
{
	char reason[300], fix[120];
	struct denial d = { .status = 503, .rule = "secret.missing", .route = doc->name,
			    .reason = reason, .fix = fix };

	if (!doc->secret[0] || vault_get(t->b->vault, doc->secret).p)
		return 0;
	(void)snprintf(reason, sizeof reason,
		       "The key for \"%s\" is not set yet, so this agent cannot use it.", doc->name);
	(void)snprintf(fix, sizeof fix, "cloister secret set %s", doc->secret);
	if (strcmp(doc->name, t->route->model_route) == 0)
		person_told(t, "I cannot think yet: the key for my model is not set. Please ask the person "
			       "who runs this service to set it.");
	return refuse(t, r, shape, &d);
}

int check_head(struct broker_tenant *t, struct httpd_req *r, struct route_doc **out_doc,
	       struct span *out_path, enum deny_shape *out_shape)
{
	struct where w;
	enum deny_shape shape;
	struct denial d = { .status = 404, .rule = "path",
		.reason = "There is nothing at this path. See /capabilities for what this agent may do." };

	*out_shape = DENY_OPENAI;
	if (r->path.n == 0 || r->path.p[0] != '/' || span_eq_str(r->method, "CONNECT")) {
		d.status = 403;
		d.rule = "proxy";
		d.severity = "low";
		d.reason = "This is not a forward proxy for this agent: no hosts are opened to it.";
		d.fix = "list hosts under `hosts:` of the tenant";
		return refuse(t, r, DENY_OPENAI, &d);
	}
	if (!t->known || !t->route || !find_where(t, r->path, &w))
		return refuse(t, r, DENY_OPENAI, &d);
	struct route_doc *doc = routes_find(t->b->routes, w.route);

	shape = w.anthropic || (doc && doc->kind == ROUTE_ANTHROPIC) ? DENY_ANTHROPIC : DENY_OPENAI;
	*out_shape = shape;
	if (check_token(t, r, shape, w.route) || check_form(t, r, shape, &w) ||
	    check_route(t, r, shape, &w, &doc) || check_secret(t, r, shape, doc))
		return 1;
	if (t->route->live >= LIVE_MAX) {
		d = (struct denial){ .status = 429, .rule = "concurrency", .route = doc->name, .retry_after_s = 2,
			.reason = "This agent has too many calls under way at the same time." };
		return refuse(t, r, shape, &d);
	}
	*out_doc = route_doc_ref(doc);
	*out_path = w.path;
	return 0;
}

/* ---- the body ------------------------------------------------------------------------ */

static bool names_model(struct span path)
{
	static const char *const ends[] = { "/chat/completions", "/completions", "/responses", "/messages",
					    "/messages/count_tokens" };

	for (size_t i = 0; i < CL_ARRAY_LEN(ends); i++) {
		size_t n = strlen(ends[i]);

		if (path.n >= n && memcmp(path.p + path.n - n, ends[i], n) == 0)
			return true;
	}
	return false;
}

static bool model_listed(const struct relay *y)
{
	const struct route_tenant *rt = y->t->route;
	const struct route_doc *d = y->doc;

	if (d->nmodels) {
		size_t i = 0;

		while (i < d->nmodels && strcmp(d->models[i], y->facts.model) != 0)
			i++;
		if (i == d->nmodels)
			return false;
	}
	/* on the tenant's own model route: its own model, and those that its policy adds */
	if (strcmp(d->name, rt->model_route) != 0 || !rt->model_id[0] || !names_model(y->path))
		return true;
	if (strcmp(rt->model_id, y->facts.model) == 0)
		return true;
	for (size_t i = 0; i < rt->nmodels; i++)
		if (strcmp(rt->models[i], y->facts.model) == 0)
			return true;
	return false;
}

static int check_json(struct relay *y)
{
	char why[256] = "", reason[400];
	struct denial d = { .status = 400, .rule = "body", .route = y->doc->name, .reason = reason };
	struct span body = y->r->body;

	if (body_check(body, why, sizeof why)) {
		(void)snprintf(reason, sizeof reason, "The request is refused: %s.", why);
		return refuse(y->t, y->r, y->shape, &d);
	}
	body_facts(body, &y->facts);
	if (body_rules(body, y->doc->rules, y->doc->nrules, why, sizeof why)) {
		d.status = 403;
		d.rule = "body.rule";
		(void)snprintf(reason, sizeof reason, "The route's rule for the body is not met: %s.", why);
		d.fix = "change `body:` of the route";
		return refuse(y->t, y->r, y->shape, &d);
	}
	if (!y->doc->fetch && body_fetches(body, (enum body_shape)y->doc->kind, why, sizeof why)) {
		d.status = 403;
		d.rule = "body.fetch";
		d.severity = "low";
		(void)snprintf(reason, sizeof reason,
			       "The provider would fetch or act for the agent (%s): that is closed.", why);
		d.fix = "set `fetch: true` in the route, if the provider may reach out";
		return refuse(y->t, y->r, y->shape, &d);
	}
	if (!model_listed(y)) {
		char fix[200];

		d.status = 403;
		d.rule = "model";
		(void)snprintf(reason, sizeof reason, "This agent may not use the model \"%.100s\".", y->facts.model);
		(void)snprintf(fix, sizeof fix, "set `model:` of tenants/%s.yaml, or `models:` of routes/%s.yaml",
			       y->t->id, y->doc->name);
		d.fix = fix;
		return refuse(y->t, y->r, y->shape, &d);
	}
	return 0;
}

/* "application/json", whatever its parameters */
static bool is_json(struct span type)
{
	struct span first;

	if (span_cut(&type, ';', &first))
		type = first;
	return span_eq_nocase(span_trim(type), SPAN("application/json"));
}

/* A placeholder where no credential belongs: left as it is, and an alarm. */
static void alarm_placeholder(struct relay *y)
{
	static const char mark[] = "sk-cloister-";
	struct span body = y->r->body;
	struct record rec;

	if (!(body.n && memmem(body.p, body.n, mark, sizeof mark - 1)) &&
	    !(y->r->target.n && memmem(y->r->target.p, y->r->target.n, mark, sizeof mark - 1)))
		return;
	record_begin(&rec, RECORD_BOUNDARY, y->t->id);
	record_str(&rec, RF_EVENT, "placeholder");
	record_str(&rec, RF_SEVERITY, "low");
	record_str(&rec, RF_LAYER, "credentials");
	record_str(&rec, RF_ROUTE, y->doc->name);
	record_str(&rec, RF_REASON, "a capability token stands where no credential belongs");
	record_str(&rec, RF_ID, y->id);
	(void)broker_record(y->t->b, &rec);	/* the request itself is recorded next */
}

int check_body(struct relay *y)
{
	char what[65];
	struct denial d = { .route = y->doc->name };
	struct span type = httpd_header(y->r, "content-type");

	y->bytes_out = y->r->body.n;
	if (y->r->body.n) {
		/* a rule that cannot be checked is not met */
		bool must_json = y->doc->nrules || y->doc->nmodels ||
				 (y->doc->kind != ROUTE_HTTP && names_model(y->path));

		if (is_json(type) || must_json) {
			if (!is_json(type)) {
				d.status = 415;
				d.rule = "content-type";
				d.reason = "Only application/json is taken here.";
				return refuse(y->t, y->r, y->shape, &d);
			}
			if (check_json(y))
				return 1;
		}
	}
	alarm_placeholder(y);
	if (routes_leaks(y->t->b->routes, y->r->body, what, sizeof what) ||
	    routes_leaks(y->t->b->routes, y->r->target, what, sizeof what)) {
		/* a live credential inside a sandbox: something is badly wrong */
		d.status = 403;
		d.rule = "leak";
		d.severity = "critical";
		d.reason = "The request holds a live credential; it was stopped.";
		return refuse(y->t, y->r, y->shape, &d);
	}
	return 0;
}

/* ---- the cost -------------------------------------------------------------------------- */

static bool minute_ok(struct route_tenant *rt, const struct route_doc *doc, int64_t now_us, int *wait_s)
{
	int64_t minute = now_us / 60000000;
	struct minute *m = NULL;

	if (!doc->calls_per_minute)
		return true;
	for (size_t i = 0; i < CL_ARRAY_LEN(rt->minutes) && !m; i++)
		if (strcmp(rt->minutes[i].route, doc->name) == 0)
			m = &rt->minutes[i];
	for (size_t i = 0; i < CL_ARRAY_LEN(rt->minutes) && !m; i++)
		if (rt->minutes[i].minute != minute)
			m = &rt->minutes[i];
	if (!m)		/* sixteen limited routes in one minute: the first is counted anew */
		m = &rt->minutes[0];
	if (m->minute != minute || strcmp(m->route, doc->name) != 0) {
		*m = (struct minute){ .minute = minute };
		(void)snprintf(m->route, sizeof m->route, "%s", doc->name);
	}
	if (m->n >= doc->calls_per_minute) {
		*wait_s = (int)(60 - now_us / 1000000 % 60);
		return false;
	}
	m->n++;
	return true;
}

int check_cost(struct relay *y)
{
	static const char *const names[] = { "calls_per_hour", "tokens_per_day" };
	struct route_tenant *rt = y->t->route;
	int64_t now = cl_now_us();
	char reason[300], fix[160];
	struct denial d = { .status = 429, .route = y->doc->name, .reason = reason, .fix = fix };
	enum budget_kind kind;

	if (!minute_ok(rt, y->doc, now, &d.retry_after_s)) {
		d.rule = "rate";
		(void)snprintf(reason, sizeof reason, "The route \"%s\" allows %u calls a minute.", y->doc->name,
			       y->doc->calls_per_minute);
		(void)snprintf(fix, sizeof fix, "raise `calls_per_minute:` of routes/%s.yaml", y->doc->name);
		return refuse(y->t, y->r, y->shape, &d);
	}
	/* four bytes a token is the usual estimate; what was really used is settled at the end */
	y->reserved = names_model(y->path) ? y->r->body.n / 4 + y->facts.max_tokens : 0;
	if (budget_reserve(&rt->budget, y->reserved, now, &kind, &d.retry_after_s) == 0) {
		y->budgeted = true;
		budgets_dirty(y->t->b->routes);
		return 0;
	}
	d.rule = kind == BUDGET_CALLS_HOUR ? "budget.calls" : "budget.tokens";
	(void)snprintf(reason, sizeof reason,
		       "The budget of this agent is used up: %llu of %llu (%s). It begins anew in %d minutes.",
		       (unsigned long long)(rt->budget.used[kind] + rt->budget.reserved[kind]),
		       (unsigned long long)rt->budget.max[kind], names[kind], d.retry_after_s / 60 + 1);
	(void)snprintf(fix, sizeof fix, "raise `budget.%s` of tenants/%s.yaml", names[kind], y->t->id);

	struct record rec;

	record_begin(&rec, RECORD_LIMIT, y->t->id);
	record_str(&rec, RF_LIMIT, names[kind]);
	record_num(&rec, RF_VALUE, rt->budget.used[kind] + rt->budget.reserved[kind]);
	record_num(&rec, RF_MAX, rt->budget.max[kind]);
	record_str(&rec, RF_ACT, "refused");
	record_str(&rec, RF_ROUTE, y->doc->name);
	(void)broker_record(y->t->b, &rec);	/* the refusal itself is recorded too */
	person_told(y->t, "My budget for now is used up. I will be back when it begins anew, or when the "
			  "person who runs this service raises it.");
	return refuse(y->t, y->r, y->shape, &d);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/route/doc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALLOW_MAX 256
#define RULES_MAX 64
#define TIMEOUT_MS 600000
#define BODY_MAX_DEFAULT (32u << 20)
#define BODY_MAX_MAX (256u << 20)

struct route_doc *route_doc_ref(struct route_doc *d)
{
	d->refs++;
	return d;
}

static void texts_free(char **t, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(t[i]);
	free(t);
}

void route_doc_unref(struct route_doc *d)
{
	if (!d || --d->refs)
		return;
	for (size_t i = 0; i < d->nrules; i++)
		texts_free(d->rules[i].values, d->rules[i].nvalues);
	free(d->rules);
	free(d->allow);
	texts_free(d->models, d->nmodels);
	up_trust_free(d->trust);
	free(d);
}

/* ---- small readers: a wrong key or type is said by name ---------------------------- */

static int bad(struct cl_err *err, const struct route_doc *d, const char *key, const char *what)
{
	return cl_fail(err, EINVAL, "route %s: %s: %s", d->name[0] ? d->name : "?", key, what);
}

static int text_to(const struct route_doc *d, const char *key, const json_t *v, char *buf, size_t n,
		   struct cl_err *err)
{
	if (!json_is_string(v))
		return bad(err, d, key, "not a text");
	if (span_copy((struct span){ json_string_value(v), json_string_length(v) }, buf, n))
		return bad(err, d, key, "too long");
	return 0;
}

static int whole(const struct route_doc *d, const char *key, const json_t *v, json_int_t max,
		 json_int_t *out, struct cl_err *err)
{
	if (!json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > max)
		return bad(err, d, key, "not a whole number, or out of range");
	*out = json_integer_value(v);
	return 0;
}

static int flag(const struct route_doc *d, const char *key, const json_t *v, bool *out, struct cl_err *err)
{
	if (!json_is_boolean(v))
		return bad(err, d, key, "neither true nor false");
	*out = json_is_true(v);
	return 0;
}

/* the framing, the host and the place of the credential are ours */
static bool header_reserved(struct span name)
{
	static const char *const t[] = { "host", "content-length", "transfer-encoding", "connection",
		"upgrade", "te", "trailer", "expect", "proxy-authorization", "keep-alive",
		"accept-encoding", "content-encoding", "cookie" };

	for (size_t i = 0; i < CL_ARRAY_LEN(t); i++)
		if (span_eq_nocase(name, span_str(t[i])))
			return true;
	return false;
}

/* ---- parts ------------------------------------------------------------------------------ */

static int read_allow_item(const struct route_doc *d, const char *key, const json_t *v,
			   struct route_allow *a, struct cl_err *err)
{
	struct span path;
	int r;

	if (!json_is_object(v) || json_object_size(v) != 2)
		return bad(err, d, key, "needs method and path");
	r = text_to(d, key, json_object_get(v, "method"), a->method, sizeof a->method, err);
	if (r == 0)
		r = text_to(d, key, json_object_get(v, "path"), a->path, sizeof a->path, err);
	if (r)
		return r;
	path = span_str(a->path);
	if (path.n >= 2 && memcmp(path.p + path.n - 2, "/*", 2) == 0) {
		a->below = true;
		a->path[--path.n] = '\0';
	}
	if (http_path_strict(path) || strchr(a->path, '*'))
		return bad(err, d, key, "path not allowed");
	for (const char *m = a->method; *m; m++)
		if (*m < 'A' || *m > 'Z')
			return bad(err, d, key, "method not allowed");
	return a->method[0] ? 0 : bad(err, d, key, "method not allowed");
}

static const struct route_allow openai_allow[] = {
	{ "POST", "/v1/chat/completions", false }, { "POST", "/v1/responses", false },
	{ "POST", "/v1/completions", false }, { "POST", "/v1/embeddings", false },
	{ "POST", "/v1/moderations", false }, { "POST", "/v1/images/generations", false },
	{ "POST", "/v1/audio/speech", false }, { "POST", "/v1/audio/transcriptions", false },
	{ "GET", "/v1/models", false }, { "GET", "/v1/models/", true },
};
static const struct route_allow anthropic_allow[] = {
	{ "POST", "/v1/messages", false }, { "POST", "/v1/messages/count_tokens", false },
	{ "GET", "/v1/models", false }, { "GET", "/v1/models/", true },
};

static int read_allow(struct route_doc *d, const json_t *v, struct cl_err *err)
{
	const struct route_allow *def = NULL;
	size_t n = 0;

	if (!v) {
		def = d->kind == ROUTE_OPENAI ? openai_allow : d->kind == ROUTE_ANTHROPIC ? anthropic_allow : NULL;
		n = d->kind == ROUTE_OPENAI ? CL_ARRAY_LEN(openai_allow)
					    : d->kind == ROUTE_ANTHROPIC ? CL_ARRAY_LEN(anthropic_allow) : 0;
	} else {
		n = json_array_size(v);
		if (!json_is_array(v) || n > ALLOW_MAX)
			return bad(err, d, "allow", "not a list, or too long");
	}
	d->allow = calloc(n ? n : 1, sizeof *d->allow);
	if (!d->allow)
		return cl_fail(err, ENOMEM, "route");
	d->nallow = n;
	for (size_t i = 0; i < n; i++) {
		int r = 0;

		if (def)
			d->allow[i] = def[i];
		else
			r = read_allow_item(d, "allow", json_array_get(v, i), &d->allow[i], err);
		if (r)
			return r;
	}
	return 0;
}

static int read_inject(struct route_doc *d, const json_t *v, struct cl_err *err)
{
	const json_t *x;
	int r = 0;

	if (!v) {
		if (!d->secret[0])
			return 0;
		d->inject = INJECT_HEADER;
		(void)snprintf(d->inject_name, sizeof d->inject_name, "%s",
			       d->kind == ROUTE_ANTHROPIC ? "x-api-key" : "Authorization");
		(void)snprintf(d->inject_prefix, sizeof d->inject_prefix, "%s",
			       d->kind == ROUTE_ANTHROPIC ? "" : "Bearer ");
		return 0;
	}
	if (!json_is_object(v) || !d->secret[0])
		return bad(err, d, "inject", "not a map, or without a secret");
	if ((x = json_object_get(v, "header"))) {
		const json_t *p = json_object_get(v, "prefix");

		d->inject = INJECT_HEADER;
		r = text_to(d, "inject.header", x, d->inject_name, sizeof d->inject_name, err);
		if (r == 0 && p)
			r = text_to(d, "inject.prefix", p, d->inject_prefix, sizeof d->inject_prefix, err);
		if (r == 0 && (!http_token_ok(span_str(d->inject_name)) ||
			       header_reserved(span_str(d->inject_name)) ||
			       !http_value_ok(span_str(d->inject_prefix)) ||
			       json_object_size(v) != (p ? 2u : 1u)))
			r = bad(err, d, "inject", "header not allowed");
		return r;
	}
	if (json_object_size(v) != 1)
		return bad(err, d, "inject", "needs one of header, query, path, basic");
	if ((x = json_object_get(v, "query"))) {
		d->inject = INJECT_QUERY;
		r = text_to(d, "inject.query", x, d->inject_name, sizeof d->inject_name, err);
		return r ? r : name_ok(span_str(d->inject_name)) ? 0 : bad(err, d, "inject.query", "name not allowed");
	}
	if ((x = json_object_get(v, "path"))) {	/* "/bot": the secret follows at once */
		d->inject = INJECT_PATH;
		r = text_to(d, "inject.path", x, d->inject_prefix, sizeof d->inject_prefix, err);
		return r ? r : http_path_strict(span_str(d->inject_prefix)) ? bad(err, d, "inject.path", "not allowed") : 0;
	}
	if ((x = json_object_get(v, "basic"))) {	/* the user's name; may be empty */
		d->inject = INJECT_BASIC;
		r = text_to(d, "inject.basic", x, d->inject_name, sizeof d->inject_name, err);
		return r ? r : !http_value_ok(span_str(d->inject_name)) || strchr(d->inject_name, ':')
				? bad(err, d, "inject.basic", "not allowed") : 0;
	}
	return bad(err, d, "inject", "needs one of header, query, path, basic");
}

static int read_headers(struct route_doc *d, const json_t *v, struct cl_err *err)
{
	const char *key;
	json_t *x;
	size_t n = 0;

	if (!json_is_object(v))
		return bad(err, d, "headers", "not a map");
	json_object_foreach((json_t *)(uintptr_t)v, key, x) {
		struct span name = span_str(key);
		const char *text = json_string_value(x);

		if (!text || !http_token_ok(name) || header_reserved(name) || !http_value_ok(span_str(text)) ||
		    (d->inject == INJECT_HEADER && span_eq_nocase(name, span_str(d->inject_name))))
			return bad(err, d, "headers", "header not allowed");
		int k = snprintf(d->headers + n, sizeof d->headers - n, "%s: %s\r\n", key, text);

		if (k < 0 || (size_t)k >= sizeof d->headers - n)
			return bad(err, d, "headers", "too long");
		n += (size_t)k;
	}
	return 0;
}

static int read_forward(struct route_doc *d, const json_t *v, struct cl_err *err)
{
	if (!json_is_array(v) || json_array_size(v) > CL_ARRAY_LEN(d->forward))
		return bad(err, d, "forward", "not a list, or too long");
	for (size_t i = 0; i < json_array_size(v); i++) {
		char *name = d->forward[d->nforward++];
		int r = text_to(d, "forward", json_array_get(v, i), name, sizeof d->forward[0], err);

		if (r)
			return r;
		if (!http_token_ok(span_str(name)) || header_reserved(span_str(name)) ||
		    strcasecmp(name, "authorization") == 0 ||
		    (d->inject == INJECT_HEADER && strcasecmp(name, d->inject_name) == 0))
			return bad(err, d, "forward", "header not allowed");
	}
	return 0;
}

/* one text, or a list of texts, copied; -EINVAL, -ENOMEM */
static int texts_copy(const json_t *v, char ***out, size_t *out_n)
{
	size_t n = json_is_string(v) ? 1 : json_array_size(v);
	char **t = n && n <= 1024 ? calloc(n, sizeof *t) : NULL;

	for (size_t i = 0; t && i < n; i++) {
		const json_t *x = json_is_string(v) ? v : json_array_get(v, i);

		t[i] = json_is_string(x) ? strdup(json_string_value(x)) : NULL;
		if (!t[i]) {
			texts_free(t, i);
			t = NULL;
		}
	}
	if (!t)
		return -EINVAL;
	*out = t;
	*out_n = n;
	return 0;
}

static int read_rule(const struct route_doc *d, const json_t *v, struct body_rule *b, struct cl_err *err)
{
	static const struct { const char *key; enum body_op op; } ops[] = {
		{ "equals", BODY_EQUALS }, { "one_of", BODY_ONE_OF }, { "prefix", BODY_PREFIX },
		{ "at_most", BODY_AT_MOST }, { "absent", BODY_ABSENT },
	};
	const json_t *x = NULL;
	int r;

	for (size_t i = 0; i < CL_ARRAY_LEN(ops) && !x; i++) {
		x = json_object_get(v, ops[i].key);
		b->op = ops[i].op;
	}
	if (!x || json_object_size(v) != 2)
		return bad(err, d, "body", "a rule is `at` and one of equals, one_of, prefix, at_most, absent");
	r = text_to(d, "body.at", json_object_get(v, "at"), b->at, sizeof b->at, err);
	if (r || b->at[0] != '/')
		return r ? r : bad(err, d, "body.at", "not a JSON pointer");
	if (b->op == BODY_ABSENT)
		return json_is_true(x) ? 0 : bad(err, d, "body.absent", "can only be true");
	if (b->op == BODY_AT_MOST) {
		b->max = (uint64_t)json_integer_value(x);
		return json_is_integer(x) && json_integer_value(x) >= 0
			? 0 : bad(err, d, "body.at_most", "needs a whole number");
	}
	if ((b->op == BODY_ONE_OF) != json_is_array(x) || texts_copy(x, &b->values, &b->nvalues))
		return bad(err, d, "body", "equals and prefix need a text, one_of a list of texts");
	return 0;
}

static int read_rules(struct route_doc *d, const json_t *v, struct cl_err *err)
{
	size_t n = json_array_size(v);

	if (!json_is_array(v) || n > RULES_MAX)
		return bad(err, d, "body", "not a list, or too long");
	d->rules = calloc(n ? n : 1, sizeof *d->rules);
	if (!d->rules)
		return cl_fail(err, ENOMEM, "route");
	for (size_t i = 0; i < n; i++) {
		int r = read_rule(d, json_array_get(v, i), &d->rules[d->nrules++], err);

		if (r)
			return r;
	}
	return 0;
}

/* ---- the whole ---------------------------------------------------------------------------- */

static int known_keys(const struct route_doc *d, const json_t *doc, struct cl_err *err)
{
	static const char *const keys[] = { "name", "description", "kind", "upstream", "secret", "inject",
		"headers", "forward", "allow", "body", "models", "private", "fetch", "ca", "timeout",
		"timeout_s", "body_max", "calls_per_minute", "test", "default_model" };
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)doc, key, v) {
		bool found = false;

		for (size_t i = 0; i < CL_ARRAY_LEN(keys); i++)
			found = found || strcmp(key, keys[i]) == 0;
		if (!found)
			return bad(err, d, key, "unknown key");
	}
	return 0;
}

static int read_numbers(struct route_doc *d, const json_t *doc, struct cl_err *err)
{
	const json_t *v;
	json_int_t n;
	int r = 0;

	d->timeout_ms = TIMEOUT_MS;
	d->body_max = BODY_MAX_DEFAULT;
	if (((v = json_object_get(doc, "timeout")) || (v = json_object_get(doc, "timeout_s"))) &&
	    (r = whole(d, "timeout", v, 3600, &n, err)) == 0)
		d->timeout_ms = (int)n * 1000;
	if (r == 0 && (v = json_object_get(doc, "body_max")) &&
	    (r = whole(d, "body_max", v, BODY_MAX_MAX, &n, err)) == 0)
		d->body_max = (uint64_t)n;
	if (r == 0 && (v = json_object_get(doc, "calls_per_minute")) &&
	    (r = whole(d, "calls_per_minute", v, 1000000, &n, err)) == 0)
		d->calls_per_minute = (uint32_t)n;
	return r;
}

static int read_target(struct route_doc *d, const json_t *doc, struct cl_err *err)
{
	const json_t *v = json_object_get(doc, "private");
	bool private = false;
	char url[512];
	struct span prefix;
	int r = v ? flag(d, "private", v, &private, err) : 0;

	if (r == 0)
		r = text_to(d, "upstream", json_object_get(doc, "upstream"), url, sizeof url, err);
	if (r == 0)
		r = up_target_parse(span_str(url), private, &d->target, &prefix, err);
	if (r == 0 && span_copy(prefix, d->prefix, sizeof d->prefix))
		r = bad(err, d, "upstream", "path too long");
	if (r == 0 && (v = json_object_get(doc, "ca"))) {
		r = json_is_string(v) ? up_trust_new(&d->trust, (struct span){ json_string_value(v),
								json_string_length(v) }, err)
				      : bad(err, d, "ca", "not a text");
		d->target.trust = d->trust;
	}
	/* one pool for a credential; without one, for a route */
	(void)snprintf(d->target.pool, sizeof d->target.pool, "%c:%s", d->secret[0] ? 's' : 'r',
		       d->secret[0] ? d->secret : d->name);
	return r;
}

static int read_all(struct route_doc *d, const json_t *doc, struct cl_err *err)
{
	static const char *const kinds[] = { "openai", "anthropic", "http" };
	const json_t *v;
	char kind[16] = "http";
	int r;

	if (!json_is_object(doc))
		return bad(err, d, "route", "not a map");
	r = text_to(d, "name", json_object_get(doc, "name"), d->name, sizeof d->name, err);
	if (r || !name_ok(span_str(d->name)))
		return r ? r : bad(err, d, "name", "not allowed");
	r = known_keys(d, doc, err);
	if (r == 0 && (v = json_object_get(doc, "kind")))
		r = text_to(d, "kind", v, kind, sizeof kind, err);
	if (r == 0) {
		size_t k = 0;

		while (k < CL_ARRAY_LEN(kinds) && strcmp(kinds[k], kind) != 0)
			k++;
		if (k == CL_ARRAY_LEN(kinds))
			return bad(err, d, "kind", "neither openai, anthropic nor http");
		d->kind = (enum route_kind)k;
	}
	if (r == 0 && (v = json_object_get(doc, "secret"))) {
		r = text_to(d, "secret", v, d->secret, sizeof d->secret, err);
		if (r == 0 && !name_ok(span_str(d->secret)))
			r = bad(err, d, "secret", "not a name");
	}
	if (r == 0)
		r = read_target(d, doc, err);
	if (r == 0)
		r = read_inject(d, json_object_get(doc, "inject"), err);
	if (r == 0 && (v = json_object_get(doc, "headers")))
		r = read_headers(d, v, err);
	if (r == 0 && (v = json_object_get(doc, "forward")))
		r = read_forward(d, v, err);
	if (r == 0)
		r = read_allow(d, json_object_get(doc, "allow"), err);
	if (r == 0 && (v = json_object_get(doc, "body")))
		r = read_rules(d, v, err);
	if (r == 0 && (v = json_object_get(doc, "models"))) {
		if (!json_is_array(v) || texts_copy(v, &d->models, &d->nmodels))
			return bad(err, d, "models", "not a list of texts");
	}
	if (r == 0 && (v = json_object_get(doc, "fetch")))
		r = flag(d, "fetch", v, &d->fetch, err);
	if (r == 0 && (v = json_object_get(doc, "test")))
		r = read_allow_item(d, "test", v, &d->test, err);
	return r ? r : read_numbers(d, doc, err);
}

int route_doc_new(struct route_doc **out, const json_t *doc, struct cl_err *err)
{
	struct route_doc *d = calloc(1, sizeof *d);
	int r;

	if (!d)
		return cl_fail(err, ENOMEM, "route");
	d->refs = 1;
	r = read_all(d, doc, err);
	if (r) {
		route_doc_unref(d);
		return r;
	}
	*out = d;
	return 0;
}

bool route_doc_allows(const struct route_doc *d, struct span method, struct span path,
		      bool *out_other_method)
{
	*out_other_method = false;
	for (size_t i = 0; i < d->nallow; i++) {
		const struct route_allow *a = &d->allow[i];
		struct span p = span_str(a->path);

		if (a->below ? !(span_starts(path, p) && path.n > p.n) : !span_eq(path, p))
			continue;
		if (span_eq_str(method, a->method))
			return true;
		*out_other_method = true;
	}
	return false;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/seal.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 32
#define VALUE_MAX 8192u	/* one rendered string */

struct ctx {
	const struct seal_value *values;
	size_t n;
	struct cl_err *err;
};

static const char *value_of(const struct ctx *c, struct span name)
{
	for (size_t i = 0; i < c->n; i++)
		if (span_eq_str(name, c->values[i].name))
			return c->values[i].value;
	return NULL;
}

/* @p is at "@{": the name in it and what comes after the brace */
static int placeholder(const struct ctx *c, struct span p, struct span *out_name, struct span *out_rest)
{
	struct span rest = { p.p + 2, p.n - 2 };

	if (!span_cut(&rest, '}', out_name))
		return cl_fail(c->err, EINVAL, "template: '@{' without '}'");
	*out_rest = rest;
	return 0;
}

static int number_text(const struct ctx *c, struct span name, json_t **out)
{
	const char *v = value_of(c, name);
	int64_t n;

	if (!v)
		return cl_fail(c->err, EINVAL, "template: unknown placeholder '@{%.*s:number}'",
			       SPAN_FMT(name));
	if (num_parse_i64(span_str(v), &n))
		return cl_fail(c->err, EINVAL, "template: '%.*s' is not a number", SPAN_FMT(name));
	*out = json_integer(n);
	return *out ? 0 : cl_fail(c->err, ENOMEM, "template: no memory");
}

static int render_text(const struct ctx *c, const json_t *text, json_t **out)
{
	struct span s = { json_string_value(text), json_string_length(text) };
	CL_BUF struct buf b;

	buf_init(&b, VALUE_MAX);
	while (s.n) {
		struct span name, rest;
		const char *at = memmem(s.p, s.n, "@{", 2);

		if (!at) {
			(void)buf_add_span(&b, s);	/* failure is sticky, seen below */
			break;
		}
		size_t before = (size_t)(at - s.p);

		(void)buf_add(&b, s.p, before);
		s = (struct span){ at, s.n - before };
		if (placeholder(c, s, &name, &rest))
			return -c->err->code;
		if (name.n > 7 && memcmp(name.p + name.n - 7, ":number", 7) == 0) {
			name.n -= 7;
			if (b.n || rest.n)
				return cl_fail(c->err, EINVAL,
					       "template: '@{%.*s:number}' must be the whole text",
					       SPAN_FMT(name));
			return number_text(c, name, out);
		}
		const char *v = value_of(c, name);

		if (!v)
			return cl_fail(c->err, EINVAL, "template: unknown placeholder '@{%.*s}'",
				       SPAN_FMT(name));
		(void)buf_add_str(&b, v);
		s = rest;
	}
	if (b.failed)
		return cl_fail(c->err, E2BIG, "template: a text is longer than %u bytes", VALUE_MAX);
	*out = json_stringn(b.n ? b.p : "", b.n);
	return *out ? 0 : cl_fail(c->err, EINVAL, "template: a value is not UTF-8");
}

static int render(const struct ctx *c, json_t *v, int depth)
{
	void *it;
	int r = 0;

	if (depth > DEPTH_MAX)
		return cl_fail(c->err, EINVAL, "template: nested too deeply");
	if (json_is_object(v)) {
		for (it = json_object_iter(v); it && r == 0; it = json_object_iter_next(v, it)) {
			json_t *e = json_object_iter_value(it), *n = NULL;

			if (strstr(json_object_iter_key(it), "@{"))
				return cl_fail(c->err, EINVAL, "template: a placeholder in a key");
			if (!json_is_string(e)) {
				r = render(c, e, depth + 1);
				continue;
			}
			r = render_text(c, e, &n);
			if (r == 0 && json_object_iter_set_new(v, it, n))
				r = cl_fail(c->err, ENOMEM, "template: no memory");
		}
	} else if (json_is_array(v)) {
		for (size_t i = 0; i < json_array_size(v) && r == 0; i++) {
			json_t *e = json_array_get(v, i), *n = NULL;

			if (!json_is_string(e)) {
				r = render(c, e, depth + 1);
				continue;
			}
			r = render_text(c, e, &n);
			if (r == 0 && json_array_set_new(v, i, n))
				r = cl_fail(c->err, ENOMEM, "template: no memory");
		}
	}
	return r;
}

/* each leaf of @safety into @v */
static int force(const struct ctx *c, json_t *v, const json_t *safety, int depth)
{
	json_t *s = (json_t *)(uintptr_t)safety;	/* iterated, not changed */
	int r = 0;

	if (depth > DEPTH_MAX)
		return cl_fail(c->err, EINVAL, "safety: nested too deeply");
	for (void *it = json_object_iter(s); it && r == 0; it = json_object_iter_next(s, it)) {
		const char *key = json_object_iter_key(it);
		json_t *want = json_object_iter_value(it), *have = json_object_get(v, key);

		if (!json_is_object(want)) {
			if (json_object_set_new(v, key, json_deep_copy(want)))
				r = cl_fail(c->err, ENOMEM, "safety: no memory");
			continue;
		}
		if (!json_is_object(have)) {
			have = json_object();
			if (json_object_set_new(v, key, have))
				return cl_fail(c->err, ENOMEM, "safety: no memory");
		}
		r = force(c, have, want, depth + 1);
	}
	return r;
}

/* read the finished bytes back: does each safety key hold in what the agent will read? */
static int holds(const struct ctx *c, const json_t *v, const json_t *safety)
{
	json_t *s = (json_t *)(uintptr_t)safety;

	for (void *it = json_object_iter(s); it; it = json_object_iter_next(s, it)) {
		const char *key = json_object_iter_key(it);
		const json_t *want = json_object_iter_value(it), *have = json_object_get(v, key);

		if (json_is_object(want) && json_is_object(have)) {
			if (holds(c, have, want))
				return -c->err->code;
		} else if (!have || !json_equal(have, want)) {
			return cl_fail(c->err, EINVAL, "safety: '%s' does not hold", key);
		}
	}
	return 0;
}

static json_t *load(struct span text, const char *what, struct cl_err *err)
{
	json_error_t e;
	json_t *v = json_loadb(text.p ? text.p : "", text.n, JSON_REJECT_DUPLICATES, &e);

	if (!v)
		(void)cl_fail(err, EINVAL, "%s:%d:%d: %s", what, e.line, e.column, e.text);
	else if (!json_is_object(v))
		(void)cl_fail(err, EINVAL, "%s: is not a JSON object", what);
	if (v && !json_is_object(v)) {
		json_decref(v);
		v = NULL;
	}
	return v;
}

int seal_render(struct span template, struct span safety, const struct seal_value *values, size_t n,
		struct buf *out, struct cl_err *err)
{
	struct cl_err local = { 0 };
	struct ctx c = { values, n, err ? err : &local };
	json_t *doc = load(template, "template", c.err), *safe = NULL, *back = NULL;
	char *text = NULL;
	int r = -c.err->code;

	if (!doc)
		return r;
	safe = load(safety.n ? safety : SPAN("{}"), "safety", c.err);
	if (!safe)
		r = -c.err->code;
	else if ((r = render(&c, doc, 0)) == 0 && (r = render(&c, safe, 0)) == 0)
		r = force(&c, doc, safe, 0);
	if (r == 0) {
		text = json_dumps(doc, JSON_INDENT(2) | JSON_SORT_KEYS);
		back = text ? load(span_str(text), "rendered", c.err) : NULL;
		r = back ? holds(&c, back, safe) : text ? -c.err->code :
			cl_fail(c.err, ENOMEM, "template: no memory");
	}
	if (r == 0 && (buf_add_str(out, text) || buf_add_ch(out, '\n')))
		r = cl_fail(c.err, E2BIG, "template: larger than %zu bytes", out->max);
	if (text) {
		explicit_bzero(text, strlen(text));
		free(text);
	}
	json_decref(back);
	json_decref(safe);
	json_decref(doc);
	return r;
}

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

/* *out_number is set (and nothing appended) when the text is one number's placeholder */
static int fill(const struct ctx *c, struct span s, struct buf *b, json_t **out_number)
{
	size_t begun = b->n;

	*out_number = NULL;
	while (s.n) {
		struct span name = { 0 }, rest = { 0 };
		const char *at = memmem(s.p, s.n, "@{", 2);

		if (!at) {
			(void)buf_add_span(b, s);	/* failure is sticky, seen below */
			break;
		}
		size_t before = (size_t)(at - s.p);

		(void)buf_add(b, s.p, before);
		s = (struct span){ at, s.n - before };
		if (placeholder(c, s, &name, &rest))
			return -c->err->code;
		if (name.n > 7 && memcmp(name.p + name.n - 7, ":number", 7) == 0) {
			name.n -= 7;
			if (b->n != begun || rest.n)
				return cl_fail(c->err, EINVAL,
					       "template: '@{%.*s:number}' must be the whole text",
					       SPAN_FMT(name));
			return number_text(c, name, out_number);
		}
		const char *v = value_of(c, name);

		if (!v)
			return cl_fail(c->err, EINVAL, "template: unknown placeholder '@{%.*s}'",
				       SPAN_FMT(name));
		(void)buf_add_str(b, v);
		s = rest;
	}
	return b->failed ? cl_fail(c->err, E2BIG, "template: a text is longer than %zu bytes", b->max) : 0;
}

int seal_text(struct span text, const struct seal_value *values, size_t n, struct buf *out,
	      struct cl_err *err)
{
	struct cl_err local = { 0 };
	struct ctx c = { values, n, err ? err : &local };
	json_t *number;
	int r = fill(&c, text, out, &number);

	if (r == 0 && number && buf_printf(out, "%lld", (long long)json_integer_value(number)))
		r = cl_fail(c.err, E2BIG, "template: a text is longer than %zu bytes", out->max);
	json_decref(number);
	return r;
}

static int render_text(const struct ctx *c, const json_t *text, json_t **out)
{
	CL_BUF struct buf b;
	int r;

	buf_init(&b, VALUE_MAX);
	r = fill(c, (struct span){ json_string_value(text), json_string_length(text) }, &b, out);
	if (r || *out)
		return r;
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

/* ---- the safety document ----------------------------------------------------------------- */

/*
 * the value at a JSON pointer, its parent and last key
 * @make: objects on the way are made when missing
 * Return: 0; -ENOENT the way is not there; -EINVAL not a path, or something else stands on it
 */
static int walk(const struct ctx *c, json_t *doc, const char *path, bool make, json_t **out_parent,
		const char **out_key)
{
	json_t *at = doc;
	const char *p = path;

	if (!path || path[0] != '/' || strchr(path, '~'))
		return cl_fail(c->err, EINVAL, "safety: '%.100s' is not a path", path ? path : "");
	for (;;) {
		const char *key = p + 1, *slash = strchr(key, '/');
		char name[128];
		json_t *next;

		if (!json_is_object(at))
			return make ? cl_fail(c->err, EINVAL, "safety: '%.100s': a value stands on the way", path) : -ENOENT;
		if (!slash) {
			*out_parent = at;
			*out_key = key;
			return 0;
		}
		if (span_copy((struct span){ key, (size_t)(slash - key) }, name, sizeof name))
			return cl_fail(c->err, EINVAL, "safety: '%.100s' is not a path", path);
		next = json_object_get(at, name);
		if (!next) {
			if (!make)
				return -ENOENT;
			next = json_object();
			if (json_object_set_new(at, name, next))
				return cl_fail(c->err, ENOMEM, "safety: no memory");
		}
		at = next;
		p = slash;
	}
}

static bool list_has(const json_t *list, const json_t *v)
{
	const json_t *e;
	size_t i;

	json_array_foreach(list, i, e)
		if (json_equal(e, v))
			return true;
	return false;
}

static const char *path_of(const json_t *rule)
{
	return json_string_value(json_is_string(rule) ? rule : json_object_get(rule, "path"));
}

typedef int rule_fn(const struct ctx *c, json_t *doc, const json_t *rule, bool write);

/* set: write it, or is it so? */
static int rule_set(const struct ctx *c, json_t *doc, const json_t *rule, bool write)
{
	const json_t *want = json_object_get(rule, "value");
	json_t *parent;
	const char *key;
	int r = want ? walk(c, doc, path_of(rule), write, &parent, &key) : -EINVAL;

	if (r == 0 && write && json_object_set_new(parent, key, json_deep_copy(want)))
		return cl_fail(c->err, ENOMEM, "safety: no memory");
	if (r == 0 && !write && !json_equal(json_object_get(parent, key), want))
		r = -ENOENT;
	if (r == -ENOENT || !want)
		return cl_fail(c->err, EINVAL, "safety: '%.100s' does not hold", path_of(rule) ? path_of(rule) : "set");
	return r;
}

static int rule_contain(const struct ctx *c, json_t *doc, const json_t *rule, bool write)
{
	const json_t *values = json_object_get(rule, "values"), *v;
	json_t *parent, *list;
	const char *key;
	size_t i;
	int r = walk(c, doc, path_of(rule), write, &parent, &key);

	if (r == -ENOENT || !json_is_array(values))
		return cl_fail(c->err, EINVAL, "safety: '%.100s' does not hold", path_of(rule) ? path_of(rule) : "contain");
	if (r)
		return r;
	list = json_object_get(parent, key);
	if (write && !json_is_array(list)) {
		list = json_array();
		if (json_object_set_new(parent, key, list))
			return cl_fail(c->err, ENOMEM, "safety: no memory");
	}
	json_array_foreach(values, i, v) {
		if (list_has(list, v))
			continue;
		if (!write || json_array_append_new(list, json_deep_copy(v)))
			return cl_fail(c->err, EINVAL, "safety: '%.100s' does not hold", path_of(rule));
	}
	return 0;
}

static int rule_only(const struct ctx *c, json_t *doc, const json_t *rule, bool write)
{
	const json_t *keys = json_object_get(rule, "keys");
	json_t *parent, *o;
	const char *key;
	int r = walk(c, doc, path_of(rule), false, &parent, &key);

	(void)write;
	if (r == -ENOENT)
		return 0;
	if (r)
		return r;
	o = json_object_get(parent, key);
	for (void *it = json_object_iter(o); it; it = json_object_iter_next(o, it)) {
		json_t *name = json_string(json_object_iter_key(it));
		bool known = list_has(keys, name);

		json_decref(name);
		if (!known)
			return cl_fail(c->err, EINVAL, "safety: '%.100s' must not have '%.60s'", path_of(rule),
				       json_object_iter_key(it));
	}
	return 0;
}

static int rule_absent(const struct ctx *c, json_t *doc, const json_t *rule, bool write)
{
	json_t *parent;
	const char *key;
	int r = walk(c, doc, path_of(rule), false, &parent, &key);

	(void)write;
	if (r == -ENOENT)
		return 0;
	if (r == 0 && json_object_get(parent, key))
		return cl_fail(c->err, EINVAL, "safety: '%.100s' must not be there", path_of(rule));
	return r;
}

static bool has_key(const json_t *v, const char *key, int depth)
{
	json_t *o = (json_t *)(uintptr_t)v;	/* iterated, not changed */
	const json_t *e;
	size_t i;

	if (depth > DEPTH_MAX)
		return true;	/* cannot be said: refuse */
	for (void *it = json_object_iter(o); it; it = json_object_iter_next(o, it))
		if (strcmp(json_object_iter_key(it), key) == 0 ||
		    has_key(json_object_iter_value(it), key, depth + 1))
			return true;
	json_array_foreach(v, i, e)
		if (has_key(e, key, depth + 1))
			return true;
	return false;
}

static int rule_forbidden(const struct ctx *c, json_t *doc, const json_t *rule, bool write)
{
	(void)write;
	if (!json_is_string(rule) || has_key(doc, json_string_value(rule), 0))
		return cl_fail(c->err, EINVAL, "safety: the key '%.60s' must not be anywhere",
			       json_is_string(rule) ? json_string_value(rule) : "?");
	return 0;
}

/* @write: put in what is set and contained; else: does everything hold? */
static int safety_rules(const struct ctx *c, json_t *doc, const json_t *safety, bool write)
{
	static const struct { const char *name; rule_fn *fn; } kinds[] = {
		{ "set", rule_set }, { "contain", rule_contain }, { "only", rule_only },
		{ "absent", rule_absent }, { "forbidden_keys", rule_forbidden },
	};
	size_t known = json_object_get(safety, "format") ? 1 : 0;

	if (known && json_integer_value(json_object_get(safety, "format")) != 1)
		return cl_fail(c->err, EINVAL, "safety: format must be 1");
	for (size_t k = 0; k < CL_ARRAY_LEN(kinds); k++) {
		const json_t *list = json_object_get(safety, kinds[k].name), *rule;
		size_t i;

		if (!list)
			continue;
		known++;
		if (!json_is_array(list))
			return cl_fail(c->err, EINVAL, "safety: '%s' must be a list", kinds[k].name);
		json_array_foreach(list, i, rule) {
			int r = kinds[k].fn(c, doc, rule, write);

			if (r)
				return r;
		}
	}
	/* a rule that we do not know would be a wall that is not there */
	if (known != json_object_size(safety))
		return cl_fail(c->err, EINVAL, "safety: has a key that is not known");
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
		r = safety_rules(&c, doc, safe, true);
	if (r == 0) {
		text = json_dumps(doc, JSON_INDENT(2) | JSON_SORT_KEYS);
		back = text ? load(span_str(text), "rendered", c.err) : NULL;
		r = back ? safety_rules(&c, back, safe, false) : text ? -c.err->code :
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

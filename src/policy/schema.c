/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/schema.h"
#include "policy/near.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#define TEXT_MAX_DEFAULT 1024u
#define LIST_MAX_DEFAULT 256u
#define PATH_TEXT_MAX 1024u

struct ctx {
	const char *file;
	struct cl_err *err;
};

/* where a complaint belongs: a node of a file, or a key of a JSON document */
static int bad(const struct ctx *c, const struct yaml_node *at, const char *fmt, ...) CL_PRINTF(3, 4);
static int bad(const struct ctx *c, const struct yaml_node *at, const char *fmt, ...)
{
	char words[240];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(words, sizeof words, fmt, ap);	/* cut off is fine: it is a message */
	va_end(ap);
	if (at)
		return cl_fail(c->err, EINVAL, "%s:%u:%u: %s", c->file, at->line, at->column, words);
	return cl_fail(c->err, EINVAL, "%s: %s", c->file, words);
}

/* ---- scalars ------------------------------------------------------------------ */

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit sizes[] = {
	{ "", 1 }, { "B", 1 }, { "KiB", 1ull << 10 }, { "MiB", 1ull << 20 },
	{ "GiB", 1ull << 30 }, { "TiB", 1ull << 40 },
	{ "K", 1ull << 10 }, { "M", 1ull << 20 }, { "G", 1ull << 30 },
	{ "KB", 1000 }, { "MB", 1000000 }, { "GB", 1000000000 },
};
static const struct unit seconds[] = {
	{ "", 1 }, { "s", 1 }, { "m", 60 }, { "h", 3600 }, { "d", 86400 }, { "w", 604800 },
};

static int with_unit(struct span s, const struct unit *u, size_t n, uint64_t *out)
{
	size_t digits = 0;
	uint64_t v;

	while (digits < s.n && s.p[digits] >= '0' && s.p[digits] <= '9')
		digits++;
	if (num_parse_u64((struct span){ s.p, digits }, UINT64_MAX, &v))
		return -EINVAL;
	struct span rest = span_trim((struct span){ s.p + digits, s.n - digits });

	for (size_t i = 0; i < n; i++) {
		if (!span_eq_str(rest, u[i].name))
			continue;
		return __builtin_mul_overflow(v, u[i].factor, out) ? -ERANGE : 0;
	}
	return -EINVAL;
}

int schema_size(struct span s, uint64_t *out)
{
	return with_unit(s, sizes, CL_ARRAY_LEN(sizes), out);
}

int schema_seconds(struct span s, uint64_t *out)
{
	return with_unit(s, seconds, CL_ARRAY_LEN(seconds), out);
}

/* "1.25" -> 1250 */
static int milli(struct span s, uint64_t *out)
{
	struct span whole, frac = s;
	uint64_t w, f = 0;

	if (!span_cut(&frac, '.', &whole)) {
		whole = s;
		frac = (struct span){ "", 0 };
	} else if (frac.n == 0 || frac.n > 3) {
		return -EINVAL;
	}
	if (num_parse_u64(whole, 1000000, &w))
		return -EINVAL;
	for (size_t i = 0; i < 3; i++) {
		char c = i < frac.n ? frac.p[i] : '0';

		if (c < '0' || c > '9')
			return -EINVAL;
		f = f * 10 + (uint64_t)(c - '0');
	}
	*out = w * 1000 + f;
	return 0;
}

static bool address_ok(struct span s)
{
	char host[64];
	struct span port;
	struct in6_addr a6;
	struct in_addr a4;
	uint32_t p;
	size_t colon = s.n;

	if (span_eq_str(s, "off"))
		return true;
	while (colon > 0 && s.p[colon - 1] != ':')
		colon--;
	if (colon < 2)
		return false;
	port = (struct span){ s.p + colon, s.n - colon };
	s.n = colon - 1;
	if (num_parse_u32(port, 65535, &p) || p == 0)
		return false;
	if (s.n > 2 && s.p[0] == '[' && s.p[s.n - 1] == ']') {
		struct span in = { s.p + 1, s.n - 2 };

		return span_copy(in, host, sizeof host) == 0 && inet_pton(AF_INET6, host, &a6) == 1;
	}
	return span_copy(s, host, sizeof host) == 0 && inet_pton(AF_INET, host, &a4) == 1;
}

/* http(s)://host[:port][/path]; nothing that would have to be decoded */
static bool url_ok(struct span s)
{
	struct span rest = s, host;

	if (span_starts(rest, SPAN("https://")))
		rest = (struct span){ s.p + 8, s.n - 8 };
	else if (span_starts(rest, SPAN("http://")))
		rest = (struct span){ s.p + 7, s.n - 7 };
	else
		return false;
	for (size_t i = 0; i < rest.n; i++) {
		char c = rest.p[i];

		if (c <= ' ' || c >= 0x7f || strchr("?#@\\%\"<>{}|^`", c))
			return false;
	}
	host = rest;
	(void)span_cut(&rest, '/', &host);	/* no path is fine: host is all */
	return host.n > 0 && host.p[0] != ':' && host.n < 256;
}

static bool path_ok(struct span s)
{
	if (s.n == 0 || s.n > PATH_TEXT_MAX || s.p[0] != '/')
		return false;
	for (size_t i = 0; i + 2 < s.n; i++)
		if (s.p[i] == '/' && s.p[i + 1] == '.' && s.p[i + 2] == '.' &&
		    (i + 3 == s.n || s.p[i + 3] == '/'))
			return false;
	return true;
}

static bool env_name_ok(struct span s)
{
	if (s.n == 0 || s.n > 64 || (s.p[0] >= '0' && s.p[0] <= '9'))
		return false;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (!(c == '_' || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
		      (c >= '0' && c <= '9')))
			return false;
	}
	return true;
}

/* what a row wants, in words */
static const char *wanted(enum schema_type t)
{
	static const char *const words[] = {
		[S_TEXT] = "a text", [S_BOOL] = "true or false", [S_NUMBER] = "a number",
		[S_SIZE] = "a size such as 512MiB or 2GiB",
		[S_SECONDS] = "a duration such as 90s, 15m, 24h or 7d",
		[S_MILLI] = "a number such as 1 or 0.5",
		[S_NAME] = "a name of a-z, 0-9, - and _ (at most 64)",
		[S_TENANT] = "a tenant id: a-z, 0-9 and -, at most 40, no - at either end",
		[S_CHOICE] = "one of the known words", [S_ADDRESS] = "an address such as 127.0.0.1:8378, or off",
		[S_URL] = "an address such as https://api.example.com/v1",
		[S_PATH] = "an absolute path", [S_MAP] = "a map of keys", [S_DICT] = "a map of names",
		[S_ENV] = "a map of environment names", [S_LIST] = "a list",
	};

	return words[t];
}

static int text_value(const struct ctx *c, const struct yaml_node *at, const struct schema_field *f,
		      struct span s, json_t **out)
{
	char list[160];
	size_t n = 0;

	switch (f->type) {
	case S_NAME:
		if (!name_ok(s))
			return bad(c, at, "'%s' must be %s", f->key, wanted(f->type));
		break;
	case S_TENANT:
		if (!tenant_id_ok(s))
			return bad(c, at, "'%s' must be %s", f->key, wanted(f->type));
		break;
	case S_ADDRESS:
		if (!address_ok(s))
			return bad(c, at, "'%s' must be %s", f->key, wanted(f->type));
		break;
	case S_URL:
		if (!url_ok(s))
			return bad(c, at, "'%s' must be %s", f->key, wanted(f->type));
		break;
	case S_PATH:
		if (!path_ok(s))
			return bad(c, at, "'%s' must be %s", f->key, wanted(f->type));
		break;
	case S_CHOICE:
		list[0] = '\0';
		for (const char *const *w = f->choices; *w; w++) {
			if (span_eq_str(s, *w))
				goto good;
			int k = snprintf(list + n, sizeof list - n, "%s%s", n ? ", " : "", *w);

			if (k > 0 && n + (size_t)k < sizeof list)
				n += (size_t)k;
		}
		return bad(c, at, "'%s' must be one of: %s", f->key, list);
	case S_TEXT:
		if (s.n > (f->max ? f->max : TEXT_MAX_DEFAULT))
			return bad(c, at, "'%s' is longer than %llu bytes", f->key,
				   (unsigned long long)(f->max ? f->max : TEXT_MAX_DEFAULT));
		if (s.n < f->min)
			return bad(c, at, "'%s' must not be empty", f->key);
		break;
	case S_BOOL: case S_NUMBER: case S_SIZE: case S_SECONDS: case S_MILLI:
	case S_MAP: case S_DICT: case S_ENV: case S_LIST:
		break;
	}
good:
	*out = json_stringn(s.p, s.n);
	return *out ? 0 : cl_fail(c->err, ENOMEM, "%s: no memory", c->file);
}

static int in_range(const struct ctx *c, const struct yaml_node *at, const struct schema_field *f,
		    uint64_t v)
{
	uint64_t max = f->max ? f->max : INT64_MAX;

	if (v < f->min || v > max)
		return bad(c, at, "'%s' must be from %llu to %llu%s", f->key, (unsigned long long)f->min,
			   (unsigned long long)max,
			   f->type == S_SIZE ? " bytes" : f->type == S_SECONDS ? " seconds" :
			   f->type == S_MILLI ? " thousandths" : "");
	return 0;
}

static int scalar(const struct ctx *c, const struct yaml_node *at, const struct schema_field *f,
		  struct span s, json_t **out)
{
	uint64_t v = 0;
	int r = -EINVAL;

	if (f->type == S_BOOL) {
		if (!span_eq_str(s, "true") && !span_eq_str(s, "false"))
			return bad(c, at, "'%s' must be true or false", f->key);
		*out = json_boolean(span_eq_str(s, "true"));
		return 0;
	}
	if (f->type == S_NUMBER)
		r = num_parse_u64(s, UINT64_MAX, &v);
	else if (f->type == S_SIZE)
		r = schema_size(s, &v);
	else if (f->type == S_SECONDS)
		r = schema_seconds(s, &v);
	else if (f->type == S_MILLI)
		r = milli(s, &v);
	else
		return text_value(c, at, f, s, out);
	if (r)
		return bad(c, at, "'%s' must be %s", f->key, wanted(f->type));
	if (in_range(c, at, f, v))
		return -c->err->code;
	*out = json_integer((json_int_t)v);
	return *out ? 0 : cl_fail(c->err, ENOMEM, "%s: no memory", c->file);
}

/* ---- trees ---------------------------------------------------------------------- */

static int read_map(const struct ctx *c, const struct schema *s, const struct yaml_node *map,
		    json_t **out);

static int read_field(const struct ctx *c, const struct schema_field *f, const struct yaml_node *n,
		      json_t **out);

static int read_dict(const struct ctx *c, const struct schema_field *f, const struct yaml_node *map,
		     json_t **out)
{
	json_t *o = json_object();

	for (const struct yaml_node *n = map->first; n; n = n->next) {
		struct span key = span_str(n->key);
		json_t *v = NULL;

		if (f->type == S_DICT ? !name_ok(key) : !env_name_ok(key)) {
			json_decref(o);
			return cl_fail(c->err, EINVAL, "%s:%u:%u: '%.64s' is not a name that '%s' can have",
				       c->file, n->key_line, n->key_column, n->key, f->key);
		}
		int r = read_field(c, f->item, n, &v);

		if (r == 0 && json_object_set_new(o, n->key, v))
			r = cl_fail(c->err, ENOMEM, "%s: no memory", c->file);
		if (r) {
			json_decref(o);
			return r;
		}
	}
	*out = o;
	return 0;
}

static int read_list(const struct ctx *c, const struct schema_field *f, const struct yaml_node *list,
		     json_t **out)
{
	json_t *a;

	if (list->count > (f->max ? f->max : LIST_MAX_DEFAULT))
		return bad(c, list, "'%s' has more than %llu entries", f->key,
			   (unsigned long long)(f->max ? f->max : LIST_MAX_DEFAULT));
	a = json_array();
	for (const struct yaml_node *n = list->first; n; n = n->next) {
		json_t *v = NULL;
		int r = read_field(c, f->item, n, &v);

		if (r == 0 && json_array_append_new(a, v))
			r = cl_fail(c->err, ENOMEM, "%s: no memory", c->file);
		if (r) {
			json_decref(a);
			return r;
		}
	}
	*out = a;
	return 0;
}

static int read_field(const struct ctx *c, const struct schema_field *f, const struct yaml_node *n,
		      json_t **out)
{
	bool map = f->type == S_MAP || f->type == S_DICT || f->type == S_ENV;

	if (map && n->kind == YAML_MAP)
		return f->type == S_MAP ? read_map(c, f->sub, n, out) : read_dict(c, f, n, out);
	if (f->type == S_LIST && n->kind == YAML_LIST)
		return read_list(c, f, n, out);
	if (yaml_absent(n))
		return bad(c, n, "'%s' has no value; it must be %s", f->key, wanted(f->type));
	if (map || f->type == S_LIST || n->kind != YAML_TEXT)
		return bad(c, n, "'%s' must be %s", f->key, wanted(f->type));
	return scalar(c, n, f, (struct span){ n->text, n->text_len }, out);
}

/* what stands there when the file says nothing; *out stays NULL when that is nothing */
static int absent(const struct ctx *c, const struct schema_field *f, const struct yaml_node *map,
		  json_t **out)
{
	static const struct yaml_node nothing = { .kind = YAML_MAP };

	if (f->required && map->line)
		return bad(c, map, "'%s' is missing", f->key);
	if (f->required)
		return bad(c, NULL, "'%s' is missing", f->key);
	if (f->def)
		return scalar(c, NULL, f, span_str(f->def), out);
	if (f->fill)
		return read_map(c, f->sub, &nothing, out);
	return 0;
}

void schema_keys(const struct schema *s, char *buf, size_t n)
{
	size_t at = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < s->n; i++) {
		int k = snprintf(buf + at, n - at, "%s%s", at ? ", " : "", s->fields[i].key);

		if (k < 0 || at + (size_t)k >= n)
			return;
		at += (size_t)k;
	}
}

static int unknown_key(const struct ctx *c, const struct schema *s, const char *key,
		       unsigned line, unsigned column)
{
	const char *near = near_word(span_str(key), &s->fields[0].key, s->n, sizeof s->fields[0]);
	char known[160], where[40] = "", clean[64];

	schema_keys(s, known, sizeof known);
	utf8_scrub(span_str(key), clean, sizeof clean);
	if (line)
		(void)snprintf(where, sizeof where, "%u:%u: ", line, column);	/* fits */
	if (near)
		return cl_fail(c->err, EINVAL, "%s:%s%sunknown key '%s'; did you mean '%s'?", c->file,
			       line ? "" : " ", where, clean, near);
	return cl_fail(c->err, EINVAL, "%s:%s%sunknown key '%s'; known here: %s", c->file,
		       line ? "" : " ", where, clean, known);
}

static const struct schema_field *field_for(const struct schema *s, const char *key)
{
	for (size_t i = 0; i < s->n; i++)
		if (strcmp(s->fields[i].key, key) == 0)
			return &s->fields[i];
	return NULL;
}

static int read_map(const struct ctx *c, const struct schema *s, const struct yaml_node *map,
		    json_t **out)
{
	json_t *o = json_object();
	int r = 0;

	for (const struct yaml_node *n = map->first; n && r == 0; n = n->next)
		if (!field_for(s, n->key))
			r = unknown_key(c, s, n->key, n->key_line, n->key_column);
	for (size_t i = 0; i < s->n && r == 0; i++) {
		const struct schema_field *f = &s->fields[i];
		const struct yaml_node *n = yaml_get(map, f->key);
		json_t *v = NULL;

		r = n ? read_field(c, f, n, &v) : absent(c, f, map, &v);
		if (r == 0 && v && json_object_set_new(o, f->key, v))
			r = cl_fail(c->err, ENOMEM, "%s: no memory", c->file);
	}
	if (r) {
		json_decref(o);
		return r;
	}
	*out = o;
	return 0;
}

int schema_read(const struct schema *s, const struct yaml_node *root, const char *file,
		json_t **out, struct cl_err *err)
{
	struct cl_err local = { 0 };
	struct ctx c = { file, err ? err : &local };

	if (root->kind != YAML_MAP)
		return bad(&c, root, "must be a map of keys");
	return read_map(&c, s, root, out);
}

int schema_load(const struct schema *s, struct span text, const char *file, json_t **out,
		struct cl_err *err)
{
	struct yaml_node *root = NULL;
	int r = yaml_read(text, file, &root, err);

	if (r == 0)
		r = schema_read(s, root, file, out, err);
	ytree_free(root);
	return r;
}

/* ---- JSON that came another way --------------------------------------------------- */

static int json_field(const struct ctx *c, const struct schema_field *f, const json_t *v, int depth)
{
	json_t *ignored = NULL;
	const json_t *e;
	const char *key;
	size_t i;
	int r = 0;

	if (depth > YAML_DEPTH_MAX)
		return bad(c, NULL, "'%s' is nested too deeply", f->key);
	switch (f->type) {
	case S_MAP:
		return schema_json(f->sub, v, f->key, c->err);
	case S_DICT:
	case S_ENV:
		if (!json_is_object(v))
			return bad(c, NULL, "'%s' must be %s", f->key, wanted(f->type));
		/* jansson's macro wants a mutable object; nothing is changed */
		for (void *it = json_object_iter((json_t *)(uintptr_t)v); it && r == 0;
		     it = json_object_iter_next((json_t *)(uintptr_t)v, it)) {
			key = json_object_iter_key(it);
			if (f->type == S_DICT ? !name_ok(span_str(key)) : !env_name_ok(span_str(key)))
				return bad(c, NULL, "'%s' cannot have such a name", f->key);
			r = json_field(c, f->item, json_object_iter_value(it), depth + 1);
		}
		return r;
	case S_LIST:
		if (!json_is_array(v) || json_array_size(v) > (f->max ? f->max : LIST_MAX_DEFAULT))
			return bad(c, NULL, "'%s' must be a list, not too long", f->key);
		for (i = 0; i < json_array_size(v) && r == 0; i++) {
			e = json_array_get(v, i);
			r = json_field(c, f->item, e, depth + 1);
		}
		return r;
	case S_BOOL:
		return json_is_boolean(v) ? 0 : bad(c, NULL, "'%s' must be true or false", f->key);
	case S_NUMBER: case S_SIZE: case S_SECONDS: case S_MILLI:
		if (!json_is_integer(v) || json_integer_value(v) < 0)
			return bad(c, NULL, "'%s' must be a whole number", f->key);
		return in_range(c, NULL, f, (uint64_t)json_integer_value(v));
	case S_TEXT: case S_NAME: case S_TENANT: case S_CHOICE: case S_ADDRESS: case S_URL: case S_PATH:
		break;
	}
	if (!json_is_string(v))
		return bad(c, NULL, "'%s' must be %s", f->key, wanted(f->type));
	r = text_value(c, NULL, f, (struct span){ json_string_value(v), json_string_length(v) }, &ignored);
	json_decref(ignored);
	return r;
}

int schema_json(const struct schema *s, const json_t *doc, const char *what, struct cl_err *err)
{
	struct cl_err local = { 0 };
	struct ctx c = { what, err ? err : &local };
	json_t *o = (json_t *)(uintptr_t)doc;	/* iterated, not changed */
	int r = 0;

	if (!json_is_object(doc))
		return bad(&c, NULL, "must be a map of keys");
	for (void *it = json_object_iter(o); it && r == 0; it = json_object_iter_next(o, it)) {
		const struct schema_field *f = field_for(s, json_object_iter_key(it));

		if (!f)
			return unknown_key(&c, s, json_object_iter_key(it), 0, 0);
		r = json_field(&c, f, json_object_iter_value(it), 1);
	}
	for (size_t i = 0; i < s->n && r == 0; i++)
		if (s->fields[i].required && !json_object_get(doc, s->fields[i].key))
			r = bad(&c, NULL, "'%s' is missing", s->fields[i].key);
	return r;
}

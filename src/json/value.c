/* SPDX-License-Identifier: Apache-2.0 */
/* Values of a document that json_check() accepted: it is never re-checked. */
#include "json/json.h"
#include "json/text.h"

#include <stdlib.h>
#include <string.h>

/* ---- text ------------------------------------------------------------------- */

static unsigned hex(char c)
{
	return c <= '9' ? (unsigned)(c - '0') : ((unsigned)c | 32u) - 'a' + 10;
}

static unsigned take_u(struct json_text *t)	/* "uXXXX" behind the backslash */
{
	unsigned v = 0;

	for (int i = 1; i <= 4; i++)
		v = v * 16 + hex(t->raw.p[i]);
	t->raw.p += 5;
	t->raw.n -= 5;
	return v;
}

int json_text_byte(struct json_text *t)
{
	static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";

	if (t->at < t->n)
		return t->wait[t->at++];
	if (t->raw.n == 0)
		return -1;
	char c = *t->raw.p;

	t->raw.p++;
	t->raw.n--;
	if (c != '\\')
		return (unsigned char)c;
	c = *t->raw.p;
	if (c != 'u') {
		const char *at = strchr(from, c);

		t->raw.p++;
		t->raw.n--;
		return (unsigned char)(at ? to[at - from] : c);
	}
	unsigned cp = take_u(t);

	if (cp >= 0xd800 && cp <= 0xdbff) {
		t->raw.p++;		/* the backslash of the low half */
		t->raw.n--;
		cp = 0x10000 + ((cp - 0xd800) << 10) + (take_u(t) - 0xdc00);
	}
	t->at = 0;
	if (cp < 0x80) {
		t->n = 1;
		t->wait[0] = (unsigned char)cp;
	} else if (cp < 0x800) {
		t->n = 2;
		t->wait[0] = (unsigned char)(0xc0 | (cp >> 6));
	} else if (cp < 0x10000) {
		t->n = 3;
		t->wait[0] = (unsigned char)(0xe0 | (cp >> 12));
	} else {
		t->n = 4;
		t->wait[0] = (unsigned char)(0xf0 | (cp >> 18));
	}
	for (unsigned i = 1; i < t->n; i++)
		t->wait[i] = (unsigned char)(0x80 | ((cp >> (6 * (t->n - 1 - i))) & 63));
	return t->wait[t->at++];
}

bool json_same_text(struct span a, struct span b)
{
	struct json_text x = json_text_of(a), y = json_text_of(b);
	int c;

	do {
		c = json_text_byte(&x);
		if (c != json_text_byte(&y))
			return false;
	} while (c >= 0);
	return true;
}

bool json_key_is(struct span raw_key, const char *s)
{
	struct json_text t = json_text_of(raw_key);
	int c;

	while ((c = json_text_byte(&t)) >= 0)
		if (*s == '\0' || c != (unsigned char)*s++)
			return false;
	return *s == '\0';
}

static struct span inside(struct json_val v)	/* between the quotes */
{
	return (struct span){ v.raw.p + 1, v.raw.n - 2 };
}

bool json_is(struct json_val v, const char *s)
{
	return v.type == JSON_STRING && json_key_is(inside(v), s);
}

int json_text(struct json_val v, struct buf *out)
{
	if (v.type != JSON_STRING)
		return -EINVAL;
	struct span in = inside(v);

	if (in.n == 0 || !memchr(in.p, '\\', in.n))
		return buf_add_span(out, in);
	struct json_text t = json_text_of(in);
	int c;

	while ((c = json_text_byte(&t)) >= 0) {
		int r = buf_add_ch(out, (char)c);

		if (r)
			return r;
	}
	return 0;
}

int json_text_copy(struct json_val v, char *buf, size_t n)
{
	size_t o = 0;
	int c;

	if (v.type != JSON_STRING)
		return -EINVAL;
	struct json_text t = json_text_of(inside(v));

	while ((c = json_text_byte(&t)) >= 0) {
		if (c == 0)
			return -EINVAL;
		if (o + 1 >= n)
			return -ENAMETOOLONG;
		buf[o++] = (char)c;
	}
	if (n == 0)
		return -ENAMETOOLONG;
	buf[o] = '\0';
	return 0;
}

/* ---- structure ----------------------------------------------------------------- */

static struct span skip_blanks(struct span s)
{
	while (s.n && (*s.p == ' ' || *s.p == '\t' || *s.p == '\n' || *s.p == '\r')) {
		s.p++;
		s.n--;
	}
	return s;
}

/* bytes of the value at s.p */
static size_t value_len(struct span s)
{
	size_t i = 0, depth = 0;

	do {
		char c = s.p[i];

		if (c == '"') {
			for (i++; s.p[i] != '"'; i++)
				if (s.p[i] == '\\')
					i++;
			i++;
		} else if (c == '{' || c == '[') {
			depth++;
			i++;
		} else if (c == '}' || c == ']') {
			depth--;
			i++;
		} else if (depth) {
			i++;
		} else {
			while (i < s.n && !strchr(",]} \t\r\n", s.p[i]))
				i++;
		}
	} while (depth && i < s.n);
	return i;
}

static struct json_val value_at(struct span s)
{
	struct json_val v = { JSON_NONE, { s.p, 0 } };

	if (s.n == 0)
		return v;
	v.raw.n = value_len(s);
	switch (*s.p) {
	case '{': v.type = JSON_OBJECT; break;
	case '[': v.type = JSON_ARRAY; break;
	case '"': v.type = JSON_STRING; break;
	case 't': v.type = JSON_TRUE; break;
	case 'f': v.type = JSON_FALSE; break;
	case 'n': v.type = JSON_NULL; break;
	default: v.type = JSON_NUMBER; break;
	}
	return v;
}

struct json_val json_root(struct span doc)
{
	return value_at(skip_blanks(doc));
}

struct json_it json_each(struct json_val v)
{
	if (v.type != JSON_OBJECT && v.type != JSON_ARRAY)
		return (struct json_it){ .object = false };
	return (struct json_it){ { v.raw.p + 1, v.raw.n - 2 }, v.type == JSON_OBJECT };
}

bool json_next(struct json_it *it, struct span *out_key, struct json_val *out)
{
	struct span s = skip_blanks(it->rest);

	if (s.n && *s.p == ',') {
		s.p++;
		s.n--;
		s = skip_blanks(s);
	}
	if (s.n == 0)
		return false;
	*out_key = (struct span){ s.p, 0 };
	if (it->object) {
		size_t k = value_len(s);

		*out_key = (struct span){ s.p + 1, k - 2 };
		s.p += k;
		s.n -= k;
		s = skip_blanks(s);
		s.p++;		/* the colon */
		s.n--;
		s = skip_blanks(s);
	}
	*out = value_at(s);
	it->rest = (struct span){ s.p + out->raw.n, s.n - out->raw.n };
	return true;
}

struct json_val json_get(struct json_val object, const char *name)
{
	struct json_it it = json_each(object);
	struct json_val v;
	struct span key;

	if (object.type == JSON_OBJECT)
		while (json_next(&it, &key, &v))
			if (json_key_is(key, name))
				return v;
	return (struct json_val){ JSON_NONE, { NULL, 0 } };
}

/* one reference token of a pointer, "~0" and "~1" undone. -EINVAL */
static int token(const char **pointer, char *buf, size_t n)
{
	size_t o = 0;
	const char *p = *pointer + 1;

	for (; *p && *p != '/'; p++) {
		char c = *p;

		if (c == '~') {
			p++;
			if (*p != '0' && *p != '1')
				return -EINVAL;
			c = *p == '0' ? '~' : '/';
		}
		if (o + 1 >= n)
			return -EINVAL;
		buf[o++] = c;
	}
	buf[o] = '\0';
	*pointer = p;
	return 0;
}

int json_at(struct json_val v, const char *pointer, struct json_val *out)
{
	char tok[256];

	while (*pointer) {
		if (*pointer != '/' || token(&pointer, tok, sizeof tok))
			return -EINVAL;
		if (v.type == JSON_OBJECT) {
			v = json_get(v, tok);
		} else if (v.type == JSON_ARRAY) {
			uint32_t want;
			struct json_it it = json_each(v);
			struct span key;

			if (num_parse_u32(span_str(tok), UINT32_MAX, &want))
				return -ENOENT;
			v.type = JSON_NONE;
			for (struct json_val e; json_next(&it, &key, &e); want--)
				if (want == 0) {
					v = e;
					break;
				}
		} else {
			return -ENOENT;
		}
		if (v.type == JSON_NONE)
			return -ENOENT;
	}
	*out = v;
	return 0;
}

/* ---- numbers, splice -------------------------------------------------------------- */

int json_u64(struct json_val v, uint64_t *out)
{
	return v.type == JSON_NUMBER ? num_parse_u64(v.raw, UINT64_MAX, out) : -EINVAL;
}

int json_i64(struct json_val v, int64_t *out)
{
	return v.type == JSON_NUMBER ? num_parse_i64(v.raw, out) : -EINVAL;
}

int json_double(struct json_val v, double *out)
{
	char tmp[304];

	if (v.type != JSON_NUMBER || span_copy(v.raw, tmp, sizeof tmp))
		return -EINVAL;
	*out = strtod(tmp, NULL);
	return 0;
}

int json_splice(struct span doc, struct json_val v, struct span with, struct buf *out)
{
	size_t before = (size_t)(v.raw.p - doc.p);

	(void)buf_add(out, doc.p, before);	/* sticky */
	(void)buf_add_span(out, with);
	(void)buf_add(out, v.raw.p + v.raw.n, doc.n - before - v.raw.n);
	return out->failed ? -E2BIG : 0;
}

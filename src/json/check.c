/* SPDX-License-Identifier: Apache-2.0 */
/* The one strict walk over a document. An explicit stack, no recursion. */
#include "json/json.h"
#include "json/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A key that is open: of an object around the cursor. */
struct key {
	uint32_t hash;		/* of the decoded name */
	struct span raw;
};

struct walk {
	const char *p, *end, *start;
	const char *why;
	int code;
	struct key keys[JSON_KEYS];
	size_t nkeys;
	/* per level: is it an object, and where its keys begin */
	bool object[JSON_DEPTH];
	size_t keys_at[JSON_DEPTH];
	size_t depth;
};

static bool bad(struct walk *w, const char *why)
{
	w->why = why;
	w->code = -EBADMSG;
	return false;
}

static bool too_big(struct walk *w, const char *why)
{
	w->why = why;
	w->code = -E2BIG;
	return false;
}

static void blanks(struct walk *w)
{
	while (w->p < w->end && (*w->p == ' ' || *w->p == '\t' || *w->p == '\n' || *w->p == '\r'))
		w->p++;
}

static int hex4(const char *p, const char *end)
{
	int v = 0;

	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		char c = p[i];
		int d = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 :
			c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;

		if (d < 0)
			return -1;
		v = v * 16 + d;
	}
	return v;
}

/* bytes of a valid UTF-8 sequence that begins with a byte >= 0x80, or 0 */
static size_t utf8_seq(const char *p, const char *end)
{
	for (size_t k = 2; k <= 4 && k <= (size_t)(end - p); k++)
		if (utf8_ok((struct span){ p, k }))
			return k;
	return 0;
}

/*
 * A string, cursor behind its opening quote; *out_hash is over the decoded
 * bytes (FNV-1a), *out the raw bytes between the quotes.
 */
static bool string(struct walk *w, struct span *out, uint32_t *out_hash, bool is_key)
{
	const char *from = w->p;
	uint32_t h = 2166136261u;

#define MIX(b) (h = (h ^ (uint8_t)(b)) * 16777619u)
	for (;;) {
		if (w->p >= w->end)
			return bad(w, "a string does not end");
		unsigned char c = (unsigned char)*w->p;

		if (c == '"')
			break;
		if (c < 0x20)
			return bad(w, "a control character in a string");
		if (c >= 0x80) {
			size_t k = utf8_seq(w->p, w->end);

			if (k == 0)
				return bad(w, "invalid UTF-8");
			for (size_t i = 0; i < k; i++)
				MIX(w->p[i]);
			w->p += k;
			continue;
		}
		if (c != '\\') {
			MIX(c);
			w->p++;
			continue;
		}
		if (w->end - w->p < 2)
			return bad(w, "a string does not end");
		char e = w->p[1];
		static const char from_c[] = "\"\\/bfnrt", to_c[] = "\"\\/\b\f\n\r\t";
		const char *at = e ? strchr(from_c, e) : NULL;

		if (at) {
			MIX(to_c[at - from_c]);
			w->p += 2;
			continue;
		}
		if (e != 'u')
			return bad(w, "an unknown escape in a string");
		int u = hex4(w->p + 2, w->end);

		if (u < 0)
			return bad(w, "\\u without four hex digits");
		w->p += 6;
		if (u == 0 && is_key)
			return bad(w, "NUL in a key");
		uint32_t cp = (uint32_t)u;

		if (u >= 0xdc00 && u <= 0xdfff)
			return bad(w, "a lone surrogate");
		if (u >= 0xd800 && u <= 0xdbff) {
			int lo = w->end - w->p >= 6 && w->p[0] == '\\' && w->p[1] == 'u' ?
				hex4(w->p + 2, w->end) : -1;

			if (lo < 0xdc00 || lo > 0xdfff)
				return bad(w, "a lone surrogate");
			cp = 0x10000u + ((uint32_t)(u - 0xd800) << 10) + (uint32_t)(lo - 0xdc00);
			w->p += 6;
		}
		if (cp < 0x80) {
			MIX(cp);
		} else if (cp < 0x800) {
			MIX(0xc0 | (cp >> 6));
			MIX(0x80 | (cp & 63));
		} else if (cp < 0x10000) {
			MIX(0xe0 | (cp >> 12));
			MIX(0x80 | ((cp >> 6) & 63));
			MIX(0x80 | (cp & 63));
		} else {
			MIX(0xf0 | (cp >> 18));
			MIX(0x80 | ((cp >> 12) & 63));
			MIX(0x80 | ((cp >> 6) & 63));
			MIX(0x80 | (cp & 63));
		}
	}
#undef MIX
	*out = (struct span){ from, (size_t)(w->p - from) };
	*out_hash = h;
	w->p++;
	return true;
}

static bool digits(struct walk *w)
{
	const char *from = w->p;

	while (w->p < w->end && *w->p >= '0' && *w->p <= '9')
		w->p++;
	return w->p > from;
}

static bool number(struct walk *w)
{
	const char *from = w->p;
	bool has_exp = false;

	if (*w->p == '-')
		w->p++;
	if (w->p < w->end && *w->p == '0')
		w->p++;
	else if (!digits(w))
		return bad(w, "a number without digits");
	if (w->p < w->end && *w->p == '.') {
		w->p++;
		if (!digits(w))
			return bad(w, "a number ends with its point");
	}
	if (w->p < w->end && (*w->p == 'e' || *w->p == 'E')) {
		has_exp = true;
		w->p++;
		if (w->p < w->end && (*w->p == '+' || *w->p == '-'))
			w->p++;
		if (!digits(w))
			return bad(w, "a number ends with its exponent's sign");
	}
	size_t n = (size_t)(w->p - from);

	/* one parser's infinity is another's error: refuse what a double cannot hold */
	if (n > 300)
		return too_big(w, "a number of more than 300 characters");
	if (has_exp || n > 18) {
		char tmp[304];

		memcpy(tmp, from, n);
		tmp[n] = '\0';
		if (!isfinite(strtod(tmp, NULL)))
			return bad(w, "a number larger than a double");
	}
	return true;
}

static bool word(struct walk *w, const char *s, size_t n)
{
	if ((size_t)(w->end - w->p) < n || memcmp(w->p, s, n) != 0)
		return bad(w, "not a JSON value");
	w->p += n;
	return true;
}

static bool key_seen(struct walk *w, size_t from, struct span raw, uint32_t hash)
{
	for (size_t i = from; i < w->nkeys; i++)
		if (w->keys[i].hash == hash && json_same_text(w->keys[i].raw, raw))
			return true;
	return false;
}

/* key and colon of an object's next member; the cursor stands at its value */
static bool member(struct walk *w)
{
	struct span raw;
	uint32_t hash;

	if (w->p >= w->end || *w->p != '"')
		return bad(w, "a key must be a string");
	w->p++;
	if (!string(w, &raw, &hash, true))
		return false;
	if (key_seen(w, w->keys_at[w->depth - 1], raw, hash))
		return bad(w, "a duplicate key");
	if (w->nkeys == JSON_KEYS)
		return too_big(w, "too many keys");
	w->keys[w->nkeys++] = (struct key){ hash, raw };
	blanks(w);
	if (w->p >= w->end || *w->p != ':')
		return bad(w, "no colon after a key");
	w->p++;
	blanks(w);
	return true;
}

/*
 * One value. Containers are only opened here (*out_open); the caller's loop
 * goes on with their first member or element.
 */
static bool value(struct walk *w, bool *out_open)
{
	struct span raw;
	uint32_t hash;

	*out_open = false;
	if (w->p >= w->end)
		return bad(w, "the text ends where a value must stand");
	switch (*w->p) {
	case '{':
	case '[':
		if (w->depth == JSON_DEPTH)
			return too_big(w, "nested too deep");
		w->object[w->depth] = *w->p == '{';
		w->keys_at[w->depth] = w->nkeys;
		w->depth++;
		w->p++;
		*out_open = true;
		return true;
	case '"':
		w->p++;
		return string(w, &raw, &hash, false);
	case 't':
		return word(w, "true", 4);
	case 'f':
		return word(w, "false", 5);
	case 'n':
		return word(w, "null", 4);
	case '-': case '0': case '1': case '2': case '3': case '4': case '5': case '6':
	case '7': case '8': case '9':
		return number(w);
	default:
		return bad(w, "not a JSON value");
	}
}

static bool close_level(struct walk *w)
{
	w->depth--;
	if (w->object[w->depth])
		w->nkeys = w->keys_at[w->depth];
	w->p++;
	return true;
}

static bool document(struct walk *w)
{
	bool open;

	blanks(w);
	if (!value(w, &open))
		return false;
	while (w->depth) {
		bool obj = w->object[w->depth - 1];
		char end = obj ? '}' : ']';

		blanks(w);
		if (open) {
			/* just opened: empty, or its first value */
			if (w->p < w->end && *w->p == end) {
				(void)close_level(w);
				open = false;
				continue;
			}
		} else {
			if (w->p >= w->end)
				return bad(w, "an object or array does not end");
			if (*w->p == end) {
				(void)close_level(w);
				continue;
			}
			if (*w->p != ',')
				return bad(w, "no comma between values");
			w->p++;
			blanks(w);
		}
		if (obj && !member(w))
			return false;
		if (!value(w, &open))
			return false;
	}
	blanks(w);
	return w->p == w->end || bad(w, "text after the value");
}

int json_check(struct span doc, const char **out_why, size_t *out_at)
{
	/* too large for a stack frame; the program has one thread that parses */
	static struct walk w;

	w.p = w.start = doc.n ? doc.p : "";
	w.end = w.p + doc.n;
	w.why = NULL;
	w.code = 0;
	w.nkeys = w.depth = 0;
	if (!document(&w)) {
		if (out_why)
			*out_why = w.why;
		if (out_at)
			*out_at = (size_t)(w.p - w.start);
		return w.code;
	}
	return 0;
}

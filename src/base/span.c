/* SPDX-License-Identifier: Apache-2.0 */
/* Spans, strict UTF-8, strict numbers, names. Pure. */
#include "base/base.h"

#include <string.h>

struct span span_str(const char *s)
{
	return (struct span){ s ? s : "", s ? strlen(s) : 0 };
}

bool span_eq(struct span a, struct span b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

bool span_eq_str(struct span a, const char *s)
{
	return span_eq(a, span_str(s));
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

bool span_eq_nocase(struct span a, struct span b)
{
	if (a.n != b.n)
		return false;
	for (size_t i = 0; i < a.n; i++)
		if (lower(a.p[i]) != lower(b.p[i]))
			return false;
	return true;
}

bool span_starts(struct span s, struct span prefix)
{
	return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

bool span_cut(struct span *s, char c, struct span *out_before)
{
	const char *at = s->n ? memchr(s->p, c, s->n) : NULL;

	if (!at)
		return false;
	size_t k = (size_t)(at - s->p);

	*out_before = (struct span){ s->p, k };
	*s = (struct span){ at + 1, s->n - k - 1 };
	return true;
}

struct span span_trim(struct span s)
{
	while (s.n && (s.p[0] == ' ' || s.p[0] == '\t')) {
		s.p++;
		s.n--;
	}
	while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

int span_copy(struct span s, char *buf, size_t buf_size)
{
	if (s.n >= buf_size)
		return -ENAMETOOLONG;
	if (s.n && memchr(s.p, '\0', s.n))
		return -EINVAL;
	if (s.n)
		memcpy(buf, s.p, s.n);
	buf[s.n] = '\0';
	return 0;
}

/* Length of the valid UTF-8 sequence at p[0..n), 0 when there is none. */
static size_t utf8_len(const unsigned char *p, size_t n)
{
	if (p[0] < 0x80)
		return 1;
	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		return n >= 2 && (p[1] & 0xc0) == 0x80 ? 2 : 0;
	if (p[0] >= 0xe0 && p[0] <= 0xef) {
		if (n < 3 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80)
			return 0;
		if (p[0] == 0xe0 && p[1] < 0xa0)
			return 0;
		if (p[0] == 0xed && p[1] > 0x9f)
			return 0;
		return 3;
	}
	if (p[0] >= 0xf0 && p[0] <= 0xf4) {
		if (n < 4 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80 ||
		    (p[3] & 0xc0) != 0x80)
			return 0;
		if (p[0] == 0xf0 && p[1] < 0x90)
			return 0;
		if (p[0] == 0xf4 && p[1] > 0x8f)
			return 0;
		return 4;
	}
	return 0;
}

bool utf8_ok(struct span s)
{
	for (size_t i = 0; i < s.n;) {
		size_t k = utf8_len((const unsigned char *)s.p + i, s.n - i);

		if (k == 0)
			return false;
		i += k;
	}
	return true;
}

void utf8_scrub(struct span s, char *buf, size_t buf_size)
{
	size_t o = 0;

	if (buf_size == 0)
		return;
	for (size_t i = 0; i < s.n;) {
		size_t k = utf8_len((const unsigned char *)s.p + i, s.n - i);
		unsigned char c = (unsigned char)s.p[i];

		if (k == 0 || c < 0x20 || c == 0x7f) {
			if (o + 1 >= buf_size)
				break;
			buf[o++] = '?';
			i += k ? k : 1;
			continue;
		}
		if (o + k >= buf_size)
			break;
		memcpy(buf + o, s.p + i, k);
		o += k;
		i += k;
	}
	buf[o] = '\0';
}

int num_parse_u64(struct span s, uint64_t max, uint64_t *out)
{
	uint64_t v = 0;

	if (s.n == 0 || s.n > 20 || (s.n > 1 && s.p[0] == '0'))
		return -EINVAL;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return -EINVAL;
		if (__builtin_mul_overflow(v, (uint64_t)10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(s.p[i] - '0'), &v))
			return -ERANGE;
	}
	if (v > max)
		return -ERANGE;
	*out = v;
	return 0;
}

int num_parse_u32(struct span s, uint32_t max, uint32_t *out)
{
	uint64_t v;
	int r = num_parse_u64(s, max, &v);

	if (r == 0)
		*out = (uint32_t)v;
	return r;
}

int num_parse_i64(struct span s, int64_t *out)
{
	bool neg = s.n && s.p[0] == '-';
	uint64_t v;
	int r;

	if (neg) {
		s.p++;
		s.n--;
	}
	r = num_parse_u64(s, neg ? (uint64_t)INT64_MAX + 1 : (uint64_t)INT64_MAX, &v);
	if (r)
		return r;
	*out = neg ? (int64_t)(0 - v) : (int64_t)v;
	return 0;
}

static bool alnum_lower(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool tenant_id_ok(struct span s)
{
	if (s.n < 1 || s.n > TENANT_ID_MAX || !alnum_lower(s.p[0]) ||
	    !alnum_lower(s.p[s.n - 1]))
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (!alnum_lower(s.p[i]) && s.p[i] != '-')
			return false;
	return true;
}

bool name_ok(struct span s)
{
	if (s.n < 1 || s.n > 64)
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (!alnum_lower(s.p[i]) && s.p[i] != '-' && s.p[i] != '_')
			return false;
	return true;
}

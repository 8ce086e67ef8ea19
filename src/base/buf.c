/* SPDX-License-Identifier: Apache-2.0 */
/* A growing buffer that is born with a maximum. Failure is sticky, so that a
 * row of appends needs one check at its end. */
#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_init(struct buf *b, size_t max)
{
	*b = (struct buf){ .max = max };
}

void buf_done(struct buf *b)
{
	free(b->p);
	*b = (struct buf){ .max = b->max };
}

void buf_wipe_done(struct buf *b)
{
	if (b->p)
		explicit_bzero(b->p, b->cap);
	buf_done(b);
}

int buf_reserve(struct buf *b, size_t n)
{
	size_t want, cap;

	if (__builtin_add_overflow(b->n, n, &want) || want > b->max) {
		b->failed = true;
		return -E2BIG;
	}
	if (want <= b->cap)
		return 0;
	cap = b->cap ? b->cap : 256;
	while (cap < want)
		cap *= 2;
	if (cap > b->max)
		cap = b->max;
	char *p = realloc(b->p, cap);

	if (!p) {
		b->failed = true;
		return -ENOMEM;
	}
	b->p = p;
	b->cap = cap;
	return 0;
}

int buf_add(struct buf *b, const void *p, size_t n)
{
	int r = buf_reserve(b, n);

	if (r == 0 && n) {
		memcpy(b->p + b->n, p, n);
		b->n += n;
	}
	return r;
}

int buf_add_span(struct buf *b, struct span s)
{
	return buf_add(b, s.p, s.n);
}

int buf_add_str(struct buf *b, const char *s)
{
	return buf_add(b, s, strlen(s));
}

int buf_add_ch(struct buf *b, char c)
{
	return buf_add(b, &c, 1);
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	char small[512];

	va_start(ap, fmt);
	int n = vsnprintf(small, sizeof small, fmt, ap);
	va_end(ap);
	if (n < 0) {
		b->failed = true;
		return -EINVAL;
	}
	if ((size_t)n < sizeof small)
		return buf_add(b, small, (size_t)n);

	int r = buf_reserve(b, (size_t)n + 1);

	if (r)
		return r;
	va_start(ap, fmt);
	(void)vsnprintf(b->p + b->n, (size_t)n + 1, fmt, ap); /* size known */
	va_end(ap);
	b->n += (size_t)n;
	return 0;
}

int buf_add_json_str(struct buf *b, struct span s)
{
	(void)buf_add_ch(b, '"');	/* failure is sticky */
	for (size_t i = 0; i < s.n;) {
		unsigned char c = (unsigned char)s.p[i];
		size_t k = 1;

		if (c == '"' || c == '\\') {
			char e[2] = { '\\', (char)c };
			(void)buf_add(b, e, 2);
		} else if (c == '\n') {
			(void)buf_add(b, "\\n", 2);
		} else if (c == '\r') {
			(void)buf_add(b, "\\r", 2);
		} else if (c == '\t') {
			(void)buf_add(b, "\\t", 2);
		} else if (c < 0x20 || c == 0x7f) {
			(void)buf_printf(b, "\\u%04x", c);
		} else if (c < 0x80) {
			size_t j = i;

			while (j < s.n && (unsigned char)s.p[j] >= 0x20 &&
			       (unsigned char)s.p[j] < 0x7f && s.p[j] != '"' && s.p[j] != '\\')
				j++;
			k = j - i;
			(void)buf_add(b, s.p + i, k);
		} else {
			/* one sequence of 2..4 bytes, or one bad byte */
			for (k = 2; k <= 4 && k <= s.n - i; k++)
				if (utf8_ok((struct span){ s.p + i, k }))
					break;
			if (k > 4 || k > s.n - i) {
				(void)buf_add_str(b, "\\ufffd");
				k = 1;
			} else {
				(void)buf_add(b, s.p + i, k);
			}
		}
		i += k;
	}
	(void)buf_add_ch(b, '"');
	return b->failed ? -E2BIG : 0;
}

void buf_consume(struct buf *b, size_t n)
{
	if (n >= b->n) {
		b->n = 0;
		return;
	}
	memmove(b->p, b->p + n, b->n - n);
	b->n -= n;
}

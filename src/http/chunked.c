/* SPDX-License-Identifier: Apache-2.0 */
#include "http/http.h"

#include "http/table.h"

#define EXT_MAX 256	/* bytes of one chunk extension */
#define TRAILERS_MAX 8192

enum { SIZE, EXT, SIZE_LF, DATA, DATA_CR, DATA_LF, TRAILER, TRAILER_LINE, TRAILER_LF, END_LF, END };

void http_chunked_init(struct http_chunked *c, bool strict)
{
	*c = (struct http_chunked){ .state = SIZE, .strict = strict };
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* One byte outside of data. Return: 0 or -EBADMSG */
static int step(struct http_chunked *c, char b)
{
	bool value = (http_class[(uint8_t)b] & HTTP_C_VALUE) != 0;

	switch (c->state) {
	case SIZE:
		if (hex_value(b) >= 0) {
			if (++c->digits > 15)
				return -EBADMSG;
			c->left = c->left * 16 + (uint64_t)hex_value(b);
			return 0;
		}
		if (c->digits == 0)
			return -EBADMSG;
		if (b == '\r')
			c->state = SIZE_LF;
		else if (b == ';' && !c->strict)
			c->state = EXT;
		else
			return -EBADMSG;
		return 0;
	case EXT:
		if (b == '\r')
			c->state = SIZE_LF;
		else if (!value || ++c->line > EXT_MAX)
			return -EBADMSG;
		return 0;
	case SIZE_LF:
		c->state = c->left ? DATA : TRAILER;
		c->digits = 0;
		c->line = 0;
		return b == '\n' ? 0 : -EBADMSG;
	case DATA_CR:
		c->state = DATA_LF;
		return b == '\r' ? 0 : -EBADMSG;
	case DATA_LF:
		c->state = SIZE;
		return b == '\n' ? 0 : -EBADMSG;
	case TRAILER:		/* start of a trailer line */
		if (b == '\r') {
			c->state = END_LF;
			return 0;
		}
		c->state = TRAILER_LINE;
		return (http_class[(uint8_t)b] & HTTP_C_TOKEN) ? 0 : -EBADMSG;
	case TRAILER_LINE:
		if (b == '\r')
			c->state = TRAILER_LF;
		else if (!value || ++c->line > TRAILERS_MAX)
			return -EBADMSG;
		return 0;
	case TRAILER_LF:
		c->state = TRAILER;
		return b == '\n' && ++c->line <= TRAILERS_MAX ? 0 : -EBADMSG;
	case END_LF:
		c->state = END;
		return b == '\n' ? 0 : -EBADMSG;
	default:
		return -EBADMSG;
	}
}

int http_chunked_next(struct http_chunked *c, struct span *in, struct span *out)
{
	while (in->n && c->state != END) {
		if (c->state == DATA) {
			size_t n = in->n < c->left ? in->n : (size_t)c->left;

			*out = (struct span){ in->p, n };
			in->p += n;
			in->n -= n;
			c->left -= n;
			if (c->left == 0)
				c->state = DATA_CR;
			return HTTP_CHUNK_PIECE;
		}
		if (step(c, in->p[0]))
			return -EBADMSG;
		in->p++;
		in->n--;
	}
	return c->state == END ? HTTP_CHUNK_END : HTTP_CHUNK_MORE;
}

size_t http_chunk_line(size_t n, char *buf)
{
	static const char digits[] = "0123456789abcdef";
	char tmp[16];
	size_t k = 0, i = 0;

	do {
		tmp[k++] = digits[n & 15];
		n >>= 4;
	} while (n);
	while (k)
		buf[i++] = tmp[--k];
	buf[i++] = '\r';
	buf[i++] = '\n';
	return i;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http - strict HTTP/1.1 heads and the chunked coding, both directions.
 * Pure: bytes in, spans out; no sockets, no allocation.
 *
 * How this works: a head is looked for with http_head_end(), which may be
 * called again and again as bytes arrive and remembers how far it looked;
 * once the head is whole it is parsed in one go. Whatever two parsers could
 * read differently is refused: bare LF or CR, folding, blanks before the
 * colon, Content-Length beside Transfer-Encoding, either of them twice,
 * anything but exactly "chunked", signs and blanks in numbers (RFC 9112, 3 to 7).
 */
#ifndef CL_HTTP_H
#define CL_HTTP_H

#include "base/base.h"

#define HTTP_HEADERS_MAX 64

struct http_header { struct span name, value; };

enum http_body {
	HTTP_NO_BODY,
	HTTP_LENGTH,	/* exactly .length bytes follow */
	HTTP_CHUNKED,
	HTTP_CLOSE	/* responses only: until the peer closes */
};

struct http_head {
	struct span method, target;	/* requests */
	int status;			/* responses: 100..599 */
	int minor;			/* HTTP/1.minor: requests always 1, responses 0 or 1 */
	struct http_header h[HTTP_HEADERS_MAX];
	size_t n;
	enum http_body body;
	uint64_t length;
	bool close;		/* the peer will not take another message */
	bool upgrade;		/* Connection: upgrade was said */
	bool expect;		/* Expect: 100-continue */
};

/*
 * http_head_end - bytes up to and with the empty line
 * @looked: in and out, 0 for a new head: where to go on looking
 * Return: length of the head; 0 = not whole yet; -EBADMSG bare LF;
 * -E2BIG not whole within @max bytes.
 */
ssize_t http_head_end(struct span in, size_t *looked, size_t max);

/*
 * http_request / http_response - @head is exactly what http_head_end() found.
 * Spans in @out point into @head.
 * Return: 0; negative HTTP status for a request (-400, -431, -501, -505);
 * -EBADMSG for a response; @why (static words) is set on failure.
 */
int http_request(struct span head, struct http_head *out, const char **why);
/* @to_head: this answers a HEAD request */
int http_response(struct span head, bool to_head, struct http_head *out, const char **why);

/* first header with that name (no case), or p NULL */
struct span http_get(const struct http_head *h, const char *name);
size_t http_count(const struct http_head *h, const char *name);
/* is @token one of the comma-separated words of @list? (no case) */
bool http_list_has(struct span list, const char *token);

bool http_token_ok(struct span s);	/* 1.. token characters */
bool http_value_ok(struct span s);	/* a field value: no CR, LF, NUL or other control */
const char *http_reason(int status);

/* ---- chunked ------------------------------------------------------------- */

struct http_chunked {
	int state;
	bool strict;		/* requests: no chunk extensions */
	unsigned digits;
	size_t line;		/* bytes of the current line or of all trailers */
	uint64_t left;
};
enum { HTTP_CHUNK_MORE, HTTP_CHUNK_PIECE, HTTP_CHUNK_END };

void http_chunked_init(struct http_chunked *c, bool strict);
/*
 * http_chunked_next - take bytes from the front of *in
 * Return: HTTP_CHUNK_MORE *in is used up; HTTP_CHUNK_PIECE *out is data (into
 * *in); HTTP_CHUNK_END the body is over, *in is what follows; -EBADMSG.
 * Trailers are checked for form, bounded and dropped.
 */
int http_chunked_next(struct http_chunked *c, struct span *in, struct span *out);
/* "1f4\r\n" of @n; @buf >= 20 bytes. Return: length */
size_t http_chunk_line(size_t n, char *buf);

/* ---- paths ---------------------------------------------------------------- */

/*
 * http_path_strict - a path that every server reads alike: begins with '/', no
 * empty, "." or ".." segment, no encoded slash, backslash, dot, percent, NUL or
 * control, no encoded unreserved character, hex digits upper or lower.
 * A trailing '/' is allowed. Return: NULL, or static words what is wrong.
 */
const char *http_path_strict(struct span path);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "http/http.h"

#include "http/table.h"

#include <string.h>

const uint8_t http_class[256] = {
#define T HTTP_C_TOKEN | HTTP_C_VALUE
#define V HTTP_C_VALUE
	['!'] = T | HTTP_C_TARGET, ['#'] = T, ['$'] = T | HTTP_C_TARGET, ['%'] = T | HTTP_C_TARGET,
	['&'] = T | HTTP_C_TARGET, ['\''] = T | HTTP_C_TARGET, ['*'] = T | HTTP_C_TARGET,
	['+'] = T | HTTP_C_TARGET, ['-'] = T | HTTP_C_TARGET, ['.'] = T | HTTP_C_TARGET,
	['^'] = T | HTTP_C_TARGET, ['_'] = T | HTTP_C_TARGET, ['`'] = T, ['|'] = T | HTTP_C_TARGET,
	['~'] = T | HTTP_C_TARGET,
	['0' ... '9'] = T | HTTP_C_TARGET, ['a' ... 'z'] = T | HTTP_C_TARGET,
	['A' ... 'Z'] = T | HTTP_C_TARGET,
	['\t'] = V, [' '] = V, ['"'] = V, ['<'] = V, ['>'] = V, ['\\'] = V,
	['('] = V | HTTP_C_TARGET, [')'] = V | HTTP_C_TARGET, [','] = V | HTTP_C_TARGET,
	['/'] = V | HTTP_C_TARGET, [':'] = V | HTTP_C_TARGET, [';'] = V | HTTP_C_TARGET,
	['='] = V | HTTP_C_TARGET, ['?'] = V | HTTP_C_TARGET, ['@'] = V | HTTP_C_TARGET,
	['['] = V | HTTP_C_TARGET, [']'] = V | HTTP_C_TARGET, ['{'] = V | HTTP_C_TARGET,
	['}'] = V | HTTP_C_TARGET,
	[0x80 ... 0xff] = V,
#undef T
#undef V
};

static bool all_class(struct span s, uint8_t bit)
{
	for (size_t i = 0; i < s.n; i++)
		if (!(http_class[(uint8_t)s.p[i]] & bit))
			return false;
	return true;
}

bool http_token_ok(struct span s)
{
	return s.n > 0 && all_class(s, HTTP_C_TOKEN);
}

bool http_value_ok(struct span s)
{
	return all_class(s, HTTP_C_VALUE);
}

ssize_t http_head_end(struct span in, size_t *looked, size_t max)
{
	size_t at = *looked;
	size_t n = in.n < max ? in.n : max;

	while (at < n) {
		const char *lf = memchr(in.p + at, '\n', n - at);

		if (!lf)
			break;
		size_t i = (size_t)(lf - in.p);

		if (i == 0 || in.p[i - 1] != '\r')
			return -EBADMSG;
		if (i == 1)
			return -EBADMSG;	/* an empty line where a message should begin */
		if (i >= 3 && in.p[i - 2] == '\n')
			return (ssize_t)(i + 1);
		at = i + 1;
	}
	*looked = n;
	return in.n >= max ? -E2BIG : 0;
}

/* take one line (without its CRLF) from the front of @s; the head ends every line with CRLF */
static struct span next_line(struct span *s)
{
	const char *lf = s->n ? memchr(s->p, '\n', s->n) : NULL;
	size_t i = lf ? (size_t)(lf - s->p) : s->n;
	struct span line = { s->p, i && lf ? i - 1 : i };

	s->p += lf ? i + 1 : i;
	s->n -= lf ? i + 1 : i;
	return line;
}

static bool name_is(struct span name, const char *lower)
{
	for (size_t i = 0; i < name.n; i++) {
		char c = name.p[i];

		if (c >= 'A' && c <= 'Z')
			c = (char)(c | 0x20);
		if (lower[i] == '\0' || c != lower[i])
			return false;
	}
	return lower[name.n] == '\0';
}

bool http_list_has(struct span list, const char *token)
{
	while (list.n) {
		struct span word;

		if (!span_cut(&list, ',', &word)) {
			word = list;
			list.n = 0;
		}
		if (name_is(span_trim(word), token))
			return true;
	}
	return false;
}

struct framing {
	bool has_length, has_te, te_chunked, keep, close;
	uint64_t length;
	size_t hosts;
};

/* What a field means for framing. Return: 0 or -400, -501 */
static int frame_field(struct http_head *o, struct framing *f, struct span name, struct span value,
		       const char **why)
{
	switch (name.n) {
	case 4:
		if (name_is(name, "host"))
			f->hosts++;
		break;
	case 6:
		if (name_is(name, "expect")) {
			if (!name_is(value, "100-continue")) {
				*why = "unknown expectation";
				return -400;
			}
			o->expect = true;
		}
		break;
	case 10:
		if (name_is(name, "connection")) {
			f->close = f->close || http_list_has(value, "close");
			f->keep = f->keep || http_list_has(value, "keep-alive");
			o->upgrade = o->upgrade || http_list_has(value, "upgrade");
		}
		break;
	case 14:
		if (name_is(name, "content-length")) {
			if (f->has_length) {
				*why = "Content-Length more than once";
				return -400;
			}
			if (num_parse_u64(value, INT64_MAX, &f->length)) {
				*why = "Content-Length is not a plain number";
				return -400;
			}
			f->has_length = true;
		}
		break;
	case 17:
		if (name_is(name, "transfer-encoding")) {
			if (f->has_te) {
				*why = "Transfer-Encoding more than once";
				return -400;
			}
			f->has_te = true;
			f->te_chunked = name_is(value, "chunked");
			if (!f->te_chunked) {
				*why = "Transfer-Encoding other than chunked";
				return -501;
			}
		}
		break;
	default:
		break;
	}
	return 0;
}

static int fields(struct span s, struct http_head *o, struct framing *f, const char **why)
{
	while (s.n) {
		struct span line = next_line(&s), name;
		size_t i = 0;

		if (line.n == 0)
			break;		/* the empty line: http_head_end saw to it that it is last */
		while (i < line.n && (http_class[(uint8_t)line.p[i]] & HTTP_C_TOKEN))
			i++;
		if (i == 0 || i == line.n || line.p[i] != ':') {
			*why = line.p[0] == ' ' || line.p[0] == '\t' ? "folded header line"
								     : "malformed header line";
			return -400;
		}
		name = (struct span){ line.p, i };
		struct span value = span_trim((struct span){ line.p + i + 1, line.n - i - 1 });

		if (!http_value_ok(value)) {
			*why = "control character in a header";
			return -400;
		}
		if (o->n == HTTP_HEADERS_MAX) {
			*why = "too many header lines";
			return -431;
		}
		o->h[o->n++] = (struct http_header){ name, value };
		int r = frame_field(o, f, name, value, why);

		if (r)
			return r;
	}
	if (f->has_te && f->has_length) {
		*why = "Content-Length and Transfer-Encoding together";
		return -400;
	}
	return 0;
}

static bool hex_digit(char c)
{
	return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

static bool target_ok(struct span method, struct span t)
{
	bool connect = span_eq_str(method, "CONNECT");

	if (t.n == 0 || !all_class(t, HTTP_C_TARGET))
		return false;
	for (size_t i = 0; i < t.n; i++)
		if (t.p[i] == '%') {
			if (i + 2 >= t.n || !hex_digit(t.p[i + 1]) || !hex_digit(t.p[i + 2]))
				return false;
			i += 2;
		}
	if (connect)	/* authority-form: host:port */
		return !memchr(t.p, '/', t.n) && !memchr(t.p, '?', t.n) && !memchr(t.p, '@', t.n) &&
		       memchr(t.p, ':', t.n);
	if (t.n == 1 && t.p[0] == '*')
		return span_eq_str(method, "OPTIONS");
	return t.p[0] == '/';
}

int http_request(struct span head, struct http_head *o, const char **why)
{
	struct span line = next_line(&head), method, target;
	struct framing f = { 0 };

	*o = (struct http_head){ .minor = 1 };
	*why = "malformed request line";
	if (!span_cut(&line, ' ', &method) || !span_cut(&line, ' ', &target))
		return -400;
	if (method.n == 0 || method.n > 16)
		return -400;
	for (size_t i = 0; i < method.n; i++)
		if (method.p[i] < 'A' || method.p[i] > 'Z')
			return -400;
	if (!span_eq_str(line, "HTTP/1.1")) {
		if (line.n == 8 && memcmp(line.p, "HTTP/", 5) == 0 && line.p[6] == '.') {
			*why = "only HTTP/1.1 is spoken here";
			return -505;
		}
		return -400;
	}
	if (!target_ok(method, target)) {
		*why = "request target not allowed";
		return -400;
	}
	o->method = method;
	o->target = target;
	int r = fields(head, o, &f, why);

	if (r)
		return r;
	if (f.hosts != 1) {
		*why = f.hosts ? "Host more than once" : "Host is missing";
		return -400;
	}
	o->close = f.close;
	if (f.has_te) {
		o->body = HTTP_CHUNKED;
	} else if (f.has_length && f.length > 0) {
		o->body = HTTP_LENGTH;
		o->length = f.length;
	}
	return 0;
}

int http_response(struct span head, bool to_head, struct http_head *o, const char **why)
{
	struct span line = next_line(&head);
	struct framing f = { 0 };

	*o = (struct http_head){ .minor = 1 };
	*why = "malformed status line";
	if (line.n < 12 || memcmp(line.p, "HTTP/1.", 7) != 0 ||
	    (line.p[7] != '0' && line.p[7] != '1') || line.p[8] != ' ')
		return -EBADMSG;
	o->minor = line.p[7] - '0';
	for (int i = 9; i < 12; i++) {
		if (line.p[i] < '0' || line.p[i] > '9')
			return -EBADMSG;
		o->status = o->status * 10 + (line.p[i] - '0');
	}
	if (o->status < 100 || o->status > 599 || (line.n > 12 && line.p[12] != ' ') ||
	    !http_value_ok((struct span){ line.p + 12, line.n - 12 }))
		return -EBADMSG;
	if (fields(head, o, &f, why))
		return -EBADMSG;
	if (o->minor == 0 && f.has_te) {
		*why = "Transfer-Encoding in HTTP/1.0";
		return -EBADMSG;
	}
	o->close = f.close || (o->minor == 0 && !f.keep);
	if (o->status < 200 || o->status == 204) {
		if (f.has_te || (f.has_length && f.length > 0)) {
			*why = "a body where the status allows none";
			return -EBADMSG;
		}
		return 0;
	}
	if (to_head || o->status == 304)
		return 0;
	if (f.has_te) {
		o->body = HTTP_CHUNKED;
	} else if (f.has_length) {
		o->body = f.length ? HTTP_LENGTH : HTTP_NO_BODY;
		o->length = f.length;
	} else {
		o->body = HTTP_CLOSE;
		o->close = true;
	}
	return 0;
}

struct span http_get(const struct http_head *h, const char *name)
{
	struct span want = span_str(name);

	for (size_t i = 0; i < h->n; i++)
		if (span_eq_nocase(h->h[i].name, want))
			return h->h[i].value;
	return (struct span){ NULL, 0 };
}

size_t http_count(const struct http_head *h, const char *name)
{
	struct span want = span_str(name);
	size_t k = 0;

	for (size_t i = 0; i < h->n; i++)
		k += span_eq_nocase(h->h[i].name, want);
	return k;
}

const char *http_reason(int status)
{
	static const struct { int status; const char *words; } t[] = {
		{ 100, "Continue" }, { 101, "Switching Protocols" }, { 200, "OK" },
		{ 201, "Created" }, { 202, "Accepted" }, { 204, "No Content" },
		{ 206, "Partial Content" }, { 301, "Moved Permanently" }, { 302, "Found" },
		{ 303, "See Other" }, { 304, "Not Modified" }, { 307, "Temporary Redirect" },
		{ 308, "Permanent Redirect" }, { 400, "Bad Request" }, { 401, "Unauthorized" },
		{ 402, "Payment Required" }, { 403, "Forbidden" }, { 404, "Not Found" },
		{ 405, "Method Not Allowed" }, { 408, "Request Timeout" }, { 409, "Conflict" },
		{ 411, "Length Required" }, { 413, "Content Too Large" }, { 414, "URI Too Long" },
		{ 415, "Unsupported Media Type" }, { 416, "Range Not Satisfiable" },
		{ 417, "Expectation Failed" }, { 421, "Misdirected Request" },
		{ 422, "Unprocessable Content" }, { 426, "Upgrade Required" },
		{ 429, "Too Many Requests" }, { 431, "Request Header Fields Too Large" },
		{ 500, "Internal Server Error" }, { 501, "Not Implemented" },
		{ 502, "Bad Gateway" }, { 503, "Service Unavailable" },
		{ 504, "Gateway Timeout" }, { 505, "HTTP Version Not Supported" },
		{ 507, "Insufficient Storage" }, { 529, "Overloaded" },
	};

	for (size_t i = 0; i < CL_ARRAY_LEN(t); i++)
		if (t[i].status == status)
			return t[i].words;
	return status < 400 ? "OK" : "Error";
}

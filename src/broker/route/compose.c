/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The request as the upstream gets it: written anew, never the client's own
 * framing; of its headers only those of a short list. The credential is put
 * at the one declared place and nowhere else.
 */
#include "broker/route/route_impl.h"

#include "broker/vault.h"

#include <sodium.h>
#include <string.h>

static bool in_list(struct span name, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (span_eq_nocase(name, span_str(list[i])))
			return true;
	return false;
}

static bool forwarded(const struct route_doc *d, struct span name)
{
	static const char *const always[] = { "accept", "content-type", "user-agent", "idempotency-key",
					      "accept-language", "range", "if-none-match" };
	static const char *const openai[] = { "openai-beta", "http-referer", "x-title" };
	static const char *const anthropic[] = { "anthropic-version", "anthropic-beta" };

	if (in_list(name, always, CL_ARRAY_LEN(always)))
		return true;
	if (d->kind == ROUTE_OPENAI && in_list(name, openai, CL_ARRAY_LEN(openai)))
		return true;
	if (d->kind == ROUTE_ANTHROPIC && in_list(name, anthropic, CL_ARRAY_LEN(anthropic)))
		return true;
	for (size_t i = 0; i < d->nforward; i++)
		if (span_eq_nocase(name, span_str(d->forward[i])))
			return true;
	return false;
}

/* is the header among the route's own constant ones? */
static bool constant(const struct route_doc *d, struct span name)
{
	struct span lines = span_str(d->headers), line, key;

	while (span_cut(&lines, '\n', &line))
		if (span_cut(&line, ':', &key) && span_eq_nocase(key, name))
			return true;
	return false;
}

/* "https://x/v1" and "/v1/…" both say v1: say it once */
static struct span join(const struct route_doc *d, struct span path)
{
	struct span p = span_str(d->prefix);

	if (p.n >= 3 && memcmp(p.p + p.n - 3, "/v1", 3) == 0 && span_starts(path, SPAN("/v1/")))
		path = (struct span){ path.p + 3, path.n - 3 };
	return path;
}

static void add_percent(struct buf *out, struct span s)
{
	static const char hex[] = "0123456789ABCDEF";

	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
		    c == '.' || c == '_' || c == '~') {
			buf_add_ch(out, (char)c);
		} else {
			buf_add_ch(out, '%');
			buf_add_ch(out, hex[c >> 4]);
			buf_add_ch(out, hex[c & 15]);
		}
	}
}

/* a path segment as Telegram wants it: "123:abc" stays as it is; '/', '?' and '#' cannot be */
static int add_segment(struct buf *out, struct span s)
{
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c <= 0x20 || c >= 0x7f || c == '/' || c == '?' || c == '#' || c == '%' || c == '\\')
			return -EINVAL;
	}
	return buf_add_span(out, s);
}

static int add_basic(struct buf *out, const char *user, struct span secret)
{
	size_t n = strlen(user) + 1 + secret.n, size = sodium_base64_encoded_len(n, sodium_base64_VARIANT_ORIGINAL);
	char *plain = sodium_malloc(n), *text = sodium_malloc(size);
	int r = -ENOMEM;

	if (plain && text) {
		memcpy(plain, user, strlen(user));
		plain[strlen(user)] = ':';
		memcpy(plain + strlen(user) + 1, secret.p, secret.n);
		(void)sodium_bin2base64(text, size, (uint8_t *)plain, n, sodium_base64_VARIANT_ORIGINAL);
		buf_add_str(out, "Authorization: Basic ");
		buf_add_str(out, text);
		r = buf_add_str(out, "\r\n");
	}
	sodium_free(plain);
	sodium_free(text);
	return r;
}

static void add_host(struct buf *out, const struct up_target *t)
{
	bool v6 = strchr(t->host, ':') != NULL;

	buf_printf(out, "Host: %s%s%s", v6 ? "[" : "", t->host, v6 ? "]" : "");
	if (t->port != (t->tls ? 443 : 80))
		buf_printf(out, ":%u", t->port);
	buf_add_str(out, "\r\n");
}

int compose(struct relay *y, struct buf *out, struct cl_err *err)
{
	const struct route_doc *d = y->doc;
	const struct httpd_req *r = y->r;
	struct span secret = d->secret[0] ? vault_get(y->t->b->vault, d->secret) : (struct span){ NULL, 0 };

	if (d->secret[0] && !secret.p)
		return cl_fail(err, ENOKEY, "the secret \"%s\" is not set", d->secret);
	/* one piece from the start: growing would leave copies of the credential behind */
	if (buf_reserve(out, 16384 + r->target.n + secret.n * 4))
		return cl_fail(err, ENOMEM, "request");
	buf_add_span(out, r->method);
	buf_add_ch(out, ' ');
	buf_add_str(out, d->prefix);
	if (d->inject == INJECT_PATH) {
		buf_add_str(out, d->inject_prefix);
		if (add_segment(out, secret))
			return cl_fail(err, EINVAL, "the secret \"%s\" cannot stand in a path", d->secret);
	}
	buf_add_span(out, join(d, y->path));
	if (r->query.n) {
		buf_add_ch(out, '?');
		buf_add_span(out, r->query);
	}
	if (d->inject == INJECT_QUERY) {
		buf_add_ch(out, r->query.n ? '&' : '?');
		buf_add_str(out, d->inject_name);
		buf_add_ch(out, '=');
		add_percent(out, secret);
	}
	buf_add_str(out, " HTTP/1.1\r\n");
	add_host(out, &d->target);
	if (d->inject == INJECT_HEADER) {
		buf_add_str(out, d->inject_name);
		buf_add_str(out, ": ");
		buf_add_str(out, d->inject_prefix);
		buf_add_span(out, secret);
		buf_add_str(out, "\r\n");
	} else if (d->inject == INJECT_BASIC && add_basic(out, d->inject_name, secret)) {
		return cl_fail(err, ENOMEM, "request");
	}
	buf_add_str(out, d->headers);
	for (size_t i = 0; i < r->nheaders; i++) {
		struct span name = r->headers[i].name;

		if (!forwarded(d, name) || constant(d, name) ||
		    (d->inject == INJECT_HEADER && span_eq_nocase(name, span_str(d->inject_name))))
			continue;
		buf_add_span(out, name);
		buf_add_str(out, ": ");
		buf_add_span(out, r->headers[i].value);
		buf_add_str(out, "\r\n");
	}
	buf_add_str(out, "Accept-Encoding: identity\r\n");
	if (r->body.n || span_eq_str(r->method, "POST") || span_eq_str(r->method, "PUT") ||
	    span_eq_str(r->method, "PATCH"))
		buf_printf(out, "Content-Length: %zu\r\n", r->body.n);
	buf_add_str(out, "\r\n");
	return out->failed ? cl_fail(err, E2BIG, "the request head is too large") : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* sources: src/http/head.c src/http/chunked.c src/http/path.c src/base/span.c
 * A request in one piece and byte by byte must be the same; what is accepted must be unambiguous. */
#include "http/http.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static bool inside(struct span s, struct span whole)
{
	return s.n == 0 || (s.p >= whole.p && s.p + s.n <= whole.p + whole.n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = { (const char *)data, size };
	size_t looked = 0, lengths = 0;
	struct http_head h;
	const char *why = NULL;
	ssize_t end = http_head_end(in, &looked, 65536), step = 0;

	looked = 0;
	for (size_t n = 1; n <= size && step == 0; n++)
		step = http_head_end((struct span){ in.p, n }, &looked, 65536);
	must(step == end || (step < 0 && end < 0));
	if (end <= 0)
		return 0;
	in.n = (size_t)end;
	if (http_request(in, &h, &why)) {
		must(why != NULL);
		return 0;
	}
	must(inside(h.method, in) && inside(h.target, in) && h.n <= HTTP_HEADERS_MAX);
	for (size_t i = 0; i < h.n; i++) {
		must(inside(h.h[i].name, in) && inside(h.h[i].value, in));
		must(http_token_ok(h.h[i].name) && http_value_ok(h.h[i].value));
		lengths += span_eq_nocase(h.h[i].name, SPAN("content-length"));
	}
	must(lengths <= 1 && (h.body != HTTP_CHUNKED || lengths == 0));
	must(http_count(&h, "host") == 1);
	must(!memchr(in.p, '\0', in.n));
	(void)http_path_strict(h.target);
	return 0;
}

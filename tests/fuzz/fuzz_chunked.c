/* SPDX-License-Identifier: Apache-2.0 */
/* sources: src/http/chunked.c src/http/head.c src/base/span.c
 * Chunks in pieces of 1..16 bytes and in one piece must give the same data, end and verdict. */
#include "http/http.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int decode(const uint8_t *p, size_t n, size_t step, bool strict, char *out, size_t *out_n, size_t *used)
{
	struct http_chunked c;
	int r = HTTP_CHUNK_MORE;

	*out_n = *used = 0;
	http_chunked_init(&c, strict);
	while (*used < n && r == HTTP_CHUNK_MORE) {
		size_t m = n - *used < step ? n - *used : step;
		struct span in = { (const char *)p + *used, m }, piece;

		while ((r = http_chunked_next(&c, &in, &piece)) == HTTP_CHUNK_PIECE) {
			memcpy(out + *out_n, piece.p, piece.n);
			*out_n += piece.n;
		}
		*used += m - in.n;
		if (r == HTTP_CHUNK_MORE && in.n)
			abort();
	}
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char a[70000], b[70000];
	size_t an, bn, au, bu;

	if (size < 2 || size > 65536)
		return 0;
	bool strict = data[0] & 1;
	int ra = decode(data + 2, size - 2, size, strict, a, &an, &au);
	int rb = decode(data + 2, size - 2, 1 + data[1] % 16, strict, b, &bn, &bu);

	if (ra != rb || an != bn || memcmp(a, b, an) != 0 || (ra == HTTP_CHUNK_END && au != bu))
		abort();
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* sources: src/http/head.c src/http/chunked.c src/base/span.c
 * An upstream's answer: first byte says whether it answers HEAD. */
#include "http/http.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in;
	size_t looked = 0;
	struct http_head h;
	const char *why;

	if (size == 0)
		return 0;
	in = (struct span){ (const char *)data + 1, size - 1 };
	ssize_t end = http_head_end(in, &looked, 65536);

	if (end <= 0 || http_response((struct span){ in.p, (size_t)end }, data[0] & 1, &h, &why))
		return 0;
	if (h.status < 100 || h.status > 599 || ((data[0] & 1) && h.body != HTTP_NO_BODY) ||
	    (h.status < 200 && h.body != HTTP_NO_BODY) || (h.body == HTTP_CLOSE && !h.close))
		abort();
	return 0;
}

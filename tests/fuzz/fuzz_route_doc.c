/* SPDX-License-Identifier: Apache-2.0 */
/* sources: src/broker/route/doc.c src/broker/route/up.c src/broker/route/up_conn.c src/broker/route/up_tls.c src/broker/route/resolve.c src/http/head.c src/http/chunked.c src/http/path.c src/loop/loop.c src/base/span.c src/base/buf.c src/base/err.c src/base/file.c src/base/time.c src/base/log.c
 * libs: -ljansson -lssl -lcrypto -lpthread
 * A route document from the operator. */
#include "broker/route/doc.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *j = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
	struct route_doc *d;
	struct cl_err err = { 0 };
	bool other;

	if (!j)
		return 0;
	if (route_doc_new(&d, j, &err) == 0) {
		/* plain http never leaves the own machine or network */
		if (!d->target.tls && !d->target.allow_private)
			abort();
		if (d->inject != INJECT_NONE && !d->secret[0])
			abort();
		if (strpbrk(d->target.host, "/@?# \r\n") || strchr(d->inject_prefix, '\n'))
			abort();
		(void)route_doc_allows(d, SPAN("GET"), SPAN("/v1/models"), &other);
		route_doc_unref(d);
	} else if (err.code == 0) {
		abort();
	}
	json_decref(j);
	return 0;
}

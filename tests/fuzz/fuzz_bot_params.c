/* SPDX-License-Identifier: Apache-2.0 */
/* sources: src/broker/conv/params.c src/broker/conv/multipart.c src/broker/conv/methods.c src/base/span.c src/base/buf.c src/base/err.c
 * libs: -ljansson
 * The first byte chooses the method, the second the kind of body; whatever passes names no foreign chat. */
#include "broker/conv/params.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct span types[] = { SPAN("application/json"), SPAN("application/x-www-form-urlencoded"),
					     SPAN("multipart/form-data; boundary=b") };
	struct param_refusal why = { 0 };
	struct span body, none = { 0 };
	struct params p;
	size_t kind;
	char inner[64];

	if (size < 3)
		return 0;
	kind = data[1] % 4;
	body = (struct span){ (const char *)data + 2, size - 2 };
	if (params_read(&p, &methods[data[0] % nmethods], kind < 3 ? types[kind] : none, kind < 3 ? none : body,
			kind < 3 ? body : none, &why)) {
		if (why.code < 400 || why.code > 415 || !why.reason[0])
			abort();
		return 0;
	}
	for (size_t i = 0; i < p.n; i++) {
		const struct param *v = &p.list[i];

		if (v->field->kind == FK_DENY || (v->field->kind == FK_CHAT && !own_chat_ok(v->text)))
			abort();
		if (v->json && !json_ids_ok(v->json, inner, sizeof(inner)))
			abort();
		for (size_t k = 0; k < i; k++)
			if (p.list[k].field == v->field)
				abort();
	}
	params_done(&p);
	return 0;
}

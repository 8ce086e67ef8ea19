/* SPDX-License-Identifier: Apache-2.0 */
/* sources: src/broker/conv/entities.c src/base/span.c src/base/buf.c src/base/err.c
 * libs: -ljansson
 * Formatted text in any mode: the plain text stays valid, entities stay inside of it, links stay harmless. */
#include "broker/conv/entities.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(json_t *list, size_t units)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *e = json_array_get(list, i);
		json_int_t at = json_integer_value(json_object_get(e, "offset")), n = json_integer_value(json_object_get(e, "length"));
		const char *url = json_string_value(json_object_get(e, "url"));

		if (at < 0 || n <= 0 || (size_t)(at + n) > units)
			abort();
		if (url && strncasecmp(url, "http", 4) != 0 && strncasecmp(url, "mailto:", 7) != 0 && strncasecmp(url, "tel:", 4) != 0)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct span modes[] = { SPAN("HTML"), SPAN("MarkdownV2"), SPAN("Markdown"), SPAN("") };
	struct buf text, entities;
	struct span in;
	char why[160];

	if (size < 1)
		return 0;
	in = (struct span){ (const char *)data + 1, size - 1 };
	if (!utf8_ok(in))	/* the parameter reader lets nothing else pass */
		return 0;
	buf_init(&text, 1u << 20);
	buf_init(&entities, 1u << 20);
	if (entities_read(in, modes[data[0] % 4], NULL, &text, &entities, why, sizeof(why)) == 0) {
		json_t *list = entities.n ? json_loadb(entities.p, entities.n, JSON_REJECT_DUPLICATES, NULL) : json_array();

		if (!list || !utf8_ok(buf_span(&text)))
			abort();
		check(list, utf16_len(buf_span(&text)));
		json_decref(list);
	}
	buf_done(&text);
	buf_done(&entities);
	return 0;
}

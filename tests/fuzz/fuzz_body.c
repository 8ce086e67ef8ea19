/* SPDX-License-Identifier: Apache-2.0 */
/* sources: src/broker/route/body.c src/broker/route/usage.c src/json/check.c src/json/value.c src/base/span.c src/base/buf.c src/base/err.c tests/fuzz/oracle.c
 * libs: -ljansson
 * What our walk accepts, jansson must accept too, and the rules must hold up on it. */
#include "broker/route/body.h"
#include "broker/route/usage.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
bool oracle_accepts(const char *p, size_t n);	/* oracle.c: both have an enum json_type */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char model[] = "m", *values[] = { model };
	static const struct body_rule rules[] = {
		{ .at = "/model", .op = BODY_EQUALS, .values = values, .nvalues = 1 },
		{ .at = "/tools/*/type", .op = BODY_ONE_OF, .values = values, .nvalues = 1 },
		{ .at = "/max_tokens", .op = BODY_AT_MOST, .max = 100 },
		{ .at = "/a/b/0", .op = BODY_ABSENT },
	};
	struct span body = { (const char *)data, size };
	struct body_facts f;
	struct usage u;
	char why[256];

	usage_init(&u);
	for (size_t at = 0; at < size; at += 7)
		usage_next(&u, (struct span){ body.p + at, size - at < 7 ? size - at : 7 });
	if (body_check(body, why, sizeof why))
		return 0;
	if (!oracle_accepts(body.p, body.n))
		abort();
	body_facts(body, &f);
	(void)body_fetches(body, BODY_SHAPE_OPENAI, why, sizeof why);
	(void)body_fetches(body, BODY_SHAPE_ANTHROPIC, why, sizeof why);
	(void)body_rules(body, rules, CL_ARRAY_LEN(rules), why, sizeof why);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The other JSON parser, for fuzz_body. */
#include <jansson.h>
#include <stdbool.h>

bool oracle_accepts(const char *p, size_t n);

bool oracle_accepts(const char *p, size_t n)
{
	json_t *j = json_loadb(p, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL,
			       NULL);
	bool ok = j != NULL;

	json_decref(j);
	return ok;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* sources: src/broker/route/scrub.c src/base/span.c src/base/buf.c src/base/err.c src/base/time.c
 * libs: -lsodium
 * A stream cut anywhere: same length, same bytes as in one piece, no secret in it. */
#include "broker/route/scrub.h"

#include "broker/vault.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const secrets[] = { "aabaab", "abaabaaab", "sk-k3y/+=", "bbbbbbbbb" };

/* the vault of this test */
void vault_each(const struct vault *v, vault_fn *fn, void *ctx)
{
	(void)v;
	for (size_t i = 0; i < CL_ARRAY_LEN(secrets); i++)
		fn(ctx, secrets[i], span_str(secrets[i]));
}

static size_t run(struct scrubber *s, const uint8_t *p, size_t n, size_t step, char *out)
{
	struct scrub x;
	size_t k = 0, at = 0;

	scrub_init(&x, s);
	do {
		size_t m = n - at < step ? n - at : step;
		struct span pass;
		CL_BUF struct buf b;

		buf_init(&b, 1u << 20);
		if (scrub_next(&x, (struct span){ (const char *)p + at, m }, at + m == n, &b, &pass))
			abort();
		if (pass.n)
			memcpy(out + k, pass.p, pass.n);
		if (b.n)
			memcpy(out + k + pass.n, b.p, b.n);
		k += pass.n + b.n;
		at += m;
	} while (at < n);
	scrub_done(&x);
	return k;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct scrubber *s;
	static char a[70000], b[70000];

	if (!s && (sodium_init() < 0 || scrubber_new(&s, NULL, NULL)))
		abort();
	if (size < 2 || size > 65536)
		return 0;
	size_t n = run(s, data + 1, size - 1, size, a), m = run(s, data + 1, size - 1, 1 + data[0] % 32, b);

	if (n != size - 1 || m != n || memcmp(a, b, n) != 0)
		abort();
	for (size_t i = 0; i < CL_ARRAY_LEN(secrets); i++)
		if (memmem(a, n, secrets[i], strlen(secrets[i])))
			abort();
	return 0;
}

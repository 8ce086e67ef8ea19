/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/near.h"

#include <string.h>

#define WORD_MAX 63
#define FAR 99u

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
	unsigned m = a < b ? a : b;

	return m < c ? m : c;
}

unsigned near_distance(struct span a, struct span b)
{
	unsigned row[3][WORD_MAX + 1];

	if (a.n > WORD_MAX || b.n > WORD_MAX)
		return FAR;
	for (unsigned j = 0; j <= b.n; j++)
		row[0][j] = j;
	for (unsigned i = 1; i <= a.n; i++) {
		unsigned *now = row[i % 3], *prev = row[(i + 2) % 3], *prev2 = row[(i + 1) % 3];

		now[0] = i;
		for (unsigned j = 1; j <= b.n; j++) {
			unsigned cost = a.p[i - 1] == b.p[j - 1] ? 0 : 1;

			now[j] = min3(prev[j] + 1, now[j - 1] + 1, prev[j - 1] + cost);
			if (i > 1 && j > 1 && a.p[i - 1] == b.p[j - 2] &&
			    a.p[i - 2] == b.p[j - 1] && prev2[j - 2] + 1 < now[j])
				now[j] = prev2[j - 2] + 1;
		}
	}
	return row[a.n % 3][b.n];
}

const char *near_word(struct span said, const char *const *first, size_t n, size_t stride)
{
	const char *best = NULL;
	unsigned best_d = FAR;

	for (size_t i = 0; i < n; i++) {
		const char *w = *(const char *const *)(const void *)((const char *)first + i * stride);

		if (!w)
			continue;
		unsigned d = near_distance(said, span_str(w));

		if (d < best_d) {
			best = w;
			best_d = d;
		}
	}
	if (!best)
		return NULL;
	/* two slips, or one letter in three */
	return best_d <= 2 || best_d <= strlen(best) / 3 ? best : NULL;
}

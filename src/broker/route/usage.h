/* SPDX-License-Identifier: Apache-2.0 */
/*
 * usage - token counts out of an answer that only flows by.
 *
 * Looks for the object behind a bare "usage" key, in plain JSON and in every
 * event of a stream alike (inside strings the quotes are escaped, so text of a
 * model cannot look like it). The largest counts seen hold.
 */
#ifndef CL_BROKER_USAGE_H
#define CL_BROKER_USAGE_H

#include "base/base.h"

#define USAGE_OBJECT_MAX 2048

struct usage {
	uint64_t in_tokens, out_tokens, cached_tokens;
	bool seen;
	/* private */
	int state;
	size_t matched, depth, n;
	bool in_string, escaped;
	char object[USAGE_OBJECT_MAX];
};

void usage_init(struct usage *u);
void usage_next(struct usage *u, struct span piece);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* text - raw (escaped) strings of a checked document, decoded byte by byte. */
#ifndef CL_JSON_TEXT_H
#define CL_JSON_TEXT_H

#include "base/base.h"

/* A cursor over a raw string: gives its decoded bytes one by one. */
struct json_text {
	struct span raw;
	unsigned char wait[4];	/* rest of a decoded character */
	unsigned n, at;
};

static inline struct json_text json_text_of(struct span raw)
{
	return (struct json_text){ .raw = raw };
}
/* Return: 0..255, or -1 at the end */
int json_text_byte(struct json_text *t);
/* do two raw strings decode to the same bytes? */
bool json_same_text(struct span a, struct span b);

#endif

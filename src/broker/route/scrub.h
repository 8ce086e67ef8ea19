/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scrub - no live secret passes, in any of the encodings that happen.
 *
 * How this works: each secret is expanded to its patterns: plain, reversed,
 * base64 and base64url in all three alignments, hex in both cases, URL- and
 * JSON-escaped. One automaton (Aho-Corasick over byte classes) finds them all
 * in one pass. A stream holds back only what may be the beginning of a match,
 * so borders between pieces do not matter; found bytes become '*', length kept.
 */
#ifndef CL_BROKER_SCRUB_H
#define CL_BROKER_SCRUB_H

#include "base/base.h"

#define SCRUB_MIN 6	/* shorter secrets would hit innocent text */

struct vault;
struct scrubber;	/* the automaton; counted, immutable */

/* scrubber_new - over all secrets of @v */
int scrubber_new(struct scrubber **out, const struct vault *v, struct cl_err *err);
struct scrubber *scrubber_ref(struct scrubber *s);
void scrubber_unref(struct scrubber *s);
/* scrubber_find - is there one in @bytes? @what (may be NULL) gets the secret's name */
bool scrubber_find(const struct scrubber *s, struct span bytes, char *what, size_t n);
/* scrubber_clean - a copy of a whole @bytes with secrets as '*'. Return: how many, or -errno */
int scrubber_clean(const struct scrubber *s, struct span bytes, struct buf *out);

struct scrub {
	struct scrubber *s;
	uint32_t state;
	struct buf held;	/* the bytes that may begin a match */
	uint64_t found;
};

void scrub_init(struct scrub *x, struct scrubber *s);	/* takes a reference */
void scrub_done(struct scrub *x);
/*
 * scrub_next - what of the stream may go out now, appended to @out; or, when
 * nothing was held and nothing found, *pass = @piece and @out stays empty.
 * @last: nothing is held back. Return 0 or -ENOMEM.
 */
int scrub_next(struct scrub *x, struct span piece, bool last, struct buf *out, struct span *pass);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* words - finding out, by fixed phrases, what a sentence asks for. Pure. */
#ifndef CL_MODEL_SIM_WORDS_H
#define CL_MODEL_SIM_WORDS_H

#include "base/base.h"

/* first place of @needle (ASCII case ignored) */
bool words_find(struct span s, const char *needle, size_t *at);
struct span words_from(struct span s, size_t at);	/* the rest from @at on */
struct span words_trim(struct span s);			/* blanks and line ends, both sides */
bool words_any(struct span s, const char *const *cues, size_t n);	/* contains one of them */
/* starts with one of them as a whole word, after "please", "can you", ... */
bool words_starts_any(struct span s, const char *const *cues, size_t n);

/* "write X into FILE", "save X to FILE", "create FILE with X"; a FILE has a dot or a slash */
bool words_write(struct span s, struct span *file, struct span *text);
/* "read FILE", "show FILE", "what is in FILE", "open FILE" */
bool words_read(struct span s, struct span *file);
/* "run CMD", "run `CMD`", "exec CMD", "execute CMD" */
bool words_run(struct span s, struct span *command);
/* "remember that X", "remember: X" */
bool words_remember(struct span s, struct span *what);
/* "remind me in N seconds|minutes|hours|days to X", "remind me to X in N ..." (at most a year) */
bool words_remind(struct span s, int64_t *in_s, struct span *what);
/* '...' for a POSIX shell, with @prefix inside the quotes */
void words_shell_quote(struct span s, const char *prefix, struct buf *out);

#endif

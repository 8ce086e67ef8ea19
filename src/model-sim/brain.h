/* SPDX-License-Identifier: Apache-2.0 */
/*
 * brain - what the simulated model answers. Pure: a request in, a thought out.
 *
 * How this works: the last thing that the person said decides what is to be
 * done (a row of intents in brain.c); the tool results since then say how far
 * it is. Only tools that the request offers are called. What OpenClaw wraps
 * around a person's words (times, context, runtime lines) is taken off first.
 */
#ifndef CL_MODEL_SIM_BRAIN_H
#define CL_MODEL_SIM_BRAIN_H

#include "base/base.h"

#include <jansson.h>

/* Either text, or a tool call. */
struct thought {
	struct buf text;	/* when tool is "" */
	char tool[64];
	json_t *args;		/* owned; an object */
};

/*
 * brain_think - @request: a Chat Completions request (an object)
 * @now_us: the time, for reminders
 *
 * Return: 0 and *out (thought_done() it); -EINVAL with words: no messages, or
 * of the wrong shape; -ENOMEM.
 */
int brain_think(const json_t *request, int64_t now_us, struct thought *out, struct cl_err *err);
void thought_done(struct thought *t);

/* brain_said - the person's last words in @request, unwrapped; for tests */
int brain_said(const json_t *request, struct buf *out);

#endif

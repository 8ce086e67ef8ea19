/* SPDX-License-Identifier: Apache-2.0 */
/* answer - a thought in the forms of the OpenAI API. Pure. */
#ifndef CL_MODEL_SIM_ANSWER_H
#define CL_MODEL_SIM_ANSWER_H

#include "model-sim/brain.h"

#define ANSWER_MODEL "cloister-simulated"

/* answer_whole - a chat.completion object. @tokens_in: of the request */
int answer_whole(const struct thought *t, const char *id, int64_t now_s, uint64_t tokens_in,
		 struct buf *out);
/* answer_stream - the same as server-sent events, up to and with [DONE] */
int answer_stream(const struct thought *t, const char *id, int64_t now_s, uint64_t tokens_in,
		  bool usage, struct buf *out);
int answer_models(struct buf *out);
/* answer_embeddings - vectors from hashed character trigrams. -EINVAL with words */
int answer_embeddings(const json_t *request, struct buf *out, struct cl_err *err);
/* answer_error - {"error":{...}} */
int answer_error(const char *type, const char *text, struct buf *out);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * token - capability tokens: placeholders that look like keys and are worth
 * something on one listener only (ARCHITECTURE.md, "Inside a sandbox").
 * A MAC (BLAKE2b, 32 bytes, keyed) over kind, tenant number and generation.
 */
#ifndef CL_BROKER_TOKEN_H
#define CL_BROKER_TOKEN_H

#include "base/base.h"

enum token_kind { TOKEN_API, TOKEN_BOT };	/* sk-cloister-… and 8377:… */
#define TOKEN_SIZE 64				/* text and NUL */

struct token_key;

/* token_key_new - key from @dirfd, made when there is none */
int token_key_new(struct token_key **out, int dirfd, struct cl_err *err);
void token_key_free(struct token_key *k);
void token_make(const struct token_key *k, enum token_kind kind, uint32_t no, uint32_t generation,
		char out[TOKEN_SIZE]);
/* token_ok - constant time */
bool token_ok(const struct token_key *k, enum token_kind kind, uint32_t no, uint32_t generation,
	      struct span token);
/* token_like - has it the form of a token of @kind? (then a wrong one is a boundary event) */
bool token_like(enum token_kind kind, struct span token);

#endif

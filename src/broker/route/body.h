/* SPDX-License-Identifier: Apache-2.0 */
/*
 * body - what a JSON body may say. Pure; no tree is built.
 *
 * A body that passes is forwarded byte for byte: json_check() refused whatever
 * two parsers could read differently.
 */
#ifndef CL_BROKER_BODY_H
#define CL_BROKER_BODY_H

#include "base/base.h"

enum body_op { BODY_EQUALS, BODY_ONE_OF, BODY_PREFIX, BODY_AT_MOST, BODY_ABSENT };

struct body_rule {
	char at[128];		/* JSON pointer; a part of "*" is each member or element */
	enum body_op op;
	char **values;		/* nvalues texts, owned */
	size_t nvalues;
	uint64_t max;
};

enum body_shape { BODY_SHAPE_OPENAI, BODY_SHAPE_ANTHROPIC, BODY_SHAPE_HTTP };

/* What a call costs at most and says it wants. */
struct body_facts {
	char model[128];	/* "" = none said */
	bool stream;
	uint64_t max_tokens;	/* 0 = none said */
};

/* body_check - strict JSON? Return: 0 or -EBADMSG with @why for people */
int body_check(struct span body, char *why, size_t n);
/* body_rules - of a checked body. Return: 0 or -EPERM with @why */
int body_rules(struct span body, const struct body_rule *rules, size_t nrules, char *why, size_t n);
/*
 * body_fetches - would the upstream fetch, browse or call tools by itself
 * (server-side tools, MCP servers, picture or file by URL)? @what says which.
 */
bool body_fetches(struct span body, enum body_shape shape, char *what, size_t n);
void body_facts(struct span body, struct body_facts *out);

#endif

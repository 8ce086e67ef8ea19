/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/route/usage.h"

#include "json/json.h"

#include <string.h>

static const char key[] = "\"usage\"";
enum { SEARCH, COLON, OBJECT };

void usage_init(struct usage *u)
{
	memset(u, 0, sizeof *u);
}

static void take_max(struct json_val o, const char *name, uint64_t *into)
{
	uint64_t v;

	if (json_u64(json_get(o, name), &v) == 0 && v < (1ull << 40) && v > *into)
		*into = v;
}

static void object_done(struct usage *u)
{
	struct span doc = { u->object, u->n };
	struct json_val o, sub;

	if (json_check(doc, NULL, NULL))
		return;
	o = json_root(doc);
	u->seen = true;
	take_max(o, "prompt_tokens", &u->in_tokens);
	take_max(o, "input_tokens", &u->in_tokens);
	take_max(o, "completion_tokens", &u->out_tokens);
	take_max(o, "output_tokens", &u->out_tokens);
	take_max(o, "cache_read_input_tokens", &u->cached_tokens);
	if (json_at(o, "/prompt_tokens_details", &sub) == 0)
		take_max(sub, "cached_tokens", &u->cached_tokens);
	if (json_at(o, "/input_tokens_details", &sub) == 0)
		take_max(sub, "cached_tokens", &u->cached_tokens);
}

/* one byte of the object. Return: false: it is over */
static bool collect(struct usage *u, char c)
{
	if (u->n == USAGE_OBJECT_MAX)
		return false;
	u->object[u->n++] = c;
	if (u->in_string) {
		if (u->escaped)
			u->escaped = false;
		else if (c == '\\')
			u->escaped = true;
		else if (c == '"')
			u->in_string = false;
		return true;
	}
	if (c == '"')
		u->in_string = true;
	else if (c == '{')
		u->depth++;
	else if (c == '}' && --u->depth == 0) {
		object_done(u);
		return false;
	}
	return true;
}

void usage_next(struct usage *u, struct span s)
{
	size_t i = 0;

	while (i < s.n) {
		char c = s.p[i];

		switch (u->state) {
		case SEARCH:
			if (u->matched == 0) {
				/* most bytes: on to the next quote */
				const char *q = memchr(s.p + i, '"', s.n - i);

				if (!q)
					return;
				i = (size_t)(q - s.p) + 1;
				u->matched = 1;
				continue;
			}
			if (c == key[u->matched]) {
				if (++u->matched == sizeof key - 1) {
					u->matched = 0;
					u->state = COLON;
				}
			} else {
				u->matched = c == '"';
			}
			i++;
			break;
		case COLON:
			i++;
			if (c == '{') {
				u->state = OBJECT;
				u->n = u->depth = 0;
				u->in_string = u->escaped = false;
				(void)collect(u, c);	/* the first byte cannot end it */
			} else if (c != ':' && c != ' ' && c != '\n' && c != '\r' && c != '\t') {
				u->state = SEARCH;
			}
			break;
		default:
			i++;
			if (!collect(u, c))
				u->state = SEARCH;
			break;
		}
	}
}

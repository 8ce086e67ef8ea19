/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/route/body.h"

#include "json/json.h"

#include <stdio.h>
#include <string.h>

int body_check(struct span body, char *why, size_t n)
{
	const char *words = "";
	size_t at = 0;

	if (json_check(body, &words, &at) == 0)
		return 0;
	(void)snprintf(why, n, "the body is not strict JSON: %s at byte %zu", words, at);
	return -EBADMSG;
}

/* ---- rules ----------------------------------------------------------------------- */

/* Return: true when @v is as @r wants */
static bool value_ok(struct json_val v, const struct body_rule *r)
{
	uint64_t number;
	char text[256];

	switch (r->op) {
	case BODY_ABSENT:
		return false;
	case BODY_AT_MOST:
		return json_u64(v, &number) == 0 && number <= r->max;
	case BODY_EQUALS:
	case BODY_ONE_OF:
		for (size_t i = 0; i < r->nvalues; i++)
			if (json_is(v, r->values[i]))
				return true;
		return false;
	case BODY_PREFIX:
		if (json_text_copy(v, text, sizeof text))
			return false;
		return r->nvalues && strncmp(text, r->values[0], strlen(r->values[0])) == 0;
	default:
		return false;
	}
}

/*
 * Walk the pointer @at from @v; "*" means each. Every value it reaches must be
 * as the rule wants; a value that must be there (equals, one_of, prefix) and is
 * not counts as wrong, but not with a "*": each of none is fine (@starred).
 */
static bool walk(struct json_val v, const char *at, const struct body_rule *r, bool starred)
{
	char part[128];
	struct json_val next;

	if (*at == '\0')
		return value_ok(v, r);
	const char *end = strchr(at + 1, '/');
	size_t n = end ? (size_t)(end - at) : strlen(at);

	if (n >= sizeof part)
		return false;
	memcpy(part, at, n);
	part[n] = '\0';
	if (strcmp(part, "/*") == 0) {
		struct json_it it = json_each(v);
		struct span key;

		while (json_next(&it, &key, &next))
			if (!walk(next, at + n, r, starred))
				return false;
		return true;
	}
	if (json_at(v, part, &next))
		return r->op == BODY_ABSENT || r->op == BODY_AT_MOST || starred;
	return walk(next, at + n, r, starred);
}

int body_rules(struct span body, const struct body_rule *rules, size_t nrules, char *why, size_t n)
{
	static const char *const words[] = { "must be a fixed value", "must be one of the allowed values",
		"must begin as allowed", "is above the maximum", "must not be there" };

	for (size_t i = 0; i < nrules; i++)
		if (!walk(json_root(body), rules[i].at, &rules[i], strstr(rules[i].at, "/*") != NULL)) {
			(void)snprintf(why, n, "%s %s", rules[i].at, words[rules[i].op]);
			return -EPERM;
		}
	return 0;
}

/*
 * Members of @object by name, in one walk: bodies may be megabytes. Names that
 * are absent have type JSON_NONE.
 */
static void members(struct json_val object, const char *const *names, size_t n, struct json_val *out)
{
	struct json_it it = json_each(object);
	struct json_val v;
	struct span key;

	for (size_t i = 0; i < n; i++)
		out[i] = (struct json_val){ .type = JSON_NONE };
	if (object.type != JSON_OBJECT)
		return;
	while (json_next(&it, &key, &v)) {
		bool plain = !key.n || !memchr(key.p, '\\', key.n);

		for (size_t i = 0; i < n; i++)
			if (plain ? span_eq_str(key, names[i]) : json_key_is(key, names[i])) {
				out[i] = v;
				break;
			}
	}
}

/* ---- what makes the upstream reach out ----------------------------------------------- */

static bool is_data_url(struct json_val v)
{
	/* only inline content: "data:", compared on the raw bytes (an escape is no exception) */
	return v.type == JSON_STRING && v.raw.n > 6 && memcmp(v.raw.p + 1, "data:", 5) == 0;
}

/* tools that run at the caller; everything else runs at the provider */
static bool tool_local(struct json_val tool, enum body_shape shape)
{
	struct json_val type = json_get(tool, "type");

	if (type.type == JSON_NONE)	/* Anthropic's plain tools have none */
		return shape == BODY_SHAPE_ANTHROPIC;
	if (json_is(type, "function") || json_is(type, "custom"))
		return true;
	if (shape != BODY_SHAPE_ANTHROPIC)
		return false;
	/* client tools by name: text editor, bash, computer run where the agent is */
	static const char *const local[] = { "bash_", "text_editor_", "computer_", "memory_" };
	char text[64];

	if (json_text_copy(type, text, sizeof text))
		return false;
	for (size_t i = 0; i < CL_ARRAY_LEN(local); i++)
		if (strncmp(text, local[i], strlen(local[i])) == 0)
			return true;
	return false;
}

/* one part of a message's content */
static bool part_fetches(struct json_val part)
{
	static const char *const names[] = { "image_url", "source", "file_url", "content" };
	struct json_val m[CL_ARRAY_LEN(names)], url, source, file, inner;

	members(part, names, CL_ARRAY_LEN(names), m);
	url = m[0];
	source = m[1];
	file = m[2];

	if (url.type == JSON_OBJECT)
		url = json_get(url, "url");
	if (url.type != JSON_NONE && !is_data_url(url))
		return true;
	if (file.type != JSON_NONE)
		return true;
	if (source.type == JSON_OBJECT && json_is(json_get(source, "type"), "url"))
		return true;
	inner = m[3];	/* Anthropic's tool_result holds parts again */
	if (inner.type == JSON_ARRAY) {
		struct json_it it = json_each(inner);
		struct span key;
		struct json_val v;

		while (json_next(&it, &key, &v)) {
			struct json_val s = json_get(v, "source");

			if (s.type == JSON_OBJECT && json_is(json_get(s, "type"), "url"))
				return true;
		}
	}
	return false;
}

static bool messages_fetch(struct json_val list)
{
	struct json_it it = json_each(list), parts;
	struct json_val message, content, part;
	struct span key;

	if (list.type != JSON_ARRAY)
		return false;
	while (json_next(&it, &key, &message)) {
		if (message.type != JSON_OBJECT)
			continue;
		if (part_fetches(message))	/* Responses: input items may be parts themselves */
			return true;
		content = json_get(message, "content");
		if (content.type != JSON_ARRAY)
			continue;
		parts = json_each(content);
		while (json_next(&parts, &key, &part))
			if (part.type == JSON_OBJECT && part_fetches(part))
				return true;
	}
	return false;
}

bool body_fetches(struct span body, enum body_shape shape, char *what, size_t n)
{
	static const char *const names[] = { "tools", "messages", "input",
		/* and these must not be there at all */
		"web_search_options", "mcp_servers", "container", "plugins", "background", "previous_response_id",
		"file_ids", "webhook", "webhook_url", "callback_url" };
	struct json_val root = json_root(body), v[CL_ARRAY_LEN(names)], tool;
	struct json_it it;
	struct span key;

	if (shape == BODY_SHAPE_HTTP || root.type != JSON_OBJECT)
		return false;
	members(root, names, CL_ARRAY_LEN(names), v);
	for (size_t i = 3; i < CL_ARRAY_LEN(names); i++)
		if (v[i].type != JSON_NONE && v[i].type != JSON_NULL && v[i].type != JSON_FALSE) {
			(void)snprintf(what, n, "\"%s\"", names[i]);
			return true;
		}
	if (v[0].type == JSON_ARRAY) {
		it = json_each(v[0]);
		while (json_next(&it, &key, &tool))
			if (!tool_local(tool, shape)) {
				(void)snprintf(what, n, "a tool that runs at the provider");
				return true;
			}
	}
	if (messages_fetch(v[1]) || messages_fetch(v[2])) {
		(void)snprintf(what, n, "a picture or file by its address");
		return true;
	}
	return false;
}

void body_facts(struct span body, struct body_facts *out)
{
	static const char *const names[] = { "model", "stream", "max_completion_tokens", "max_tokens",
					     "max_output_tokens" };
	struct json_val v[CL_ARRAY_LEN(names)];
	uint64_t n;

	memset(out, 0, sizeof *out);
	members(json_root(body), names, CL_ARRAY_LEN(names), v);
	if (json_text_copy(v[0], out->model, sizeof out->model))
		out->model[0] = '\0';
	out->stream = v[1].type == JSON_TRUE;
	for (size_t i = 2; i < CL_ARRAY_LEN(names); i++)
		if (json_u64(v[i], &n) == 0 && n > out->max_tokens)
			out->max_tokens = n;
}

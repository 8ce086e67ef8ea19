/* SPDX-License-Identifier: Apache-2.0 */
/* Strict reading of the parameters of a Bot API call; see params.h. Runs in: broker. */
#include "broker/conv/params.h"

#include <stdio.h>
#include <string.h>

#define JSON_DEPTH_MAX 16

int param_refuse(struct param_refusal *why, int code, const char *rule, struct span field,
		 const char *fmt, ...)
{
	va_list ap;

	why->code = code;
	why->rule = rule;
	utf8_scrub(field, why->field, sizeof(why->field));
	va_start(ap, fmt);
	(void)vsnprintf(why->reason, sizeof(why->reason), fmt, ap);
	va_end(ap);
	return -EACCES;
}

static bool is_own_id(struct span s, int64_t own)
{
	int64_t v;

	/* num_parse_i64 takes the canonical spelling only: no blanks, '+', leading zero, exponent */
	return num_parse_i64(s, &v) == 0 && v == own;
}

bool own_chat_ok(struct span s)
{
	return is_own_id(s, CONV_CHAT);
}

static bool own_user_ok(struct span s)
{
	return is_own_id(s, CONV_CHAT) || is_own_id(s, CONV_BOT);
}

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && !strcmp(s + n - m, end);
}

/* names_chat - a key that can name a chat or a person in some object of the Bot API */
static bool names_chat(const char *key)
{
	return ends_with(key, "chat_id") || ends_with(key, "user_id") || ends_with(key, "chat_ids") ||
	       ends_with(key, "user_ids") || ends_with(key, "username") || !strcmp(key, "inline_message_id") ||
	       ends_with(key, "business_connection_id") || !strcmp(key, "ephemeral_message_receiver");
}

static bool json_is_own(const json_t *v, bool chat)
{
	struct span s = { json_string_value(v), json_string_length(v) };
	json_int_t i;

	if (json_is_integer(v)) {
		i = json_integer_value(v);
		return i == CONV_CHAT || (!chat && i == CONV_BOT);
	}
	return json_is_string(v) && (chat ? own_chat_ok(s) : own_user_ok(s));
}

static bool ids_ok(const json_t *v, char *field, size_t field_size, int depth)
{
	const char *key;
	json_t *sub;
	size_t i;

	if (depth > JSON_DEPTH_MAX) {
		(void)snprintf(field, field_size, "nesting");
		return false;
	}
	if (json_is_array(v)) {
		json_array_foreach(v, i, sub)
			if (!ids_ok(sub, field, field_size, depth + 1))
				return false;
		return true;
	}
	if (!json_is_object(v))
		return true;
	/* json_object_foreach casts its argument to non-const; the iteration changes nothing */
	for (void *it = json_object_iter((json_t *)(uintptr_t)v); it;
	     it = json_object_iter_next((json_t *)(uintptr_t)v, it)) {
		key = json_object_iter_key(it);
		sub = json_object_iter_value(it);
		if (names_chat(key) && !json_is_own(sub, strstr(key, "chat") != NULL)) {
			utf8_scrub(span_str(key), field, field_size);
			return false;
		}
		/* a user or chat object names by its id */
		if ((!strcmp(key, "user") || !strcmp(key, "chat")) && json_is_object(sub) &&
		    json_object_get(sub, "id") && !json_is_own(json_object_get(sub, "id"), false)) {
			utf8_scrub(span_str(key), field, field_size);
			return false;
		}
		if (!ids_ok(sub, field, field_size, depth + 1))
			return false;
	}
	return true;
}

bool json_ids_ok(const json_t *v, char *field, size_t field_size)
{
	return ids_ok(v, field, field_size, 0);
}

static bool wants_json(enum field_kind k)
{
	return k == FK_JSON || k == FK_REPLY || k == FK_MARKUP;
}

/* check - the value of one field against its kind; for all sources the same */
static int check(struct param *v, struct param_refusal *why)
{
	struct span name = span_str(v->field->name);
	char inner[48];
	int64_t num;

	switch (v->field->kind) {
	case FK_CHAT:
		if (!own_chat_ok(v->text))
			return param_refuse(why, 403, "conversation.recipient", name,
					    "%s is not your chat: this agent speaks with its owner only, chat %d",
					    v->field->name, CONV_CHAT);
		return 0;
	case FK_USER:
		if (!own_user_ok(v->text))
			return param_refuse(why, 403, "conversation.recipient", name,
					    "%s is not your owner (%d) or yourself (%d)", v->field->name,
					    CONV_CHAT, CONV_BOT);
		return 0;
	case FK_DENY:
		return param_refuse(why, 403, "conversation.field", name,
				    "%s names a place outside of your conversation", v->field->name);
	case FK_INT:
		if (num_parse_i64(v->text, &num))
			return param_refuse(why, 400, NULL, name, "%s must be an integer", v->field->name);
		return 0;
	case FK_BOOL:
		if (!span_eq_nocase(v->text, SPAN("true")) && !span_eq_nocase(v->text, SPAN("false")) &&
		    !span_eq_str(v->text, "1") && !span_eq_str(v->text, "0"))
			return param_refuse(why, 400, NULL, name, "%s must be true or false", v->field->name);
		return 0;
	case FK_REPLY:
	case FK_MARKUP:
	case FK_JSON:
		if (v->json && !json_ids_ok(v->json, inner, sizeof(inner)))
			return param_refuse(why, 403, "conversation.recipient", name,
					    "%s.%s is not your chat, your owner or yourself", v->field->name, inner);
		return 0;
	case FK_IGN:
		/* not used, but never a way around: what looks like a document is looked into */
		if (v->json && !json_ids_ok(v->json, inner, sizeof(inner)))
			return param_refuse(why, 403, "conversation.recipient", name,
					    "%s.%s is not your chat, your owner or yourself", v->field->name, inner);
		return 0;
	case FK_STR:
	case FK_FLOAT:
	case FK_FILE:
		return 0;
	}
	return param_refuse(why, 400, NULL, name, "%s is not understood", v->field->name);
}

/* find_field - the row of a name that was not given before */
static int find_field(struct params *p, struct span name, const struct method_field **out,
		      struct param_refusal *why)
{
	const struct method_field *f = method_field(p->method, name);

	if (!f)
		return param_refuse(why, 400, "conversation.unknown_field", name,
				    "%s has no such parameter", p->method->name);
	for (size_t i = 0; i < p->n; i++)
		if (p->list[i].field == f)
			return param_refuse(why, 400, "conversation.duplicate", name,
					    "parameter %s was given twice", f->name);
	if (p->n == PARAMS_MAX)
		return param_refuse(why, 400, NULL, name, "too many parameters");
	*out = f;
	return 0;
}

/*
 * repeats_method - Telegraf says the method once more among the parameters.
 * 1: it is that and the same as in the path; 0: another name; -EACCES: another method
 */
static int repeats_method(const struct params *p, struct span name, struct span value, struct param_refusal *why)
{
	if (!span_eq_str(name, "method") || method_field(p->method, name))
		return 0;
	if (span_eq_str(value, p->method->name))
		return 1;
	return param_refuse(why, 400, "conversation.duplicate", name, "the path says %s, a parameter another method",
			    p->method->name);
}

/* add_text - a parameter from a query, form or multipart: a string, JSON inside where the field says so */
static int add_text(struct params *p, struct span name, struct span value, struct param_refusal *why)
{
	const struct method_field *f;
	struct param *v;
	json_error_t je;
	int rc = repeats_method(p, name, value, why);

	if (rc)
		return rc < 0 ? rc : 0;
	rc = find_field(p, name, &f, why);
	if (rc)
		return rc;
	if (!utf8_ok(value) || (value.n && memchr(value.p, 0, value.n)))
		return param_refuse(why, 400, NULL, name, "%s is not valid UTF-8 text", f->name);
	v = &p->list[p->n];
	*v = (struct param){ .field = f, .text = value };
	if (wants_json(f->kind) || (f->kind == FK_IGN && value.n && (value.p[0] == '{' || value.p[0] == '['))) {
		if (value.n == 0)
			return 0;	/* grammY and others send an empty document for "none" */
		v->json = json_loadb(value.p, value.n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &je);
		if (!v->json)
			return param_refuse(why, 400, NULL, name, "%s is not valid JSON: %s", f->name, je.text);
	}
	p->n++;	/* from here on params_done() frees its document */
	return check(v, why);
}

/* json_text - the text of a scalar, as Telegram reads it; -EINVAL for others */
static int json_text(struct params *p, json_t *j, struct span *out)
{
	char num[32];
	size_t at = p->text.n;

	if (json_is_string(j)) {
		*out = (struct span){ json_string_value(j), json_string_length(j) };
		return 0;
	}
	if (json_is_true(j) || json_is_false(j)) {
		*out = json_is_true(j) ? SPAN("true") : SPAN("false");
		return 0;
	}
	if (json_is_integer(j))
		(void)snprintf(num, sizeof(num), "%lld", (long long)json_integer_value(j));
	else if (json_is_real(j))
		(void)snprintf(num, sizeof(num), "%.10g", json_real_value(j));
	else
		return -EINVAL;
	/* reserved in full by the caller: earlier spans stay where they are */
	if (buf_add_str(&p->text, num))
		return -EINVAL;
	*out = (struct span){ p->text.p + at, strlen(num) };
	return 0;
}

static int add_json(struct params *p, struct span name, json_t *j, struct param_refusal *why)
{
	const struct method_field *f;
	struct param *v;
	int rc = repeats_method(p, name, (struct span){ json_string_value(j), json_string_length(j) }, why);

	if (rc)
		return rc < 0 ? rc : 0;
	rc = find_field(p, name, &f, why);
	if (rc)
		return rc;
	v = &p->list[p->n];
	*v = (struct param){ .field = f };
	if (json_is_null(j))	/* as if it were not there, but counted against repetition */
		return 0;
	if (wants_json(f->kind) || json_is_object(j) || json_is_array(j)) {
		if (!wants_json(f->kind) && f->kind != FK_IGN && f->kind != FK_DENY)
			return param_refuse(why, f->kind == FK_CHAT || f->kind == FK_USER ? 403 : 400,
					    f->kind == FK_CHAT || f->kind == FK_USER ? "conversation.recipient" : NULL,
					    name, "%s must be a plain value", f->name);
		/* a document may also stand in a string */
		if (json_is_string(j)) {
			v->json = json_loadb(json_string_value(j), json_string_length(j),
					     JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
			if (!v->json)
				return param_refuse(why, 400, NULL, name, "%s is not valid JSON", f->name);
		} else {
			v->json = json_incref(j);
		}
	} else {
		if (json_is_real(j) && f->kind != FK_FLOAT && f->kind != FK_IGN)
			return param_refuse(why, f->kind == FK_CHAT || f->kind == FK_USER ? 403 : 400,
					    f->kind == FK_CHAT || f->kind == FK_USER ? "conversation.recipient" : NULL,
					    name, "%s must be an integer", f->name);
		if (json_text(p, j, &v->text))
			return param_refuse(why, 400, NULL, name, "%s is not a plain value", f->name);
		v->is_number = json_is_number(j);
	}
	p->n++;
	return check(v, why);
}

static int read_json(struct params *p, struct span body, struct param_refusal *why)
{
	json_error_t je;
	json_t *v;

	p->root = json_loadb(body.p, body.n, JSON_REJECT_DUPLICATES, &je);
	if (!p->root || !json_is_object(p->root))
		return param_refuse(why, 400, NULL, SPAN(""), "the body is not a JSON object: %s",
				    p->root ? "it is something else" : je.text);
	/* room for all numbers at once, so that spans into it stay valid */
	if (buf_reserve(&p->text, 32 * (json_object_size(p->root) + 1)))
		return param_refuse(why, 413, NULL, SPAN(""), "too many parameters");
	for (void *it = json_object_iter(p->root); it; it = json_object_iter_next(p->root, it)) {
		v = json_object_iter_value(it);
		int rc = add_json(p, span_str(json_object_iter_key(it)), v, why);

		if (rc)
			return rc;
	}
	return 0;
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* unescape - %XX and '+' into p->text, which has room; -EINVAL for a broken escape */
static int unescape(struct params *p, struct span in, struct span *out)
{
	size_t at = p->text.n;

	for (size_t i = 0; i < in.n; i++) {
		char c = in.p[i];

		if (c == '+') {
			c = ' ';
		} else if (c == '%') {
			int hi = i + 2 < in.n ? hex(in.p[i + 1]) : -1, lo = i + 2 < in.n ? hex(in.p[i + 2]) : -1;

			if (hi < 0 || lo < 0)
				return -EINVAL;
			c = (char)(hi << 4 | lo);
			i += 2;
		}
		if (buf_add_ch(&p->text, c))
			return -EINVAL;
	}
	*out = (struct span){ p->text.p + at, p->text.n - at };
	return 0;
}

static int read_form(struct params *p, struct span in, struct param_refusal *why)
{
	struct span pair, name, value;

	if (buf_reserve(&p->text, in.n + 1))
		return param_refuse(why, 413, NULL, SPAN(""), "too large");
	while (in.n) {
		if (!span_cut(&in, '&', &pair)) {
			pair = in;
			in.n = 0;
		}
		if (!span_cut(&pair, '=', &name))
			return param_refuse(why, 400, NULL, pair, "a parameter without '='");
		value = pair;
		if (unescape(p, name, &name) || unescape(p, value, &value))
			return param_refuse(why, 400, NULL, SPAN(""), "a broken %%-escape");
		int rc = add_text(p, name, value, why);

		if (rc)
			return rc;
	}
	return 0;
}

/* type_is - "a/b" or "a/b;…", without case */
static bool type_is(struct span content_type, const char *want)
{
	struct span t;

	if (!span_cut(&content_type, ';', &t))
		t = content_type;
	return span_eq_nocase(span_trim(t), span_str(want));
}

/* required - every field that the method cannot do without, and every file is named */
static int finish(struct params *p, struct param_refusal *why)
{
	for (size_t i = 0; i < p->method->nfields; i++) {
		const struct method_field *f = &p->method->fields[i];
		bool file = false;

		for (size_t k = 0; k < p->nfiles; k++)
			file = file || (f->kind == FK_FILE && span_eq_str(p->files[k].name, f->name));
		if (f->required && !params_get(p, f->name) && !file)
			return param_refuse(why, 400, NULL, span_str(f->name), "parameter %s is missing", f->name);
	}
	return 0;
}

int params_read(struct params *p, const struct method *m, struct span content_type, struct span query,
		struct span body, struct param_refusal *why)
{
	int rc = 0;

	*p = (struct params){ .method = m };
	buf_init(&p->text, (size_t)4 << 20);
	if (query.n && body.n)
		rc = param_refuse(why, 400, "conversation.duplicate", SPAN(""),
				  "parameters stand both in the query and in the body");
	else if (query.n)
		rc = read_form(p, query, why);
	else if (body.n && type_is(content_type, "application/json"))
		rc = read_json(p, body, why);
	else if (body.n && type_is(content_type, "application/x-www-form-urlencoded"))
		rc = read_form(p, body, why);
	else if (body.n && type_is(content_type, "multipart/form-data"))
		rc = multipart_read(p, content_type, body, add_text, why);
	else if (body.n)
		rc = param_refuse(why, 415, NULL, SPAN(""), "this kind of body is not understood");
	if (rc == 0)
		rc = finish(p, why);
	if (rc)
		params_done(p);
	return rc;
}

void params_done(struct params *p)
{
	for (size_t i = 0; i < p->n; i++)
		json_decref(p->list[i].json);
	json_decref(p->root);
	buf_done(&p->text);
	*p = (struct params){ 0 };
}

const struct param *params_get(const struct params *p, const char *name)
{
	for (size_t i = 0; i < p->n; i++)
		if (!strcmp(p->list[i].field->name, name))
			return &p->list[i];
	return NULL;
}

struct span params_text(const struct params *p, const char *name)
{
	const struct param *v = params_get(p, name);

	return v ? v->text : (struct span){ 0 };
}

int params_i64(const struct params *p, const char *name, int64_t *out)
{
	const struct param *v = params_get(p, name);

	if (!v)
		return -ENOENT;
	return num_parse_i64(v->text, out);
}

json_t *params_json(const struct params *p, const char *name)
{
	const struct param *v = params_get(p, name);

	return v ? v->json : NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The many small methods: who am I, my chat, my commands, typing. Runs in: broker. */
#include "broker/conv/conv_impl.h"
#include "broker/channel/channel.h"
#include "broker/media/media.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TYPING_US (6 * 1000000LL)	/* a messenger shows it for about five seconds */
#define COMMANDS_MAX 100

static void get_me(struct httpd_req *r)
{
	CL_BUF struct buf b = { 0 };

	buf_init(&b, 1024);
	bot_json(&b);
	(void)buf_add_str(&b, ",\"can_join_groups\":false,\"can_read_all_group_messages\":false,"
			      "\"supports_inline_queries\":false,\"can_connect_to_business\":false,"
			      "\"has_main_web_app\":false}");
	answer_result(r, buf_span(&b));
}

static void get_chat(struct ctenant *t, struct httpd_req *r)
{
	CL_BUF struct buf b = { 0 };

	buf_init(&b, 1024);
	chat_json(t, &b);
	b.n--;	/* the closing brace */
	(void)buf_add_str(&b, ",\"accent_color_id\":0,\"max_reaction_count\":1,"
			      "\"accepted_gift_types\":{\"unlimited_gifts\":false,\"limited_gifts\":false,"
			      "\"unique_gifts\":false,\"premium_subscription\":false,\"gifts_from_channels\":false}}");
	answer_result(r, buf_span(&b));
}

static void get_member(struct ctenant *t, struct httpd_req *r, struct params *p)
{
	CL_BUF struct buf b = { 0 };
	int64_t id = 0;

	(void)params_i64(p, "user_id", &id);	/* required and one of the two */
	buf_init(&b, 1024);
	(void)buf_add_str(&b, "{\"status\":\"member\",\"user\":");
	if (id == CONV_BOT) {
		bot_json(&b);
		(void)buf_add_ch(&b, '}');
	} else {
		owner_json(t, &b);
	}
	(void)buf_add_ch(&b, '}');
	answer_result(r, buf_span(&b));
}

static void action(struct conv *c, struct ctenant *t, struct httpd_req *r, struct params *p)
{
	static const char *const actions[] = { "typing", "upload_photo", "record_video", "upload_video", "record_voice",
		"upload_voice", "upload_document", "choose_sticker", "find_location", "record_video_note",
		"upload_video_note" };
	struct span a = params_text(p, "action");
	const char *say = "typing";
	CL_BUF struct buf b = { 0 };
	bool before = t->typing_until_us > cl_mono_us();

	for (size_t i = 0; i < CL_ARRAY_LEN(actions); i++)
		if (span_eq_str(a, actions[i]))
			say = actions[i];
	t->typing_until_us = cl_mono_us() + TYPING_US;
	if (t->last_channel[0])
		channel_typing(c, span_str(t->last_channel), span_str(t->last_address), say);
	if (!before) {
		buf_init(&b, 64);
		(void)buf_printf(&b, "{\"no\":%u}", t->no);
		c->h.event(c->h.ctx, "typing", buf_span(&b));
	}
	answer_true(r);
}

/* commands_key - "commands:<scope>:<language>": where a list of commands is kept */
static int commands_key(struct params *p, char *buf, size_t n)
{
	const json_t *scope = params_json(p, "scope");
	const char *type = scope ? json_string_value(json_object_get(scope, "type")) : "default";
	struct span lang = params_text(p, "language_code");

	if (!type || !name_ok(span_str(type)) || lang.n > 8 || (lang.n && !name_ok(lang)))
		return -EINVAL;
	(void)snprintf(buf, n, "commands:%s:%.*s", type, SPAN_FMT(lang));
	return 0;
}

static void commands(struct conv *c, struct ctenant *t, struct httpd_req *r, struct params *p)
{
	CL_BUF struct buf b = { 0 };
	char key[96], *text;
	json_t *list, *clean;
	size_t i;

	if (commands_key(p, key, sizeof(key))) {
		answer_error(r, 400, "Bad Request: this scope is not understood");
		return;
	}
	buf_init(&b, 64 * 1024);
	if (p->method->what == DO_GET_COMMANDS) {
		if (cvs_setting_get(c->store, t->no, key, &b, NULL) || b.n == 0)
			(void)buf_add_str(&b, "[]");
		answer_result(r, buf_span(&b));
		return;
	}
	if (p->method->what == DO_RM_COMMANDS) {
		(void)cvs_setting_rm(c->store, t->no, key, NULL);	/* none there: nothing to remove */
		answer_true(r);
		return;
	}
	clean = json_array();
	json_array_foreach(params_json(p, "commands"), i, list) {
		const char *name = json_string_value(json_object_get(list, "command"));
		const char *about = json_string_value(json_object_get(list, "description"));

		if (i >= COMMANDS_MAX || !name || !about || !name_ok(span_str(name)) || strlen(about) > 1024) {
			json_decref(clean);
			answer_error(r, 400, "Bad Request: BOT_COMMAND_INVALID");
			return;
		}
		(void)json_array_append_new(clean, json_pack("{s:s, s:s}", "command", name, "description", about));
	}
	text = json_dumps(clean, JSON_COMPACT);
	json_decref(clean);
	if (!text || cvs_setting_put(c->store, t->no, key, span_str(text), NULL))
		answer_error(r, 500, "Internal Server Error");
	else
		answer_true(r);
	free(text);
}

void do_small(struct conv *c, struct ctenant *t, struct httpd_req *r, struct params *p)
{
	switch ((int)p->method->what) {
	case DO_TRUE:
	case DO_ANSWER_CALLBACK:
		answer_true(r);
		break;
	case DO_SET_WEBHOOK:
		if (params_text(p, "url").n == 0)
			answer_true(r);
		else
			answer_denied(c, t, r, 403, "conversation.webhook", "a sandbox has no address to call",
				      "use getUpdates with a timeout", "setWebhook");
		break;
	case DO_WEBHOOK_INFO:
		answer_result(r, SPAN("{\"url\":\"\",\"has_custom_certificate\":false,\"pending_update_count\":0}"));
		break;
	case DO_GET_ME:
		get_me(r);
		break;
	case DO_ACTION:
		action(c, t, r, p);
		break;
	case DO_GET_FILE:
		media_get_file(c, t, r, params_text(p, "file_id"));
		break;
	case DO_GET_CHAT:
		get_chat(t, r);
		break;
	case DO_MEMBER_COUNT:
		answer_result(r, SPAN("2"));
		break;
	case DO_MEMBER:
		get_member(t, r, p);
		break;
	case DO_ADMINS:
		answer_error(r, 400, "Bad Request: there are no administrators in the private chat");
		break;
	case DO_SET_COMMANDS:
	case DO_RM_COMMANDS:
	case DO_GET_COMMANDS:
		commands(c, t, r, p);
		break;
	case DO_GET_NAME:
		answer_result(r, SPAN("{\"name\":\"Cloister\"}"));
		break;
	case DO_GET_ABOUT:
		answer_result(r, SPAN("{\"description\":\"\"}"));
		break;
	case DO_GET_SHORT:
		answer_result(r, SPAN("{\"short_description\":\"\"}"));
		break;
	case DO_GET_MENU:
		answer_result(r, SPAN("{\"type\":\"commands\"}"));
		break;
	case DO_NO_PHOTOS:
		answer_result(r, SPAN("{\"total_count\":0,\"photos\":[]}"));
		break;
	default:
		answer_error(r, 404, "Not Found");
	}
}

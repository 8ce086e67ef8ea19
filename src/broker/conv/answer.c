/* SPDX-License-Identifier: Apache-2.0 */
/* Answers in the shape of the Telegram Bot API. Runs in: broker. */
#include "broker/conv/conv_impl.h"
#include "broker/media/media.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_MAX (8u << 20)

void answer_result(struct httpd_req *r, struct span json)
{
	CL_BUF struct buf b = { 0 };

	buf_init(&b, ANSWER_MAX);
	(void)buf_add_str(&b, "{\"ok\":true,\"result\":");
	(void)buf_add_span(&b, json);
	(void)buf_add_ch(&b, '}');
	if (b.failed)
		answer_error(r, 500, "Internal Server Error");
	else
		httpd_respond_json(r, 200, buf_span(&b));
}

void answer_true(struct httpd_req *r)
{
	answer_result(r, SPAN("true"));
}

void answer_error(struct httpd_req *r, int code, const char *fmt, ...)
{
	CL_BUF struct buf b = { 0 };
	char text[600];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	buf_init(&b, 8192);
	(void)buf_printf(&b, "{\"ok\":false,\"error_code\":%d,\"description\":", code);
	(void)buf_add_json_str(&b, span_str(text));
	(void)buf_add_ch(&b, '}');
	httpd_respond_json(r, code, buf_span(&b));
}

void answer_denied(struct conv *c, struct ctenant *t, struct httpd_req *r, int code, const char *rule,
		   const char *reason, const char *fix, const char *method)
{
	CL_BUF struct buf b = { 0 };
	char id[48] = "", text[CL_ERR_TEXT_MAX + 40];

	c->h.denied(c->h.ctx, t->no, rule, reason, fix, method, code, id, sizeof(id));
	(void)snprintf(text, sizeof(text), "%s: %s", code == 401 ? "Unauthorized" : code == 404 ? "Not Found" :
		       code == 403 ? "Forbidden" : "Bad Request", reason);
	buf_init(&b, 8192);
	(void)buf_printf(&b, "{\"ok\":false,\"error_code\":%d,\"description\":", code);
	(void)buf_add_json_str(&b, span_str(text));
	(void)buf_printf(&b, ",\"rule\":\"%s\",\"reason\":", rule);
	(void)buf_add_json_str(&b, span_str(reason));
	(void)buf_add_str(&b, ",\"fix\":");
	(void)buf_add_json_str(&b, span_str(fix));
	(void)buf_add_str(&b, ",\"id\":");
	(void)buf_add_json_str(&b, span_str(id));
	(void)buf_add_ch(&b, '}');
	httpd_respond_json(r, code, buf_span(&b));
}

#define SEND_EVERY_US 1000000	/* on average; */
#define SEND_BURST 60		/* that many at once */

bool send_room(struct ctenant *t, struct httpd_req *r)
{
	CL_BUF struct buf b = { 0 };
	int64_t now = cl_mono_us();

	/* a bucket of time that fills up as it passes: what is over one's share waits */
	t->sends_left_us += t->sends_at_us ? now - t->sends_at_us : (int64_t)SEND_BURST * SEND_EVERY_US;
	t->sends_at_us = now;
	if (t->sends_left_us > (int64_t)SEND_BURST * SEND_EVERY_US)
		t->sends_left_us = (int64_t)SEND_BURST * SEND_EVERY_US;
	if (t->sends_left_us >= SEND_EVERY_US) {
		t->sends_left_us -= SEND_EVERY_US;
		return true;
	}
	buf_init(&b, 512);
	(void)buf_add_str(&b, "{\"ok\":false,\"error_code\":429,\"description\":\"Too Many Requests: retry after 5\","
			      "\"parameters\":{\"retry_after\":5}}");
	httpd_respond_json(r, 429, buf_span(&b));
	return false;
}

void bot_json(struct buf *out)
{
	(void)buf_printf(out, "{\"id\":%d,\"is_bot\":true,\"first_name\":\"Cloister\",\"username\":\"cloister_bot\"",
			 CONV_BOT);
}

void owner_json(const struct ctenant *t, struct buf *out)
{
	(void)buf_printf(out, "{\"id\":%d,\"is_bot\":false,\"first_name\":", CONV_CHAT);
	(void)buf_add_json_str(out, span_str(t->person));
	(void)buf_add_ch(out, '}');
}

void chat_json(const struct ctenant *t, struct buf *out)
{
	(void)buf_printf(out, "{\"id\":%d,\"type\":\"private\",\"first_name\":", CONV_CHAT);
	(void)buf_add_json_str(out, span_str(t->person));
	(void)buf_add_ch(out, '}');
}

/* The document that is kept beside a message (media, buttons, reply_to, location). */
static json_t *extra_of(const struct cvs_message *m)
{
	return m->extra.n ? json_loadb(m->extra.p, m->extra.n, 0, NULL) : NULL;
}

static void add_buttons(const json_t *rows, struct buf *out)
{
	char *text = json_dumps(rows, JSON_COMPACT);

	if (text)
		(void)buf_printf(out, ",\"reply_markup\":{\"inline_keyboard\":%s}", text);
	free(text);
}

int message_json(struct conv *c, struct ctenant *t, const struct cvs_message *m, struct buf *out)
{
	json_t *extra = extra_of(m), *v;
	bool media = json_is_object(json_object_get(extra, "media"));

	(void)c;
	(void)buf_printf(out, "{\"message_id\":%lld,\"from\":", (long long)m->id);
	if (m->from == CVS_OWNER) {
		owner_json(t, out);
	} else {
		bot_json(out);
		(void)buf_add_ch(out, '}');
	}
	(void)buf_add_str(out, ",\"chat\":");
	chat_json(t, out);
	(void)buf_printf(out, ",\"date\":%lld", (long long)(m->at_ms / 1000));
	if (m->edited_ms)
		(void)buf_printf(out, ",\"edit_date\":%lld", (long long)(m->edited_ms / 1000));
	if (media)
		media_json(json_object_get(extra, "media"), out);
	v = json_object_get(extra, "location");
	if (json_is_object(v))
		(void)buf_printf(out, ",\"location\":{\"latitude\":%.6f,\"longitude\":%.6f}",
				 json_number_value(json_object_get(v, "latitude")),
				 json_number_value(json_object_get(v, "longitude")));
	if (m->text.n) {
		(void)buf_printf(out, ",\"%s\":", media ? "caption" : "text");
		(void)buf_add_json_str(out, m->text);
		if (m->entities.n) {
			(void)buf_printf(out, ",\"%s\":", media ? "caption_entities" : "entities");
			(void)buf_add_span(out, m->entities);
		}
	}
	v = json_object_get(extra, "buttons");
	if (json_is_array(v))
		add_buttons(v, out);
	v = json_object_get(extra, "reply_to");
	if (json_is_integer(v)) {	/* the id is what agents use; the text they know */
		(void)buf_printf(out, ",\"reply_to_message\":{\"message_id\":%lld,\"date\":%lld,\"chat\":",
				 (long long)json_integer_value(v), (long long)(m->at_ms / 1000));
		chat_json(t, out);
		v = json_object_get(extra, "reply_text");
		if (json_is_string(v)) {
			(void)buf_add_str(out, ",\"text\":");
			(void)buf_add_json_str(out, span_str(json_string_value(v)));
		}
		(void)buf_add_ch(out, '}');
	}
	(void)buf_add_ch(out, '}');
	json_decref(extra);
	return out->failed ? -ENOMEM : 0;
}

struct by_id {
	struct conv *c;
	struct ctenant *t;
	struct buf *out;
};

static void on_message(void *ctx, const struct cvs_message *m)
{
	struct by_id *b = ctx;

	(void)message_json(b->c, b->t, m, b->out);	/* the buffer remembers a failure */
}

int message_json_by_id(struct conv *c, struct ctenant *t, int64_t id, struct buf *out)
{
	struct by_id b = { c, t, out };
	int rc = cvs_message_get(c->store, t->no, id, on_message, &b, NULL);

	return rc ? rc : out->failed ? -ENOMEM : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * To Telegram: every request is made here from the stored message. Text goes
 * with entities, never with a parse mode; link previews are off. Runs in: broker.
 */
#include "broker/channel/telegram.h"
#include "broker/media/media.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEND_MS 60000

static void on_sent(struct tg_call *k, int status, bool reached, struct span body)
{
	struct delivery *d = k->delivery;
	json_t *doc = status ? json_loadb(body.p, body.n, JSON_REJECT_DUPLICATES, NULL) : NULL;
	const char *words = json_string_value(json_object_get(doc, "description"));
	const json_t *id = json_object_get(json_object_get(doc, "result"), "message_id");
	char upstream[24] = "", why[200] = "";
	json_int_t s;

	k->delivery = NULL;
	if (words)
		utf8_scrub(span_str(words), why, sizeof(why));
	if (status == 200 && json_is_true(json_object_get(doc, "ok"))) {
		if (json_is_integer(id))
			(void)snprintf(upstream, sizeof(upstream), "%lld", (long long)json_integer_value(id));
		deliver_done(d, OUT_SENT, 0, span_str(upstream), "", 0);
	} else if (status == 429) {
		s = json_integer_value(json_object_get(json_object_get(doc, "parameters"), "retry_after"));
		deliver_done(d, OUT_RETRY, 429, SPAN(""), why, s > 0 && s <= 3600 ? s * 1000 : 5000);
	} else if (status == 401 || status == 404) {
		deliver_done(d, OUT_RETRY, 502, SPAN(""), "Bad Gateway: the messenger refused the bot token", 30000);
	} else if (status == 0 && !reached) {
		deliver_done(d, OUT_RETRY, 502, SPAN(""), "Bad Gateway: the messenger could not be reached",
			     1000LL << (d->tries < 6 ? d->tries : 6));
	} else if (status == 0 || status == 200) {
		deliver_done(d, OUT_UNKNOWN, 502, SPAN(""),
			     "Bad Gateway: the messenger did not say what became of the message", 0);
	} else if (status >= 500) {
		deliver_done(d, OUT_FAILED, 502, SPAN(""), "Bad Gateway: the messenger failed; the message was not sent", 0);
	} else {
		deliver_done(d, OUT_FAILED, status, SPAN(""), why[0] ? why : "Bad Request", 0);
	}
	json_decref(doc);
}

static void add_string(struct buf *b, const char *name, struct span v)
{
	(void)buf_printf(b, ",\"%s\":", name);
	(void)buf_add_json_str(b, v);
}

static void add_markup(struct buf *b, const struct channel_message *m, bool always)
{
	json_t *rows = json_object_get(m->extra, "buttons");
	char *text = rows ? json_dumps(rows, JSON_COMPACT) : NULL;

	if (text)
		(void)buf_printf(b, ",\"reply_markup\":{\"inline_keyboard\":%s}", text);
	else if (always)
		(void)buf_add_str(b, ",\"reply_markup\":{\"inline_keyboard\":[]}");
	free(text);
}

static void add_reply(struct buf *b, const struct channel_message *m)
{
	if (m->reply_upstream.n)
		(void)buf_printf(b, ",\"reply_parameters\":{\"message_id\":%.*s,\"allow_sending_without_reply\":true}",
				 SPAN_FMT(m->reply_upstream));
}

static void add_text(struct buf *b, const struct channel_message *m, bool caption)
{
	if (!caption || m->text.n)
		add_string(b, caption ? "caption" : "text", m->text);
	if (m->entities.n) {
		(void)buf_printf(b, ",\"%s\":", caption ? "caption_entities" : "entities");
		(void)buf_add_span(b, m->entities);
	}
}

/* json_body - the whole request for one operation without a file; returns the method */
static const char *json_body(struct delivery *d, const char *address, const struct channel_message *m, struct buf *b)
{
	const json_t *loc = json_object_get(m->extra, "location");
	bool media = json_object_get(m->extra, "media") != NULL;
	const char *emoji;

	(void)buf_printf(b, "{\"chat_id\":%s", address);
	if (d->op != OP_SEND)
		(void)buf_printf(b, ",\"message_id\":%.*s", SPAN_FMT(m->upstream));
	switch (d->op) {
	case OP_DELETE:
		return "deleteMessage";
	case OP_REACT:
		emoji = json_string_value(json_object_get(m->extra, "reaction"));
		(void)buf_add_str(b, ",\"reaction\":[");
		if (emoji && *emoji) {
			(void)buf_add_str(b, "{\"type\":\"emoji\",\"emoji\":");
			(void)buf_add_json_str(b, span_str(emoji));
			(void)buf_add_ch(b, '}');
		}
		(void)buf_add_ch(b, ']');
		return "setMessageReaction";
	case OP_EDIT:
		add_text(b, m, media);
		if (!media)
			(void)buf_add_str(b, ",\"link_preview_options\":{\"is_disabled\":true}");
		add_markup(b, m, true);
		return media ? "editMessageCaption" : "editMessageText";
	case OP_SEND:
		break;
	}
	add_reply(b, m);
	add_markup(b, m, false);
	if (json_is_object(loc)) {
		(void)buf_printf(b, ",\"latitude\":%.6f,\"longitude\":%.6f",
				 json_number_value(json_object_get(loc, "latitude")),
				 json_number_value(json_object_get(loc, "longitude")));
		return "sendLocation";
	}
	add_text(b, m, false);
	(void)buf_add_str(b, ",\"link_preview_options\":{\"is_disabled\":true}");
	return "sendMessage";
}

static void part(struct buf *b, const char *boundary, const char *name, struct span value)
{
	(void)buf_printf(b, "--%s\r\nContent-Disposition: form-data; name=\"%s\"\r\n\r\n", boundary, name);
	(void)buf_add_span(b, value);
	(void)buf_add_str(b, "\r\n");
}

/* upload - a file with its caption, as multipart made here */
static int upload(struct telegram *tg, struct delivery *d, const char *address, const struct channel_message *m,
		  const json_t *media)
{
	const char *kind = json_string_value(json_object_get(media, "kind"));
	char boundary[40], method[32], type[80], name[64];
	CL_BUF struct buf b = { 0 };
	CL_BUF struct buf data = { 0 };
	CL_BUF struct buf reply = { 0 };
	uint8_t raw[12];
	char hex[25];
	struct cl_err err = { 0 };
	int rc;

	if (!kind)
		return -EINVAL;
	buf_init(&b, MEDIA_MAX + 65536);
	buf_init(&data, MEDIA_MAX + 1);
	buf_init(&reply, 4096);
	rc = media_read(tg->ch.c, d->no, span_str(json_string_value(json_object_get(media, "handle"))), &data, &err);
	if (rc)
		return rc;
	cl_random(raw, sizeof(raw));
	cl_hex(raw, sizeof(raw), hex);
	(void)snprintf(boundary, sizeof(boundary), "cloister-%s", hex);
	media_safe_name(media, name, sizeof(name));
	part(&b, boundary, "chat_id", span_str(address));
	if (m->text.n)
		part(&b, boundary, "caption", m->text);
	if (m->entities.n)
		part(&b, boundary, "caption_entities", m->entities);
	if (m->reply_upstream.n) {
		(void)buf_printf(&reply, "{\"message_id\":%.*s,\"allow_sending_without_reply\":true}",
				 SPAN_FMT(m->reply_upstream));
		part(&b, boundary, "reply_parameters", buf_span(&reply));
	}
	if (json_object_get(m->extra, "buttons")) {
		char *rows = json_dumps(json_object_get(m->extra, "buttons"), JSON_COMPACT);

		buf_clear(&reply);
		(void)buf_printf(&reply, "{\"inline_keyboard\":%s}", rows ? rows : "[]");
		part(&b, boundary, "reply_markup", buf_span(&reply));
		free(rows);
	}
	(void)buf_printf(&b, "--%s\r\nContent-Disposition: form-data; name=\"%s\"; filename=\"%s\"\r\n"
			 "Content-Type: application/octet-stream\r\n\r\n", boundary, kind, name);
	(void)buf_add_span(&b, buf_span(&data));
	(void)buf_printf(&b, "\r\n--%s--\r\n", boundary);
	if (b.failed)
		return -ENOMEM;
	(void)snprintf(method, sizeof(method), "send%c%s", kind[0] - 'a' + 'A', kind + 1);
	if (!strcmp(kind, "video_note"))
		(void)snprintf(method, sizeof(method), "sendVideoNote");
	(void)snprintf(type, sizeof(type), "multipart/form-data; boundary=%s", boundary);
	return tg_call(tg, method, type, buf_span(&b), SEND_MS, on_sent, d, NULL);
}

void tg_deliver(struct channel *ch, struct delivery *d, const char *address, const struct channel_message *m)
{
	struct telegram *tg = (struct telegram *)ch;
	const json_t *media = json_object_get(m->extra, "media");
	CL_BUF struct buf b = { 0 };
	const char *method;
	int rc;

	if (d->op == OP_SEND && json_is_object(media)) {
		rc = upload(tg, d, address, m, media);
	} else {
		buf_init(&b, 256 * 1024);
		method = json_body(d, address, m, &b);
		(void)buf_add_ch(&b, '}');
		rc = b.failed ? -ENOMEM : tg_call(tg, method, "application/json", buf_span(&b), SEND_MS, on_sent, d, NULL);
	}
	if (rc == -ENOKEY)
		deliver_done(d, OUT_RETRY, 502, SPAN(""), "Bad Gateway: the bot token is not set", 30000);
	else if (rc)
		deliver_done(d, rc == -ENOMEM || rc == -EAGAIN ? OUT_RETRY : OUT_FAILED, 500, SPAN(""),
			     "Internal Server Error: the message could not be prepared", 2000);
}

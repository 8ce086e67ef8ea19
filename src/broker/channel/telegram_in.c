/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From Telegram: updates become messages of the tenant that the sender's chat
 * is bound to. Nothing of an update goes on as it is; ids become the tenant's
 * own. Chats that are bound to nobody get a polite sentence and reach no agent.
 * Runs in: broker.
 */
#include "broker/channel/telegram.h"
#include "broker/conv/entities.h"
#include "broker/media/media.h"
#include "wire/tenant.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_MAX 100
#define REFUSE_GAP_US (600 * 1000000LL)

/* What has to be done once the batch is on the disk. */
struct after {
	uint32_t no;		/* 0: nothing for a tenant */
	int64_t message_id;	/* > 0: a new message */
	int64_t chat;
	const char *say;	/* a sentence for the chat, or NULL */
	const char *callback;	/* id of a pressed button to be confirmed; borrowed from the update */
};

struct batch {
	struct telegram *tg;
	struct after list[BATCH_MAX];
	size_t n;
};

static struct span string_of(const json_t *o, const char *name)
{
	const json_t *v = json_object_get(o, name);

	return (struct span){ json_string_value(v), json_string_length(v) };
}

static int64_t int_of(const json_t *o, const char *name)
{
	return json_integer_value(json_object_get(o, name));
}

/* private_chat - the sender's own chat with the bot; 0 for groups, channels, other bots */
static int64_t private_chat(const json_t *message, const json_t *from)
{
	const json_t *chat = json_object_get(message, "chat");
	int64_t id = int_of(chat, "id");

	if (!span_eq_str(string_of(chat, "type"), "private") || id <= 0 || id != int_of(from, "id") ||
	    json_is_true(json_object_get(from, "is_bot")))
		return 0;
	return id;
}

static void address_of(int64_t chat, char out[24])
{
	(void)snprintf(out, 24, "%lld", (long long)chat);
}

static void say(struct batch *b, int64_t chat, const char *text)
{
	if (b->n < BATCH_MAX)
		b->list[b->n++] = (struct after){ .chat = chat, .say = text };
}

/* refuse - once in ten minutes a chat, so that nobody can make the bot talk */
static void refuse(struct batch *b, int64_t chat, const char *text)
{
	struct telegram *tg = b->tg;
	int64_t now = cl_mono_us();

	for (size_t i = 0; i < REFUSED_CHATS; i++)
		if (tg->refused[i].chat == chat && now - tg->refused[i].at_us < REFUSE_GAP_US)
			return;
	/* a full table means hundreds of strangers within ten minutes: then they get silence */
	if (tg->refused[tg->refused_at].chat && now - tg->refused[tg->refused_at].at_us < REFUSE_GAP_US)
		return;
	tg->refused[tg->refused_at].chat = chat;
	tg->refused[tg->refused_at].at_us = now;
	tg->refused_at = (tg->refused_at + 1) % REFUSED_CHATS;
	say(b, chat, text);
}

/* ---- media ---------------------------------------------------------------------- */

static const struct { const char *key, *mime; } kinds[] = {
	{ "photo", "image/jpeg" }, { "voice", "audio/ogg" }, { "audio", "audio/mpeg" },
	{ "animation", "video/mp4" }, { "video", "video/mp4" }, { "video_note", "video/mp4" },
	{ "sticker", "image/webp" }, { "document", "application/octet-stream" },
};

/* take_media - the first file of the message, as a handle; *out NULL when it has none */
static int take_media(struct telegram *tg, uint32_t no, const json_t *message, json_t **out, struct cl_err *err)
{
	static const char *const numbers[] = { "width", "height", "duration" };
	char handle[MEDIA_HANDLE];
	struct span mime, name, file;
	const json_t *f = NULL;
	size_t k;
	int rc;

	*out = NULL;
	for (k = 0; k < CL_ARRAY_LEN(kinds); k++) {
		f = json_object_get(message, kinds[k].key);
		if (json_is_array(f))	/* a photo in several sizes: the largest is the last */
			f = json_array_size(f) ? json_array_get(f, json_array_size(f) - 1) : NULL;
		if (json_is_object(f))
			break;
	}
	if (k == CL_ARRAY_LEN(kinds))
		return 0;
	mime = string_of(f, "mime_type");
	name = string_of(f, "file_name");
	file = string_of(f, "file_id");
	if (!file.n || file.n > 256)
		return 0;
	rc = media_note(tg->ch.c, no, kinds[k].key, mime.n && mime.n < 100 ? mime : span_str(kinds[k].mime), name, file,
			int_of(f, "file_size"), handle, err);
	if (rc)
		return rc;
	*out = json_pack("{s:s, s:s, s:s#, s:I}", "kind", kinds[k].key, "handle", handle, "mime",
			 mime.n && mime.n < 100 ? mime.p : kinds[k].mime,
			 mime.n && mime.n < 100 ? (int)mime.n : (int)strlen(kinds[k].mime), "size",
			 (json_int_t)int_of(f, "file_size"));
	if (name.n && name.n <= 200)
		(void)json_object_set_new(*out, "name", json_stringn(name.p, name.n));
	for (size_t i = 0; i < CL_ARRAY_LEN(numbers); i++)
		if (json_is_integer(json_object_get(f, numbers[i])))
			(void)json_object_set(*out, numbers[i], json_object_get(f, numbers[i]));
	(void)json_object_set_new(*out, "channel", json_string(tg->ch.name));
	return 0;
}

/* ---- messages -------------------------------------------------------------------- */

struct content {
	struct span text;
	char text_buf[128];
	struct buf entities;
	char *extra;
};

/* read_content - what of a message an agent can understand; false: nothing */
static int read_content(struct telegram *tg, struct ctenant *t, const json_t *message, const char *address,
			struct content *k, bool *out_any, struct cl_err *err)
{
	const json_t *loc = json_object_get(message, "location"), *contact = json_object_get(message, "contact");
	const json_t *reply = json_object_get(message, "reply_to_message");
	json_t *extra = json_object(), *media = NULL;
	bool caption;
	int rc = take_media(tg, t->no, message, &media, err);

	if (rc) {
		json_decref(extra);
		return rc;
	}
	caption = media != NULL;
	if (media)
		(void)json_object_set_new(extra, "media", media);
	k->text = string_of(message, caption ? "caption" : "text");
	if (json_is_object(loc))
		(void)json_object_set_new(extra, "location", json_pack("{s:f, s:f}", "latitude",
			json_number_value(json_object_get(loc, "latitude")), "longitude",
			json_number_value(json_object_get(loc, "longitude"))));
	if (json_is_object(contact) && !k->text.n) {
		(void)snprintf(k->text_buf, sizeof(k->text_buf), "Contact: %.40s %.40s",
			       json_string_value(json_object_get(contact, "first_name")) ?: "",
			       json_string_value(json_object_get(contact, "phone_number")) ?: "");
		k->text = utf8_ok(span_str(k->text_buf)) ? span_str(k->text_buf) : SPAN("Contact");
	}
	if (json_is_object(reply)) {
		char up[24];
		int64_t id = 0;

		address_of(int_of(reply, "message_id"), up);
		if (cvs_message_by_upstream(tg->ch.c->store, t->no, span_str(tg->ch.name), span_str(address),
					    span_str(up), &id, NULL) == 0)
			(void)json_object_set_new(extra, "reply_to", json_integer(id));
		if (json_is_string(json_object_get(reply, "text")) && id)
			(void)json_object_set(extra, "reply_text", json_object_get(reply, "text"));
	}
	rc = entities_filter(json_object_get(message, caption ? "caption_entities" : "entities"), k->text, &k->entities);
	*out_any = k->text.n || caption || json_is_object(loc);
	k->extra = json_object_size(extra) ? json_dumps(extra, JSON_COMPACT) : NULL;
	json_decref(extra);
	return rc ? cl_fail(err, -rc, "entities") : 0;
}

static void content_done(struct content *k)
{
	buf_done(&k->entities);
	free(k->extra);
}

static int on_edited(struct telegram *tg, struct ctenant *t, const json_t *message, const char *address,
		     struct content *k, struct cl_err *err)
{
	struct conv *c = tg->ch.c;
	CL_BUF struct buf body = { 0 };
	int64_t id = 0, update;
	char up[24];
	int rc;

	address_of(int_of(message, "message_id"), up);
	rc = cvs_message_by_upstream(c->store, t->no, span_str(tg->ch.name), span_str(address), span_str(up), &id, err);
	if (rc)
		return rc == -ENOENT ? 0 : rc;	/* older than this conversation */
	rc = cvs_message_edit(c->store, t->no, id, k->text, k->entities.n ? buf_span(&k->entities) : (struct span){ 0 },
			      k->extra ? span_str(k->extra) : (struct span){ 0 }, conv_now_ms(), err);
	buf_init(&body, 256 * 1024);
	if (rc == 0)
		rc = message_json_by_id(c, t, id, &body);
	return rc ? rc : cvs_update_add(c->store, t->no, "edited_message", buf_span(&body), 0, &update, err);
}

/* on_message - inside the batch's transaction */
static int on_message(struct batch *b, const json_t *message, bool edited, struct cl_err *err)
{
	struct telegram *tg = b->tg;
	struct conv *c = tg->ch.c;
	const json_t *from = json_object_get(message, "from");
	int64_t chat = private_chat(message, from), id = 0;
	char address[24], up[24];
	struct content k = { 0 };
	struct ctenant *t;
	uint32_t no = 0;
	bool any = false;
	int rc, status;

	if (!chat)
		return 0;
	address_of(chat, address);
	rc = cvs_binding_owner(c->store, span_str(tg->ch.name), span_str(address), &no, err);
	t = rc == 0 ? conv_tenant(c, no) : NULL;
	if (rc == -ENOENT || (rc == 0 && !t)) {
		refuse(b, chat, "This assistant is private. If you were given an invitation link, please open it once more.");
		return 0;
	}
	if (rc)
		return rc;
	buf_init(&k.entities, 64 * 1024);
	rc = read_content(tg, t, message, address, &k, &any, err);
	if (rc == 0 && !any && !edited)
		say(b, chat, "Sorry, this kind of message cannot be read here yet.");
	else if (rc == 0 && k.text.n && text_problem(k.text, &status) && status == 413)
		say(b, chat, "This message is too long. Please send it in parts.");
	else if (rc == 0 && any && edited)
		rc = on_edited(tg, t, message, address, &k, err);
	else if (rc == 0 && any) {
		address_of(int_of(message, "message_id"), up);
		if (cvs_message_by_upstream(c->store, no, span_str(tg->ch.name), span_str(address), span_str(up), &id, NULL))
			rc = inbound_store(c, t, &(struct inbound){ .channel = span_str(tg->ch.name),
				.address = span_str(address), .upstream = span_str(up), .text = k.text,
				.entities = buf_span(&k.entities), .extra = k.extra ? span_str(k.extra) : (struct span){ 0 },
				.at_ms = int_of(message, "date") * 1000 }, &id, err);
		else
			id = 0;	/* this very message is stored already */
	}
	content_done(&k);
	if (rc == -ENOBUFS) {	/* said to the person; the messenger must not keep offering it */
		say(b, chat, "Many of your messages wait for your assistant already; this one was not taken.");
		return 0;
	}
	if (rc == 0 && any && (id || edited) && b->n < BATCH_MAX)
		b->list[b->n++] = (struct after){ .no = no, .message_id = edited ? 0 : id };
	return rc;
}

/* on_callback - a button was pressed */
static int on_callback(struct batch *b, const json_t *q, struct cl_err *err)
{
	struct telegram *tg = b->tg;
	struct conv *c = tg->ch.c;
	const json_t *message = json_object_get(q, "message");
	struct span data = string_of(q, "data");
	int64_t chat = private_chat(message, json_object_get(q, "from")), id = 0, update;
	char address[24], up[24], handle[33];
	CL_BUF struct buf body = { 0 };
	struct ctenant *t;
	uint8_t raw[16];
	uint32_t no = 0;

	if (!chat || b->n >= BATCH_MAX)
		return 0;
	b->list[b->n++] = (struct after){ .callback = json_string_value(json_object_get(q, "id")) };
	address_of(chat, address);
	address_of(int_of(message, "message_id"), up);
	if (!data.n || data.n > 64 ||
	    cvs_binding_owner(c->store, span_str(tg->ch.name), span_str(address), &no, NULL) ||
	    !(t = conv_tenant(c, no)) ||
	    cvs_message_by_upstream(c->store, no, span_str(tg->ch.name), span_str(address), span_str(up), &id, NULL))
		return 0;
	cl_random(raw, sizeof(raw));
	cl_hex(raw, sizeof(raw), handle);
	buf_init(&body, 256 * 1024);
	(void)buf_printf(&body, "{\"id\":\"%s\",\"chat_instance\":\"%d\",\"from\":", handle, CONV_CHAT);
	owner_json(t, &body);
	(void)buf_add_str(&body, ",\"message\":");
	if (message_json_by_id(c, t, id, &body))
		return cl_fail(err, ENOMEM, "button");
	(void)buf_add_str(&body, ",\"data\":");
	(void)buf_add_json_str(&body, data);
	(void)buf_add_ch(&body, '}');
	b->list[b->n - 1].no = no;
	return cvs_update_add(c->store, no, "callback_query", buf_span(&body), 0, &update, err);
}

/* ---- binding ------------------------------------------------------------------------ */

/* start_code - the code of "/start <code>", or an empty span */
static struct span start_code(const json_t *message)
{
	struct span text = string_of(message, "text");

	if (!span_starts(text, SPAN("/start ")))
		return (struct span){ 0 };
	return span_trim((struct span){ text.p + 7, text.n - 7 });
}

static void on_start(struct batch *b, const json_t *message)
{
	struct telegram *tg = b->tg;
	struct conv *c = tg->ch.c;
	const json_t *from = json_object_get(message, "from");
	struct span first = string_of(from, "first_name"), code = start_code(message);
	int64_t chat = private_chat(message, from);
	struct cl_err err = { 0 };
	struct ctenant *t = NULL;
	char address[24], name[61];
	uint32_t no;
	int rc;

	if (!chat)
		return;
	address_of(chat, address);
	utf8_scrub(first, name, sizeof(name));
	rc = channel_bind(c, span_str(tg->ch.name), span_str(address), span_str(name), code, &t, &err);
	if (rc == 0) {
		if (name[0])
			(void)snprintf(t->person, sizeof(t->person), "%s", name);
		if (!t->last_channel[0] && cvs_tenant_last(c->store, t->no, span_str(tg->ch.name), span_str(address), NULL) == 0) {
			(void)snprintf(t->last_channel, sizeof(t->last_channel), "%s", tg->ch.name);
			(void)snprintf(t->last_address, sizeof(t->last_address), "%s", address);
		}
		say(b, chat, "Welcome! This chat is now connected to your assistant. Just write.");
	} else if (rc == -EALREADY && cvs_binding_owner(c->store, span_str(tg->ch.name), span_str(address), &no, NULL) == 0) {
		say(b, chat, "This chat is connected to your assistant. Just write.");
	} else if (rc == -ETIME) {
		refuse(b, chat, "This invitation has expired. Please ask for a new one.");
	} else if (rc == -EEXIST) {
		refuse(b, chat, "This chat belongs to another assistant already.");
	} else {
		refuse(b, chat, "This invitation is not valid (any more). Please ask for a new one.");
	}
}

/* ---- a batch ---------------------------------------------------------------------------- */

static void after_batch(struct batch *b)
{
	struct conv *c = b->tg->ch.c;
	char body[160];

	for (size_t i = 0; i < b->n; i++) {
		struct after *a = &b->list[i];
		struct ctenant *t = a->no ? conv_tenant(c, a->no) : NULL;

		if (a->say)
			tg_say(b->tg, a->chat, a->say);
		if (a->callback && name_ok(span_str(a->callback))) {
			int n = snprintf(body, sizeof(body), "{\"callback_query_id\":\"%s\"}", a->callback);

			(void)tg_call(b->tg, "answerCallbackQuery", "application/json", (struct span){ body, (size_t)n }, 10000,
				      tg_ignore, NULL, NULL);	/* only stops the button's spinner */
		}
		if (t && a->message_id)
			inbound_told(c, t, a->message_id);
		else if (t)
			poll_wake(c, t);
	}
}

static int one_update(struct batch *b, const json_t *u, struct cl_err *err)
{
	const json_t *m;

	if (json_is_object(m = json_object_get(u, "message")))
		return on_message(b, m, false, err);
	if (json_is_object(m = json_object_get(u, "edited_message")))
		return on_message(b, m, true, err);
	if (json_is_object(m = json_object_get(u, "callback_query")))
		return on_callback(b, m, err);
	return 0;
}

/* store_one - an update and the offset behind it in one transaction */
static int store_one(struct batch *b, const json_t *u, int64_t next, struct cl_err *err)
{
	struct conv *c = b->tg->ch.c;
	const json_t *m = json_object_get(u, "message");
	int rc;

	if (start_code(m).n) {	/* has a transaction of its own; doing it twice does no harm */
		on_start(b, m);
		return cvs_channel_offset_put(c->store, span_str(b->tg->ch.name), next, err);
	}
	rc = cvs_begin(c->store, err);
	if (rc)
		return rc;
	rc = one_update(b, u, err);
	if (rc == 0)
		rc = cvs_channel_offset_put(c->store, span_str(b->tg->ch.name), next, err);
	if (rc) {
		cvs_rollback(c->store);
		return rc;
	}
	return cvs_commit(c->store, err);
}

int tg_updates(struct telegram *tg, const json_t *updates, struct cl_err *err)
{
	struct batch *b = calloc(1, sizeof(*b));
	int rc = 0;

	if (!b)
		return cl_fail(err, ENOMEM, "updates");
	b->tg = tg;
	for (size_t i = 0; i < json_array_size(updates) && i < BATCH_MAX && rc == 0; i++) {
		const json_t *u = json_array_get(updates, i);
		int64_t id = int_of(u, "update_id");
		size_t before = b->n;

		if (!json_is_integer(json_object_get(u, "update_id")) || id < tg->offset)
			continue;
		rc = store_one(b, u, id + 1, err);
		if (rc == 0)
			tg->offset = id + 1;
		else
			b->n = before;	/* was not stored: nothing of it is told */
	}
	after_batch(b);
	free(b);
	return rc;
}

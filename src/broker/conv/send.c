/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agent says: read, checked, stored, given to the messenger. Nothing
 * of the agent's request goes on as it is: text and entities, buttons and
 * files are written anew. Runs in: broker.
 */
#include "broker/conv/conv_impl.h"
#include "broker/conv/entities.h"
#include "broker/conv/outgoing.h"
#include "broker/media/media.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUTTON_ROWS_MAX 20
#define BUTTONS_ROW_MAX 8
#define TAIL_BYTES 1024		/* of earlier messages that the scan sees together with a new one */

void outgoing_init(struct outgoing *o)
{
	*o = (struct outgoing){ .extra = json_object() };
	buf_init(&o->text, CVS_TEXT_MAX * 2);
	buf_init(&o->entities, 64 * 1024);
}

void outgoing_done(struct outgoing *o)
{
	buf_done(&o->text);
	buf_done(&o->entities);
	json_decref(o->extra);
}

static bool blank(struct span s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!memchr(" \t\r\n", s.p[i], 4))
			return false;
	return true;
}

int outgoing_text(struct outgoing *o, struct params *p, const char *name, size_t units_max,
		  struct httpd_req *r)
{
	bool caption = units_max == CAPTION_UNITS_MAX;
	struct span text = params_text(p, name);
	char why[160];
	int rc;

	rc = entities_read(text, params_text(p, "parse_mode"),
			   params_json(p, caption ? "caption_entities" : "entities"), &o->text, &o->entities, why,
			   sizeof(why));
	if (rc == -EINVAL)
		answer_error(r, 400, "Bad Request: %s", why);
	else if (rc || o->text.failed || utf16_len(buf_span(&o->text)) > units_max)
		answer_error(r, 400, "Bad Request: %s is too long", caption ? "message caption" : "message");
	else if (!caption && blank(buf_span(&o->text)))
		answer_error(r, 400, "Bad Request: message text is empty");
	else
		return 0;
	return -EINVAL;
}

/* button - one of a row, written anew; NULL when it cannot be shown */
static json_t *button(const json_t *b)
{
	const char *text = json_string_value(json_object_get(b, "text"));
	const char *data = json_string_value(json_object_get(b, "callback_data"));
	const char *url = json_string_value(json_object_get(b, "url"));

	if (!text || !*text || strlen(text) > 256)
		return NULL;
	if (data && *data && strlen(data) <= 64)
		return json_pack("{s:s, s:s}", "text", text, "callback_data", data);
	if (url && (!strncmp(url, "https://", 8) || !strncmp(url, "http://", 7)) && strlen(url) <= 2048)
		return json_pack("{s:s, s:s}", "text", text, "url", url);
	return NULL;	/* web apps, logins, inline queries: ways out of the conversation */
}

void outgoing_buttons(struct outgoing *o, const struct params *p)
{
	const json_t *rows = json_object_get(params_json(p, "reply_markup"), "inline_keyboard");
	json_t *out = json_array();

	for (size_t i = 0; i < json_array_size(rows) && i < BUTTON_ROWS_MAX; i++) {
		const json_t *row = json_array_get(rows, i);
		json_t *line = json_array();

		for (size_t k = 0; k < json_array_size(row) && k < BUTTONS_ROW_MAX; k++) {
			json_t *b = button(json_array_get(row, k));

			if (b)
				(void)json_array_append_new(line, b);
		}
		if (json_array_size(line))
			(void)json_array_append_new(out, line);
		else
			json_decref(line);
	}
	if (json_array_size(out))
		(void)json_object_set_new(o->extra, "buttons", out);
	else
		json_decref(out);
}

struct reply_text {
	json_t *extra;
};

static void on_replied(void *ctx, const struct cvs_message *m)
{
	struct reply_text *x = ctx;
	size_t n = m->text.n < 400 ? m->text.n : 400;

	while (n && n < m->text.n && ((unsigned char)m->text.p[n] & 0xc0) == 0x80)
		n--;
	(void)json_object_set_new(x->extra, "reply_to", json_integer(m->id));
	if (n)
		(void)json_object_set_new(x->extra, "reply_text", json_stringn(m->text.p, n));
}

/* set_reply - only to a message of this conversation; another is left out, as if it were gone */
static void set_reply(struct conv *c, struct ctenant *t, struct outgoing *o, const struct params *p)
{
	json_t *rp = params_json(p, "reply_parameters");
	int64_t id = 0;

	if (json_is_integer(json_object_get(rp, "message_id")))
		id = json_integer_value(json_object_get(rp, "message_id"));
	else if (params_i64(p, "reply_to_message_id", &id))
		return;
	(void)cvs_message_get(c->store, t->no, id, on_replied, &(struct reply_text){ o->extra }, NULL);
}

/* leak - text and buttons, and the end of what was said before (a secret in two halves) */
bool outgoing_leaks(struct conv *c, struct ctenant *t, struct outgoing *o, struct httpd_req *r, const char *method)
{
	char *extra = json_dumps(o->extra, JSON_COMPACT), what[80] = "", reason[200];
	CL_BUF struct buf all = { 0 };
	bool bad;

	buf_init(&all, CVS_TEXT_MAX * 4);
	(void)buf_add_span(&all, buf_span(&t->tail));
	(void)buf_add_span(&all, buf_span(&o->text));
	bad = c->h.leaks(c->h.ctx, t->no, buf_span(&o->text), what, sizeof(what)) ||
	      c->h.leaks(c->h.ctx, t->no, buf_span(&all), what, sizeof(what)) ||
	      (extra && c->h.leaks(c->h.ctx, t->no, span_str(extra), what, sizeof(what)));
	free(extra);
	if (!bad)
		return false;
	(void)snprintf(reason, sizeof(reason), "the message contains a secret (%s)", what);
	answer_denied(c, t, r, 403, "conversation.leak", reason,
		      "leave the secret out; the operator was told and should rotate it", method);
	(void)conv_notice(c, t->no, "A message of your assistant was stopped because it contained a secret of "
				    "this service. The people who run it have been told.");
	return true;
}

void outgoing_said(struct ctenant *t, struct span text)
{
	if (text.n >= TAIL_BYTES) {
		buf_clear(&t->tail);
		(void)buf_add(&t->tail, text.p + text.n - TAIL_BYTES, TAIL_BYTES);
		return;
	}
	if (t->tail.n + text.n > TAIL_BYTES)
		buf_consume(&t->tail, t->tail.n + text.n - TAIL_BYTES);
	(void)buf_add_span(&t->tail, text);	/* within its maximum */
}

/* record_out - the message is accepted; its fate is another record */
static void record_out(struct conv *c, struct ctenant *t, int64_t id, const char *form, size_t bytes)
{
	struct record rec;

	record_begin(&rec, RECORD_MESSAGE, t->id);
	record_num(&rec, RF_MESSAGE, (uint64_t)id);
	record_str(&rec, RF_DIRECTION, "out");
	record_str(&rec, RF_FATE, "accepted");
	record_str(&rec, RF_CHANNEL, t->last_channel[0] ? t->last_channel : "web");
	record_str(&rec, RF_FORM, form);
	record_num(&rec, RF_BYTES_N, bytes);
	c->h.record(c->h.ctx, &rec);
}

int outgoing_store(struct conv *c, struct ctenant *t, struct outgoing *o, const char *form, int64_t *out_id,
		   struct delivery **out, struct cl_err *err)
{
	char *extra = json_object_size(o->extra) ? json_dumps(o->extra, JSON_COMPACT) : NULL;
	struct cvs_message m = {
		.no = t->no, .from = CVS_AGENT, .state = CVS_SENT, .at_ms = conv_now_ms(),
		.text = buf_span(&o->text), .entities = o->entities.n ? buf_span(&o->entities) : (struct span){ 0 },
		.extra = extra ? span_str(extra) : (struct span){ 0 },
	};
	struct delivery *d = NULL;
	int rc = cvs_begin(c->store, err);

	if (rc == 0) {
		rc = cvs_message_add(c->store, &m, err);
		if (rc == 0)
			rc = deliver_add(c, t, m.id, OP_SEND, &d, err);
		if (rc == 0)
			rc = cvs_commit(c->store, err);
		else
			cvs_rollback(c->store);
	}
	free(extra);
	if (rc) {
		deliver_forget(d);
		return rc;
	}
	t->typing_until_us = 0;
	outgoing_said(t, buf_span(&o->text));
	record_out(c, t, m.id, form, o->text.n);
	page_event(c, t, m.id);
	*out_id = m.id;
	*out = d;
	return 0;
}

static void store_failed(struct httpd_req *r, const struct cl_err *err)
{
	cl_log(CL_ERROR, "conversation.store", "outcome=failed error=%s", cl_kvs(cl_err_str(err)));
	answer_error(r, 500, "Internal Server Error: the message could not be stored, so it was not sent");
}

/* finish - store, start, and answer @r when its fate is known */
static void finish(struct conv *c, struct ctenant *t, struct httpd_req *r, struct outgoing *o, const char *form)
{
	struct delivery *d = NULL;
	struct cl_err err = { 0 };
	int64_t id = 0;

	if (outgoing_store(c, t, o, form, &id, &d, &err)) {
		store_failed(r, &err);
		return;
	}
	wait_for(c, t, r, d, id, false);
	if (d)
		deliver_start(d);
}

static void send_text(struct conv *c, struct ctenant *t, struct httpd_req *r, struct params *p)
{
	struct outgoing o;

	outgoing_init(&o);
	if (outgoing_text(&o, p, "text", TEXT_UNITS_MAX, r) == 0) {
		outgoing_buttons(&o, p);
		set_reply(c, t, &o, p);
		if (!outgoing_leaks(c, t, &o, r, p->method->name))
			finish(c, t, r, &o, "text");
	}
	outgoing_done(&o);
}

static void send_location(struct conv *c, struct ctenant *t, struct httpd_req *r, struct params *p)
{
	char lat[24], lon[24], *end;
	struct outgoing o;
	double a, b;

	if (span_copy(params_text(p, "latitude"), lat, sizeof(lat)) ||
	    span_copy(params_text(p, "longitude"), lon, sizeof(lon))) {
		answer_error(r, 400, "Bad Request: latitude and longitude are numbers");
		return;
	}
	a = strtod(lat, &end);
	if (*end || !(a >= -90 && a <= 90)) {
		answer_error(r, 400, "Bad Request: latitude must be between -90 and 90");
		return;
	}
	b = strtod(lon, &end);
	if (*end || !(b >= -180 && b <= 180)) {
		answer_error(r, 400, "Bad Request: longitude must be between -180 and 180");
		return;
	}
	outgoing_init(&o);
	(void)json_object_set_new(o.extra, "location", json_pack("{s:f, s:f}", "latitude", a, "longitude", b));
	(void)buf_printf(&o.text, "\xf0\x9f\x93\x8d %.6f, %.6f", a, b);
	finish(c, t, r, &o, "location");
	outgoing_done(&o);
}

struct copy {
	struct outgoing *o;
	bool found;
};

static void on_copied(void *ctx, const struct cvs_message *m)
{
	struct copy *k = ctx;
	json_t *extra = m->extra.n ? json_loadb(m->extra.p, m->extra.n, 0, NULL) : NULL;

	k->found = true;
	(void)buf_add_span(&k->o->text, m->text);
	(void)buf_add_span(&k->o->entities, m->entities);
	if (json_object_get(extra, "media"))
		(void)json_object_set(k->o->extra, "media", json_object_get(extra, "media"));
	json_decref(extra);
}

/* copy - forward and copy inside the own chat: from_chat_id was checked like chat_id */
static void copy(struct conv *c, struct ctenant *t, struct httpd_req *r, struct params *p)
{
	struct outgoing o;
	struct copy k = { .o = &o };
	int64_t id = 0;

	outgoing_init(&o);
	(void)params_i64(p, "message_id", &id);	/* required and checked */
	(void)cvs_message_get(c->store, t->no, id, on_copied, &k, NULL);
	if (!k.found)
		answer_error(r, 400, "Bad Request: message to copy not found");
	else if (!outgoing_leaks(c, t, &o, r, p->method->name))
		finish(c, t, r, &o, "copy");
	outgoing_done(&o);
}

void do_send(struct conv *c, struct ctenant *t, struct httpd_req *r, struct params *p)
{
	enum method_do what = p->method->what;

	if (!send_room(t, r))
		return;
	if (what == DO_SEND_TEXT)
		send_text(c, t, r, p);
	else if (what == DO_SEND_LOCATION)
		send_location(c, t, r, p);
	else if (what == DO_COPY)
		copy(c, t, r, p);
	else
		send_media(c, t, r, p);
}

void outgoing_finish(struct conv *c, struct ctenant *t, struct httpd_req *r, struct outgoing *o,
		     const struct params *p, const char *form)
{
	outgoing_buttons(o, p);
	set_reply(c, t, o, p);
	if (!outgoing_leaks(c, t, o, r, p->method->name))
		finish(c, t, r, o, form);
}

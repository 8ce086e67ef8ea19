/* SPDX-License-Identifier: Apache-2.0 */
/* From the person to the agent: checked, stored, then told. Runs in: broker. */
#include "broker/conv/conv_impl.h"
#include "broker/conv/entities.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *text_problem(struct span text, int *out_status)
{
	bool blank = true;

	*out_status = 422;
	if (!utf8_ok(text) || (text.n && memchr(text.p, 0, text.n)))
		return "This message is not valid text (UTF-8).";
	for (size_t i = 0; i < text.n; i++)
		blank = blank && memchr(" \t\r\n", text.p[i], 4) != NULL;
	if (blank)
		return "This message is empty.";
	*out_status = 413;
	if (utf16_len(text) > TEXT_UNITS_MAX)
		return "This message is too long: at most 4096 characters. Please send it in parts.";
	return NULL;
}

/* entities_for - a command at the start is marked, as Telegram does; else what the messenger gave */
static void entities_for(const struct inbound *in, struct buf *out)
{
	size_t n = 1;

	if (in->entities.n) {
		(void)buf_add_span(out, in->entities);
		return;
	}
	if (in->text.n < 2 || in->text.p[0] != '/')
		return;
	while (n < in->text.n && n <= 32 && memchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_",
						  in->text.p[n], 63))
		n++;
	if (n > 1)
		(void)buf_printf(out, "[{\"type\":\"bot_command\",\"offset\":0,\"length\":%zu}]", n);
}

int inbound_store(struct conv *c, struct ctenant *t, const struct inbound *in, int64_t *out_id,
		  struct cl_err *err)
{
	CL_BUF struct buf entities = { 0 };
	CL_BUF struct buf body = { 0 };
	struct cvs_message m = { .no = t->no, .from = CVS_OWNER, .state = CVS_WAITING,
				 .at_ms = in->at_ms ? in->at_ms : conv_now_ms(), .text = in->text,
				 .extra = in->extra, .client_id = in->client_id, .channel = in->channel,
				 .address = in->address, .upstream = in->upstream };
	int64_t update;
	int rc;

	if (cvs_waiting(c->store, t->no, NULL) >= WAITING_MAX)
		return cl_fail(err, ENOBUFS, "too many messages wait for the agent");
	buf_init(&entities, 64 * 1024);
	buf_init(&body, 256 * 1024);
	entities_for(in, &entities);
	if (entities.n)
		m.entities = buf_span(&entities);
	rc = cvs_message_add(c->store, &m, err);
	*out_id = m.id;
	if (rc)
		return rc;
	rc = message_json(c, t, &m, &body);
	if (rc)
		return cl_fail(err, -rc, "message");
	rc = cvs_update_add(c->store, t->no, "message", buf_span(&body), m.id, &update, err);
	if (rc == 0)
		rc = cvs_tenant_last(c->store, t->no, in->channel, in->address, err);
	if (rc)
		return rc;
	(void)span_copy(in->channel, t->last_channel, sizeof(t->last_channel));	/* ours, fits */
	(void)span_copy(in->address, t->last_address, sizeof(t->last_address));
	struct record rec;

	record_begin(&rec, RECORD_MESSAGE, t->id);
	record_num(&rec, RF_MESSAGE, (uint64_t)m.id);
	record_str(&rec, RF_DIRECTION, "in");
	record_str(&rec, RF_FATE, "accepted");
	record_text(&rec, RF_CHANNEL, in->channel);
	record_str(&rec, RF_FORM, in->extra.n ? "media" : "text");
	record_num(&rec, RF_BYTES_N, in->text.n);
	c->h.record(c->h.ctx, &rec);
	return 0;
}

int conv_notice(struct conv *c, uint32_t no, const char *text)
{
	struct ctenant *t = conv_tenant(c, no);
	struct cvs_message m = { .no = no, .from = CVS_NOTICE, .state = CVS_SENT, .at_ms = conv_now_ms(),
				 .text = span_str(text) };
	struct delivery *d = NULL;
	struct cl_err err = { 0 };
	int rc;

	if (!t)
		return -ENOENT;
	rc = cvs_begin(c->store, &err);
	if (rc == 0) {
		rc = cvs_message_add(c->store, &m, &err);
		if (rc == 0)
			rc = deliver_add(c, t, m.id, OP_SEND, &d, &err);
		if (rc == 0)
			rc = cvs_commit(c->store, &err);
		else
			cvs_rollback(c->store);
	}
	if (rc) {
		deliver_forget(d);
		cl_log(CL_ERROR, "conversation.notice", "tenant=%s outcome=failed error=%s", t->id,
		       cl_kvs(cl_err_str(&err)));
		return rc;
	}
	page_event(c, t, m.id);
	if (d)
		deliver_start(d);
	return 0;
}

/* ---- as the page and the CLI see it ------------------------------------------------ */

int page_message_json(struct conv *c, struct ctenant *t, const struct cvs_message *m, struct buf *out)
{
	json_t *extra = m->extra.n ? json_loadb(m->extra.p, m->extra.n, 0, NULL) : NULL, *v;
	char *text;

	(void)c;
	(void)t;
	(void)buf_printf(out, "{\"id\":%lld,\"from\":\"%s\",\"text\":", (long long)m->id,
			 m->from == CVS_OWNER ? "owner" : "agent");
	(void)buf_add_json_str(out, m->text);
	(void)buf_printf(out, ",\"at_ms\":%lld,\"state\":\"%s\"", (long long)m->at_ms, cvs_state_name(m->state));
	if (m->from == CVS_NOTICE)
		(void)buf_add_str(out, ",\"notice\":true");
	if (m->edited_ms)
		(void)buf_printf(out, ",\"edited_at_ms\":%lld", (long long)m->edited_ms);
	if (m->entities.n) {
		(void)buf_add_str(out, ",\"entities\":");
		(void)buf_add_span(out, m->entities);
	}
	for (size_t i = 0; i < 5; i++) {
		static const char *const shown[] = { "media", "location", "reaction", "reply_to", "deleted" };

		v = json_object_get(extra, shown[i]);
		text = v ? json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
		if (text)
			(void)buf_printf(out, ",\"%s\":%s", shown[i], text);
		free(text);
	}
	(void)buf_add_ch(out, '}');
	json_decref(extra);
	return out->failed ? -ENOMEM : 0;
}

struct page {
	struct conv *c;
	struct ctenant *t;
	struct buf *out;
};

static void on_page_message(void *ctx, const struct cvs_message *m)
{
	struct page *p = ctx;

	(void)page_message_json(p->c, p->t, m, p->out);	/* the buffer remembers a failure */
}

/* page_event - @id 0: something else of this conversation changed */
void page_event(struct conv *c, struct ctenant *t, int64_t id)
{
	CL_BUF struct buf b = { 0 };

	buf_init(&b, 120 * 1024);
	if (id == 0) {
		(void)buf_printf(&b, "{\"no\":%u}", t->no);
		c->h.event(c->h.ctx, "typing", buf_span(&b));
		return;
	}
	(void)buf_printf(&b, "{\"no\":%u,\"message\":", t->no);
	if (cvs_message_get(c->store, t->no, id, on_page_message, &(struct page){ c, t, &b }, NULL))
		return;
	(void)buf_add_ch(&b, '}');
	if (!b.failed)
		c->h.event(c->h.ctx, "message", buf_span(&b));
}

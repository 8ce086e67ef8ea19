/* SPDX-License-Identifier: Apache-2.0 */
/* The agent changes, removes or reacts to what was said. Runs in: broker. */
#include "broker/conv/outgoing.h"

#include <stdlib.h>
#include <string.h>

/* A message as it is now, owned. */
struct current {
	bool found;
	int from;
	struct buf text, entities;
	json_t *extra;
};

static void on_current(void *ctx, const struct cvs_message *m)
{
	struct current *k = ctx;

	k->from = m->from;
	k->extra = m->extra.n ? json_loadb(m->extra.p, m->extra.n, 0, NULL) : json_object();
	k->found = k->extra && !json_object_get(k->extra, "deleted") && !buf_add_span(&k->text, m->text) &&
		   !buf_add_span(&k->entities, m->entities);
}

static void current_load(struct conv *c, struct ctenant *t, int64_t id, struct current *k)
{
	*k = (struct current){ 0 };
	buf_init(&k->text, CVS_TEXT_MAX * 2);
	buf_init(&k->entities, 64 * 1024);
	(void)cvs_message_get(c->store, t->no, id, on_current, k, NULL);	/* found says it */
}

static void current_done(struct current *k)
{
	buf_done(&k->text);
	buf_done(&k->entities);
	json_decref(k->extra);
}

/* change - the new content into the store with what has to be delivered */
static int change(struct conv *c, struct ctenant *t, int64_t id, struct span text, struct span entities,
		  json_t *extra, enum delivery_op op, struct delivery **out, struct cl_err *err)
{
	char *x = json_object_size(extra) ? json_dumps(extra, JSON_COMPACT) : NULL;
	int rc = cvs_begin(c->store, err);

	if (rc == 0) {
		rc = cvs_message_edit(c->store, t->no, id, text, entities.n ? entities : (struct span){ 0 },
				      x ? span_str(x) : (struct span){ 0 }, conv_now_ms(), err);
		if (rc == 0)
			rc = deliver_add(c, t, id, op, out, err);
		if (rc == 0)
			rc = cvs_commit(c->store, err);
		else
			cvs_rollback(c->store);
	}
	free(x);
	if (rc) {
		deliver_forget(*out);
		*out = NULL;
	}
	return rc;
}

static void changed(struct conv *c, struct ctenant *t, struct httpd_req *r, int64_t id, struct delivery *d,
		    bool answer_is_true)
{
	page_event(c, t, id);
	wait_for(c, t, r, d, id, answer_is_true);
	if (d)
		deliver_start(d);
}

static void store_failed(struct httpd_req *r, const struct cl_err *err)
{
	cl_log(CL_ERROR, "conversation.store", "outcome=failed error=%s", cl_kvs(cl_err_str(err)));
	answer_error(r, 500, "Internal Server Error: the change could not be stored");
}

/* edit_text - text or caption of one of the agent's own messages */
static void edit_text(struct conv *c, struct ctenant *t, struct httpd_req *r, struct params *p, int64_t id,
		      struct current *k)
{
	bool caption = p->method->what == DO_EDIT_CAPTION;
	struct delivery *d = NULL;
	struct cl_err err = { 0 };
	struct outgoing o;

	outgoing_init(&o);
	json_decref(o.extra);
	o.extra = json_incref(k->extra);
	(void)json_object_del(o.extra, "buttons");	/* as Telegram: an edit without markup removes them */
	if (outgoing_text(&o, p, caption ? "caption" : "text", caption ? CAPTION_UNITS_MAX : TEXT_UNITS_MAX, r))
		goto out;
	outgoing_buttons(&o, p);
	if (outgoing_leaks(c, t, &o, r, p->method->name))
		goto out;
	if (span_eq(buf_span(&o.text), buf_span(&k->text)) && span_eq(buf_span(&o.entities), buf_span(&k->entities)) &&
	    !params_get(p, "reply_markup")) {
		answer_error(r, 400, "Bad Request: message is not modified: specified new message content and reply "
				     "markup are exactly the same as a current content and reply markup of the message");
		goto out;
	}
	if (change(c, t, id, buf_span(&o.text), buf_span(&o.entities), o.extra, OP_EDIT, &d, &err)) {
		store_failed(r, &err);
		goto out;
	}
	outgoing_said(t, buf_span(&o.text));
	changed(c, t, r, id, d, false);
out:
	outgoing_done(&o);
}

static void edit_markup(struct conv *c, struct ctenant *t, struct httpd_req *r, struct params *p, int64_t id,
			struct current *k)
{
	struct delivery *d = NULL;
	struct cl_err err = { 0 };
	struct outgoing o;

	outgoing_init(&o);
	json_decref(o.extra);
	o.extra = json_incref(k->extra);
	(void)json_object_del(o.extra, "buttons");
	outgoing_buttons(&o, p);
	if (!outgoing_leaks(c, t, &o, r, p->method->name)) {
		if (change(c, t, id, buf_span(&k->text), buf_span(&k->entities), o.extra, OP_EDIT, &d, &err))
			store_failed(r, &err);
		else
			changed(c, t, r, id, d, false);
	}
	outgoing_done(&o);
}

static void react(struct conv *c, struct ctenant *t, struct httpd_req *r, struct params *p, int64_t id,
		  struct current *k)
{
	const json_t *first = json_array_get(params_json(p, "reaction"), 0);
	const char *emoji = json_string_value(json_object_get(first, "emoji"));
	struct delivery *d = NULL;
	struct cl_err err = { 0 };

	if (first && (!emoji || !*emoji || strlen(emoji) > 32)) {
		answer_error(r, 400, "Bad Request: only an emoji can be a reaction here");
		return;
	}
	(void)json_object_set_new(k->extra, "reaction", json_string(emoji ? emoji : ""));
	if (change(c, t, id, buf_span(&k->text), buf_span(&k->entities), k->extra, OP_REACT, &d, &err))
		store_failed(r, &err);
	else
		changed(c, t, r, id, d, true);
}

void do_edit(struct conv *c, struct ctenant *t, struct httpd_req *r, struct params *p)
{
	bool reaction = p->method->what == DO_REACT;
	struct current k;
	int64_t id = 0;

	if (!send_room(t, r))
		return;
	if (params_i64(p, "message_id", &id)) {
		answer_error(r, 400, "Bad Request: message identifier is not specified");
		return;
	}
	current_load(c, t, id, &k);
	if (!k.found || (!reaction && k.from != CVS_AGENT))
		answer_error(r, 400, "Bad Request: message to %s not found", reaction ? "react" : "edit");
	else if (reaction)
		react(c, t, r, p, id, &k);
	else if (p->method->what == DO_EDIT_MARKUP)
		edit_markup(c, t, r, p, id, &k);
	else
		edit_text(c, t, r, p, id, &k);
	current_done(&k);
}

/* remove_one - the text is gone at once; the row stays so that its fate can be known */
static int remove_one(struct conv *c, struct ctenant *t, int64_t id, struct delivery **out)
{
	struct cl_err err = { 0 };
	struct current k;
	json_t *gone = json_pack("{s:b}", "deleted", 1);
	int rc = -ENOENT;

	current_load(c, t, id, &k);
	if (k.found && k.from == CVS_AGENT)
		rc = change(c, t, id, SPAN(""), (struct span){ 0 }, gone, OP_DELETE, out, &err);
	current_done(&k);
	json_decref(gone);
	if (rc == 0)
		page_event(c, t, id);
	return rc;
}

void do_delete(struct conv *c, struct ctenant *t, struct httpd_req *r, struct params *p)
{
	const json_t *ids = params_json(p, "message_ids");
	struct delivery *d = NULL;
	int64_t id = 0;

	if (p->method->what == DO_DELETE) {
		(void)params_i64(p, "message_id", &id);	/* required and checked */
		if (remove_one(c, t, id, &d)) {
			answer_error(r, 400, "Bad Request: message to delete not found");
			return;
		}
		wait_for(c, t, r, d, id, true);
		if (d)
			deliver_start(d);
		return;
	}
	for (size_t i = 0; i < json_array_size(ids) && i < 100; i++) {
		d = NULL;
		/* what is not there is skipped, as Telegram does */
		if (remove_one(c, t, json_integer_value(json_array_get(ids, i)), &d) == 0 && d)
			deliver_start(d);
	}
	answer_true(r);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * getUpdates: the agent fetches what its person wrote. An update is handed
 * out again and again until a later poll's offset confirms it. One poll at a
 * time: a second one ends the first, as with Telegram. Runs in: broker.
 */
#include "broker/conv/conv_impl.h"

#include <stdlib.h>
#include <string.h>

#define POLL_MAX_S 50
#define UPDATES_MAX_BYTES (4u << 20)

struct collect {
	struct wait *w;
	struct buf *out;
	int n;
	int64_t skipped;	/* last update of a kind that the agent did not ask for */
};

static bool wanted(const json_t *allowed, const char *kind)
{
	const json_t *v;
	size_t i;

	if (json_array_size(allowed) == 0)
		return true;
	json_array_foreach(allowed, i, v)
		if (json_is_string(v) && !strcmp(json_string_value(v), kind))
			return true;
	return false;
}

static void on_update(void *ctx, int64_t id, const char *kind, struct span body)
{
	struct collect *k = ctx;

	if (!wanted(k->w->allowed, kind)) {
		if (k->n == 0)
			k->skipped = id;
		return;
	}
	(void)buf_printf(k->out, "%s{\"update_id\":%lld,\"%s\":", k->n ? "," : "", (long long)id, kind);
	(void)buf_add_span(k->out, body);
	(void)buf_add_ch(k->out, '}');
	k->n++;
}

static void poll_free(struct wait *w)
{
	if (w->t->poll == w)
		w->t->poll = NULL;
	if (w->r)
		w->r->ctx = NULL;
	loop_timer_del(&w->timer);
	json_decref(w->allowed);
	free(w);
}

/* poll_try - answer when there is something, or @anyway; true: answered and freed */
static bool poll_try(struct wait *w, bool anyway)
{
	CL_BUF struct buf b = { 0 };
	struct collect k = { .w = w, .out = &b };
	struct httpd_req *r = w->r;
	int rc;

	buf_init(&b, UPDATES_MAX_BYTES);
	(void)buf_add_ch(&b, '[');
	do {	/* what the agent did not ask for must not stand in the way of the rest */
		k.skipped = 0;
		rc = cvs_updates(w->c->store, w->t->no, w->offset, w->limit, on_update, &k, NULL);
		if (rc >= 0 && k.n == 0 && k.skipped)
			rc = cvs_update_confirm(w->c->store, w->t->no, k.skipped + 1, NULL);
	} while (rc > 0 && k.n == 0 && k.skipped);
	(void)buf_add_ch(&b, ']');
	if (rc >= 0 && k.n == 0 && !anyway)
		return false;
	poll_free(w);
	if (rc < 0 || b.failed)
		answer_error(r, 500, "Internal Server Error: the conversation cannot be read");
	else
		answer_result(r, buf_span(&b));
	return true;
}

static void on_poll_end(struct loop_timer *timer)
{
	(void)poll_try(timer->ctx, true);
}

void poll_wake(struct conv *c, struct ctenant *t)
{
	(void)c;
	if (t->poll)
		(void)poll_try(t->poll, false);
}

void poll_drop(struct conv *c, struct ctenant *t)
{
	(void)c;
	if (t->poll)
		poll_free(t->poll);
}

/* confirm - everything below @offset has arrived; the page shows it as delivered */
static int confirm(struct conv *c, struct ctenant *t, int64_t offset, struct cl_err *err)
{
	int n = cvs_update_confirm(c->store, t->no, offset, err);

	if (n > 0)
		page_event(c, t, 0);
	return n < 0 ? n : 0;
}

void do_get_updates(struct conv *c, struct ctenant *t, struct httpd_req *r, struct params *p)
{
	int64_t offset = 0, limit = 100, timeout = 0;
	struct cl_err err = { 0 };
	struct wait *w;
	int rc = 0;

	(void)params_i64(p, "offset", &offset);		/* absent: the default stands; shape was checked */
	(void)params_i64(p, "limit", &limit);
	(void)params_i64(p, "timeout", &timeout);
	limit = limit < 1 ? 1 : limit > 100 ? 100 : limit;
	timeout = timeout < 0 ? 0 : timeout > POLL_MAX_S ? POLL_MAX_S : timeout;
	if (offset < 0) {
		rc = cvs_update_from_end(c->store, t->no, -offset, &offset, &err);
		offset = rc == 0 && offset > 0 ? offset : 0;
	}
	if (rc == 0 && offset > 0)
		rc = confirm(c, t, offset, &err);
	if (rc) {
		answer_error(r, 500, "Internal Server Error: the conversation cannot be written");
		return;
	}
	if (t->poll) {
		struct httpd_req *old = t->poll->r;

		poll_free(t->poll);
		answer_error(old, 409, "Conflict: terminated by other getUpdates request");
	}
	if (!t->ready_told) {
		t->ready_told = true;
		c->h.ready(c->h.ctx, t->no);
	}
	w = calloc(1, sizeof(*w));
	if (!w) {
		answer_error(r, 500, "Internal Server Error");
		return;
	}
	*w = (struct wait){ .c = c, .t = t, .r = r, .offset = offset, .limit = (int)limit,
			    .allowed = json_incref(params_json(p, "allowed_updates")) };
	t->poll = w;
	r->ctx = w;
	if (poll_try(w, timeout == 0))
		return;
	rc = loop_timer_set(c->h.loop, &w->timer, timeout * 1000000, on_poll_end, w);
	if (rc)
		(void)poll_try(w, true);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the store to the messengers, at most once.
 *
 * How this works: each address has a lane, in which deliveries go one after
 * the other; lanes are served in turn, so that one busy conversation cannot
 * starve another. Before the adapter is called the row says "sending" on the
 * disk; afterwards its fate. A row that says "sending" when the broker starts
 * is a delivery whose outcome nobody knows: it becomes "unknown" and is never
 * tried again. Runs in: broker.
 */
#include "broker/channel/channel.h"
#include "broker/conv/conv_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_US (25 * 1000000LL)	/* then the agent is told that it is on its way */
#define TRIES_MAX 8
#define LANE_MAX 500			/* deliveries waiting for one address */

struct lane {
	struct lane *next;
	char channel[33], address[129];
	struct delivery *first, *last;
	size_t n;
	bool busy, served;
	int64_t not_before_us;
};

static const char *op_name(enum delivery_op op)
{
	static const char *const names[] = { "send", "edit", "delete", "react" };

	return names[op];
}

static int op_parse(struct span s, enum delivery_op *out)
{
	for (int i = OP_SEND; i <= OP_REACT; i++)
		if (span_eq_str(s, op_name((enum delivery_op)i))) {
			*out = (enum delivery_op)i;
			return 0;
		}
	return -EINVAL;
}

static struct lane *lane_get(struct conv *c, struct span channel, struct span address)
{
	struct lane *l, **at = &c->lanes;

	for (; *at; at = &(*at)->next)
		if (span_eq_str(channel, (*at)->channel) && span_eq_str(address, (*at)->address))
			return *at;
	l = calloc(1, sizeof(*l));
	if (!l || span_copy(channel, l->channel, sizeof(l->channel)) ||
	    span_copy(address, l->address, sizeof(l->address))) {
		free(l);
		return NULL;
	}
	*at = l;	/* at the end: served in turn */
	return l;
}

static void delivery_free(struct delivery *d)
{
	if (d->wait)
		d->wait->delivery = NULL;
	free(d);
}

void deliver_forget(struct delivery *d)
{
	if (d)
		delivery_free(d);
}

int deliver_add(struct conv *c, struct ctenant *t, int64_t message_id, enum delivery_op op,
		struct delivery **out, struct cl_err *err)
{
	struct cvs_out row = { .no = t->no, .message_id = message_id, .op = span_str(op_name(op)),
			       .channel = span_str(t->last_channel), .address = span_str(t->last_address),
			       .state = CVS_QUEUED };
	struct delivery *d;
	int rc;

	*out = NULL;
	if (!t->last_channel[0] || !strcmp(t->last_channel, "web"))
		return 0;	/* the page reads the conversation itself */
	d = calloc(1, sizeof(*d));
	if (!d)
		return cl_fail(err, ENOMEM, "delivery");
	*d = (struct delivery){ .c = c, .no = t->no, .message_id = message_id, .op = op };
	d->lane = lane_get(c, row.channel, row.address);
	if (!d->lane || d->lane->n >= LANE_MAX) {
		delivery_free(d);
		return cl_fail(err, ENOBUFS, "too many messages wait for this person");
	}
	rc = cvs_out_add(c->store, &row, conv_now_ms(), err);
	if (rc == 0 && op == OP_SEND)
		rc = cvs_message_state(c->store, t->no, message_id, CVS_QUEUED, err);
	if (rc) {
		delivery_free(d);
		return rc;
	}
	d->out_id = row.id;
	*out = d;
	return 0;
}

static void lane_push(struct lane *l, struct delivery *d)
{
	d->next = NULL;
	if (l->last)
		l->last->next = d;
	else
		l->first = d;
	l->last = d;
	l->n++;
}

static struct delivery *lane_pop(struct lane *l)
{
	struct delivery *d = l->first;

	l->first = d->next;
	if (!l->first)
		l->last = NULL;
	l->n--;
	return d;
}

void deliver_start(struct delivery *d)
{
	lane_push(d->lane, d);
	deliver_kick(d->c);
}

/* ---- the fate ---------------------------------------------------------------------- */

static void record_fate(struct conv *c, struct delivery *d, const char *fate, const char *why)
{
	struct ctenant *t = conv_tenant(c, d->no);
	struct record r;

	if (!t)
		return;
	record_begin(&r, RECORD_MESSAGE, t->id);
	record_num(&r, RF_MESSAGE, (uint64_t)d->message_id);
	record_str(&r, RF_DIRECTION, "out");
	record_str(&r, RF_FATE, fate);
	record_str(&r, RF_CHANNEL, d->lane->channel);
	record_str(&r, RF_REASON, why);
	record_num(&r, RF_TRIES, (uint64_t)d->tries);
	c->h.record(c->h.ctx, &r);
}

/* answer_wait - tell the agent; @code 0: it was sent, or goes on without it */
static void answer_wait(struct wait *w, int code, const char *why)
{
	CL_BUF struct buf b = { 0 };
	struct httpd_req *r = w->r;
	struct conv *c = w->c;
	struct ctenant *t = conv_tenant(c, w->no);
	int64_t id = w->message_id;
	bool yes = w->answer_true;

	if (w->delivery)
		w->delivery->wait = NULL;
	loop_timer_del(&w->timer);
	free(w);
	if (!r)
		return;
	r->ctx = NULL;
	buf_init(&b, 1 << 20);
	if (code)
		answer_error(r, code, "%s", why);
	else if (yes)
		answer_true(r);
	else if (!t || message_json_by_id(c, t, id, &b))
		answer_error(r, 500, "Internal Server Error");
	else
		answer_result(r, buf_span(&b));
}

static void on_wait_end(struct loop_timer *timer)
{
	answer_wait(timer->ctx, 0, "");
}

void wait_for(struct conv *c, struct ctenant *t, struct httpd_req *r, struct delivery *d, int64_t message_id,
	      bool answer_is_true)
{
	struct wait *w = calloc(1, sizeof(*w));

	if (!w) {
		answer_error(r, 500, "Internal Server Error");
		return;
	}
	*w = (struct wait){ .c = c, .no = t->no, .r = r, .delivery = d, .message_id = message_id,
			    .answer_true = answer_is_true };
	r->ctx = w;
	if (!d) {
		answer_wait(w, 0, "");
		return;
	}
	d->wait = w;
	if (loop_timer_set(c->h.loop, &w->timer, WAIT_US, on_wait_end, w))
		answer_wait(w, 0, "");
}

static void set_state(struct conv *c, struct delivery *d, int state, const char *why)
{
	struct cl_err err = { 0 };

	if (cvs_out_state(c->store, d->out_id, state, span_str(why), conv_now_ms(), &err))
		cl_log(CL_ERROR, "conversation.fate", "message=%lld state=%s outcome=failed error=%s",
		       (long long)d->message_id, cvs_state_name(state), cl_kvs(cl_err_str(&err)));
}

void deliver_done(struct delivery *d, enum outcome o, int code, struct span upstream, const char *why,
		  int64_t retry_ms)
{
	struct conv *c = d->c;
	struct lane *l = d->lane;
	struct ctenant *t = conv_tenant(c, d->no);

	l->busy = false;
	if (o == OUT_RETRY && d->tries < TRIES_MAX) {
		set_state(c, d, CVS_QUEUED, why);
		d->next = l->first;	/* back to the front: order is kept */
		l->first = d;
		if (!l->last)
			l->last = d;
		l->n++;
		l->not_before_us = cl_mono_us() + retry_ms * 1000;
		deliver_kick(c);
		return;
	}
	if (o == OUT_SENT && upstream.n && d->op == OP_SEND)
		(void)cvs_message_sent_as(c->store, d->no, d->message_id, span_str(l->channel), span_str(l->address),
					  upstream, NULL);	/* only later edits would miss it */
	set_state(c, d, o == OUT_SENT ? CVS_SENT : o == OUT_UNKNOWN ? CVS_UNKNOWN : CVS_FAILED, why);
	record_fate(c, d, o == OUT_SENT ? "delivered" : o == OUT_UNKNOWN ? "unknown" : "failed", why);
	if (t)
		page_event(c, t, d->message_id);
	if (d->wait)
		answer_wait(d->wait, o == OUT_SENT ? 0 : code ? code : 502,
			    why[0] ? why : "Bad Gateway: the messenger could not be reached");
	d->wait = NULL;
	delivery_free(d);
	deliver_kick(c);
}

/* ---- the pump ------------------------------------------------------------------------ */

/* A message copied out of the store, since a row's spans do not outlive its query. */
struct loaded {
	struct lane *lane;
	bool found, here;	/* here: it is known to the messenger at this very address */
	int from;
	struct buf text, entities, upstream;
	json_t *extra;
};

static void on_load(void *ctx, const struct cvs_message *m)
{
	struct loaded *x = ctx;

	x->from = m->from;
	x->here = span_eq_str(m->channel, x->lane->channel) && span_eq_str(m->address, x->lane->address);
	if (m->extra.n)
		x->extra = json_loadb(m->extra.p, m->extra.n, 0, NULL);
	x->found = !buf_add_span(&x->text, m->text) && !buf_add_span(&x->entities, m->entities) &&
		   (!x->here || !buf_add_span(&x->upstream, m->upstream));
}

static void load(struct conv *c, struct lane *l, uint32_t no, int64_t id, struct loaded *x)
{
	*x = (struct loaded){ .lane = l };
	buf_init(&x->text, CVS_TEXT_MAX * 2);
	buf_init(&x->entities, 64 * 1024);
	buf_init(&x->upstream, 128);
	(void)cvs_message_get(c->store, no, id, on_load, x, NULL);	/* found says it */
}

static void loaded_done(struct loaded *x)
{
	buf_done(&x->text);
	buf_done(&x->entities);
	buf_done(&x->upstream);
	json_decref(x->extra);
}

/* go - one delivery to its adapter. Everything that could forbid it is looked at now, not when it was queued */
static void go(struct conv *c, struct lane *l, struct channel *ch, struct delivery *d)
{
	struct loaded m = { 0 }, reply = { 0 };
	struct cl_err err = { 0 };
	uint32_t owner = 0;
	json_t *to;

	l->busy = true;
	if (cvs_binding_owner(c->store, span_str(l->channel), span_str(l->address), &owner, NULL) || owner != d->no) {
		deliver_done(d, OUT_FAILED, 403, SPAN(""), "Forbidden: this address is no longer bound", 0);
		return;
	}
	load(c, l, d->no, d->message_id, &m);
	if (!m.found || (d->op != OP_SEND && !m.upstream.n)) {
		loaded_done(&m);
		deliver_done(d, OUT_FAILED, 400, SPAN(""), "Bad Request: the message is not there any more", 0);
		return;
	}
	d->tries++;
	/* on the disk before a byte goes out: after a crash nobody sends it again */
	if (cvs_out_state(c->store, d->out_id, CVS_SENDING, SPAN(""), conv_now_ms(), &err)) {
		loaded_done(&m);
		cl_log(CL_ERROR, "conversation.fate", "message=%lld outcome=failed error=%s",
		       (long long)d->message_id, cl_kvs(cl_err_str(&err)));
		deliver_done(d, OUT_RETRY, 500, SPAN(""), "Internal Server Error: the store cannot be written", 2000);
		return;
	}
	to = json_object_get(m.extra, "reply_to");
	if (json_is_integer(to))
		load(c, l, d->no, json_integer_value(to), &reply);
	ch->ops->deliver(ch, d, l->address, &(struct channel_message){
		.id = d->message_id, .from = m.from, .text = buf_span(&m.text), .entities = buf_span(&m.entities),
		.upstream = buf_span(&m.upstream), .extra = m.extra, .reply_upstream = buf_span(&reply.upstream) });
	loaded_done(&m);
	loaded_done(&reply);
}

/* room - may @ch send one more in this second? *wait_us gets how long until it may */
static bool room(struct channel *ch, int64_t now, int64_t *wait_us)
{
	if (now - ch->second_us >= 1000000) {
		ch->second_us = now;
		ch->second_n = 0;
	}
	if (ch->second_n < ch->ops->per_second) {
		ch->second_n++;
		return true;
	}
	*wait_us = ch->second_us + 1000000 - now;
	return false;
}

/* lanes_turn - who was served stands at the end, so that nobody starves at the messenger's limit */
static void lanes_turn(struct conv *c)
{
	struct lane *served = NULL, **end = &served, **at = &c->lanes;

	while (*at) {
		struct lane *l = *at;

		if (!l->served) {
			at = &l->next;
			continue;
		}
		l->served = false;
		*at = l->next;
		l->next = NULL;
		*end = l;
		end = &l->next;
	}
	*at = served;
}

static void on_pump(struct loop_timer *timer)
{
	struct conv *c = timer->ctx;
	int64_t now = cl_mono_us(), next = INT64_MAX;

	for (struct lane *l = c->lanes; l; l = l->next) {
		struct channel *ch;
		int64_t wait_us = 0;

		if (l->busy || !l->first)
			continue;
		ch = channel_find(c, span_str(l->channel));
		if (!ch)
			continue;	/* not set up (yet): channel.put kicks us */
		if (l->not_before_us > now)
			wait_us = l->not_before_us - now;
		else if (room(ch, now, &wait_us)) {
			l->not_before_us = now + ch->ops->address_gap_us;
			l->served = true;
			go(c, l, ch, lane_pop(l));
			wait_us = l->first ? ch->ops->address_gap_us : INT64_MAX;
		}
		if (wait_us < next)
			next = wait_us;
	}
	lanes_turn(c);
	if (next != INT64_MAX && c->pump.heap_at == 0)
		(void)loop_timer_set(c->h.loop, &c->pump, next, on_pump, c);	/* the next kick would set it */
}

void deliver_kick(struct conv *c)
{
	/* from the loop, never from inside of a caller: an adapter may call back at once */
	(void)loop_timer_set(c->h.loop, &c->pump, 0, on_pump, c);
}

/* ---- start and end ---------------------------------------------------------------------- */

struct open_rows {
	struct conv *c;
	struct delivery *list, **end;
	bool failed;
};

static void on_open_row(void *ctx, const struct cvs_out *o)
{
	struct open_rows *x = ctx;
	struct delivery *d = calloc(1, sizeof(*d));

	if (!d || op_parse(o->op, &d->op)) {
		x->failed = true;
		free(d);
		return;
	}
	d->c = x->c;
	d->no = o->no;
	d->out_id = o->id;
	d->message_id = o->message_id;
	d->tries = o->attempts;
	d->lane = lane_get(x->c, o->channel, o->address);
	if (!d->lane) {
		x->failed = true;
		free(d);
		return;
	}
	*x->end = d;
	x->end = &d->next;
}

static int open_rows(struct conv *c, int state, struct delivery **out, struct cl_err *err)
{
	struct open_rows x = { .c = c };
	int rc;

	x.end = &x.list;
	rc = cvs_outs(c->store, state, on_open_row, &x, err);
	*out = x.list;
	if (rc < 0)
		return rc;
	return x.failed ? cl_fail(err, ENOMEM, "deliveries") : 0;
}

int deliver_load(struct conv *c, struct cl_err *err)
{
	struct delivery *list = NULL, *d;
	int rc = open_rows(c, CVS_SENDING, &list, err);

	while ((d = list)) {
		list = d->next;
		if (rc == 0) {
			set_state(c, d, CVS_UNKNOWN, "the broker ended while this was being sent");
			record_fate(c, d, "unknown", "the broker ended while this was being sent");
			cl_log(CL_WARNING, "conversation.fate", "tenant=%u message=%lld state=unknown", d->no,
			       (long long)d->message_id);
		}
		delivery_free(d);
	}
	if (rc)
		return rc;
	rc = open_rows(c, CVS_QUEUED, &list, err);
	while ((d = list)) {
		list = d->next;
		if (rc == 0)
			lane_push(d->lane, d);
		else
			delivery_free(d);
	}
	if (rc == 0)
		deliver_kick(c);
	return rc;
}

void deliver_tenant_rm(struct conv *c, uint32_t no)
{
	for (struct lane *l = c->lanes; l; l = l->next) {
		struct delivery *list = l->first, *d;

		l->first = l->last = NULL;
		l->n = 0;
		while ((d = list)) {
			list = d->next;
			if (d->no == no) {
				if (d->wait)
					answer_wait(d->wait, 403, "Forbidden: this tenant is removed");
				d->wait = NULL;
				delivery_free(d);
			} else {
				lane_push(l, d);
			}
		}
	}
}

void deliver_free(struct conv *c)
{
	loop_timer_del(&c->pump);
	while (c->lanes) {
		struct lane *l = c->lanes;

		c->lanes = l->next;
		while (l->first)
			delivery_free(lane_pop(l));
		free(l);
	}
}

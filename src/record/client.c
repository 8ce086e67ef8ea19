/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sender's side: a list of records that the ledger has not yet answered.
 * One link breaks, the next gets them again, in order, marked `resent`; so a
 * record may be there twice after a crash, but is never missing. What had to
 * wait carries `sent_us`, the time when it happened.
 */
#include "record/record.h"

#include <stdlib.h>
#include <string.h>

struct record_entry {
	struct record_entry *prev, *next;
	struct record_client *rc;	/* NULL: the client is gone */
	record_done_fn *fn;
	void *ctx;
	int64_t at_us;
	bool must, sent, tried, marked, timed;
	uint32_t kind;
	char tenant[TENANT_ID_MAX + 1];
	size_t n;
	char body[];			/* room for the two fields of mark_late() */
};

#define MARK_BYTES (2 * 12)

void record_client_init(struct record_client *rc)
{
	*rc = (struct record_client){ 0 };
}

static void unlink_entry(struct record_client *rc, struct record_entry *e)
{
	*(e->prev ? &e->prev->next : &rc->first) = e->next;
	*(e->next ? &e->next->prev : &rc->last) = e->prev;
	rc->n--;
}

/* The entry's story ends: tell who waits. */
static void finish(struct record_entry *e, int code, uint64_t number)
{
	record_done_fn *fn = e->fn;
	void *ctx = e->ctx;

	if (e->rc)
		unlink_entry(e->rc, e);
	free(e);
	if (fn)
		fn(ctx, code, number);
}

static void mark_late(struct record_entry *e);
static int transmit(struct record_client *rc, struct record_entry *e);

static void on_answer(void *ctx, uint32_t type, const union wire_any *msg, int *fds, size_t nfds)
{
	struct record_entry *e = ctx;
	struct record_client *rc = e->rc;

	if (!rc) {		/* record_client_done() was here */
		free(e);
		return;
	}
	if (!msg) {		/* the link broke: keep it for the next one */
		e->sent = false;
		if (rc->chan && !chan_up(rc->chan)) {
			rc->chan = NULL;
		} else if (rc->chan) {	/* an older link: the new one is there already */
			mark_late(e);
			(void)transmit(rc, e);	/* fails without memory: at the next link */
		}
		return;
	}
	uint32_t code = type == MSG_RECORDED ? msg->recorded.code : EPROTO;

	if (code)
		rc->refused++;
	finish(e, (int)code, code ? 0 : msg->recorded.number);
}

static void put_num(struct record_entry *e, uint32_t f, uint64_t v)
{
	unsigned char b[12] = { (unsigned char)f, 0, 8, 0 };

	for (size_t k = 0; k < 8; k++)
		b[4 + k] = (unsigned char)(v >> (8 * k));
	memcpy(e->body + e->n, b, sizeof b);
	e->n += sizeof b;
}

/* It waited: say when it really was, and whether it may be there already. */
static void mark_late(struct record_entry *e)
{
	const struct record_kind_info *k = record_kind_info(e->kind);

	if (!k)
		return;
	for (const uint8_t *o = k->optional; *o; o++) {
		if (*o == RF_RESENT && e->tried && !e->marked) {
			put_num(e, RF_RESENT, 1);
			e->marked = true;
		}
		if (*o == RF_SENT_US && !e->timed) {
			put_num(e, RF_SENT_US, (uint64_t)e->at_us);
			e->timed = true;
		}
	}
}

/* Return: 0 also when the link is broken: the entry then waits for the next */
static int transmit(struct record_client *rc, struct record_entry *e)
{
	struct msg_record m = {
		.kind = e->kind,
		.must = e->must ? 1 : 2,	/* 2: answer, though nobody waits for it */
		.tenant = span_str(e->tenant),
		.body = { e->body, e->n },
	};

	if (!rc->chan || !chan_up(rc->chan))
		return 0;
	int r = chan_call(rc->chan, MSG_RECORD, &m, NULL, 0, on_answer, e);

	if (r == -EPIPE || r == -ECONNRESET)
		return 0;
	e->sent = r == 0;
	e->tried |= e->sent;
	return r;
}

void record_client_link(struct record_client *rc, struct chan *c)
{
	rc->chan = c;
	if (!c)
		return;
	for (struct record_entry *e = rc->first, *next; e; e = next) {
		next = e->next;
		if (e->sent)
			continue;
		mark_late(e);
		if (transmit(rc, e) && !e->sent)
			break;		/* no memory: the rest at the next link */
	}
}

static int queue(struct record_client *rc, const struct record *r, bool must,
		 record_done_fn *fn, void *ctx)
{
	struct cl_err err = { 0 };
	int x = r->failed;

	if (x == 0)
		x = record_check(r->kind, (struct span){ r->body, r->n }, false, &err) ? -EINVAL : 0;
	if (x) {
		const struct record_kind_info *k = record_kind_info(r->kind);

		cl_log(CL_ERROR, "record-wrong", "kind=%s error=%s", k ? k->name : "?",
		       cl_kvs(err.code ? err.text : "a field of another kind, type, or twice"));
		rc->dropped++;
		return -EINVAL;
	}
	if (rc->n >= RECORD_QUEUE_MAX) {
		rc->dropped++;
		return -ENOBUFS;
	}

	struct record_entry *e = malloc(sizeof *e + r->n + MARK_BYTES);

	if (!e)
		return -ENOMEM;
	*e = (struct record_entry){ .rc = rc, .fn = fn, .ctx = ctx, .at_us = cl_now_us(),
				    .must = must, .kind = r->kind, .n = r->n, .prev = rc->last };
	memcpy(e->tenant, r->tenant, sizeof e->tenant);
	memcpy(e->body, r->body, r->n);
	*(rc->last ? &rc->last->next : &rc->first) = e;
	rc->last = e;
	rc->n++;
	x = transmit(rc, e);
	if (x) {
		unlink_entry(rc, e);
		free(e);
		rc->dropped++;
	}
	return x;
}

int record_send(struct record_client *rc, const struct record *r)
{
	return queue(rc, r, false, NULL, NULL);
}

int record_send_must(struct record_client *rc, const struct record *r, record_done_fn *fn,
		     void *ctx)
{
	return queue(rc, r, true, fn, ctx);
}

void record_client_done(struct record_client *rc)
{
	struct record_entry *e = rc->first;

	*rc = (struct record_client){ 0 };
	while (e) {
		struct record_entry *next = e->next;
		record_done_fn *fn = e->fn;
		void *ctx = e->ctx;

		if (e->sent) {		/* the channel still knows it: on_answer frees it */
			e->rc = NULL;
			e->fn = NULL;
		} else {
			free(e);
		}
		if (fn)
			fn(ctx, ECANCELED, 0);
		e = next;
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * record - one thing that happened, as it goes into the ledger.
 *
 * How this works: record.def lists every kind and its fields. A sender fills
 * a struct record (on its stack), and gives it to its record_client, which
 * keeps a copy until the ledger has said that it is on the disk, sends again
 * over a new link, and so loses nothing when the ledger is restarted:
 *
 *	struct record r;
 *
 *	record_begin(&r, RECORD_REQUEST_DENIED, tenant_id);
 *	record_text(&r, RF_ID, span_str(id));
 *	record_text(&r, RF_RULE, SPAN("recipient"));
 *	record_text(&r, RF_REASON, SPAN("only its owner"));
 *	record_num(&r, RF_STATUS, 403);
 *	record_send(&rc, &r);			or, when it must be on the disk before you go on:
 *	record_send_must(&rc, &r, on_durable, ctx);
 *
 * The body is fields one after the other: u16 number, u16 length, value
 * (numbers: 8 bytes little endian). Each at most once. Text is made valid,
 * printable UTF-8 and cut at the field's maximum; a record is never refused
 * for what an agent chose to say.
 */
#ifndef CL_RECORD_H
#define CL_RECORD_H

#include "base/base.h"
#include "wire/wire.h"

#define RECORD_BODY_MAX 8192

enum record_type { RT_NUM, RT_TEXT, RT_BYTES, RT_PERSON };

enum record_field {
	RF_NONE,
#define FIELD(NAME, number, name, type, max) RF_##NAME = number,
#include "record/record.def"
#undef FIELD
};

enum record_kind {
	RECORD_NONE,
#define KIND(NAME, number, name, roles, FIELDS) RECORD_##NAME = number,
#include "record/record.def"
#undef KIND
};

struct record_field_info {
	uint32_t number;
	const char *name;
	enum record_type type;
	uint32_t max;
};
struct record_kind_info {
	uint32_t number;
	const char *name;
	uint32_t roles;			/* bit mask 1 << enum wire_role */
	const uint8_t *required, *optional;	/* RF_ numbers, zero at the end */
};
/* NULL when there is no such row */
const struct record_field_info *record_field_info(uint32_t number);
const struct record_kind_info *record_kind_info(uint32_t number);
const struct record_kind_info *record_kind_by_name(struct span name);
const struct record_field_info *record_field_by_name(struct span name);
/* record_kind_at - @i = 0, 1, 2 ... until NULL: all kinds in order */
const struct record_kind_info *record_kind_at(size_t i);

/* ---- making one --------------------------------------------------------- */

struct record {
	enum record_kind kind;
	char tenant[TENANT_ID_MAX + 1];	/* "" when it is about no tenant */
	size_t n;
	char body[RECORD_BODY_MAX];
	int failed;		/* first mistake of the caller: -EINVAL; see record_send() */
};

/* record_begin - @tenant may be NULL or "" */
void record_begin(struct record *r, enum record_kind kind, const char *tenant);
/* An empty text is left out. A field of another type or kind, or twice: sticky -EINVAL. */
void record_text(struct record *r, enum record_field f, struct span s);
static inline void record_str(struct record *r, enum record_field f, const char *s)
{
	record_text(r, f, span_str(s));
}
void record_fmt(struct record *r, enum record_field f, const char *fmt, ...) CL_PRINTF(3, 4);
void record_num(struct record *r, enum record_field f, uint64_t v);
void record_bytes(struct record *r, enum record_field f, const void *p, size_t n);

/* ---- reading one -------------------------------------------------------- */

#define RECORD_SEALED 0x8000u	/* bit of a field's number on disk: PERSON, still sealed */

/* One field of a body. */
struct record_value {
	const struct record_field_info *info;
	bool sealed;		/* bytes are nonce and ciphertext; record/audit.h opens it */
	uint64_t num;
	struct span bytes;	/* TEXT, PERSON, BYTES: points into the body */
};
/*
 * record_next - take the next field off *@body
 * Return: 1 and *out, 0 at the end, -EBADMSG
 */
int record_next(struct span *body, struct record_value *out);
/* record_find - field @f of @body; false when absent */
bool record_find(struct span body, enum record_field f, struct record_value *out);
/*
 * record_check - is @body a legal body of @kind? Every field known, of this
 * kind, once, within its maximum; text valid UTF-8; required ones present.
 * @sealed: PERSON fields may be sealed (on disk), else must not be (on the wire).
 * Return: 0, -EBADMSG with words
 */
int record_check(uint32_t kind, struct span body, bool sealed, struct cl_err *err);

/* ---- sending ------------------------------------------------------------- */

#define RECORD_QUEUE_MAX 4096	/* records waiting for the disk or for a link */

/* @code 0: durable under @number; ENOSPC, ... : not written; the caller refuses */
typedef void record_done_fn(void *ctx, int code, uint64_t number);

struct record_entry;
struct record_client {
	struct chan *chan;		/* NULL: no link now */
	struct record_entry *first, *last;
	size_t n;			/* entries waiting */
	uint64_t refused;		/* answered with an error: not in the ledger */
	uint64_t dropped;		/* queue was full, or a wrong record */
};

void record_client_init(struct record_client *rc);
void record_client_done(struct record_client *rc);	/* waiting callbacks get ECANCELED */
/*
 * record_client_link - @c: the channel to the ledger (cloisterd's LINK), or
 * NULL when its closed() was called. Everything unanswered is sent (again).
 * The channel is borrowed: call with NULL before it is freed. Its rule table
 * needs no row for the ledger: answers are matched by the channel itself.
 */
void record_client_link(struct record_client *rc, struct chan *c);
/*
 * record_send - hand it over; copied. Return: 0; -ENOBUFS the queue is full
 * (the ledger is away or stuck); -EINVAL a mistake in filling it (logged).
 */
int record_send(struct record_client *rc, const struct record *r);
/* record_send_must - @fn is called once, later, unless this returns an error */
int record_send_must(struct record_client *rc, const struct record *r, record_done_fn *fn,
		     void *ctx);

#endif

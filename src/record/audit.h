/* SPDX-License-Identifier: Apache-2.0 */
/*
 * audit - reading a ledger: search, tail, export, verify. Needs only the
 * directory (of the service, or a copy of it elsewhere); never writes.
 */
#ifndef CL_RECORD_AUDIT_H
#define CL_RECORD_AUDIT_H

#include "record/record.h"

/* One record as read. Spans live until the callback returns. */
struct audit_record {
	uint64_t number, at_us;
	enum wire_role sender;
	bool must;
	const struct record_kind_info *kind;	/* NULL: written by a newer version */
	uint32_t kind_number;
	struct span tenant, body;		/* body: record_next(); PERSON still sealed */
	unsigned char chain[32];
};

struct audit_query {
	const char *tenant;	/* NULL: any */
	const char *kind;	/* name, or a prefix that ends in '.', as "request."; NULL: any */
	uint64_t from_number;	/* first number wanted; 0: from the start */
	int64_t from_us, to_us;	/* at_us in [from, to); 0: open */
	const char *text;	/* found, without case, in a TEXT or BYTES field; NULL: any */
	uint64_t limit;		/* 0: no limit */
	bool last;		/* limit counts from the end: the newest ones (tail) */
};

/* Return 0 to go on, 1 to stop, or -errno to stop with it. */
typedef int audit_fn(void *ctx, const struct audit_record *r);

/*
 * audit_read - call @fn for each record that fits @q, oldest first. A running
 * ledger can be read: an unfinished end is where it stops. To follow, ask again
 * with from_number = last number + 1.
 * @dirfd: the ledger's directory; borrowed
 * @out_last: number of the last record that is there (0: none); may be NULL
 *
 * Return: 0; -EINVAL no such kind; -EBADMSG a frame does not decode (run
 * audit_verify for the place); else -errno.
 */
int audit_read(int dirfd, const struct audit_query *q, audit_fn *fn, void *ctx,
	       uint64_t *out_last, struct cl_err *err);

/*
 * One line each, without newline. PERSON fields are opened with the key in
 * @dirfd when it is readable; "[sealed]" when not, "[erased]" when it is gone.
 * audit_json: {"number","time","at_us","sender","kind","tenant",<fields>...,"chain"}
 * audit_ocsf: an OCSF 1.3 event (class by kind), our fields under "unmapped"
 * audit_text: for people: time, sender, tenant, kind, fields
 */
int audit_json(int dirfd, const struct audit_record *r, struct buf *out);
int audit_ocsf(int dirfd, const struct audit_record *r, struct buf *out);
int audit_text(int dirfd, const struct audit_record *r, struct buf *out);

/* ---- verify ------------------------------------------------------------------- */

struct audit_report {
	uint64_t segments, records, checkpoints;
	uint64_t first, last;		/* numbers */
	uint64_t signed_to;		/* records above are chained, not yet signed */
	uint64_t pruned_to;		/* last record that retention deleted, as recorded */
	uint64_t torn;			/* ends cut after crashes, as recorded */
	unsigned char chain[32];	/* after `last`: write it down elsewhere, give it as anchor */
	char place[160];		/* of the first finding: file, byte, record */
};
/* Something that was written down outside: the ledger must still contain it. */
struct audit_anchor {
	uint64_t number;
	unsigned char chain[32];
};

/* audit_key_read - ledger.pub: 64 hex digits. @dirfd may be AT_FDCWD, @name a path then */
int audit_key_read(int dirfd, const char *name, unsigned char out[32], struct cl_err *err);
/* audit_anchor_parse - "NUMBER:64 hex digits" (what verify prints) */
int audit_anchor_parse(struct span s, struct audit_anchor *out);
/*
 * audit_verify - every header, frame, chain value and signature of @dirfd
 * @live: the ledger is being written meanwhile: an unfinished last frame is no finding
 * @anchor: may be NULL
 *
 * Return: 0 all is as it was written; -EBADMSG something was changed, cut,
 * inserted, moved, replayed or is missing: what, in @err, and where, in
 * @out->place; else -errno. @out is filled as far as it came.
 */
int audit_verify(int dirfd, const unsigned char pub[32], bool live,
		 const struct audit_anchor *anchor, struct audit_report *out, struct cl_err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Verify a ledger from its public key alone.
 *
 * How this works: the chain is computed anew from the first header to the
 * last frame. Whoever changes a byte without the signing key either breaks a
 * chain value (found at that record) or rewrites all later ones and then
 * lacks the signature of the next checkpoint (found there). Cutting the end
 * off is found by `head`, which is signed and names the last signed record;
 * putting back an old copy of everything, head included, is found only by an
 * anchor that was written down elsewhere.
 */
#include "record/audit.h"
#include "record/reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct check {
	const unsigned char *pub;
	const struct audit_anchor *anchor;
	struct audit_report *out;
	struct ledger_head head;
	bool has_head, head_seen, anchor_seen;
	bool live;
	uint64_t number;			/* last that was read */
	uint64_t pruned_segment;		/* highest that a record says was deleted */
	unsigned char chain[CHAIN_SIZE];
};

static void at_record(struct check *c, const struct reader *rd, uint64_t offset, uint64_t number)
{
	(void)snprintf(c->out->place, sizeof c->out->place, "%s: byte %llu, record %llu", rd->name,
		       (unsigned long long)offset, (unsigned long long)number);
}

static int found(struct check *c, struct cl_err *err, const char *what)
{
	return cl_fail(err, EBADMSG, "%s: %s", c->out->place, what);
}

/* A record that says something about the ledger itself. */
static int special(struct check *c, const struct frame *f, struct cl_err *err)
{
	struct record_value a, b, s;

	if (f->kind == RECORD_LEDGER_TORN)
		c->out->torn++;
	if (f->kind == RECORD_LEDGER_PRUNED && record_find(f->body, RF_SEGMENT, &a) &&
	    record_find(f->body, RF_COUNT, &b)) {
		c->pruned_segment = a.num;
		c->out->pruned_to = b.num;
	}
	if (f->kind != RECORD_CHECKPOINT)
		return 0;
	if (!record_find(f->body, RF_VALUE, &a) || !record_find(f->body, RF_CHAIN, &b) ||
	    !record_find(f->body, RF_SIGNATURE, &s) || b.bytes.n != CHAIN_SIZE ||
	    s.bytes.n != SIGNATURE_SIZE)
		return found(c, err, "this is no checkpoint");
	if (a.num != f->number - 1 || memcmp(b.bytes.p, c->chain, CHAIN_SIZE) != 0)
		return found(c, err, "the checkpoint is about other records");
	if (!checkpoint_ok(c->pub, a.num, f->at_us, c->chain, (const unsigned char *)s.bytes.p)) {
		char text[200];

		(void)snprintf(text, sizeof text,
			       "the signature does not fit: something in records %llu to %llu was rewritten",
			       (unsigned long long)(c->out->signed_to ? c->out->signed_to + 1 :
						    c->out->first), (unsigned long long)f->number);
		return found(c, err, text);
	}
	c->out->checkpoints++;
	c->out->signed_to = f->number;
	return 0;
}

/* Marks that were made elsewhere, when their record is reached. */
static int marks(struct check *c, struct cl_err *err)
{
	if (c->has_head && c->head.number == c->number) {
		c->head_seen = true;
		if (memcmp(c->head.chain, c->chain, CHAIN_SIZE) != 0)
			return found(c, err, "the signed head has another value for this record: "
				     "records up to here were rewritten");
		c->out->signed_to = c->number;
	}
	if (c->anchor && c->anchor->number == c->number) {
		c->anchor_seen = true;
		if (memcmp(c->anchor->chain, c->chain, CHAIN_SIZE) != 0)
			return found(c, err, "the anchor has another value for this record");
	}
	return 0;
}

static int one_frame(struct check *c, struct reader *rd, uint64_t offset, const struct frame *f,
		     struct span raw, struct cl_err *err)
{
	unsigned char want[CHAIN_SIZE];
	char text[200];
	int r;

	at_record(c, rd, offset, c->number + 1);
	frame_chain(c->chain, raw, want);
	if (f->number != c->number + 1) {
		(void)snprintf(text, sizeof text, "record %llu lies here: records were cut, inserted or "
			       "moved, or its number was changed", (unsigned long long)f->number);
		return found(c, err, text);
	}
	if (memcmp(want, f->chain, CHAIN_SIZE) != 0)
		return found(c, err, "changed: its chain value does not fit");
	r = special(c, f, err);
	if (r)
		return r;
	if (record_kind_info(f->kind) && record_check(f->kind, f->body, true, err))
		return cl_wrap(err, "%s", c->out->place);
	memcpy(c->chain, want, CHAIN_SIZE);
	c->number = f->number;
	c->out->records++;
	return marks(c, err);
}

static int one_segment(struct check *c, int dirfd, uint64_t segment, bool first, bool last,
		       struct cl_err *err)
{
	struct reader rd;
	struct frame f;
	struct span raw;
	uint64_t offset;
	int r;

	segment_name(segment, c->out->place, sizeof c->out->place);
	r = reader_open(&rd, dirfd, segment, err);
	if (r)
		return r;
	if (rd.header.segment != segment)
		r = cl_fail(err, EBADMSG, "%s: holds segment %llu: a copy under another name", rd.name,
			    (unsigned long long)rd.header.segment);
	else if (memcmp(rd.header.pubkey, c->pub, SIGN_PUB_SIZE) != 0)
		r = cl_fail(err, EBADMSG, "%s: was written with another key", rd.name);
	else if (!first && (rd.header.first != c->number + 1 ||
			    memcmp(rd.header.prev, c->chain, CHAIN_SIZE) != 0))
		r = cl_fail(err, EBADMSG, "%s: does not go on where the one before ends (record %llu): "
			    "the end before was cut, or this is another or an older segment", rd.name,
			    (unsigned long long)c->number);
	if (r == 0 && first) {
		c->number = rd.header.first - 1;
		c->out->first = rd.header.first;
	}
	memcpy(c->chain, rd.header.hash, CHAIN_SIZE);
	for (offset = rd.at; r == 0; offset = rd.at) {
		int k = reader_next(&rd, &f, &raw);

		if (k == 0 || (k == -ENODATA && last && c->live))
			break;
		at_record(c, &rd, offset, c->number + 1);
		if (k == -ENODATA)
			r = found(c, err, "the record is cut short");
		else if (k == -EBADMSG)
			r = found(c, err, "these bytes are no record");
		else if (k < 0)
			r = cl_fail(err, -k, "%s", c->out->place);
		else
			r = one_frame(c, &rd, offset, &f, raw, err);
	}
	c->out->segments++;
	reader_done(&rd);
	return r;
}

/* What only shows when all has been read. */
static int ends(struct check *c, uint64_t first_segment, struct cl_err *err)
{
	if (first_segment > 1 && c->pruned_segment + 1 < first_segment) {
		(void)snprintf(c->out->place, sizeof c->out->place, "segment-%08llu.cl",
			       (unsigned long long)(first_segment - 1));
		return found(c, err, "missing, and no record says that it was deleted");
	}
	(void)snprintf(c->out->place, sizeof c->out->place, "end of the ledger, record %llu",
		       (unsigned long long)c->number);
	if (!c->has_head)
		return found(c, err, "the file 'head' is missing: a cut of the end could not be seen");
	if (c->has_head && !c->head_seen && c->head.number > c->number) {
		char text[120];

		(void)snprintf(text, sizeof text, "cut: records up to %llu were signed",
			       (unsigned long long)c->head.number);
		return found(c, err, text);
	}
	if (c->anchor && !c->anchor_seen && c->anchor->number >= c->out->first)
		return found(c, err, "the anchor's record is not there: the end was cut, or an old copy "
			     "was put back");
	return 0;
}

int audit_verify(int dirfd, const unsigned char pub[32], bool live,
		 const struct audit_anchor *anchor, struct audit_report *out, struct cl_err *err)
{
	struct check c = { .pub = pub, .anchor = anchor, .out = out, .live = live };
	uint64_t *list = NULL;
	size_t n = 0;
	int r = ledger_crypto_init(err);

	memset(out, 0, sizeof *out);
	/* head first: what is written meanwhile only adds to what it names */
	if (r == 0)
		r = head_read(dirfd, &c.head, err);
	if (r < 0) {
		(void)snprintf(out->place, sizeof out->place, "head");
		return r;
	}
	c.has_head = r == 1;
	if (c.has_head && !head_ok(&c.head, pub)) {
		(void)snprintf(out->place, sizeof out->place, "head");
		return cl_fail(err, EBADMSG, "head: the signature does not fit the key");
	}
	r = segment_list(dirfd, &list, &n, err);
	if (r == 0 && n == 0)
		r = cl_fail(err, c.has_head ? EBADMSG : ENOENT, "there is no ledger segment here");
	for (size_t i = 0; i < n && r == 0; i++) {
		if (i && list[i] != list[i - 1] + 1) {
			segment_name(list[i - 1] + 1, out->place, sizeof out->place);
			r = cl_fail(err, EBADMSG, "%s: the segment is missing", out->place);
		} else {
			r = one_segment(&c, dirfd, list[i], i == 0, i + 1 == n, err);
		}
	}
	out->last = c.number;
	memcpy(out->chain, c.chain, CHAIN_SIZE);
	if (r == 0)
		r = ends(&c, list[0], err);
	free(list);
	if (r == 0)
		out->place[0] = '\0';
	return r;
}

/* ---- keys and anchors ------------------------------------------------------------ */

static int hex32(struct span s, unsigned char out[32])
{
	if (s.n != 64)
		return -EINVAL;
	for (size_t i = 0; i < 64; i++) {
		char ch = s.p[i];
		int v = ch >= '0' && ch <= '9' ? ch - '0' : ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;

		if (v < 0)
			return -EINVAL;
		out[i / 2] = (unsigned char)(i % 2 ? (out[i / 2] | v) : v << 4);
	}
	return 0;
}

int audit_key_read(int dirfd, const char *name, unsigned char out[32], struct cl_err *err)
{
	CL_CLOSE int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char b[66];
	int r;

	if (fd < 0)
		return cl_fail(err, errno, "public key '%s'", name);
	r = cl_read_full(fd, b, 64);
	if (r || hex32((struct span){ b, 64 }, out))
		return cl_fail(err, EINVAL, "public key '%s': 64 hex digits are expected", name);
	return 0;
}

int audit_anchor_parse(struct span s, struct audit_anchor *out)
{
	struct audit_anchor a;
	struct span number;

	if (!span_cut(&s, ':', &number) || num_parse_u64(number, UINT64_MAX, &a.number) ||
	    hex32(s, a.chain))
		return -EINVAL;
	*out = a;
	return 0;
}

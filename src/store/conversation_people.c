/* SPDX-License-Identifier: Apache-2.0 */
/* Bindings, invitations, positions of channels and media of the conversation store. */
#include "store/conversation_impl.h"

static int ok(int rc)
{
	return rc < 0 ? rc : 0;
}

static int some(int rc)
{
	return rc < 0 ? rc : rc == 0 ? -ENOENT : 0;
}

int cvs_binding_add(struct cvs *s, const struct cvs_binding *b, struct cl_err *err)
{
	return ok(cvs_run(s, Q_BINDING_ADD, err, "sslsl", b->channel, b->address, (int64_t)b->no,
			  b->name.p ? b->name : SPAN(""), b->since_ms));
}

int cvs_binding_rm(struct cvs *s, uint32_t no, struct span channel, struct span address, struct cl_err *err)
{
	int rc = some(cvs_run(s, Q_BINDING_RM, err, "lss", (int64_t)no, channel, address));

	/* replies must not go on to where nobody is bound any more */
	return rc ? rc : ok(cvs_run(s, Q_BINDING_FORGET, err, "lss", (int64_t)no, channel, address));
}

int cvs_binding_owner(struct cvs *s, struct span channel, struct span address, uint32_t *out_no,
		      struct cl_err *err)
{
	sqlite3_stmt *st = cvs_prep(s, Q_BINDING_OWNER, err, "ss", channel, address);
	int rc;

	if (!st)
		return -EIO;
	rc = cvs_step(s, st, err);
	if (rc == 1)
		*out_no = (uint32_t)sqlite3_column_int64(st, 0);
	cvs_done(st);
	return rc < 0 ? rc : rc == 0 ? -ENOENT : 0;
}

int cvs_bindings(struct cvs *s, uint32_t no, cvs_binding_fn *fn, void *ctx, struct cl_err *err)
{
	sqlite3_stmt *st = cvs_prep(s, Q_BINDINGS, err, "l", (int64_t)no);
	int rc, n = 0;

	if (!st)
		return -EIO;
	while ((rc = cvs_step(s, st, err)) == 1) {
		struct cvs_binding b = { .channel = cvs_span(st, 0), .address = cvs_span(st, 1), .no = no,
					 .name = cvs_span(st, 2), .since_ms = sqlite3_column_int64(st, 3) };

		fn(ctx, &b);
		n++;
	}
	cvs_done(st);
	return rc < 0 ? rc : n;
}

int cvs_invite_add(struct cvs *s, const uint8_t hash[CVS_HASH], uint32_t no, struct span channel,
		   int64_t expires_ms, struct cl_err *err)
{
	return ok(cvs_run(s, Q_INVITE_ADD, err, "blsl", (struct span){ (const char *)hash, CVS_HASH },
			  (int64_t)no, channel, expires_ms));
}

int cvs_invite_use(struct cvs *s, const uint8_t hash[CVS_HASH], struct span channel, int64_t now_ms,
		   uint32_t *out_no, struct cl_err *err)
{
	struct span h = { (const char *)hash, CVS_HASH };
	sqlite3_stmt *st = cvs_prep(s, Q_INVITE_GET, err, "bs", h, channel);
	int64_t expires;
	uint32_t no;
	bool used;
	int rc;

	if (!st)
		return -EIO;
	rc = cvs_step(s, st, err);
	no = rc == 1 ? (uint32_t)sqlite3_column_int64(st, 0) : 0;
	expires = rc == 1 ? sqlite3_column_int64(st, 1) : 0;
	used = rc == 1 && sqlite3_column_type(st, 2) != SQLITE_NULL;
	cvs_done(st);
	if (rc != 1)
		return rc < 0 ? rc : cl_fail(err, ENOENT, "this invitation is not known");
	if (used)
		return cl_fail(err, EALREADY, "this invitation was used");
	if (expires < now_ms)
		return cl_fail(err, ETIME, "this invitation has expired");
	rc = cvs_run(s, Q_INVITE_USED, err, "bl", h, now_ms);
	if (rc == 0)
		return cl_fail(err, EALREADY, "this invitation was used");
	if (rc < 0)
		return rc;
	*out_no = no;
	/* what expired a week ago cannot be asked about any more */
	return ok(cvs_run(s, Q_INVITES_OLD, err, "l", now_ms - 7LL * 24 * 3600 * 1000));
}

int cvs_channel_offset(struct cvs *s, struct span channel, int64_t *out, struct cl_err *err)
{
	sqlite3_stmt *st = cvs_prep(s, Q_OFFSET_GET, err, "s", channel);
	int rc;

	if (!st)
		return -EIO;
	rc = cvs_step(s, st, err);
	if (rc >= 0)
		*out = rc == 1 ? sqlite3_column_int64(st, 0) : 0;
	cvs_done(st);
	return ok(rc);
}

int cvs_channel_offset_put(struct cvs *s, struct span channel, int64_t offset, struct cl_err *err)
{
	return ok(cvs_run(s, Q_OFFSET_PUT, err, "sl", channel, offset));
}

int cvs_media_add(struct cvs *s, const struct cvs_media *m, struct cl_err *err)
{
	return ok(cvs_run(s, Q_MEDIA_ADD, err, "slsssssll", m->handle, (int64_t)m->no, m->kind,
			  m->mime.p ? m->mime : SPAN(""), m->name.p ? m->name : SPAN(""), m->upstream, m->file,
			  m->size_bytes, m->at_ms));
}

int cvs_media_file(struct cvs *s, uint32_t no, struct span handle, struct span file, int64_t size_bytes,
		   struct cl_err *err)
{
	return some(cvs_run(s, Q_MEDIA_FILE, err, "lssl", (int64_t)no, handle, file, size_bytes));
}

static int media_of(struct cvs *s, sqlite3_stmt *st, cvs_media_fn *fn, void *ctx, struct cl_err *err)
{
	int rc, n = 0;

	if (!st)
		return -EIO;
	while ((rc = cvs_step(s, st, err)) == 1) {
		struct cvs_media m = {
			.handle = cvs_span(st, 0), .no = (uint32_t)sqlite3_column_int64(st, 1),
			.kind = cvs_span(st, 2), .mime = cvs_span(st, 3), .name = cvs_span(st, 4),
			.upstream = cvs_span(st, 5), .file = cvs_span(st, 6),
			.size_bytes = sqlite3_column_int64(st, 7), .at_ms = sqlite3_column_int64(st, 8),
		};

		fn(ctx, &m);
		n++;
	}
	cvs_done(st);
	return rc < 0 ? rc : n;
}

int cvs_media_get(struct cvs *s, uint32_t no, struct span handle, cvs_media_fn *fn, void *ctx,
		  struct cl_err *err)
{
	return some(media_of(s, cvs_prep(s, Q_MEDIA_GET, err, "ls", (int64_t)no, handle), fn, ctx, err));
}

int cvs_media_all(struct cvs *s, uint32_t no, cvs_media_fn *fn, void *ctx, struct cl_err *err)
{
	return media_of(s, cvs_prep(s, Q_MEDIA_ALL, err, "l", (int64_t)no), fn, ctx, err);
}

int cvs_media_bytes(struct cvs *s, uint32_t no, int64_t *out, struct cl_err *err)
{
	sqlite3_stmt *st = cvs_prep(s, Q_MEDIA_BYTES, err, "l", (int64_t)no);
	int rc;

	if (!st)
		return -EIO;
	rc = cvs_step(s, st, err);
	if (rc == 1)
		*out = sqlite3_column_int64(st, 0);
	cvs_done(st);
	return ok(rc);
}

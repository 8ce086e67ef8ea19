/* SPDX-License-Identifier: Apache-2.0 */
/* Messages, updates and outbound rows of the conversation store. Runs in: broker. */
#include "store/conversation_impl.h"

#include <string.h>

const char *cvs_state_name(int state)
{
	static const char *const names[] = { "waiting", "delivered", "queued", "sending",
					     "sent", "failed", "unknown" };

	return state >= 0 && state < CVS_STATES ? names[state] : "unknown";
}

/* ok - what a function of this store returns for a count of changed rows */
static int ok(int rc)
{
	return rc < 0 ? rc : 0;
}

/* some - the same where nothing changed means that there is no such row */
static int some(int rc)
{
	return rc < 0 ? rc : rc == 0 ? -ENOENT : 0;
}

/* one_i64 - the single number of a statement's single row; -ENOENT when there is none */
static int one_i64(struct cvs *s, sqlite3_stmt *st, int64_t *out, struct cl_err *err)
{
	int rc;

	if (!st)
		return -EIO;
	rc = cvs_step(s, st, err);
	if (rc == 1 && sqlite3_column_type(st, 0) != SQLITE_NULL)
		*out = sqlite3_column_int64(st, 0);
	else if (rc >= 0)
		rc = -ENOENT;
	cvs_done(st);
	return rc < 0 ? rc : 0;
}

/* ---- tenants ------------------------------------------------------------- */

int cvs_tenant_put(struct cvs *s, uint32_t no, struct span id, struct cl_err *err)
{
	return ok(cvs_run(s, Q_TENANT_PUT, err, "ls", (int64_t)no, id));
}

int cvs_tenant_rm(struct cvs *s, uint32_t no, struct cl_err *err)
{
	return some(cvs_run(s, Q_TENANT_RM, err, "l", (int64_t)no));
}

int cvs_tenants(struct cvs *s, cvs_tenant_fn *fn, void *ctx, struct cl_err *err)
{
	sqlite3_stmt *st = cvs_prep(s, Q_TENANTS, err, "");
	int rc, n = 0;

	if (!st)
		return -EIO;
	while ((rc = cvs_step(s, st, err)) == 1) {
		struct cvs_tenant t = { .no = (uint32_t)sqlite3_column_int64(st, 0), .id = cvs_span(st, 1),
					.channel = cvs_span(st, 2), .address = cvs_span(st, 3) };

		fn(ctx, &t);
		n++;
	}
	cvs_done(st);
	return rc < 0 ? rc : n;
}

int cvs_tenant_last(struct cvs *s, uint32_t no, struct span channel, struct span address,
		    struct cl_err *err)
{
	return some(cvs_run(s, Q_TENANT_LAST, err, "lss", (int64_t)no, channel, address));
}

int cvs_setting_put(struct cvs *s, uint32_t no, const char *name, struct span value, struct cl_err *err)
{
	return ok(cvs_run(s, Q_SETTING_PUT, err, "lzb", (int64_t)no, name, value));
}

int cvs_setting_rm(struct cvs *s, uint32_t no, const char *name, struct cl_err *err)
{
	return some(cvs_run(s, Q_SETTING_RM, err, "lz", (int64_t)no, name));
}

int cvs_setting_get(struct cvs *s, uint32_t no, const char *name, struct buf *out, struct cl_err *err)
{
	sqlite3_stmt *st = cvs_prep(s, Q_SETTING_GET, err, "lz", (int64_t)no, name);
	int rc;

	if (!st)
		return -EIO;
	rc = cvs_step(s, st, err);
	if (rc == 1)
		rc = buf_add_span(out, cvs_span(st, 0));
	else if (rc == 0)
		rc = -ENOENT;
	cvs_done(st);
	return rc;
}

/* ---- messages --------------------------------------------------------------- */

int cvs_message_add(struct cvs *s, struct cvs_message *m, struct cl_err *err)
{
	int rc;

	if (m->client_id.p) {
		rc = one_i64(s, cvs_prep(s, Q_MESSAGE_BY_CLIENT, err, "ls", (int64_t)m->no, m->client_id),
			     &m->id, err);
		if (rc != -ENOENT)
			return rc == 0 ? -EEXIST : rc;
	}
	rc = one_i64(s, cvs_prep(s, Q_NEXT_MESSAGE, err, "l", (int64_t)m->no), &m->id, err);
	if (rc)
		return rc == -ENOENT ? cl_fail(err, ENOENT, "there is no tenant %u", m->no) : rc;
	return ok(cvs_run(s, Q_MESSAGE_ADD, err, "lliillsssssss", (int64_t)m->no, m->id, m->from, m->state,
			  m->at_ms, m->edited_ms, m->text.p ? m->text : SPAN(""), m->entities, m->extra,
			  m->client_id, m->channel, m->address, m->upstream));
}

/* messages_of - every row of a statement over MESSAGE_COLUMNS */
static int messages_of(struct cvs *s, sqlite3_stmt *st, cvs_message_fn *fn, void *ctx, struct cl_err *err)
{
	int rc, n = 0;

	if (!st)
		return -EIO;
	while ((rc = cvs_step(s, st, err)) == 1) {
		struct cvs_message m = {
			.no = (uint32_t)sqlite3_column_int64(st, 0), .id = sqlite3_column_int64(st, 1),
			.from = sqlite3_column_int(st, 2), .state = sqlite3_column_int(st, 3),
			.at_ms = sqlite3_column_int64(st, 4), .edited_ms = sqlite3_column_int64(st, 5),
			.text = cvs_span(st, 6), .entities = cvs_span(st, 7), .extra = cvs_span(st, 8),
			.client_id = cvs_span(st, 9), .channel = cvs_span(st, 10),
			.address = cvs_span(st, 11), .upstream = cvs_span(st, 12),
		};

		fn(ctx, &m);
		n++;
	}
	cvs_done(st);
	return rc < 0 ? rc : n;
}

int cvs_history(struct cvs *s, uint32_t no, int64_t after, int limit, cvs_message_fn *fn, void *ctx,
		struct cl_err *err)
{
	if (after < 0)
		return messages_of(s, cvs_prep(s, Q_HISTORY_LAST, err, "li", (int64_t)no, limit), fn, ctx, err);
	return messages_of(s, cvs_prep(s, Q_HISTORY_AFTER, err, "lli", (int64_t)no, after, limit), fn, ctx, err);
}

int cvs_message_get(struct cvs *s, uint32_t no, int64_t id, cvs_message_fn *fn, void *ctx,
		    struct cl_err *err)
{
	return some(messages_of(s, cvs_prep(s, Q_MESSAGE_GET, err, "ll", (int64_t)no, id), fn, ctx, err));
}

int cvs_message_by_upstream(struct cvs *s, uint32_t no, struct span channel, struct span address,
			    struct span upstream, int64_t *out_id, struct cl_err *err)
{
	return one_i64(s, cvs_prep(s, Q_MESSAGE_BY_UPSTREAM, err, "lsss", (int64_t)no, channel, address, upstream),
		       out_id, err);
}

int cvs_message_state(struct cvs *s, uint32_t no, int64_t id, int state, struct cl_err *err)
{
	return some(cvs_run(s, Q_MESSAGE_STATE, err, "lli", (int64_t)no, id, state));
}

int cvs_message_sent_as(struct cvs *s, uint32_t no, int64_t id, struct span channel, struct span address,
			struct span upstream, struct cl_err *err)
{
	return some(cvs_run(s, Q_MESSAGE_SENT_AS, err, "llsss", (int64_t)no, id, channel, address, upstream));
}

int cvs_message_edit(struct cvs *s, uint32_t no, int64_t id, struct span text, struct span entities,
		     struct span extra, int64_t at_ms, struct cl_err *err)
{
	return some(cvs_run(s, Q_MESSAGE_EDIT, err, "llsssl", (int64_t)no, id, text.p ? text : SPAN(""),
			    entities, extra, at_ms));
}

int cvs_message_rm(struct cvs *s, uint32_t no, int64_t id, struct cl_err *err)
{
	return some(cvs_run(s, Q_MESSAGE_RM, err, "ll", (int64_t)no, id));
}

int cvs_waiting(struct cvs *s, uint32_t no, struct cl_err *err)
{
	int64_t n = 0;
	int rc = one_i64(s, cvs_prep(s, Q_WAITING, err, "l", (int64_t)no), &n, err);

	return rc ? rc : (int)n;
}

/* ---- updates ------------------------------------------------------------------- */

int cvs_update_add(struct cvs *s, uint32_t no, const char *kind, struct span body, int64_t message_id,
		   int64_t *out_update_id, struct cl_err *err)
{
	int64_t id = 0;
	int rc = one_i64(s, cvs_prep(s, Q_NEXT_UPDATE, err, "l", (int64_t)no), &id, err);

	if (rc)
		return rc == -ENOENT ? cl_fail(err, ENOENT, "there is no tenant %u", no) : rc;
	rc = ok(cvs_run(s, Q_UPDATE_ADD, err, "llzsl", (int64_t)no, id, kind, body, message_id));
	if (rc == 0)
		*out_update_id = id;
	return rc;
}

int cvs_update_confirm(struct cvs *s, uint32_t no, int64_t offset, struct cl_err *err)
{
	int64_t first = 0;
	int rc, n;

	/* the usual poll confirms nothing new: no write then */
	rc = cvs_update_from_end(s, no, INT32_MAX, &first, err);
	if (rc || first == 0 || first >= offset)
		return rc;
	rc = cvs_begin(s, err);
	if (rc)
		return rc;
	rc = cvs_run(s, Q_UPDATE_DELIVERED, err, "ll", (int64_t)no, offset);
	n = rc < 0 ? rc : cvs_run(s, Q_UPDATE_CONFIRM, err, "ll", (int64_t)no, offset);
	if (n < 0) {
		cvs_rollback(s);
		return n;
	}
	rc = cvs_commit(s, err);
	return rc ? rc : n;
}

int cvs_updates(struct cvs *s, uint32_t no, int64_t offset, int limit, cvs_update_fn *fn, void *ctx,
		struct cl_err *err)
{
	sqlite3_stmt *st = cvs_prep(s, Q_UPDATES, err, "lli", (int64_t)no, offset, limit);
	int rc, n = 0;

	if (!st)
		return -EIO;
	while ((rc = cvs_step(s, st, err)) == 1) {
		fn(ctx, sqlite3_column_int64(st, 0), (const char *)sqlite3_column_text(st, 1),
		   cvs_span(st, 2));
		n++;
	}
	cvs_done(st);
	return rc < 0 ? rc : n;
}

int cvs_update_from_end(struct cvs *s, uint32_t no, int64_t n, int64_t *out_id, struct cl_err *err)
{
	int rc = one_i64(s, cvs_prep(s, Q_UPDATE_END, err, "ll", (int64_t)no, n), out_id, err);

	if (rc == -ENOENT) {
		*out_id = 0;
		return 0;
	}
	return rc;
}

/* ---- outbound -------------------------------------------------------------------- */

int cvs_out_add(struct cvs *s, struct cvs_out *o, int64_t at_ms, struct cl_err *err)
{
	int rc = ok(cvs_run(s, Q_OUT_ADD, err, "llsssil", (int64_t)o->no, o->message_id, o->op, o->channel,
			    o->address, o->state, at_ms));

	if (rc == 0)
		o->id = sqlite3_last_insert_rowid(s->db);
	return rc;
}

int cvs_out_state(struct cvs *s, int64_t id, int state, struct span why, int64_t at_ms, struct cl_err *err)
{
	bool own = sqlite3_get_autocommit(s->db) != 0;
	int rc = own ? cvs_begin(s, err) : 0;

	if (rc)
		return rc;
	rc = some(cvs_run(s, Q_OUT_STATE, err, "lisl", id, state, why, at_ms));
	if (rc == 0)
		rc = ok(cvs_run(s, Q_OUT_MESSAGE, err, "li", id, state));
	if (!own)
		return rc;
	if (rc) {
		cvs_rollback(s);
		return rc;
	}
	return cvs_commit(s, err);
}

int cvs_out_fate(struct cvs *s, uint32_t no, int64_t message_id, int *out_state, struct buf *why,
		 struct cl_err *err)
{
	sqlite3_stmt *st = cvs_prep(s, Q_OUT_FATE, err, "ll", (int64_t)no, message_id);
	int rc;

	if (!st)
		return -EIO;
	rc = cvs_step(s, st, err);
	if (rc == 1) {
		*out_state = sqlite3_column_int(st, 0);
		rc = buf_add_span(why, cvs_span(st, 1));
	} else if (rc == 0) {
		rc = -ENOENT;
	}
	cvs_done(st);
	return rc;
}

int cvs_outs(struct cvs *s, int state, cvs_out_fn *fn, void *ctx, struct cl_err *err)
{
	sqlite3_stmt *st = cvs_prep(s, Q_OUTS, err, "i", state);
	int rc, n = 0;

	if (!st)
		return -EIO;
	while ((rc = cvs_step(s, st, err)) == 1) {
		struct cvs_out o = {
			.id = sqlite3_column_int64(st, 0), .no = (uint32_t)sqlite3_column_int64(st, 1),
			.message_id = sqlite3_column_int64(st, 2), .op = cvs_span(st, 3),
			.channel = cvs_span(st, 4), .address = cvs_span(st, 5),
			.state = sqlite3_column_int(st, 6), .attempts = sqlite3_column_int(st, 7),
		};

		fn(ctx, &o);
		n++;
	}
	cvs_done(st);
	return rc < 0 ? rc : n;
}

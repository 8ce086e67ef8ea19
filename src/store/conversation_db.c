/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The conversation store's database: schema by numbered migrations, prepared
 * statements, errors. Runs in: broker.
 */
#include "store/conversation_impl.h"

#include <stdlib.h>
#include <string.h>

/* Each entry brings the database from its index to the next version. Never edit one
 * that was released: append. */
static const char *const migrations[] = {
	"CREATE TABLE tenant(no INTEGER PRIMARY KEY, id TEXT NOT NULL,"
	"  next_message INTEGER NOT NULL DEFAULT 1, next_update INTEGER NOT NULL DEFAULT 1,"
	"  last_channel TEXT, last_address TEXT) STRICT;"
	"CREATE TABLE setting(no INTEGER NOT NULL REFERENCES tenant ON DELETE CASCADE,"
	"  name TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY(no, name)) STRICT, WITHOUT ROWID;"
	"CREATE TABLE message(no INTEGER NOT NULL REFERENCES tenant ON DELETE CASCADE,"
	"  id INTEGER NOT NULL, sender INTEGER NOT NULL, state INTEGER NOT NULL, at_ms INTEGER NOT NULL,"
	"  edited_ms INTEGER NOT NULL, text TEXT NOT NULL, entities TEXT, extra TEXT, client_id TEXT,"
	"  channel TEXT, address TEXT, upstream TEXT, PRIMARY KEY(no, id)) STRICT, WITHOUT ROWID;"
	"CREATE UNIQUE INDEX message_client ON message(no, client_id) WHERE client_id IS NOT NULL;"
	"CREATE INDEX message_upstream ON message(no, channel, address, upstream)"
	"  WHERE upstream IS NOT NULL;"
	"CREATE INDEX message_waiting ON message(no) WHERE state = 0 AND sender = 0;"
	"CREATE TABLE update_queue(no INTEGER NOT NULL REFERENCES tenant ON DELETE CASCADE,"
	"  id INTEGER NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL, message_id INTEGER NOT NULL,"
	"  PRIMARY KEY(no, id)) STRICT, WITHOUT ROWID;"
	"CREATE TABLE outbound(id INTEGER PRIMARY KEY AUTOINCREMENT,"
	"  no INTEGER NOT NULL REFERENCES tenant ON DELETE CASCADE, message_id INTEGER NOT NULL,"
	"  op TEXT NOT NULL, channel TEXT NOT NULL, address TEXT NOT NULL, state INTEGER NOT NULL,"
	"  attempts INTEGER NOT NULL, why TEXT, at_ms INTEGER NOT NULL, done_ms INTEGER) STRICT;"
	"CREATE INDEX outbound_open ON outbound(state) WHERE state IN (2, 3);"
	"CREATE INDEX outbound_message ON outbound(no, message_id);"
	"CREATE TABLE binding(channel TEXT NOT NULL, address TEXT NOT NULL,"
	"  no INTEGER NOT NULL REFERENCES tenant ON DELETE CASCADE, name TEXT NOT NULL,"
	"  since_ms INTEGER NOT NULL, PRIMARY KEY(channel, address)) STRICT, WITHOUT ROWID;"
	"CREATE INDEX binding_no ON binding(no);"
	"CREATE TABLE invite(hash BLOB PRIMARY KEY, no INTEGER NOT NULL REFERENCES tenant ON DELETE CASCADE,"
	"  channel TEXT NOT NULL, expires_ms INTEGER NOT NULL, used_ms INTEGER) STRICT, WITHOUT ROWID;"
	"CREATE INDEX invite_no ON invite(no);"
	"CREATE TABLE channel(name TEXT PRIMARY KEY, position INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
	"CREATE TABLE media(handle TEXT PRIMARY KEY, no INTEGER NOT NULL REFERENCES tenant ON DELETE CASCADE,"
	"  kind TEXT NOT NULL, mime TEXT NOT NULL, name TEXT NOT NULL, upstream TEXT, file TEXT,"
	"  size_bytes INTEGER NOT NULL, at_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
	"CREATE INDEX media_no ON media(no);",
};

static const char *const sql[Q_COUNT] = {
#define Q(name, text) [Q_##name] = text,
#include "store/conversation_sql.def"
#undef Q
};

int cvs_fail(struct cvs *s, const char *what, struct cl_err *err)
{
	int code = sqlite3_errcode(s->db) & 0xff, e = EIO;

	if (code == SQLITE_CONSTRAINT) {
		int x = sqlite3_extended_errcode(s->db);

		e = x == SQLITE_CONSTRAINT_FOREIGNKEY ? ENOENT : EEXIST;
	} else if (code == SQLITE_FULL) {
		e = ENOSPC;
	} else if (code == SQLITE_NOMEM) {
		e = ENOMEM;
	}
	return cl_fail(err, e, "conversation store: %s: %s", what, sqlite3_errmsg(s->db));
}

sqlite3_stmt *cvs_prep(struct cvs *s, enum cvs_query q, struct cl_err *err, const char *types, ...)
{
	sqlite3_stmt *st = s->stmts[q];
	va_list ap;
	int rc = SQLITE_OK;

	if (!st) {
		if (sqlite3_prepare_v3(s->db, sql[q], -1, SQLITE_PREPARE_PERSISTENT, &s->stmts[q], NULL)
		    != SQLITE_OK) {
			(void)cvs_fail(s, sql[q], err);	/* the words are all we need here */
			return NULL;
		}
		st = s->stmts[q];
	}
	va_start(ap, types);
	for (int i = 1; types[i - 1] && rc == SQLITE_OK; i++) {
		struct span v;
		const char *z;

		switch (types[i - 1]) {
		case 'i':
			rc = sqlite3_bind_int(st, i, va_arg(ap, int));
			break;
		case 'l':
			rc = sqlite3_bind_int64(st, i, va_arg(ap, int64_t));
			break;
		case 'z':
			z = va_arg(ap, const char *);
			rc = sqlite3_bind_text(st, i, z, -1, SQLITE_TRANSIENT);
			break;
		case 's':
			v = va_arg(ap, struct span);
			rc = v.p ? sqlite3_bind_text64(st, i, v.p, v.n, SQLITE_TRANSIENT, SQLITE_UTF8) :
				   sqlite3_bind_null(st, i);
			break;
		case 'b':
			v = va_arg(ap, struct span);
			rc = v.p ? sqlite3_bind_blob64(st, i, v.p, v.n, SQLITE_TRANSIENT) :
				   sqlite3_bind_null(st, i);
			break;
		default:
			rc = SQLITE_MISUSE;
		}
	}
	va_end(ap);
	if (rc != SQLITE_OK) {
		cvs_done(st);
		(void)cl_fail(err, EIO, "conversation store: bind: %s", sqlite3_errstr(rc));
		return NULL;
	}
	return st;
}

int cvs_step(struct cvs *s, sqlite3_stmt *st, struct cl_err *err)
{
	int rc = sqlite3_step(st);

	if (rc == SQLITE_ROW)
		return 1;
	if (rc == SQLITE_DONE)
		return 0;
	return cvs_fail(s, "step", err);
}

void cvs_done(sqlite3_stmt *st)
{
	if (!st)
		return;
	(void)sqlite3_reset(st);	/* repeats the error of the step, which was handled */
	(void)sqlite3_clear_bindings(st);
}

int cvs_run_stmt(struct cvs *s, sqlite3_stmt *st, struct cl_err *err)
{
	int rc;

	if (!st)
		return -EIO;
	rc = cvs_step(s, st, err);
	cvs_done(st);
	return rc < 0 ? rc : sqlite3_changes(s->db);
}

struct span cvs_span(sqlite3_stmt *st, int column)
{
	const void *p = sqlite3_column_blob(st, column);

	return (struct span){ p, p ? (size_t)sqlite3_column_bytes(st, column) : 0 };
}

int cvs_begin(struct cvs *s, struct cl_err *err)
{
	int rc = cvs_run(s, Q_BEGIN, err, "");

	return rc < 0 ? rc : 0;
}

int cvs_commit(struct cvs *s, struct cl_err *err)
{
	int rc = cvs_run(s, Q_COMMIT, err, "");

	if (rc < 0)
		cvs_rollback(s);	/* a full disk leaves the transaction open */
	return rc < 0 ? rc : 0;
}

void cvs_rollback(struct cvs *s)
{
	if (!sqlite3_get_autocommit(s->db))
		(void)cvs_run(s, Q_ROLLBACK, NULL, "");	/* it cannot be helped more */
}

static int exec(struct cvs *s, const char *text, struct cl_err *err)
{
	if (sqlite3_exec(s->db, text, NULL, NULL, NULL) != SQLITE_OK)
		return cvs_fail(s, text, err);
	return 0;
}

static int version(struct cvs *s, int *out, struct cl_err *err)
{
	sqlite3_stmt *st;
	int rc = 0;

	if (sqlite3_prepare_v2(s->db, "SELECT coalesce(max(version), 0) FROM migration", -1, &st, NULL)
	    != SQLITE_OK)
		return cvs_fail(s, "version", err);
	if (sqlite3_step(st) == SQLITE_ROW)
		*out = sqlite3_column_int(st, 0);
	else
		rc = cvs_fail(s, "version", err);
	(void)sqlite3_finalize(st);	/* its error was seen above */
	return rc;
}

static int migrate(struct cvs *s, struct cl_err *err)
{
	int have = 0, want = (int)CL_ARRAY_LEN(migrations), rc;

	rc = exec(s, "CREATE TABLE IF NOT EXISTS migration(version INTEGER PRIMARY KEY, at TEXT NOT NULL) STRICT",
		  err);
	if (rc == 0)
		rc = version(s, &have, err);
	if (rc)
		return rc;
	if (have > want)
		return cl_fail(err, EPROTO, "conversation store: made by a newer Cloister (version %d, we know %d)",
			       have, want);
	for (int v = have; v < want; v++) {
		CL_BUF struct buf b = { 0 };

		buf_init(&b, 64 * 1024);
		(void)buf_printf(&b, "BEGIN IMMEDIATE; %s INSERT INTO migration VALUES(%d, datetime('now')); COMMIT",
				 migrations[v], v + 1);
		if (buf_add_ch(&b, '\0') || b.failed)
			return cl_fail(err, ENOMEM, "conversation store: migration");
		rc = exec(s, b.p, err);
		if (rc) {
			cvs_rollback(s);
			return rc;
		}
	}
	return 0;
}

int cvs_open(struct cvs **out, const char *path, struct cl_err *err)
{
	struct cvs *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return cl_fail(err, ENOMEM, "conversation store");
	rc = sqlite3_open_v2(path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
			     SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
	if (rc != SQLITE_OK) {
		rc = cl_fail(err, EIO, "conversation store: open: %s",
			     s->db ? sqlite3_errmsg(s->db) : sqlite3_errstr(rc));
		goto out;
	}
	(void)sqlite3_busy_timeout(s->db, 3000);	/* cannot fail on an open database */
	(void)sqlite3_limit(s->db, SQLITE_LIMIT_LENGTH, 4 << 20);
	rc = exec(s, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"
		     "PRAGMA trusted_schema=OFF; PRAGMA secure_delete=ON; PRAGMA temp_store=MEMORY;"
		     "PRAGMA wal_autocheckpoint=500", err);
	if (rc == 0)
		rc = migrate(s, err);
out:
	if (rc) {
		cvs_close(s);
		return rc;
	}
	*out = s;
	return 0;
}

void cvs_close(struct cvs *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < Q_COUNT; i++)
		(void)sqlite3_finalize(s->stmts[i]);	/* repeats an old error */
	(void)sqlite3_close(s->db);			/* nothing is left open */
	free(s);
}

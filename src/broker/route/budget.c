/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/route/budget.h"

#include <sqlite3.h>
#include <stdlib.h>

struct budget_store {
	sqlite3 *db;
	sqlite3_stmt *get, *put, *rm;
};

static const int64_t window_s[BUDGET_KINDS] = { 3600, 86400 };

static int db_fail(struct budget_store *s, struct cl_err *err, const char *what)
{
	return cl_fail(err, EIO, "budget.db: %s: %s", what, sqlite3_errmsg(s->db));
}

int budget_open(struct budget_store **out, const char *path, struct cl_err *err)
{
	struct budget_store *s = calloc(1, sizeof *s);

	if (!s)
		return cl_fail(err, ENOMEM, "budget");
	if (sqlite3_open_v2(path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOFOLLOW,
			    NULL) != SQLITE_OK ||
	    sqlite3_busy_timeout(s->db, 2000) != SQLITE_OK ||
	    sqlite3_exec(s->db,
			 "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
			 "CREATE TABLE IF NOT EXISTS budget(no INTEGER NOT NULL, kind INTEGER NOT NULL,"
			 " win INTEGER NOT NULL, used INTEGER NOT NULL, PRIMARY KEY(no, kind)) STRICT;",
			 NULL, NULL, NULL) != SQLITE_OK ||
	    sqlite3_prepare_v2(s->db, "SELECT kind, win, used FROM budget WHERE no=?1", -1, &s->get,
			       NULL) != SQLITE_OK ||
	    sqlite3_prepare_v2(s->db,
			       "INSERT INTO budget(no, kind, win, used) VALUES(?1, ?2, ?3, ?4) "
			       "ON CONFLICT(no, kind) DO UPDATE SET win=?3, used=?4", -1, &s->put,
			       NULL) != SQLITE_OK ||
	    sqlite3_prepare_v2(s->db, "DELETE FROM budget WHERE no=?1", -1, &s->rm, NULL) != SQLITE_OK) {
		int r = db_fail(s, err, "open");

		budget_close(s);
		return r;
	}
	*out = s;
	return 0;
}

void budget_close(struct budget_store *s)
{
	if (!s)
		return;
	(void)sqlite3_finalize(s->get);	/* these repeat the last step's error */
	(void)sqlite3_finalize(s->put);
	(void)sqlite3_finalize(s->rm);
	(void)sqlite3_close(s->db);
	free(s);
}

/* A new hour or day begins at nothing. */
static void roll(struct budget *b, int64_t now_us)
{
	for (int k = 0; k < BUDGET_KINDS; k++) {
		int64_t w = now_us / 1000000 / window_s[k];

		if (b->window[k] == w)
			continue;
		b->window[k] = w;
		b->used[k] = 0;
		b->dirty = true;
		if (k == BUDGET_TOKENS_DAY)
			b->told80 = b->told100 = false;
	}
}

int budget_load(struct budget_store *s, struct budget *b, uint32_t no, struct cl_err *err)
{
	int r;

	b->no = no;
	(void)sqlite3_bind_int64(s->get, 1, no);
	while ((r = sqlite3_step(s->get)) == SQLITE_ROW) {
		int k = sqlite3_column_int(s->get, 0);
		int64_t used = sqlite3_column_int64(s->get, 2);

		if (k < 0 || k >= BUDGET_KINDS || used < 0)
			continue;
		b->window[k] = sqlite3_column_int64(s->get, 1);
		b->used[k] = (uint64_t)used;
	}
	(void)sqlite3_reset(s->get);
	if (r != SQLITE_DONE)
		return db_fail(s, err, "read");
	roll(b, cl_now_us());
	return 0;
}

int budget_save(struct budget_store *s, struct budget *b, struct cl_err *err)
{
	for (int k = 0; k < BUDGET_KINDS; k++) {
		(void)sqlite3_bind_int64(s->put, 1, b->no);
		(void)sqlite3_bind_int(s->put, 2, k);
		(void)sqlite3_bind_int64(s->put, 3, b->window[k]);
		(void)sqlite3_bind_int64(s->put, 4, (int64_t)(b->used[k] + b->reserved[k]));
		int r = sqlite3_step(s->put);

		(void)sqlite3_reset(s->put);
		if (r != SQLITE_DONE)
			return db_fail(s, err, "write");
	}
	b->dirty = false;
	return 0;
}

int budget_begin(struct budget_store *s)
{
	return sqlite3_exec(s->db, "BEGIN", NULL, NULL, NULL) == SQLITE_OK ? 0 : -EIO;
}

int budget_commit(struct budget_store *s)
{
	return sqlite3_exec(s->db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK ? 0 : -EIO;
}

int budget_rm(struct budget_store *s, uint32_t no, struct cl_err *err)
{
	(void)sqlite3_bind_int64(s->rm, 1, no);
	int r = sqlite3_step(s->rm);

	(void)sqlite3_reset(s->rm);
	return r == SQLITE_DONE ? 0 : db_fail(s, err, "delete");
}

int budget_reserve(struct budget *b, uint64_t tokens, int64_t now_us, enum budget_kind *out_kind,
		   int *out_wait_s)
{
	uint64_t want[BUDGET_KINDS] = { 1, tokens };

	roll(b, now_us);
	for (int k = 0; k < BUDGET_KINDS; k++) {
		uint64_t have = b->used[k] + b->reserved[k];

		if (b->max[k] == 0 || (have < b->max[k] && want[k] <= b->max[k] - have))
			continue;
		*out_kind = (enum budget_kind)k;
		*out_wait_s = (int)(window_s[k] - now_us / 1000000 % window_s[k]);
		return -EDQUOT;
	}
	for (int k = 0; k < BUDGET_KINDS; k++)
		b->reserved[k] += want[k];
	b->dirty = true;
	return 0;
}

void budget_settle(struct budget *b, uint64_t reserved, uint64_t used, bool called, int64_t now_us)
{
	roll(b, now_us);
	b->reserved[BUDGET_CALLS_HOUR] -= 1;
	b->reserved[BUDGET_TOKENS_DAY] -= reserved;
	b->used[BUDGET_CALLS_HOUR] += called;
	b->used[BUDGET_TOKENS_DAY] += used;
	b->dirty = true;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "store/registry.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define BUSY_MS 5000

enum stmt {
	Q_BEGIN, Q_COMMIT, Q_ROLLBACK, Q_FREE_NO, Q_GENERATION, Q_TENANT_ADD, Q_NUMBER_PUT,
	Q_TENANT_GET, Q_TENANT_BY_NO, Q_TENANTS, Q_SET_RUN, Q_SET_POLICY, Q_HISTORY_ADD, Q_HISTORY_CUT,
	Q_RENEW, Q_TENANT_RM, Q_SECRET_PUT, Q_SECRET_RM, Q_SECRET_HAS, Q_SECRETS, Q_SETTING_PUT,
	Q_SETTING_RM, Q_SETTING_GET, Q_COUNT
};

#define TENANT_COLUMNS "no, id, run, generation, created_us, changed_us, gateway, policy_yaml, policy_json"

static const char *const sql[Q_COUNT] = {
	[Q_BEGIN] = "BEGIN IMMEDIATE",
	[Q_COMMIT] = "COMMIT",
	[Q_ROLLBACK] = "ROLLBACK",
	/* the smallest number that no tenant has */
	[Q_FREE_NO] = "SELECT min(n) FROM (SELECT 1 AS n UNION ALL SELECT no + 1 FROM tenants) "
		      "WHERE n NOT IN (SELECT no FROM tenants)",
	[Q_GENERATION] = "SELECT generation FROM numbers WHERE no = ?1",
	[Q_TENANT_ADD] = "INSERT INTO tenants (no, id, run, generation, created_us, changed_us, gateway) "
			 "VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6)",
	[Q_NUMBER_PUT] = "INSERT INTO numbers (no, generation) VALUES (?1, ?2) "
			 "ON CONFLICT (no) DO UPDATE SET generation = ?2",
	[Q_TENANT_GET] = "SELECT " TENANT_COLUMNS " FROM tenants WHERE id = ?1",
	[Q_TENANT_BY_NO] = "SELECT " TENANT_COLUMNS " FROM tenants WHERE no = ?1",
	[Q_TENANTS] = "SELECT " TENANT_COLUMNS " FROM tenants ORDER BY no",
	[Q_SET_RUN] = "UPDATE tenants SET run = ?2, changed_us = ?3 WHERE no = ?1",
	[Q_SET_POLICY] = "UPDATE tenants SET policy_yaml = ?2, policy_json = ?3, changed_us = ?4 WHERE no = ?1",
	[Q_HISTORY_ADD] = "INSERT INTO policy_history (no, at_us, by, yaml) "
			  "SELECT no, ?2, ?3, policy_yaml FROM tenants WHERE no = ?1 AND policy_yaml IS NOT NULL",
	[Q_HISTORY_CUT] = "DELETE FROM policy_history WHERE no = ?1 AND n NOT IN "
			  "(SELECT n FROM policy_history WHERE no = ?1 ORDER BY n DESC LIMIT 50)",
	[Q_RENEW] = "UPDATE tenants SET generation = generation + 1, changed_us = ?2 WHERE no = ?1",
	[Q_TENANT_RM] = "DELETE FROM tenants WHERE no = ?1",
	[Q_SECRET_PUT] = "INSERT INTO secrets (name, sealed, fingerprint, put_us) VALUES (?1, ?2, ?3, ?4) "
			 "ON CONFLICT (name) DO UPDATE SET sealed = ?2, fingerprint = ?3, put_us = ?4",
	[Q_SECRET_RM] = "DELETE FROM secrets WHERE name = ?1",
	[Q_SECRET_HAS] = "SELECT 1 FROM secrets WHERE name = ?1",
	[Q_SECRETS] = "SELECT name, sealed, fingerprint, put_us FROM secrets ORDER BY name",
	[Q_SETTING_PUT] = "INSERT INTO settings (key, value) VALUES (?1, ?2) "
			  "ON CONFLICT (key) DO UPDATE SET value = ?2",
	[Q_SETTING_RM] = "DELETE FROM settings WHERE key = ?1",
	[Q_SETTING_GET] = "SELECT value FROM settings WHERE key = ?1",
};

/* Step n brings the store from version n to n + 1; never changed, only added to. */
static const char *const migrations[] = {
	"CREATE TABLE tenants (no INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, run INTEGER NOT NULL, "
	"  generation INTEGER NOT NULL, created_us INTEGER NOT NULL, changed_us INTEGER NOT NULL, "
	"  gateway TEXT NOT NULL, policy_yaml TEXT, policy_json TEXT) STRICT;"
	"CREATE TABLE numbers (no INTEGER PRIMARY KEY, generation INTEGER NOT NULL) STRICT;"
	"CREATE TABLE policy_history (n INTEGER PRIMARY KEY, "
	"  no INTEGER NOT NULL REFERENCES tenants (no) ON DELETE CASCADE, "
	"  at_us INTEGER NOT NULL, by TEXT NOT NULL, yaml TEXT NOT NULL) STRICT;"
	"CREATE INDEX policy_history_no ON policy_history (no);"
	"CREATE TABLE secrets (name TEXT PRIMARY KEY, sealed BLOB NOT NULL, fingerprint TEXT NOT NULL, "
	"  put_us INTEGER NOT NULL) STRICT;"
	"CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;",
};

struct registry {
	sqlite3 *db;
	sqlite3_stmt *q[Q_COUNT];
};

static int failed(struct registry *r, struct cl_err *err, const char *what)
{
	int rc = r->db ? sqlite3_extended_errcode(r->db) : SQLITE_NOMEM;
	int code = (rc & 0xff) == SQLITE_FULL ? ENOSPC : (rc & 0xff) == SQLITE_NOMEM ? ENOMEM : EIO;

	return cl_fail(err, code, "registry: %s: %s", what,
		       r->db ? sqlite3_errmsg(r->db) : "no memory");
}

/* a statement, ready to be bound; the one before of the same kind is over */
static sqlite3_stmt *get(struct registry *r, enum stmt s)
{
	(void)sqlite3_reset(r->q[s]);	/* repeats the last step's error, which was told then */
	(void)sqlite3_clear_bindings(r->q[s]);
	return r->q[s];
}

/* run to the end. Return: rows changed, or -errno */
static int run(struct registry *r, sqlite3_stmt *q, struct cl_err *err, const char *what)
{
	int rc = sqlite3_step(q);

	if (rc != SQLITE_DONE && rc != SQLITE_ROW)
		rc = failed(r, err, what);
	else
		rc = sqlite3_changes(r->db);
	(void)sqlite3_reset(q);
	return rc;
}

static int plain(struct registry *r, enum stmt s, struct cl_err *err)
{
	int n = run(r, get(r, s), err, sql[s]);

	return n < 0 ? n : 0;
}

static void bind_text(sqlite3_stmt *q, int i, const char *s)
{
	if (s)
		(void)sqlite3_bind_text(q, i, s, -1, SQLITE_STATIC);	/* a failure shows at the step */
}

/* ---- open ------------------------------------------------------------------------- */

static int exec(struct registry *r, const char *text, struct cl_err *err)
{
	return sqlite3_exec(r->db, text, NULL, NULL, NULL) == SQLITE_OK ? 0 : failed(r, err, "set up");
}

static int version(struct registry *r, int *out, struct cl_err *err)
{
	sqlite3_stmt *q = NULL;

	if (sqlite3_prepare_v2(r->db, "PRAGMA user_version", -1, &q, NULL) != SQLITE_OK ||
	    sqlite3_step(q) != SQLITE_ROW) {
		(void)sqlite3_finalize(q);
		return failed(r, err, "version");
	}
	*out = sqlite3_column_int(q, 0);
	(void)sqlite3_finalize(q);
	return 0;
}

static int migrate(struct registry *r, struct cl_err *err)
{
	char set[64];
	int v = 0, rc = version(r, &v, err);

	if (rc)
		return rc;
	if (v > (int)CL_ARRAY_LEN(migrations))
		return cl_fail(err, EINVAL, "registry: made by a newer Cloister (version %d, known up to %zu)",
			       v, CL_ARRAY_LEN(migrations));
	for (; v < (int)CL_ARRAY_LEN(migrations); v++) {
		(void)snprintf(set, sizeof set, "PRAGMA user_version = %d", v + 1);	/* fits */
		rc = exec(r, "BEGIN IMMEDIATE", err);
		if (rc == 0)
			rc = exec(r, migrations[v], err);
		if (rc == 0)
			rc = exec(r, set, err);
		if (rc == 0)
			rc = exec(r, "COMMIT", err);
		if (rc) {
			(void)exec(r, "ROLLBACK", NULL);	/* the first error is the one to tell */
			return rc;
		}
	}
	return 0;
}

int registry_open(const char *name, struct registry **out, struct cl_err *err)
{
	struct registry *r = calloc(1, sizeof *r);
	int rc;

	if (!r)
		return cl_fail(err, ENOMEM, "registry: no memory");
	if (sqlite3_open_v2(name, &r->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOFOLLOW,
			    NULL) != SQLITE_OK) {
		rc = failed(r, err, name);
		registry_close(r);
		return rc;
	}
	(void)sqlite3_extended_result_codes(r->db, 1);
	(void)sqlite3_busy_timeout(r->db, BUSY_MS);
	rc = exec(r, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; "
		     "PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF; PRAGMA secure_delete = ON;", err);
	if (rc == 0)
		rc = migrate(r, err);
	for (int i = 0; i < Q_COUNT && rc == 0; i++)
		if (sqlite3_prepare_v3(r->db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &r->q[i], NULL) != SQLITE_OK)
			rc = failed(r, err, sql[i]);
	if (rc) {
		registry_close(r);
		return rc;
	}
	*out = r;
	return 0;
}

void registry_close(struct registry *r)
{
	if (!r)
		return;
	for (int i = 0; i < Q_COUNT; i++)
		(void)sqlite3_finalize(r->q[i]);
	(void)sqlite3_close(r->db);
	free(r);
}

/* ---- tenants ------------------------------------------------------------------------ */

void registry_tenant_done(struct registry_tenant *t)
{
	free(t->policy_yaml);
	free(t->policy_json);
	t->policy_yaml = t->policy_json = NULL;
}

static int copy_column(sqlite3_stmt *q, int i, char **out)
{
	const char *s = (const char *)sqlite3_column_text(q, i);

	*out = s ? strdup(s) : NULL;
	return s && !*out ? -ENOMEM : 0;
}

static int from_row(struct registry *r, sqlite3_stmt *q, struct registry_tenant *out, struct cl_err *err)
{
	struct registry_tenant t = { .no = (uint32_t)sqlite3_column_int64(q, 0),
		.run = sqlite3_column_int(q, 2) != 0, .generation = (uint64_t)sqlite3_column_int64(q, 3),
		.created_us = sqlite3_column_int64(q, 4), .changed_us = sqlite3_column_int64(q, 5) };

	(void)r;
	if (span_copy(span_str((const char *)sqlite3_column_text(q, 1)), t.id, sizeof t.id) ||
	    span_copy(span_str((const char *)sqlite3_column_text(q, 6)), t.gateway, sizeof t.gateway))
		return cl_fail(err, EIO, "registry: tenant %u: not ours", t.no);
	if (copy_column(q, 7, &t.policy_yaml) || copy_column(q, 8, &t.policy_json)) {
		registry_tenant_done(&t);
		return cl_fail(err, ENOMEM, "registry: no memory");
	}
	*out = t;
	return 0;
}

static int one(struct registry *r, sqlite3_stmt *q, struct registry_tenant *out, struct cl_err *err,
	       const char *what)
{
	int rc = sqlite3_step(q);

	if (rc == SQLITE_ROW)
		rc = from_row(r, q, out, err);
	else if (rc == SQLITE_DONE)
		rc = cl_fail(err, ENOENT, "no tenant '%s'", what);
	else
		rc = failed(r, err, "tenant");
	(void)sqlite3_reset(q);
	return rc;
}

int registry_tenant_get(struct registry *r, const char *id, struct registry_tenant *out,
			struct cl_err *err)
{
	sqlite3_stmt *q = get(r, Q_TENANT_GET);

	bind_text(q, 1, id);
	return one(r, q, out, err, id);
}

int registry_tenant_by_no(struct registry *r, uint32_t no, struct registry_tenant *out,
			  struct cl_err *err)
{
	sqlite3_stmt *q = get(r, Q_TENANT_BY_NO);
	char name[16];

	(void)snprintf(name, sizeof name, "#%u", no);	/* fits */
	(void)sqlite3_bind_int64(q, 1, no);
	return one(r, q, out, err, name);
}

int registry_tenants(struct registry *r, registry_tenant_fn *fn, void *ctx, struct cl_err *err)
{
	sqlite3_stmt *q = NULL;	/* own statement: @fn may call any other function here */
	int rc = 0, s;

	if (sqlite3_prepare_v2(r->db, sql[Q_TENANTS], -1, &q, NULL) != SQLITE_OK)
		return failed(r, err, "tenants");
	while ((s = sqlite3_step(q)) == SQLITE_ROW) {
		struct registry_tenant t;

		rc = from_row(r, q, &t, err);
		if (rc)
			break;
		rc = fn(ctx, &t);
		registry_tenant_done(&t);
		if (rc) {
			rc = 0;
			break;
		}
	}
	if (rc == 0 && s != SQLITE_ROW && s != SQLITE_DONE)
		rc = failed(r, err, "tenants");
	(void)sqlite3_finalize(q);
	return rc;
}

/* the smallest free number and the generation that comes after its last one */
static int number_for(struct registry *r, uint32_t *out_no, uint64_t *out_generation, struct cl_err *err)
{
	sqlite3_stmt *q = get(r, Q_FREE_NO);
	int64_t no;

	if (sqlite3_step(q) != SQLITE_ROW)
		return failed(r, err, "free number");
	no = sqlite3_column_int64(q, 0);
	(void)sqlite3_reset(q);
	if (no < 1 || no > REGISTRY_NO_MAX)
		return cl_fail(err, ENOSPC, "there are %u tenants: no more fit on one machine", REGISTRY_NO_MAX);
	q = get(r, Q_GENERATION);
	(void)sqlite3_bind_int64(q, 1, no);
	int rc = sqlite3_step(q);

	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		return failed(r, err, "generation");
	*out_generation = rc == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(q, 0) + 1 : 1;
	(void)sqlite3_reset(q);
	*out_no = (uint32_t)no;
	return 0;
}

static int put_number(struct registry *r, uint32_t no, uint64_t generation, struct cl_err *err)
{
	sqlite3_stmt *q = get(r, Q_NUMBER_PUT);

	(void)sqlite3_bind_int64(q, 1, no);
	(void)sqlite3_bind_int64(q, 2, (int64_t)generation);
	int n = run(r, q, err, "number");

	return n < 0 ? n : 0;
}

static int add_locked(struct registry *r, const char *id, bool want_run, uint32_t *out_no,
		      struct cl_err *err)
{
	struct registry_tenant had;
	unsigned char key[32];
	char gateway[65];
	uint64_t generation = 0;
	uint32_t no;
	int rc = registry_tenant_get(r, id, &had, NULL);

	if (rc == 0) {
		registry_tenant_done(&had);
		return cl_fail(err, EEXIST, "tenant '%s' exists", id);
	}
	if (rc != -ENOENT)
		return cl_fail(err, -rc, "registry: cannot be read");
	rc = number_for(r, &no, &generation, err);
	if (rc == 0)
		rc = put_number(r, no, generation, err);
	if (rc)
		return rc;
	cl_random(key, sizeof key);
	cl_hex(key, sizeof key, gateway);
	sqlite3_stmt *q = get(r, Q_TENANT_ADD);

	(void)sqlite3_bind_int64(q, 1, no);
	bind_text(q, 2, id);
	(void)sqlite3_bind_int(q, 3, want_run);
	(void)sqlite3_bind_int64(q, 4, (int64_t)generation);
	(void)sqlite3_bind_int64(q, 5, cl_now_us());
	bind_text(q, 6, gateway);
	rc = run(r, q, err, "tenant");
	if (rc < 0)
		return rc;
	*out_no = no;
	return 0;
}

int registry_tenant_add(struct registry *r, const char *id, bool want_run, uint32_t *out_no,
			struct cl_err *err)
{
	int rc = plain(r, Q_BEGIN, err);

	if (rc)
		return rc;
	rc = add_locked(r, id, want_run, out_no, err);
	if (rc == 0)
		rc = plain(r, Q_COMMIT, err);
	if (rc)
		(void)plain(r, Q_ROLLBACK, NULL);	/* the first error is the one to tell */
	return rc;
}

static int changed(int n, uint32_t no, struct cl_err *err)
{
	if (n == 0)
		return cl_fail(err, ENOENT, "no tenant #%u", no);
	return n < 0 ? n : 0;
}

int registry_tenant_set_run(struct registry *r, uint32_t no, bool want_run, struct cl_err *err)
{
	sqlite3_stmt *q = get(r, Q_SET_RUN);

	(void)sqlite3_bind_int64(q, 1, no);
	(void)sqlite3_bind_int(q, 2, want_run);
	(void)sqlite3_bind_int64(q, 3, cl_now_us());
	return changed(run(r, q, err, "run"), no, err);
}

static int set_policy_locked(struct registry *r, uint32_t no, const char *yaml, const char *json,
			     const char *by, struct cl_err *err)
{
	sqlite3_stmt *q = get(r, Q_HISTORY_ADD);
	int n;

	(void)sqlite3_bind_int64(q, 1, no);
	(void)sqlite3_bind_int64(q, 2, cl_now_us());
	bind_text(q, 3, by);
	n = run(r, q, err, "policy history");
	if (n < 0)
		return n;
	q = get(r, Q_HISTORY_CUT);
	(void)sqlite3_bind_int64(q, 1, no);
	n = run(r, q, err, "policy history");
	if (n < 0)
		return n;
	q = get(r, Q_SET_POLICY);
	(void)sqlite3_bind_int64(q, 1, no);
	bind_text(q, 2, yaml);
	bind_text(q, 3, json);
	(void)sqlite3_bind_int64(q, 4, cl_now_us());
	return changed(run(r, q, err, "policy"), no, err);
}

int registry_tenant_set_policy(struct registry *r, uint32_t no, const char *yaml, const char *json,
			       const char *by, struct cl_err *err)
{
	int rc = plain(r, Q_BEGIN, err);

	if (rc)
		return rc;
	rc = set_policy_locked(r, no, yaml, json, by, err);
	if (rc == 0)
		rc = plain(r, Q_COMMIT, err);
	if (rc)
		(void)plain(r, Q_ROLLBACK, NULL);	/* the first error is the one to tell */
	return rc;
}

int registry_tenant_renew(struct registry *r, uint32_t no, struct cl_err *err)
{
	struct registry_tenant t;
	int rc = registry_tenant_by_no(r, no, &t, err);

	if (rc)
		return rc;
	registry_tenant_done(&t);
	/* the number's record first: a crash between the two only skips a generation */
	rc = put_number(r, no, t.generation + 1, err);
	if (rc)
		return rc;
	sqlite3_stmt *q = get(r, Q_RENEW);

	(void)sqlite3_bind_int64(q, 1, no);
	(void)sqlite3_bind_int64(q, 2, cl_now_us());
	return changed(run(r, q, err, "generation"), no, err);
}

int registry_tenant_rm(struct registry *r, uint32_t no, struct cl_err *err)
{
	sqlite3_stmt *q = get(r, Q_TENANT_RM);

	(void)sqlite3_bind_int64(q, 1, no);
	return changed(run(r, q, err, "remove"), no, err);
}

/* ---- secrets, settings -------------------------------------------------------------- */

int registry_secret_put(struct registry *r, const char *name, struct span sealed,
			const char *fingerprint, struct cl_err *err)
{
	sqlite3_stmt *q = get(r, Q_SECRET_PUT);

	if (sealed.n == 0 || sealed.n > REGISTRY_SEALED_MAX)
		return cl_fail(err, EINVAL, "registry: secret '%s': bad size", name);
	bind_text(q, 1, name);
	(void)sqlite3_bind_blob(q, 2, sealed.p, (int)sealed.n, SQLITE_STATIC);
	bind_text(q, 3, fingerprint);
	(void)sqlite3_bind_int64(q, 4, cl_now_us());
	int n = run(r, q, err, "secret");

	return n < 0 ? n : 0;
}

int registry_secret_rm(struct registry *r, const char *name, struct cl_err *err)
{
	sqlite3_stmt *q = get(r, Q_SECRET_RM);

	bind_text(q, 1, name);
	int n = run(r, q, err, "secret");

	return n == 0 ? cl_fail(err, ENOENT, "no secret '%s'", name) : n < 0 ? n : 0;
}

bool registry_secret_has(struct registry *r, const char *name)
{
	sqlite3_stmt *q = get(r, Q_SECRET_HAS);

	bind_text(q, 1, name);
	bool has = sqlite3_step(q) == SQLITE_ROW;

	(void)sqlite3_reset(q);
	return has;
}

int registry_secrets(struct registry *r, registry_secret_fn *fn, void *ctx, struct cl_err *err)
{
	sqlite3_stmt *q = get(r, Q_SECRETS);
	int s, rc = 0;

	while ((s = sqlite3_step(q)) == SQLITE_ROW) {
		struct registry_secret x = {
			.name = (const char *)sqlite3_column_text(q, 0),
			.sealed = { sqlite3_column_blob(q, 1), (size_t)sqlite3_column_bytes(q, 1) },
			.fingerprint = (const char *)sqlite3_column_text(q, 2),
			.put_us = sqlite3_column_int64(q, 3) };

		if (fn(ctx, &x))
			break;
	}
	if (s != SQLITE_ROW && s != SQLITE_DONE)
		rc = failed(r, err, "secrets");
	(void)sqlite3_reset(q);
	return rc;
}

int registry_setting_set(struct registry *r, const char *key, const char *value, struct cl_err *err)
{
	sqlite3_stmt *q = get(r, value ? Q_SETTING_PUT : Q_SETTING_RM);

	bind_text(q, 1, key);
	if (value)
		bind_text(q, 2, value);
	int n = run(r, q, err, "setting");

	return n < 0 ? n : 0;
}

char *registry_setting_get(struct registry *r, const char *key)
{
	sqlite3_stmt *q = get(r, Q_SETTING_GET);
	char *out = NULL;

	bind_text(q, 1, key);
	if (sqlite3_step(q) == SQLITE_ROW)
		(void)copy_column(q, 0, &out);	/* no memory looks like no setting */
	(void)sqlite3_reset(q);
	return out;
}

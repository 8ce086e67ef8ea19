/* SPDX-License-Identifier: Apache-2.0 */
/*
 * registry - what the api remembers: tenants, their policies, sealed
 * secrets, settings. SQLite; all SQL of it is in registry.c.
 *
 * A tenant's number is its host uid and part of its tokens. A number that
 * becomes free is given again, with a higher generation: no token of the
 * tenant that had it before is good for the new one.
 *
 * Errors of every function: -EIO and the words of SQLite (a full disk:
 * -ENOSPC), -ENOMEM. Runs in: api.
 */
#ifndef CL_STORE_REGISTRY_H
#define CL_STORE_REGISTRY_H

#include "base/base.h"

#define REGISTRY_NO_MAX 4096u	/* numbers go from 1 to this: cloisterd's bound */
#define REGISTRY_SEALED_MAX 16384u
#define REGISTRY_POLICY_MAX (256u * 1024)

struct registry;

struct registry_tenant {
	uint32_t no;
	char id[TENANT_ID_MAX + 1];
	bool run;			/* shall it run? */
	uint64_t generation;
	int64_t created_us, changed_us;
	char gateway[65];		/* the token of the agent's own port, hex */
	char *policy_yaml;		/* as the operator wrote it; NULL: none */
	char *policy_json;		/* the same, typed by tenant_schema; NULL: none */
};

struct registry_secret {
	const char *name;		/* borrowed, as all here, during the call */
	struct span sealed;		/* what the broker can open and we cannot */
	const char *fingerprint;
	int64_t put_us;
};

/* registry_open - the file @name in the working directory; made and brought up to date */
int registry_open(const char *name, struct registry **out, struct cl_err *err);
void registry_close(struct registry *r);

void registry_tenant_done(struct registry_tenant *t);
/* registry_tenant_add - Return: 0 and its number; -EEXIST the id is taken; -ENOSPC no number is free */
int registry_tenant_add(struct registry *r, const char *id, bool run, uint32_t *out_no,
			struct cl_err *err);
/* registry_tenant_get - by id; Return: 0 and *out (registry_tenant_done it), -ENOENT */
int registry_tenant_get(struct registry *r, const char *id, struct registry_tenant *out,
			struct cl_err *err);
int registry_tenant_by_no(struct registry *r, uint32_t no, struct registry_tenant *out,
			  struct cl_err *err);
/* registry_tenants - each in order of its number; @fn returns nonzero to stop */
typedef int registry_tenant_fn(void *ctx, const struct registry_tenant *t);
int registry_tenants(struct registry *r, registry_tenant_fn *fn, void *ctx, struct cl_err *err);
/* -ENOENT: no such tenant */
int registry_tenant_set_run(struct registry *r, uint32_t no, bool run, struct cl_err *err);
/* registry_tenant_set_policy - the one before is kept in the history; NULLs: none */
int registry_tenant_set_policy(struct registry *r, uint32_t no, const char *yaml, const char *json,
			       const char *by, struct cl_err *err);
/* registry_tenant_renew - the next generation: all tokens given so far become void */
int registry_tenant_renew(struct registry *r, uint32_t no, struct cl_err *err);
int registry_tenant_rm(struct registry *r, uint32_t no, struct cl_err *err);

int registry_secret_put(struct registry *r, const char *name, struct span sealed,
			const char *fingerprint, struct cl_err *err);
int registry_secret_rm(struct registry *r, const char *name, struct cl_err *err);	/* -ENOENT */
bool registry_secret_has(struct registry *r, const char *name);
typedef int registry_secret_fn(void *ctx, const struct registry_secret *s);
int registry_secrets(struct registry *r, registry_secret_fn *fn, void *ctx, struct cl_err *err);

/* settings: @value NULL removes; _get gives a heap copy or NULL */
int registry_setting_set(struct registry *r, const char *key, const char *value, struct cl_err *err);
char *registry_setting_get(struct registry *r, const char *key);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config - cloister.yaml, tenants/ID.yaml, routes/NAME.yaml and agent.yaml,
 * and the policy that follows from them for one tenant. Pure: no I/O.
 */
#ifndef CL_POLICY_CONFIG_H
#define CL_POLICY_CONFIG_H

#include "policy/schema.h"

extern const struct schema config_schema;	/* cloister.yaml */
extern const struct schema tenant_schema;	/* tenants/ID.yaml and `policy set` */
extern const struct schema route_schema;	/* routes/NAME.yaml */
extern const struct schema agent_schema;	/* agents/NAME/agent.yaml */

enum config_user { USER_BROKER, USER_API, USER_LEDGER, USER_SPAWNER, USER_MODEL, USER_COUNT };

/* Strings point into doc. */
struct config {
	json_t *doc;		/* as read, defaults filled in; owned */
	const char *listen, *model_listen;
	const char *state_dir, *images_dir;	/* NULL: below --dir */
	uint32_t uid_base;
	const char *group;	/* who may use the socket beside root */
	const char *user[USER_COUNT];
	const char *public_url;	/* NULL: http:// and the listen address */
	uint32_t invite_ttl_s;
	bool model_said;	/* cloister.yaml has `model:` itself */
};

/*
 * config_read - cloister.yaml; @text may be empty: all defaults
 * Return: 0, to be given to config_done; -EINVAL with file, line and column
 */
int config_read(struct span text, const char *file, struct config *out, struct cl_err *err);
void config_done(struct config *c);
/* config_default_text - the commented file that the first `up` writes */
struct span config_default_text(void);

/*
 * policy_effective - what holds for one tenant: class, then what the tenant says
 * @tenant: typed by tenant_schema, or NULL
 * @model:  {"route","id"} chosen by `cloister model set`, or NULL; cloister.yaml's own `model:` wins
 * @out:    {"class","agent","timezone","model","routes","budget","limits","hosts"}; new reference
 * Return: 0; -ENOENT no such class (with the nearest); -ENOMEM
 */
int policy_effective(const struct config *c, const json_t *tenant, const json_t *model,
		     json_t **out, struct cl_err *err);
/* policy_for_broker - the document of ARCHITECTURE.md; new reference, NULL: no memory */
json_t *policy_for_broker(const json_t *effective);
/* policy_default_model - {"route","id"}: cloister.yaml, else @model, else the simulated one */
json_t *policy_default_model(const struct config *c, const json_t *model);

/*
 * policy_plan - the encoded plan (sandbox/plan.h) of one tenant
 * @agent: typed by agent_schema
 * @image_digest, @config_digest: 64 lower-case hex
 * Return: 0; -EINVAL what plan_check says; -E2BIG; -ENOMEM
 */
struct seal_value;
struct plan_facts {
	const char *id;
	uint64_t generation;
	const char *image, *image_digest, *config_digest;
	const struct seal_value *values;	/* what stands for @{name} in command and env */
	size_t nvalues;
};
int policy_plan(const json_t *effective, const json_t *agent, const struct plan_facts *facts,
		struct buf *out, struct cl_err *err);

#endif

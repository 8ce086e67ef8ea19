/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api - the program that owns the registry and speaks with operators (unix
 * socket) and with people's browsers (TCP). It has no privilege: secrets are
 * boxes it cannot open, sandboxes are made by cloisterd, which checks again.
 *
 * How this works: everything runs on one loop. links.c holds the channels to
 * cloisterd, broker and ledger; sync.c tells a broker or cloisterd that came
 * up all that it must know; rest.c is the table of the REST API; web.c the
 * pages. A request that waits for another program keeps a struct wait.
 */
#ifndef CL_API_H
#define CL_API_H

#include "base/base.h"
#include "httpd/httpd.h"
#include "loop/loop.h"
#include "policy/config.h"
#include "policy/seal.h"
#include "record/record.h"
#include "store/registry.h"
#include "wire/tenant.h"
#include "wire/wire.h"

#include <jansson.h>

#define API_BODY_MAX (1u << 20)
#define API_ROUTES_MAX 256
#define API_STREAMS_MAX 512

/* What is known of a tenant beside its row in the registry. */
struct tenant {
	uint32_t no;
	char id[TENANT_ID_MAX + 1];
	bool run;			/* shall it run */
	bool known;			/* cloisterd has told its state */
	bool put;			/* cloisterd has a plan of it */
	uint32_t state;			/* enum tenant_state */
	uint32_t pid, restarts;
	int64_t since_us;
	char reason[512];		/* of the state, or why it cannot be made */
};

struct api;
struct listener {
	struct api *api;
	bool operator;			/* the unix socket: root and the group */
};

struct stream;	/* events.c */
struct run;	/* exec.c */

struct api {
	struct loop *loop;
	struct registry *reg;
	struct config cfg;
	char config_error[CL_ERR_TEXT_MAX];
	char listen[64];		/* A.B.C.D:PORT of the page, or "" */
	const char *model_listen;	/* of the simulated model; NULL: off */
	uint32_t uid_base;
	struct chan control;		/* cloisterd */
	struct chan broker, ledger;
	bool broker_ready;		/* told all of it */
	struct record_client records;
	struct httpd *unix_httpd, *tcp_httpd;
	struct listener unix_listener, tcp_listener;
	json_t *routes;			/* name -> document */
	json_t *agents;			/* name -> agent.yaml as JSON */
	struct tenant *tenant[REGISTRY_NO_MAX + 1];
	struct stream *streams;
	size_t nstreams;
	struct run *runs;
	uint32_t next_exec;
	int64_t started_us;
};

/* ---- requests (rest.c) ----------------------------------------------------------- */

#define CALL_ARGS_MAX 3

/* A request in the hand of its handler. */
struct call {
	struct api *a;
	struct httpd_req *req;
	json_t *body;			/* of a request that has one; borrowed */
	struct span arg[CALL_ARGS_MAX];	/* what stood for {} in the path */
	struct tenant *t;		/* arg[0] when the row says so */
};

/*
 * A request that waits for another program's answer. req becomes NULL when
 * the client leaves; whoever answers frees it with wait_take().
 */
struct wait {
	struct api *a;
	struct httpd_req *req;
	void (*gone)(struct wait *w);	/* may be NULL */
	uint32_t no;			/* tenant, 0 none */
	char id[65];			/* of tenant, secret, route ... */
	char act[32];			/* as recorded; "" not at all */
	void *data;			/* the handler's own */
	int fd;
};

struct wait *wait_new(struct call *c, const char *act);
/* wait_take - the request (NULL when its client left); @w is freed */
struct httpd_req *wait_take(struct wait *w);

/* answers; @r may be NULL: nobody is there any more. respond takes the reference @v */
void respond(struct httpd_req *r, int status, json_t *v);
/* respond_error - {"error":{"reason","fix"}}; @fix may be NULL */
void respond_error(struct httpd_req *r, int status, const char *fix, const char *fmt, ...) CL_PRINTF(4, 5);
/* respond_err - status by the code of @err */
void respond_err(struct httpd_req *r, const struct cl_err *err);
/* query_get - value of a query parameter (no decoding; only [a-z0-9._-] is accepted); empty when absent */
struct span query_get(const struct httpd_req *r, const char *name);

/* rest_ops - on_head ... of the unix socket and, for /v1, of TCP */
extern const struct httpd_ops rest_ops;
void rest_head_checked(struct httpd_req *r);	/* web.c hands over requests below /v1 */

/* ---- handlers, one file a subject -------------------------------------------------- */

typedef void call_fn(struct call *c);
call_fn on_status, on_version, on_pubkey, on_health, on_doctor, on_reload;
call_fn on_tenants, on_tenant_new, on_tenant, on_tenant_rm, on_start, on_stop, on_restart, on_freeze, on_wake,
	on_reset, on_snapshots, on_snapshot_new, on_snapshot_rm, on_snapshot_restore, on_stats;
call_fn on_policy, on_policy_set, on_explain, on_model, on_model_set;
call_fn on_secrets, on_secret_put, on_secret_rm, on_routes, on_route, on_route_test;
call_fn on_chat, on_chat_send, on_invite, on_bindings, on_binding_rm, on_why;
call_fn on_exec, on_exec_signal, on_logs, on_events, on_audit, on_audit_verify;

/* ---- other programs (links.c) --------------------------------------------------------- */

int links_start(struct api *a, struct cl_err *err);
/*
 * broker_call - CALL; takes the reference @body
 * @fn: status (HTTP-like; 0: the broker went away) and its JSON (borrowed, may be NULL)
 * Return: 0, or -errno and @fn is not called
 */
typedef void broker_fn(void *ctx, int status, json_t *answer);
int broker_call(struct api *a, const char *method, json_t *body, broker_fn *fn, void *ctx);
/* broker_forward - ask the broker and give its answer to @c as it is; takes @body */
void broker_forward(struct call *c, const char *method, json_t *body);
/* broker_error - an error of the broker as {"error":{"reason","fix"}}; new reference */
json_t *broker_error(const json_t *answer);
/* record_admin - what an operator did, into the ledger */
void record_admin(struct api *a, const char *tenant, const char *act, const char *outcome,
		  const char *target, const char *detail);

/* ---- tenants (sync.c) -------------------------------------------------------------------- */

/* sync_broker - a broker came up: tell it everything */
void sync_broker(struct api *a);
/* sync_routes - all routes again, after a change of files or of the model */
void sync_routes(struct api *a);
/* secret_body - {"name","sealed"} of a stored box; new reference or NULL */
json_t *secret_body(const struct registry_secret *s);
/* tenants_load - rows of the registry and files of etc/tenants into a->tenant */
int tenants_load(struct api *a, struct cl_err *err);
struct tenant *tenant_by_id(struct api *a, struct span id);
struct tenant *tenant_add(struct api *a, const struct registry_tenant *row);
/* effective policy of @t; new reference or NULL with @err */
json_t *tenant_policy(struct api *a, const struct tenant *t, struct cl_err *err);
json_t *tenant_json(struct api *a, const struct tenant *t);
/*
 * tenant_push - broker: tenant.put; render and seal; cloisterd: TENANT_PUT;
 * then, when @start, TENANT_START.
 * @fn: once, code 0 or errno with words; may be NULL
 */
typedef void push_fn(void *ctx, int code, const char *text);
void tenant_push(struct api *a, struct tenant *t, bool start, push_fn *fn, void *ctx);
/* tenants_push_all - after a change of the default model or of the files */
void tenants_push_all(struct api *a);

/* ---- files (files.c) ------------------------------------------------------------------------ */

int files_config(struct api *a, struct cl_err *err);
int files_routes(struct api *a, struct cl_err *err);
int files_agents(struct api *a, struct cl_err *err);
/* files_tenant_yaml - etc/tenants/<id>.yaml; -ENOENT when there is none */
int files_tenant_yaml(const char *id, struct buf *out, struct cl_err *err);
/* ids of the files in etc/tenants */
typedef int files_id_fn(void *ctx, const char *id);
int files_tenants(files_id_fn *fn, void *ctx, struct cl_err *err);
/* files_sealed - render the configuration of one tenant. @out_fd: a sealed memfd; digest: 64 hex */
struct sealed_facts {
	const char *agent;
	const struct seal_value *values;
	size_t nvalues;
};
int files_sealed(struct api *a, const struct sealed_facts *f, int *out_fd, char digest[65],
		 struct cl_err *err);
/* files_image_digest - SHA-256 of images/<name>/files.sha256, 64 hex */
int files_image_digest(const char *name, char digest[65], struct cl_err *err);

/* ---- events (events.c) ---------------------------------------------------------------------- */

/* events_send - to operators, and to browsers of tenant @no (they only get a nudge) */
void events_send(struct api *a, const char *name, uint32_t no, struct span json);
/* events_open - start an event stream on @r; @no 0: operator, all of it */
void events_open(struct api *a, struct httpd_req *r, uint32_t no);
void events_free(struct api *a);

/* ---- exec (exec.c) -------------------------------------------------------------------------- */

void exec_done(struct api *a, uint32_t no, uint32_t exec_id, uint32_t status);

/* ---- web (web.c) ------------------------------------------------------------------------------ */

extern const struct httpd_ops web_ops;

#endif

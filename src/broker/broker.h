/* SPDX-License-Identifier: Apache-2.0 */
/*
 * broker - what the parts of the broker share: who the tenants are, and the
 * services that each part gives the others.
 *
 * How this works: main.c narrows the process and opens everything; links.c
 * holds the const tables of what cloisterd and the api may send; tenant.c
 * knows the tenants and their listeners; route/ serves tokenized routes and
 * owns the upstream client; conv/ serves the conversation through the hooks
 * that host.c fills. A request's tenant is its listener's context and nothing
 * else (I5).
 */
#ifndef CL_BROKER_H
#define CL_BROKER_H

#include "base/base.h"
#include "httpd/httpd.h"
#include "loop/loop.h"
#include "record/record.h"
#include "wire/wire.h"

#include <jansson.h>

struct conv;
struct routes;
struct token_key;
struct up;
struct vault;

#define TENANTS_MAX 10000

struct broker_tenant {
	struct broker_tenant *next;
	struct broker *b;
	uint32_t no;
	char id[TENANT_ID_MAX + 1];
	bool known;		/* the api has put it */
	uint32_t generation;
	uint32_t state;		/* enum tenant_state as cloisterd last said */
	bool listening;
	uint32_t listener_id;
	int held_fd;		/* a listener that came before its tenant.put, or -1 */
	struct route_tenant *route;	/* route/: policy, budget, counters */
};

struct broker {
	struct loop *loop;
	int state_fd;
	struct chan cloisterd, api, ledger;
	bool api_linked, ledger_linked;
	struct record_client records;
	struct httpd *httpd;
	struct vault *vault;
	struct token_key *tokens;
	struct up *up;
	struct routes *routes;
	struct conv *conv;
	struct broker_tenant *tenants;
	uint32_t ntenants;
	bool synced;		/* the api has sent all it knows */
	bool ready_said;
	struct {
		uint64_t requests, denied, upstream_failed, bad_requests, calls;
	} stats;
};

/* ---- tenants (tenant.c) ------------------------------------------------------ */

struct broker_tenant *tenant_find(struct broker *b, uint32_t no);
/* tenant_put - from the api. @policy borrowed. Return 0; -EINVAL with words */
int tenant_put(struct broker *b, uint32_t no, struct span id, uint32_t generation, const json_t *policy,
	       struct cl_err *err);
int tenant_rm(struct broker *b, uint32_t no, struct cl_err *err);
/* tenant_listen - takes over @fd: accepted on once the tenant is known */
int tenant_listen(struct broker *b, uint32_t no, struct span id, int fd);
void tenant_gone(struct broker *b, uint32_t no);
/* tenants_synced - the api has said all it knows: listeners that wait are served */
void tenants_synced(struct broker *b);
void tenants_free(struct broker *b);

/* ---- links (links.c) ---------------------------------------------------------- */

int links_init(struct broker *b, int control_fd, struct cl_err *err);
void links_done(struct broker *b);
/* broker_event - EVENT to the api; dropped when it is away */
void broker_event(struct broker *b, const char *name, struct span json);
/* broker_record - to the ledger; 0, or -ENOBUFS: it is stuck, refuse new work */
int broker_record(struct broker *b, const struct record *r);
void broker_tell_cloisterd(struct broker *b, uint32_t type, uint32_t no);	/* READY, WAKE of a tenant */

/* ---- methods of the api (calls.c) ------------------------------------------------ */

/*
 * One row: a method that the api may CALL. Fill @out with JSON and return an
 * HTTP-like status; or return CALL_LATER and call call_answer() once.
 */
struct call {
	struct broker *b;
	uint32_t seq;
	struct span method;
	json_t *body;		/* an object; borrowed */
	struct span raw;	/* the same as text */
	struct buf *out;
	int out_fd;		/* -1, or goes along */
};
#define CALL_LATER 0
typedef int call_fn(struct call *c);
struct call_method { const char *name; call_fn *fn; };
void calls_handle(struct broker *b, uint32_t seq, struct span method, struct span body);
void call_answer(struct broker *b, uint32_t seq, int status, struct span json, int fd);
/* call_fail - {"error":{"message":...}} */
int call_fail_with(struct call *c, int status, const char *fmt, ...) CL_PRINTF(3, 4);

/* ---- refusals (route/deny.c) -------------------------------------------------------- */

/* the SDK's shape in which a refusal is said */
enum deny_shape { DENY_OPENAI, DENY_ANTHROPIC };

struct denial {
	int status;
	const char *rule;	/* which rule: "route.method" */
	const char *reason;	/* why, in words for an agent and a person */
	const char *fix;	/* what the operator would do */
	const char *severity;	/* NULL, or a boundary event: "low" "medium" "high" */
	const char *route, *method;
	struct span path;
	int retry_after_s;	/* 0: not said */
	bool failure;		/* the upstream's fault: answered and kept for `why`, but no refusal */
};
/* deny_note - record, EVENT, remembered for `why`; @out_id at least 40 bytes */
void deny_note(struct broker *b, struct broker_tenant *t, const struct denial *d, char *out_id,
	       size_t out_size);
/* deny_answer - deny_note, and the answer to the agent */
void deny_answer(struct broker *b, struct broker_tenant *t, struct httpd_req *r, enum deny_shape shape,
		 const struct denial *d);

/* ---- hooks for conv (host.c) ----------------------------------------------------------- */

int host_init(struct broker *b, struct cl_err *err);

#endif

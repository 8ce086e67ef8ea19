/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of route/ share. */
#ifndef CL_BROKER_ROUTE_IMPL_H
#define CL_BROKER_ROUTE_IMPL_H

#include "broker/route/budget.h"
#include "broker/route/doc.h"
#include "broker/route/route.h"
#include "broker/route/scrub.h"
#include "broker/route/usage.h"

#define DENIALS_KEPT 1024
#define DENIALS_RECORDED 120	/* a minute and tenant; the rest is counted */
#define LIVE_MAX 32		/* calls of one tenant at one time */
#define ID_SIZE 40

struct denial_kept {
	char id[ID_SIZE], tenant[TENANT_ID_MAX + 1], rule[64], reason[512], fix[512];
	char method[17], path[256];
	int64_t at_us;
};

struct routes {
	struct broker *b;
	struct route_doc *docs[512];
	size_t ndocs;
	struct scrubber *scrubber;
	struct budget_store *store;
	struct loop_timer save;
	bool saving;
	struct denial_kept *denials;
	size_t denial_at;
	struct relay *relays;
};

/* minutes for calls_per_minute, by route */
struct minute { char route[65]; int64_t minute; uint32_t n; };

struct route_tenant {
	struct budget budget;
	char model_route[65], model_id[128];
	char (*routes)[65];
	size_t nroutes;
	char (*models)[128];	/* besides model_id */
	size_t nmodels;
	struct minute minutes[16];
	unsigned live;
	int64_t notice_at_us;	/* the person was told last */
	int64_t deny_minute;	/* refusals of this minute: only the first ones are recorded each */
	uint32_t deny_n;
};

/* A request on a route, from its head to the end of its answer. */
struct relay {
	struct relay *next, **pprev;
	struct broker_tenant *t;
	struct httpd_req *r;
	struct route_doc *doc;
	enum deny_shape shape;
	struct span path;	/* as the upstream's path rules see it; points into the request */
	struct up_call *call;
	struct scrub scrub;
	struct usage usage;
	struct body_facts facts;
	uint64_t reserved, bytes_in, bytes_out;
	int64_t began_us, first_us;
	int status;
	bool budgeted, answering, scrubbing, paused, called;
	char id[ID_SIZE];
};

struct route_doc *routes_find(const struct routes *rs, const char *name);
void new_id(const char *prefix, char out[ID_SIZE]);

/* check.c: everything that needs no body. Return: 0 and *out_doc (a reference), or 1: denied and answered */
int check_head(struct broker_tenant *t, struct httpd_req *r, struct route_doc **out_doc,
	       struct span *out_path, enum deny_shape *out_shape);
/* what must hold of the body; *out filled. Return 0 or 1: denied and answered */
int check_body(struct relay *y);
/* cost. Return 0 or 1: denied and answered */
int check_cost(struct relay *y);
void relay_start(struct relay *y);
/* tell the person, at most every ten minutes */
void person_told(struct broker_tenant *t, const char *text);
void budgets_dirty(struct routes *rs);
/* compose.c: the request as the upstream gets it, credential included; wipe @out */
int compose(struct relay *y, struct buf *out, struct cl_err *err);

#endif

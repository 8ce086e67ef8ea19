/* SPDX-License-Identifier: Apache-2.0 */
/*
 * route - tokenized routes: a capability without its credential.
 *
 * How this works: a request below /v1, /anthropic or /r/<route> is checked
 * (check.c: token, route, method, path, model, body; budget.c: cost), given
 * its credential at the one declared place and sent to the route's upstream
 * (relay.c over up.h); the answer is parsed strictly, scrubbed and streamed
 * back. A refusal says which rule, why, and how the operator would allow it
 * (deny.c). Routes are documents from the api (doc.c).
 */
#ifndef CL_BROKER_ROUTE_H
#define CL_BROKER_ROUTE_H

#include "broker/broker.h"

int routes_new(struct routes **out, struct broker *b, struct cl_err *err);
void routes_free(struct routes *rs);
/* routes_put - one document (doc.h). -EINVAL with words that name the key */
int routes_put(struct routes *rs, const json_t *doc, struct cl_err *err);

/* policy of a tenant; -EINVAL with words */
int route_tenant_put(struct broker *b, struct broker_tenant *t, const json_t *policy, struct cl_err *err);
void route_tenant_free(struct broker *b, struct broker_tenant *t);
void route_tenant_erase(struct broker *b, uint32_t no);

/* a secret was put or removed: new scrubber, no old connection */
void routes_secret_changed(struct routes *rs, const char *name);
/* is a live secret in @bytes? */
bool routes_leaks(struct routes *rs, struct span bytes, char *what, size_t n);

/* as httpd's callbacks, for all that is not the conversation's */
int route_head(struct broker_tenant *t, struct httpd_req *r, uint64_t *body_max);
void route_request(struct broker_tenant *t, struct httpd_req *r);
void route_gone(struct httpd_req *r);
void route_drain(struct httpd_req *r);

/* methods of the api */
int call_route_put(struct call *c);
int call_route_test(struct call *c);
int call_explain(struct call *c);
int call_why(struct call *c);

#endif

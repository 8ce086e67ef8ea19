/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doc - a route as the operator wrote it (routes/NAME.yaml, as JSON from the api).
 *
 *	name         what /r/<name>/ says
 *	kind         openai | anthropic | http: whose shapes requests and errors have
 *	upstream     https://host[:port][/prefix]
 *	secret       name in the vault; absent: nothing is injected
 *	inject       {"header","prefix"} | {"query"} | {"path": prefix} | {"basic": user}
 *	headers      constant headers that are added
 *	forward      further request headers of the agent that go along
 *	allow        [{"method","path"}], path exact or ending in "/" and "*"; absent: what the kind says
 *	body         [{"at": JSON pointer, "equals"|"one_of"|"prefix"|"at_most"|"absent"}]
 *	models       what "model" may be; absent: anything
 *	private      the upstream may be a loopback or private address
 *	fetch        true: the upstream may fetch, browse or call tools for the agent
 *	ca           pinned CAs (PEM) instead of the system's
 *	timeout      seconds for a whole call; body_max bytes; calls_per_minute
 *	test         {"method","path"} of one harmless call
 */
#ifndef CL_BROKER_DOC_H
#define CL_BROKER_DOC_H

#include "broker/route/body.h"
#include "broker/route/up.h"

#include <jansson.h>

enum route_kind { ROUTE_OPENAI, ROUTE_ANTHROPIC, ROUTE_HTTP };
enum inject_at { INJECT_NONE, INJECT_HEADER, INJECT_QUERY, INJECT_PATH, INJECT_BASIC };

struct route_allow { char method[17]; char path[256]; bool below; };	/* below: path is a prefix ending in '/' */

struct route_doc {
	unsigned refs;
	char name[65];
	enum route_kind kind;
	struct up_target target;
	struct up_trust *trust;
	char prefix[256];
	char secret[65];
	enum inject_at inject;
	char inject_name[65], inject_prefix[65];
	char headers[1024];	/* "Name: value\r\n" lines */
	char forward[16][48];
	size_t nforward;
	struct route_allow *allow;
	size_t nallow;
	struct body_rule *rules;
	size_t nrules;
	char **models;		/* nmodels texts; none: any */
	size_t nmodels;
	bool fetch;
	int timeout_ms;
	uint64_t body_max;
	uint32_t calls_per_minute;
	struct route_allow test;	/* method "" = none */
};

int route_doc_new(struct route_doc **out, const json_t *doc, struct cl_err *err);
struct route_doc *route_doc_ref(struct route_doc *d);
void route_doc_unref(struct route_doc *d);
/* route_doc_allows - is there a row for @method and @path? *out_method_known: the path is there with another method */
bool route_doc_allows(const struct route_doc *d, struct span method, struct span path,
		      bool *out_other_method);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sync - telling the broker and cloisterd what they must know.
 *
 * How this works: a broker that came up knows nothing. It is told, in this
 * order, secrets, routes, channels, tenants, and then "that is all". Calls on
 * a channel are handled in order, so all are sent at once. The answer to each
 * tenant.put has its tokens: with them the agent's configuration is rendered,
 * sealed and handed to cloisterd with the plan, and the tenant started when
 * it shall run. Doing it again does no harm: tokens follow from number and
 * generation, and cloisterd keeps what runs.
 */
#include "api/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- one tenant ----------------------------------------------------------------------- */

struct push {
	struct api *a;
	uint32_t no;
	uint64_t generation;
	bool start;
	push_fn *fn;
	void *ctx;
	int fd;
};

static void push_end(struct push *p, int code, const char *text)
{
	struct tenant *t = p->a->tenant[p->no];

	if (code && t && !(t->known && (t->state == TENANT_RUNNING || t->state == TENANT_DORMANT ||
					t->state == TENANT_STARTING)))
		(void)span_copy(span_str(text), t->reason, sizeof t->reason);	/* too long: keep what was */
	if (code)
		cl_log(CL_ERROR, "tenant-put", "tenant=%s error=%s", t ? t->id : "?", cl_kvs(text));
	if (p->fn)
		p->fn(p->ctx, code, text);
	(void)cl_close(p->fd);
	free(p);
}

/* a REPLY of cloisterd; true when it is a good one, else the push has ended */
static bool reply_ok(struct push *p, uint32_t type, const union wire_any *msg)
{
	char text[400];

	if (type == MSG_NONE) {
		push_end(p, EPIPE, "cloisterd is gone");
		return false;
	}
	if (type != MSG_REPLY || msg->reply.code) {
		utf8_scrub(type == MSG_REPLY ? msg->reply.text : SPAN("an odd answer of cloisterd"), text,
			   sizeof text);
		push_end(p, type == MSG_REPLY ? (int)msg->reply.code : EIO, text);
		return false;
	}
	return true;
}

static void on_started(void *ctx, uint32_t type, const union wire_any *msg, int *fds, size_t nfds)
{
	struct push *p = ctx;

	(void)fds;
	(void)nfds;
	if (reply_ok(p, type, msg))
		push_end(p, 0, "");
}

static void on_put(void *ctx, uint32_t type, const union wire_any *msg, int *fds, size_t nfds)
{
	struct push *p = ctx;
	struct msg_tenant_start m = { .no = p->no };
	struct tenant *t;

	(void)fds;
	(void)nfds;
	if (!reply_ok(p, type, msg))
		return;
	t = p->a->tenant[p->no];
	if (!t) {
		push_end(p, ENOENT, "the tenant was removed meanwhile");
		return;
	}
	t->put = true;
	if (!p->start || !t->run) {
		push_end(p, 0, "");
		return;
	}
	if (chan_call(&p->a->control, MSG_TENANT_START, &m, NULL, 0, on_started, p))
		push_end(p, EPIPE, "cloisterd is gone");
}

/* the plan and the sealed configuration, from what the broker said */
static int put_plan(struct push *p, struct tenant *t, const json_t *tokens, struct cl_err *err)
{
	struct api *a = p->a;
	CL_BUF struct buf plan;
	struct registry_tenant row = { 0 };
	char config[65] = "", image[65], no[16];
	json_t *e = tenant_policy(a, t, err);
	const char *agent_name, *image_name;
	const json_t *agent;
	int r;

	if (!e)
		return -err->code;
	buf_init(&plan, 65536);
	r = registry_tenant_by_no(a->reg, t->no, &row, err);
	agent_name = json_string_value(json_object_get(e, "agent"));
	agent = json_object_get(a->agents, agent_name);
	(void)snprintf(no, sizeof no, "%u", t->no);	/* fits */
	/* the agent speaks its model's own protocol, as the route's kind says */
	const json_t *model = json_object_get(e, "model");
	const json_t *route = json_object_get(a->routes, json_string_value(json_object_get(model, "route")));
	const char *kind = json_string_value(json_object_get(route, "kind"));
	bool anthropic = kind && strcmp(kind, "anthropic") == 0;
	const struct seal_value values[] = {
		{ "model_api", anthropic ? "anthropic-messages" : "openai-completions" },
		{ "model_base_url", anthropic ? "http://127.0.0.1:8377/anthropic" : "http://127.0.0.1:8377/v1" },
		{ "gateway_token", row.gateway },
		{ "api_token", json_string_value(json_object_get(tokens, "api")) },
		{ "bot_token", json_string_value(json_object_get(tokens, "bot")) },
		{ "model_id", json_string_value(json_object_get(model, "id")) },
		{ "timezone", json_string_value(json_object_get(e, "timezone")) },
		{ "owner_id", "1001" }, { "tenant_id", t->id }, { "tenant_no", no },
	};

	if (r == 0 && !agent)
		r = cl_fail(err, ENOENT, "no agent '%s' in share/cloister/agents", agent_name);
	image_name = json_string_value(json_object_get(agent, "image"));
	if (!image_name)
		image_name = agent_name;
	if (r == 0) {
		const struct sealed_facts f = { agent_name, values, CL_ARRAY_LEN(values) };

		r = !json_string_value(json_object_get(tokens, "api")) || !json_string_value(json_object_get(tokens, "bot")) ? cl_fail(err, EIO, "the broker gave no tokens") :
			files_sealed(a, &f, &p->fd, config, err);
	}
	if (r == 0)
		r = files_image_digest(image_name, image, err);
	if (r == 0) {
		const struct plan_facts facts = { .id = t->id, .generation = p->generation, .image = image_name,
						  .image_digest = image, .config_digest = config,
						  .values = values, .nvalues = CL_ARRAY_LEN(values) };

		r = policy_plan(e, agent, &facts, &plan, err);
	}
	if (r == 0) {
		struct msg_tenant_put m = { .no = t->no, .id = span_str(t->id), .plan = buf_span(&plan) };

		r = chan_call(&a->control, MSG_TENANT_PUT, &m, &p->fd, p->fd >= 0 ? 1 : 0, on_put, p);
		if (r)
			r = cl_fail(err, -r, "cloisterd cannot be told");
	}
	registry_tenant_done(&row);
	json_decref(e);
	return r;
}

static const json_t *reason_of(const json_t *answer)
{
	const json_t *e = json_object_get(answer, "error");

	return json_object_get(e ? e : answer, "reason");
}

static void on_tokens(void *ctx, int status, json_t *answer)
{
	struct push *p = ctx;
	struct tenant *t = p->a->tenant[p->no];
	const char *reason = json_string_value(reason_of(answer));
	struct cl_err err = { 0 };

	if (!t)
		push_end(p, ENOENT, "the tenant was removed meanwhile");
	else if (status == 0)
		push_end(p, EPIPE, "the broker was restarted meanwhile; it is told again when it is up");
	else if (status != 200)
		push_end(p, EINVAL, reason ? reason : "the broker refused the tenant's policy");
	else if (put_plan(p, t, json_object_get(answer, "tokens"), &err))
		push_end(p, err.code, cl_err_str(&err));
}

/* {"no","id","generation","policy"} */
static json_t *tenant_document(struct api *a, const struct tenant *t, uint64_t *out_generation,
			       struct cl_err *err)
{
	struct registry_tenant row;
	json_t *e, *doc;

	if (registry_tenant_by_no(a->reg, t->no, &row, err))
		return NULL;
	*out_generation = row.generation;
	registry_tenant_done(&row);
	e = tenant_policy(a, t, err);
	if (!e)
		return NULL;
	doc = json_pack("{s:I, s:s, s:I, s:o}", "no", (json_int_t)t->no, "id", t->id, "generation",
			(json_int_t)*out_generation, "policy", policy_for_broker(e));
	json_decref(e);
	if (!doc)
		(void)cl_fail(err, ENOMEM, "no memory");
	return doc;
}

void tenant_push(struct api *a, struct tenant *t, bool start, push_fn *fn, void *ctx)
{
	struct push *p = calloc(1, sizeof *p);
	struct cl_err err = { 0 };
	json_t *doc;

	if (!p) {
		if (fn)
			fn(ctx, ENOMEM, "no memory");
		return;
	}
	*p = (struct push){ .a = a, .no = t->no, .start = start, .fn = fn, .ctx = ctx, .fd = -1 };
	doc = tenant_document(a, t, &p->generation, &err);
	if (!doc)
		push_end(p, err.code ? err.code : EIO, err.text);
	else if (broker_call(a, "tenant.put", doc, on_tokens, p))
		push_end(p, EPIPE, "the broker is not up; it is told as soon as it is");
}

void tenants_push_all(struct api *a)
{
	for (uint32_t no = 1; no <= REGISTRY_NO_MAX; no++)
		if (a->tenant[no])
			tenant_push(a, a->tenant[no], false, NULL, NULL);
}

/* ---- a broker that came up -------------------------------------------------------------------- */

/* what of it failed is told to the log; the service goes on with the rest */
static void on_said(void *ctx, int status, json_t *answer)
{
	const char *what = ctx, *reason = json_string_value(reason_of(answer));

	if (status != 200 && status != 0)
		cl_log(CL_ERROR, "broker-sync", "what=%s status=%d reason=%s", what, status,
		       cl_kvs(reason ? reason : "-"));
}

/* the text only names it in the log; it must live until the answer */
#define SAY(a, method, body, what) \
	do { \
		if (broker_call(a, method, body, on_said, (void *)(uintptr_t)(what))) \
			cl_log(CL_ERROR, "broker-sync", "what=%s error=\"not sent\"", what); \
	} while (0)

static int say_secret(void *ctx, const struct registry_secret *s)
{
	struct api *a = ctx;

	SAY(a, "secret.put", secret_body(s), "secret");
	return 0;
}

/* an address written as numbers, or localhost: the operator means this very host, private or not */
static bool literal_host(const char *url)
{
	const char *h = strstr(url, "://");

	if (!h)
		return false;
	h += 3;
	return *h == '[' || strncmp(h, "localhost", 9) == 0 || h[strspn(h, "0123456789.")] == ':' ||
	       h[strspn(h, "0123456789.")] == '/' || h[strspn(h, "0123456789.")] == '\0';
}

/* what only the api needs is left out; an upstream that cloister.yaml or `model set` names is put in */
static json_t *route_document(struct api *a, const char *name, const json_t *route)
{
	const char *shipped = json_string_value(json_object_get(route, "upstream"));
	json_t *doc = json_deep_copy(route), *m;
	char sim[80];
	CL_FREE char *text = registry_setting_get(a->reg, "model");
	json_t *chosen = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
	const json_t *url;

	m = policy_default_model(&a->cfg, chosen);
	url = json_object_get(m, "base_url");
	if (doc) {
		(void)json_object_del(doc, "default_model");
		/* the shipped file names the usual address: `up` may have been told another */
		if (a->model_listen && strcmp(name, "simulated") == 0 && shipped &&
		    strcmp(shipped, "http://127.0.0.1:8379") == 0) {
			(void)snprintf(sim, sizeof sim, "http://%s", a->model_listen);	/* checked by `up`: short */
			(void)json_object_set_new(doc, "upstream", json_string(sim));
		}
		if (url && strcmp(json_string_value(json_object_get(m, "route")), name) == 0) {
			(void)json_object_set_new(doc, "upstream", json_deep_copy(url));
			if (literal_host(json_string_value(url)))
				(void)json_object_set_new(doc, "private", json_true());
		}
	}
	json_decref(m);
	json_decref(chosen);
	return doc;
}

void sync_routes(struct api *a)
{
	for (void *it = json_object_iter(a->routes); it; it = json_object_iter_next(a->routes, it))
		SAY(a, "route.put", route_document(a, json_object_iter_key(it), json_object_iter_value(it)), "route");
}

static void sync_channels(struct api *a)
{
	json_t *channels = json_object_get(a->cfg.doc, "channels");

	for (void *it = json_object_iter(channels); it; it = json_object_iter_next(channels, it)) {
		const json_t *v = json_object_iter_value(it);

		SAY(a, "channel.put", json_pack("{s:s, s:s, s:O, s:O}", "name", json_object_iter_key(it),
			"kind", json_object_iter_key(it), "api_root", json_object_get(v, "api_root"),
			"secret", json_object_get(v, "secret")), "channel");
	}
}

static void on_all_said(void *ctx, int status, json_t *answer)
{
	struct api *a = ctx;

	(void)answer;
	if (status != 200)
		return;
	a->broker_ready = true;
	cl_log(CL_INFO, "broker-ready", "routes=%zu", json_object_size(a->routes));
	events_send(a, "service", 0, SPAN("{\"broker\":\"up\"}"));
}

void sync_broker(struct api *a)
{
	struct cl_err err = { 0 };

	if (registry_secrets(a->reg, say_secret, a, &err))
		cl_log(CL_ERROR, "broker-sync", "error=%s", cl_kvs(cl_err_str(&err)));
	sync_routes(a);
	sync_channels(a);
	for (uint32_t no = 1; no <= REGISTRY_NO_MAX; no++) {
		struct tenant *t = a->tenant[no];

		/* one that failed waits for the operator, not for the broker's next start */
		if (t)
			tenant_push(a, t, t->run && !(t->known && t->state == TENANT_FAILED), NULL, NULL);
	}
	if (broker_call(a, "sync.end", NULL, on_all_said, a))
		cl_log(CL_ERROR, "broker-sync", "what=sync.end error=\"not sent\"");
}

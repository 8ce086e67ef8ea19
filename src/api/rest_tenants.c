/* SPDX-License-Identifier: Apache-2.0 */
/* Handlers: tenants, their life, snapshots. */
#include "api/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- list, show, make ------------------------------------------------------------------ */

static json_t *all_tenants(struct api *a)
{
	json_t *list = json_array();

	for (uint32_t no = 1; no <= REGISTRY_NO_MAX; no++)
		if (a->tenant[no])
			(void)json_array_append_new(list, tenant_json(a, a->tenant[no]));
	return list;
}

void on_tenants(struct call *c)
{
	respond(c->req, 200, json_pack("{s:o}", "tenants", all_tenants(c->a)));
}

void on_status(struct call *c)
{
	struct api *a = c->a;

	respond(c->req, 200, json_pack("{s:s, s:s*, s:s, s:s, s:I, s:I, s:o}", "version", CLOISTER_VERSION,
		"listen", *a->listen ? a->listen : NULL, "broker", a->broker_ready ? "up" : "starting",
		"ledger", chan_up(&a->ledger) ? "up" : "starting", "records_waiting", (json_int_t)a->records.n,
		"started_us", (json_int_t)a->started_us, "tenants", all_tenants(a)));
}

/* the tenant with its policy and its row; NULL told */
static json_t *full_json(struct call *c, struct tenant *t)
{
	struct registry_tenant row;
	struct cl_err err = { 0 };
	json_t *v, *e;

	if (registry_tenant_by_no(c->a->reg, t->no, &row, &err)) {
		respond_err(c->req, &err);
		return NULL;
	}
	v = tenant_json(c->a, t);
	(void)json_object_set_new(v, "created_us", json_integer(row.created_us));
	(void)json_object_set_new(v, "generation", json_integer((json_int_t)row.generation));
	registry_tenant_done(&row);
	err.code = 0;
	e = tenant_policy(c->a, t, &err);
	if (e)
		(void)json_object_set_new(v, "policy", e);
	else
		(void)json_object_set_new(v, "reason", json_string(err.text));
	return v;
}

void on_tenant(struct call *c)
{
	json_t *v = full_json(c, c->t);

	if (v)
		respond(c->req, 200, v);
}


static void made(void *ctx, int code, const char *text)
{
	struct wait *w = ctx;
	struct api *a = w->a;
	struct tenant *t = a->tenant[w->no];
	struct httpd_req *r = wait_take(w);
	json_t *v = t ? tenant_json(a, t) : json_object();

	/* it exists whatever became of its plan: say both */
	if (code && v)
		(void)json_object_set_new(v, "reason", json_string(text));
	respond(r, 201, v);
}

/* policy text or class of the request, typed and checked; 0, or an answer was given */
static int new_policy(struct call *c, const char **out_yaml, char **out_json)
{
	const json_t *yaml = json_object_get(c->body, "policy"), *class = json_object_get(c->body, "class");
	struct cl_err err = { 0 };
	json_t *doc = NULL, *e = NULL;
	int r = 0;

	*out_yaml = NULL;
	*out_json = NULL;
	if (yaml && json_is_string(yaml)) {
		*out_yaml = json_string_value(yaml);
		r = schema_load(&tenant_schema, (struct span){ *out_yaml, json_string_length(yaml) }, "policy",
				&doc, &err);
	} else {
		doc = json_object();
	}
	if (r == 0 && class)
		(void)json_object_set(doc, "class", (json_t *)(uintptr_t)class);
	if (r == 0)
		r = schema_json(&tenant_schema, doc, "policy", &err);
	if (r == 0)
		r = policy_effective(&c->a->cfg, doc, NULL, &e, &err);
	if (r == 0 && json_object_size(doc))
		*out_json = json_dumps(doc, JSON_COMPACT | JSON_SORT_KEYS);
	json_decref(e);
	json_decref(doc);
	if (r == 0)
		return 0;
	if (err.code == ENOENT)
		err.code = EINVAL;	/* it is the policy that is wrong, not the path */
	respond_err(c->req, &err);
	return -1;
}

void on_tenant_new(struct call *c)
{
	const char *id = json_string_value(json_object_get(c->body, "id")), *yaml;
	bool run = json_is_true(json_object_get(c->body, "start"));
	CL_FREE char *doc = NULL;
	struct registry_tenant row;
	struct cl_err err = { 0 };
	struct tenant *t;
	uint32_t no;
	int r;

	if (!id || !tenant_id_ok(span_str(id))) {
		respond_error(c->req, 422, NULL, "the id must be of a-z, 0-9 and -, at most 40, no - at either end");
		return;
	}
	if (new_policy(c, &yaml, &doc))
		return;
	r = registry_tenant_add(c->a->reg, id, run, &no, &err);
	if (r == 0 && doc)
		r = registry_tenant_set_policy(c->a->reg, no, yaml ? yaml : "", doc, "operator", &err);
	if (r == 0)
		r = registry_tenant_by_no(c->a->reg, no, &row, &err);
	if (r) {
		respond_err(c->req, &err);
		return;
	}
	t = tenant_add(c->a, &row);
	registry_tenant_done(&row);
	record_admin(c->a, id, "tenant.create", t ? "ok" : "failed", id, NULL);
	if (!t) {
		respond_error(c->req, 500, NULL, "no memory");
		return;
	}
	c->t = t;
	struct wait *w = wait_new(c, "");

	if (!w) {
		respond(c->req, 201, tenant_json(c->a, t));
		return;
	}
	tenant_push(c->a, t, run, made, w);
}

/* ---- life -------------------------------------------------------------------------------- */

/* the tenant as it is now, or the words of cloisterd */
static void answer_act(struct wait *w, int code, const char *text)
{
	struct api *a = w->a;
	struct tenant *t = a->tenant[w->no];
	struct cl_err err = { .code = code };
	char act[32];

	(void)span_copy(span_str(w->act), act, sizeof act);
	record_admin(a, w->id, act, code ? "failed" : "ok", w->id, code ? text : NULL);
	struct httpd_req *r = wait_take(w);

	if (code == 0) {
		respond(r, 200, t ? tenant_json(a, t) : json_object());
		return;
	}
	(void)span_copy(span_str(text), err.text, sizeof err.text);
	if (code == ENOENT)
		err.code = EBUSY;	/* the path exists: it is the state that does not fit */
	respond_err(r, &err);
}

static void acted(void *ctx, uint32_t type, const union wire_any *msg, int *fds, size_t nfds)
{
	char text[700] = "";

	(void)fds;
	(void)nfds;
	if (type == MSG_NONE) {
		answer_act(ctx, EPIPE, "cloisterd is gone");
		return;
	}
	if (type != MSG_REPLY) {
		answer_act(ctx, EIO, "an odd answer of cloisterd");
		return;
	}
	utf8_scrub(msg->reply.text, text, sizeof text);
	answer_act(ctx, (int)msg->reply.code, text);
}

static void ask(struct call *c, const char *act, uint32_t type, const void *msg)
{
	struct wait *w = wait_new(c, act);

	if (!w) {
		respond_error(c->req, 503, NULL, "no memory");
		return;
	}
	if (chan_call(&c->a->control, type, msg, NULL, 0, acted, w))
		answer_act(w, EPIPE, "cloisterd cannot be told");
}

static int want(struct call *c, bool run)
{
	struct cl_err err = { 0 };

	if (c->t->run == run)
		return 0;
	if (registry_tenant_set_run(c->a->reg, c->t->no, run, &err)) {
		respond_err(c->req, &err);
		return -1;
	}
	c->t->run = run;
	return 0;
}

static void started(void *ctx, int code, const char *text)
{
	answer_act(ctx, code, text);
}

void on_start(struct call *c)
{
	struct wait *w;

	if (want(c, true))
		return;
	w = wait_new(c, "tenant.start");
	if (!w)
		respond_error(c->req, 503, NULL, "no memory");
	else
		tenant_push(c->a, c->t, true, started, w);
}

void on_stop(struct call *c)
{
	struct msg_tenant_stop m = { .no = c->t->no, .grace_ms = 10000 };

	if (want(c, false) == 0)
		ask(c, "tenant.stop", MSG_TENANT_STOP, &m);
}

static void stopped_to_start(void *ctx, uint32_t type, const union wire_any *msg, int *fds, size_t nfds)
{
	struct wait *w = ctx;
	struct tenant *t = w->a->tenant[w->no];

	/* ENOENT: it had no sandbox, which is what was wanted */
	if (type != MSG_REPLY || !t || (msg->reply.code && msg->reply.code != ENOENT))
		acted(ctx, type, msg, fds, nfds);
	else
		tenant_push(w->a, t, true, started, w);
}

void on_restart(struct call *c)
{
	struct msg_tenant_stop m = { .no = c->t->no, .grace_ms = 10000 };
	struct wait *w;

	if (want(c, true))
		return;
	w = wait_new(c, "tenant.restart");
	if (!w)
		respond_error(c->req, 503, NULL, "no memory");
	else if (chan_call(&c->a->control, MSG_TENANT_STOP, &m, NULL, 0, stopped_to_start, w))
		answer_act(w, EPIPE, "cloisterd cannot be told");
}

void on_freeze(struct call *c)
{
	struct msg_tenant_freeze m = { .no = c->t->no };

	ask(c, "tenant.freeze", MSG_TENANT_FREEZE, &m);
}

void on_wake(struct call *c)
{
	struct msg_tenant_wake m = { .no = c->t->no };

	ask(c, "tenant.wake", MSG_TENANT_WAKE, &m);
}

/* a new snapshot's name: when it was made */
static void snapshot_name(const char *why, char out[64])
{
	char at[40];
	size_t n = 0;

	cl_time_rfc3339(cl_now_us(), at, sizeof at);
	for (const char *p = at; *p && *p != '.' && n < 20; p++)
		if (*p >= '0' && *p <= '9')
			at[n++] = *p;
	at[n] = '\0';
	(void)snprintf(out, 64, "%s-%s", why, at);	/* fits */
}

/* Done, and the snapshot's name goes back under @key. */
static void named(void *ctx, uint32_t type, const union wire_any *msg, int *fds, size_t nfds, int status,
		  const char *key)
{
	struct wait *w = ctx;
	CL_FREE char *name = w->data;

	if (type != MSG_REPLY || msg->reply.code) {
		acted(ctx, type, msg, fds, nfds);
		return;
	}
	record_admin(w->a, w->id, w->act, "ok", w->id, name);
	respond(wait_take(w), status, json_pack("{s:s}", key, name));
}

static void reset_done(void *ctx, uint32_t type, const union wire_any *msg, int *fds, size_t nfds)
{
	named(ctx, type, msg, fds, nfds, 200, "snapshot");
}

void on_reset(struct call *c)
{
	static const char *const levels[RESET_LEVEL_COUNT] = { "agent", "state", "workspace" };
	const char *level = json_string_value(json_object_get(c->body, "level"));
	struct msg_tenant_reset m = { .no = c->t->no, .level = RESET_LEVEL_COUNT };
	struct wait *w;
	char name[64];

	for (uint32_t i = 0; level && i < RESET_LEVEL_COUNT; i++)
		if (strcmp(level, levels[i]) == 0)
			m.level = i;
	if (m.level == RESET_LEVEL_COUNT) {
		respond_error(c->req, 422, NULL, "level must be agent, state or workspace");
		return;
	}
	snapshot_name("before-reset", name);
	m.snapshot = span_str(name);
	w = wait_new(c, "tenant.reset");
	if (w)
		w->data = strdup(name);
	if (!w || !w->data) {
		if (w)
			(void)wait_take(w);
		respond_error(c->req, 503, NULL, "no memory");
	} else if (chan_call(&c->a->control, MSG_TENANT_RESET, &m, NULL, 0, reset_done, w)) {
		free(w->data);
		answer_act(w, EPIPE, "cloisterd cannot be told");
	}
}

/* ---- removal: sandbox, then conversation, then the row -------------------------------------- */

static void forgotten(void *ctx, int status, json_t *answer)
{
	struct wait *w = ctx;
	struct api *a = w->a;
	struct cl_err err = { 0 };
	struct record rec;

	(void)answer;
	if (status != 200 && status != 404) {
		answer_act(w, status ? EIO : EPIPE, "the sandbox is gone, but the broker could not erase the conversation: try again");
		return;
	}
	if (registry_tenant_rm(a->reg, w->no, &err)) {
		answer_act(w, err.code, err.text);
		return;
	}
	free(a->tenant[w->no]);
	a->tenant[w->no] = NULL;
	record_begin(&rec, RECORD_TENANT_ERASED, w->id);
	record_str(&rec, RF_BY, "operator");
	(void)record_send(&a->records, &rec);	/* a full queue is counted by the client */
	events_send(a, "service", 0, SPAN("{\"tenants\":\"changed\"}"));
	answer_act(w, 0, "");
}

static void sandbox_gone(void *ctx, uint32_t type, const union wire_any *msg, int *fds, size_t nfds)
{
	struct wait *w = ctx;

	/* ENOENT: cloisterd never had it */
	if (type != MSG_REPLY || (msg->reply.code && msg->reply.code != ENOENT))
		acted(ctx, type, msg, fds, nfds);
	else if (broker_call(w->a, "tenant.rm", json_pack("{s:I}", "no", (json_int_t)w->no), forgotten, w))
		answer_act(w, EPIPE, "the broker is not up: try again in a moment");
}

void on_tenant_rm(struct call *c)
{
	struct msg_tenant_rm m = { .no = c->t->no };
	CL_BUF struct buf text;
	struct wait *w;

	buf_init(&text, YAML_BYTES_MAX);
	if (files_tenant_yaml(c->t->id, &text, NULL) == 0) {
		respond_error(c->req, 409, "remove that file first", "etc/cloister/tenants/%s.yaml would make it again",
			      c->t->id);
		return;
	}
	if (want(c, false))
		return;
	w = wait_new(c, "tenant.rm");
	if (!w)
		respond_error(c->req, 503, NULL, "no memory");
	else if (chan_call(&c->a->control, MSG_TENANT_RM, &m, NULL, 0, sandbox_gone, w))
		answer_act(w, EPIPE, "cloisterd cannot be told");
}

/* ---- snapshots, stats -------------------------------------------------------------------------- */

enum { SNAPSHOT_CREATE, SNAPSHOT_LIST, SNAPSHOT_RM, SNAPSHOT_RESTORE };

/* LISTING: lines of key=value; each becomes an object with the line itself */
static void listed(void *ctx, uint32_t type, const union wire_any *msg, int *fds, size_t nfds)
{
	struct wait *w = ctx;
	const char *key = w->data;
	struct span rest, line;
	json_t *list;

	if (type != MSG_LISTING) {
		acted(ctx, type, msg, fds, nfds);
		return;
	}
	list = json_array();
	rest = msg->listing.text;
	while (rest.n) {
		char clean[600];

		if (!span_cut(&rest, '\n', &line)) {
			line = rest;
			rest.n = 0;
		}
		utf8_scrub(line, clean, sizeof clean);
		if (line.n)
			(void)json_array_append_new(list, json_pack("{s:s}", "line", clean));
	}
	respond(wait_take(w), 200, json_pack("{s:o}", key, list));
}

static void list(struct call *c, uint32_t type, const void *msg, const char *key)
{
	struct wait *w = wait_new(c, "");

	if (!w) {
		respond_error(c->req, 503, NULL, "no memory");
		return;
	}
	w->data = (void *)(uintptr_t)key;
	if (chan_call(&c->a->control, type, msg, NULL, 0, listed, w))
		answer_act(w, EPIPE, "cloisterd cannot be told");
}

void on_snapshots(struct call *c)
{
	struct msg_snapshot m = { .no = c->t->no, .op = SNAPSHOT_LIST };

	list(c, MSG_SNAPSHOT, &m, "snapshots");
}

void on_stats(struct call *c)
{
	struct msg_tenant_stats m = { .no = c->t->no };

	list(c, MSG_TENANT_STATS, &m, "stats");
}

static void snapshot_made(void *ctx, uint32_t type, const union wire_any *msg, int *fds, size_t nfds)
{
	named(ctx, type, msg, fds, nfds, 201, "name");
}

void on_snapshot_new(struct call *c)
{
	const char *said = json_string_value(json_object_get(c->body, "name"));
	struct msg_snapshot m = { .no = c->t->no, .op = SNAPSHOT_CREATE };
	struct wait *w;
	char name[64];

	if (said && (!name_ok(span_str(said)) || span_copy(span_str(said), name, sizeof name))) {
		respond_error(c->req, 422, NULL, "the name must be of a-z, 0-9, - and _, at most 63");
		return;
	}
	if (!said)
		snapshot_name("by-hand", name);
	m.name = span_str(name);
	w = wait_new(c, "snapshot.create");
	if (w)
		w->data = strdup(name);
	if (!w || !w->data) {
		if (w)
			(void)wait_take(w);
		respond_error(c->req, 503, NULL, "no memory");
	} else if (chan_call(&c->a->control, MSG_SNAPSHOT, &m, NULL, 0, snapshot_made, w)) {
		free(w->data);
		answer_act(w, EPIPE, "cloisterd cannot be told");
	}
}

void on_snapshot_rm(struct call *c)
{
	struct msg_snapshot m = { .no = c->t->no, .op = SNAPSHOT_RM, .name = c->arg[1] };

	ask(c, "snapshot.rm", MSG_SNAPSHOT, &m);
}

void on_snapshot_restore(struct call *c)
{
	struct msg_snapshot m = { .no = c->t->no, .op = SNAPSHOT_RESTORE, .name = c->arg[1] };

	ask(c, "snapshot.restore", MSG_SNAPSHOT, &m);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Handlers: service, policy, model, secrets, routes, chat, invitations, bindings, why. */
#include "api/api.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX (64u * 1024)	/* bytes of one message */

/* ---- the service ----------------------------------------------------------------------- */

void on_version(struct call *c)
{
	respond(c->req, 200, json_pack("{s:s}", "version", CLOISTER_VERSION));
}

void on_health(struct call *c)
{
	bool ready = c->a->broker_ready && chan_up(&c->a->ledger);

	/* /healthz: this program serves; /readyz: all of it does */
	if (span_eq_str(c->req->path, "/readyz") && !ready)
		respond(c->req, 503, json_pack("{s:b}", "ready", 0));
	else
		respond(c->req, 200, json_pack("{s:b}", "ready", ready));
}

void on_pubkey(struct call *c)
{
	broker_forward(c, "pubkey", json_object());
}

void on_reload(struct call *c)
{
	struct cl_err err = { 0 };

	/* listening addresses and users are cloisterd's: they follow at the next `up` */
	if (files_config(c->a, &err) || files_routes(c->a, &err) || files_agents(c->a, &err)) {
		respond_err(c->req, &err);
		return;
	}
	sync_routes(c->a);
	tenants_push_all(c->a);
	record_admin(c->a, NULL, "reload", "ok", NULL, NULL);
	respond(c->req, 200, json_pack("{s:b}", "ok", 1));
}

/* ---- policy ------------------------------------------------------------------------------ */

void on_policy(struct call *c)
{
	struct registry_tenant row;
	struct cl_err err = { 0 };
	CL_BUF struct buf file;
	json_t *e, *yaml;
	bool from_file;

	buf_init(&file, YAML_BYTES_MAX);
	from_file = files_tenant_yaml(c->t->id, &file, NULL) == 0;
	if (registry_tenant_by_no(c->a->reg, c->t->no, &row, &err)) {
		respond_err(c->req, &err);
		return;
	}
	yaml = from_file ? json_stringn(file.n ? file.p : "", file.n) :
		json_string(row.policy_yaml ? row.policy_yaml : "");
	/* made with --class: there is no text, but there is a document */
	if (!from_file && row.policy_json && (!row.policy_yaml || !*row.policy_yaml)) {
		json_decref(yaml);
		yaml = json_string(row.policy_json);
	}
	registry_tenant_done(&row);
	e = tenant_policy(c->a, c->t, &err);
	if (!e) {
		json_decref(yaml);
		respond_err(c->req, &err);
		return;
	}
	respond(c->req, 200, json_pack("{s:s, s:o, s:o}", "source",
				       from_file ? "etc/cloister/tenants" : "policy set", "yaml", yaml, "effective", e));
}

static void policy_pushed(void *ctx, int code, const char *text)
{
	struct wait *w = ctx;

	/* stored in any case; a broker that is away is told when it is back */
	respond(wait_take(w), 200, json_pack("{s:b, s:s*}", "ok", 1, "note", code ? text : NULL));
}

void on_policy_set(struct call *c)
{
	const json_t *yaml = json_object_get(c->body, "yaml");
	const char *file = json_string_value(json_object_get(c->body, "file")), *id;
	CL_BUF struct buf there;
	struct cl_err err = { 0 };
	json_t *doc = NULL, *e = NULL;
	CL_FREE char *text = NULL;
	int r;

	buf_init(&there, YAML_BYTES_MAX);
	if (files_tenant_yaml(c->t->id, &there, NULL) == 0) {
		respond_error(c->req, 409, "edit that file, then: cloister down; cloister up",
			      "the policy of '%s' stands in etc/cloister/tenants/%s.yaml", c->t->id, c->t->id);
		return;
	}
	if (!json_is_string(yaml)) {
		respond_error(c->req, 422, NULL, "'yaml' is missing");
		return;
	}
	r = schema_load(&tenant_schema, (struct span){ json_string_value(yaml), json_string_length(yaml) },
			file && *file ? file : "policy", &doc, &err);
	id = json_string_value(json_object_get(doc, "id"));
	if (r == 0 && id && strcmp(id, c->t->id) != 0)
		r = cl_fail(&err, EINVAL, "id: '%s' is not '%s'", id, c->t->id);
	if (r == 0)
		r = policy_effective(&c->a->cfg, doc, NULL, &e, &err);
	if (r == 0 && !(text = json_dumps(doc, JSON_COMPACT | JSON_SORT_KEYS)))
		r = cl_fail(&err, ENOMEM, "no memory");
	if (r == 0)
		r = registry_tenant_set_policy(c->a->reg, c->t->no, json_string_value(yaml), text, "operator", &err);
	json_decref(e);
	json_decref(doc);
	if (r) {
		record_admin(c->a, c->t->id, "policy.set", "refused", c->t->id, err.text);
		if (err.code == ENOENT)
			err.code = EINVAL;	/* it is the policy that is wrong, not the path */
		respond_err(c->req, &err);
		return;
	}
	record_admin(c->a, c->t->id, "policy.set", "ok", c->t->id, NULL);
	struct wait *w = wait_new(c, "");

	if (w)
		tenant_push(c->a, c->t, false, policy_pushed, w);
	else
		respond(c->req, 200, json_pack("{s:b}", "ok", 1));
}

static json_t *text_member(const struct call *c, const char *key)
{
	json_t *v = json_object_get(c->body, key);

	return json_is_string(v) ? json_incref(v) : json_string("");
}

void on_explain(struct call *c)
{
	broker_forward(c, "explain", json_pack("{s:I, s:o, s:o, s:o}", "no", (json_int_t)c->t->no, "method",
		       text_member(c, "method"), "path", text_member(c, "path"), "body", text_member(c, "body")));
}

/* ---- model ---------------------------------------------------------------------------------- */

static json_t *model_json(struct api *a)
{
	CL_FREE char *text = registry_setting_get(a->reg, "model");
	json_t *chosen = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
	json_t *m = policy_default_model(&a->cfg, chosen);
	const json_t *preset;

	if (m && !json_object_get(m, "id")) {
		preset = json_object_get(json_object_get(a->routes, json_string_value(json_object_get(m, "route"))),
					 "default_model");
		(void)json_object_set_new(m, "id", preset ? json_deep_copy(preset) : json_string("default"));
	}
	(void)json_object_set_new(m, "source", json_string(a->cfg.model_said ? "cloister.yaml" :
							    chosen ? "model set" : "preset"));
	json_decref(chosen);
	return m;
}

void on_model(struct call *c)
{
	respond(c->req, 200, model_json(c->a));
}

void on_model_set(struct call *c)
{
	static const struct schema_field fields[] = {
		{ .key = "route", .type = S_NAME, .required = true },
		{ .key = "id", .type = S_TEXT, .min = 1, .max = 200 },
		{ .key = "base_url", .type = S_URL },
	};
	static const struct schema s = SCHEMA(fields);
	struct cl_err err = { 0 };
	CL_FREE char *text = NULL;
	const char *route, *secret;
	json_t *doc, *m;

	if (c->a->cfg.model_said) {
		respond_error(c->req, 409, "change it there, then: cloister down; cloister up",
			      "the model stands in cloister.yaml");
		return;
	}
	if (schema_json(&s, c->body, "model", &err)) {
		respond_err(c->req, &err);
		return;
	}
	route = json_string_value(json_object_get(c->body, "route"));
	doc = json_object_get(c->a->routes, route);
	if (!doc) {
		respond_error(c->req, 404, "see: cloister route list", "there is no route '%s'", route);
		return;
	}
	if (!json_object_get(c->body, "id") && !json_object_get(doc, "default_model")) {
		respond_error(c->req, 422, "say --model ID", "the route '%s' has no default model", route);
		return;
	}
	text = json_dumps(c->body, JSON_COMPACT | JSON_SORT_KEYS);
	if (!text)
		(void)cl_fail(&err, ENOMEM, "no memory");
	if (!text || registry_setting_set(c->a->reg, "model", text, &err)) {
		respond_err(c->req, &err);
		return;
	}
	record_admin(c->a, NULL, "model.set", "ok", route, NULL);
	sync_routes(c->a);
	tenants_push_all(c->a);
	m = model_json(c->a);
	secret = json_string_value(json_object_get(doc, "secret"));
	if (secret && !registry_secret_has(c->a->reg, secret)) {
		char note[160];

		(void)snprintf(note, sizeof note, "its key is missing: cloister secret set %s", secret);
		(void)json_object_set_new(m, "note", json_string(note));
	}
	respond(c->req, 200, m);
}

/* ---- secrets ----------------------------------------------------------------------------------- */

json_t *secret_body(const struct registry_secret *s)
{
	size_t size = sodium_base64_ENCODED_LEN(s->sealed.n, sodium_base64_VARIANT_ORIGINAL);
	CL_FREE char *b64 = malloc(size);

	if (!b64)
		return NULL;
	(void)sodium_bin2base64(b64, size, (const unsigned char *)s->sealed.p, s->sealed.n,
				sodium_base64_VARIANT_ORIGINAL);
	return json_pack("{s:s, s:s}", "name", s->name, "sealed", b64);
}

struct listing {
	struct api *a;
	json_t *list;
};

static int list_secret(void *ctx, const struct registry_secret *s)
{
	struct listing *l = ctx;
	json_t *routes = json_array();

	for (void *it = json_object_iter(l->a->routes); it; it = json_object_iter_next(l->a->routes, it)) {
		const char *name = json_string_value(json_object_get(json_object_iter_value(it), "secret"));

		if (name && strcmp(name, s->name) == 0)
			(void)json_array_append_new(routes, json_string(json_object_iter_key(it)));
	}
	(void)json_array_append_new(l->list, json_pack("{s:s, s:s, s:I, s:o}", "name", s->name, "fingerprint",
				    s->fingerprint, "put_us", (json_int_t)s->put_us, "routes", routes));
	return 0;
}

void on_secrets(struct call *c)
{
	struct listing l = { c->a, json_array() };
	struct cl_err err = { 0 };

	if (registry_secrets(c->a->reg, list_secret, &l, &err)) {
		json_decref(l.list);
		respond_err(c->req, &err);
		return;
	}
	respond(c->req, 200, json_pack("{s:o}", "secrets", l.list));
}

struct box {
	size_t n;
	unsigned char bytes[REGISTRY_SEALED_MAX];
};

/* the broker opened it: only now is it stored, so that what is stored can be opened */
static void secret_taken(void *ctx, int status, json_t *answer)
{
	struct wait *w = ctx;
	CL_FREE struct box *b = w->data;
	const char *fingerprint = json_string_value(json_object_get(answer, "fingerprint"));
	struct cl_err err = { 0 };
	struct api *a = w->a;
	struct record r;
	bool ok = status == 200;

	if (ok && registry_secret_put(a->reg, w->id, (struct span){ (const char *)b->bytes, b->n },
				      fingerprint ? fingerprint : "-", &err))
		ok = false;
	record_begin(&r, RECORD_SECRET, NULL);
	record_str(&r, RF_ACT, "put");
	record_str(&r, RF_NAME, w->id);
	record_str(&r, RF_FINGERPRINT, fingerprint);
	record_str(&r, RF_OUTCOME, ok ? "ok" : "refused");
	record_str(&r, RF_BY, "operator");
	(void)record_send(&a->records, &r);	/* a full queue is counted by the client */
	struct httpd_req *req = wait_take(w);

	if (ok)
		respond(req, 200, json_pack("{s:s}", "fingerprint", fingerprint ? fingerprint : "-"));
	else if (err.code)
		respond_err(req, &err);
	else if (status == 0)
		respond_error(req, 503, "try again in a moment", "the broker was restarted meanwhile");
	else
		respond_error(req, 422, "seal it again: cloister secret set", "the broker could not open this box");
}

void on_secret_put(struct call *c)
{
	const json_t *sealed = json_object_get(c->body, "sealed");
	struct box *b = malloc(sizeof *b);
	struct wait *w;

	if (!b) {
		respond_error(c->req, 503, NULL, "no memory");
		return;
	}
	if (!json_is_string(sealed) ||
	    sodium_base642bin(b->bytes, sizeof b->bytes, json_string_value(sealed), json_string_length(sealed), NULL,
			      &b->n, NULL, sodium_base64_VARIANT_ORIGINAL) != 0 || b->n <= crypto_box_SEALBYTES) {
		free(b);
		respond_error(c->req, 422, "use: cloister secret set", "'sealed' is not a box in base64");
		return;
	}
	w = wait_new(c, "secret.put");
	if (!w) {
		free(b);
		respond_error(c->req, 503, NULL, "no memory");
		return;
	}
	w->data = b;
	(void)span_copy(c->arg[0], w->id, sizeof w->id);	/* find() bounded it to 64 */
	if (broker_call(c->a, "secret.put", json_pack("{s:s, s:O}", "name", w->id, "sealed", sealed), secret_taken, w)) {
		free(b);
		respond_error(wait_take(w), 503, "try again in a moment", "the broker is not up");
	}
}

void on_secret_rm(struct call *c)
{
	struct cl_err err = { 0 };
	struct record r;
	char name[65];

	(void)span_copy(c->arg[0], name, sizeof name);	/* find() bounded it to 64 */
	if (registry_secret_rm(c->a->reg, name, &err)) {
		respond_err(c->req, &err);
		return;
	}
	record_begin(&r, RECORD_SECRET, NULL);
	record_str(&r, RF_ACT, "rm");
	record_str(&r, RF_NAME, name);
	record_str(&r, RF_OUTCOME, "ok");
	record_str(&r, RF_BY, "operator");
	(void)record_send(&c->a->records, &r);	/* a full queue is counted by the client */
	/* a broker that is away learns it by not being told the secret when it is back */
	if (chan_up(&c->a->broker))
		broker_forward(c, "secret.rm", json_pack("{s:s}", "name", name));
	else
		respond(c->req, 200, json_pack("{s:b}", "ok", 1));
}

/* ---- routes ---------------------------------------------------------------------------------------- */

static json_t *route_json(struct api *a, const json_t *route)
{
	json_t *v = json_deep_copy(route);
	const char *secret = json_string_value(json_object_get(route, "secret"));

	(void)json_object_set_new(v, "ready", json_boolean(!secret || registry_secret_has(a->reg, secret)));
	return v;
}

void on_routes(struct call *c)
{
	json_t *list = json_array();

	for (void *it = json_object_iter(c->a->routes); it; it = json_object_iter_next(c->a->routes, it))
		(void)json_array_append_new(list, route_json(c->a, json_object_iter_value(it)));
	respond(c->req, 200, json_pack("{s:o}", "routes", list));
}

static const json_t *route_of(struct call *c, char name[65])
{
	const json_t *v;

	(void)span_copy(c->arg[0], name, 65);	/* find() bounded it to 64 */
	v = json_object_get(c->a->routes, name);
	if (!v)
		respond_error(c->req, 404, "see: cloister route list", "there is no route '%s'", name);
	return v;
}

void on_route(struct call *c)
{
	char name[65];
	const json_t *v = route_of(c, name);

	if (v)
		respond(c->req, 200, route_json(c->a, v));
}

void on_route_test(struct call *c)
{
	char name[65];

	if (route_of(c, name))
		broker_forward(c, "route.test", json_pack("{s:s}", "name", name));
}

/* ---- conversation ------------------------------------------------------------------------------------ */

void on_chat(struct call *c)
{
	uint64_t after = 0;
	uint32_t limit = 200;
	struct span s = query_get(c->req, "after");
	json_t *body;

	if ((s.n && num_parse_u64(s, INT64_MAX, &after)) ||
	    ((s = query_get(c->req, "limit")).n && (num_parse_u32(s, 500, &limit) || limit == 0))) {
		respond_error(c->req, 422, NULL, "after and limit must be numbers, limit at most 500");
		return;
	}
	body = json_pack("{s:I, s:I}", "no", (json_int_t)c->t->no, "limit", (json_int_t)limit);
	/* without it: the last ones */
	if (query_get(c->req, "after").n)
		(void)json_object_set_new(body, "after", json_integer((json_int_t)after));
	broker_forward(c, "chat.history", body);
}

void on_chat_send(struct call *c)
{
	json_t *text = json_object_get(c->body, "text"), *client_id = json_object_get(c->body, "client_id"), *body;

	if (!json_is_string(text) || json_string_length(text) == 0) {
		respond_error(c->req, 400, NULL, "'text' is missing");
		return;
	}
	if (json_string_length(text) > TEXT_MAX) {
		respond_error(c->req, 413, "send it in parts, or as a file", "the message is longer than %u bytes", TEXT_MAX);
		return;
	}
	body = json_pack("{s:I, s:O}", "no", (json_int_t)c->t->no, "text", text);
	if (json_is_string(client_id))
		(void)json_object_set(body, "client_id", client_id);
	broker_forward(c, "chat.send", body);
}

/* a web link gets our address; the broker knows it not */
static void invited(void *ctx, int status, json_t *answer)
{
	struct wait *w = ctx;
	struct api *a = w->a;
	const char *url = json_string_value(json_object_get(answer, "url"));
	char full[600];
	struct httpd_req *r = wait_take(w);

	if (status != 200 || !answer) {
		if (status)
			respond(r, status, broker_error(answer));
		else
			respond_error(r, 503, "try again in a moment", "the broker is not up");
		return;
	}
	if (url && url[0] == '/') {
		size_t n = a->cfg.public_url ? strlen(a->cfg.public_url) : 0;

		while (n && a->cfg.public_url[n - 1] == '/')
			n--;
		if (n)
			(void)snprintf(full, sizeof full, "%.*s%s", (int)n, a->cfg.public_url, url);
		else
			(void)snprintf(full, sizeof full, "http://%s%s", *a->listen ? a->listen : "(the page is off)", url);
		(void)json_object_set_new(answer, "url", json_string(full));
	}
	respond(r, 200, json_incref(answer));
}

void on_invite(struct call *c)
{
	const char *channel = json_string_value(json_object_get(c->body, "channel"));
	const char *ttl = json_string_value(json_object_get(c->body, "ttl"));
	uint64_t seconds = c->a->cfg.invite_ttl_s;
	struct wait *w;

	if (ttl && (schema_seconds(span_str(ttl), &seconds) || seconds < 60 || seconds > 365ull * 86400)) {
		respond_error(c->req, 422, NULL, "ttl must be a duration from 60s to 365d, such as 2h");
		return;
	}
	if (channel && !name_ok(span_str(channel))) {
		respond_error(c->req, 422, NULL, "channel must be web or telegram");
		return;
	}
	w = wait_new(c, "");
	if (!w)
		respond_error(c->req, 503, NULL, "no memory");
	else if (broker_call(c->a, "invite.new", json_pack("{s:I, s:s, s:I}", "no", (json_int_t)c->t->no, "channel",
			     channel ? channel : "web", "ttl_s", (json_int_t)seconds), invited, w))
		respond_error(wait_take(w), 503, "try again in a moment", "the broker is not up");
}

void on_bindings(struct call *c)
{
	broker_forward(c, "bindings", json_pack("{s:I}", "no", (json_int_t)c->t->no));
}

void on_binding_rm(struct call *c)
{
	record_admin(c->a, c->t->id, "binding.rm", "ok", c->t->id, NULL);
	broker_forward(c, "binding.rm", json_pack("{s:I, s:o, s:o}", "no", (json_int_t)c->t->no, "channel",
		       text_member(c, "channel"), "address", text_member(c, "address")));
}

void on_why(struct call *c)
{
	broker_forward(c, "why", json_pack("{s:s%}", "id", c->arg[0].p, c->arg[0].n));
}

void on_events(struct call *c)
{
	events_open(c->a, c->req, 0);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Tenants in memory: from the registry and etc/tenants; their policy; their JSON. */
#include "api/api.h"

#include <stdlib.h>
#include <string.h>

struct tenant *tenant_by_id(struct api *a, struct span id)
{
	for (uint32_t no = 1; no <= REGISTRY_NO_MAX; no++)
		if (a->tenant[no] && span_eq_str(id, a->tenant[no]->id))
			return a->tenant[no];
	return NULL;
}

struct tenant *tenant_add(struct api *a, const struct registry_tenant *row)
{
	struct tenant *t;

	if (row->no == 0 || row->no > REGISTRY_NO_MAX || a->tenant[row->no])
		return NULL;
	t = calloc(1, sizeof *t);
	if (!t)
		return NULL;
	t->no = row->no;
	(void)span_copy(span_str(row->id), t->id, sizeof t->id);	/* checked by the registry */
	t->run = row->run;
	t->since_us = row->changed_us;
	a->tenant[row->no] = t;
	return t;
}

/* ---- policy --------------------------------------------------------------------------- */

/* the tenant's own document, typed: its file, else the registry's; NULL none or error (code set) */
static json_t *own_policy(struct api *a, const struct tenant *t, struct cl_err *err)
{
	CL_BUF struct buf text;
	struct registry_tenant row;
	char file[80];
	json_t *v = NULL;
	const char *id;
	int r;

	buf_init(&text, YAML_BYTES_MAX);
	err->code = 0;
	r = files_tenant_yaml(t->id, &text, err);
	if (r == -ENOENT) {
		err->code = 0;
		r = registry_tenant_by_no(a->reg, t->no, &row, err);
		if (r)
			return NULL;
		if (row.policy_json)
			v = json_loads(row.policy_json, JSON_REJECT_DUPLICATES, NULL);
		registry_tenant_done(&row);
		return v;
	}
	if (r)
		return NULL;
	(void)snprintf(file, sizeof file, "tenants/%s.yaml", t->id);	/* ids are short */
	if (schema_load(&tenant_schema, buf_span(&text), file, &v, err))
		return NULL;
	id = json_string_value(json_object_get(v, "id"));
	if (id && strcmp(id, t->id) != 0) {
		(void)cl_fail(err, EINVAL, "%s: id: '%s' is not the file's own", file, id);
		json_decref(v);
		return NULL;
	}
	return v;
}

/* an id that the route gives when nobody named a model */
static void fill_model(struct api *a, json_t *effective)
{
	json_t *m = json_object_get(effective, "model");
	const char *route = json_string_value(json_object_get(m, "route"));
	const char *id = json_string_value(json_object_get(m, "id"));
	json_t *preset = json_object_get(json_object_get(a->routes, route), "default_model");

	if (id && strcmp(id, "default") == 0 && preset)
		(void)json_object_set(m, "id", preset);	/* no memory: the provider refuses "default" */
}

json_t *tenant_policy(struct api *a, const struct tenant *t, struct cl_err *err)
{
	struct cl_err local = { 0 };
	struct cl_err *e = err ? err : &local;
	json_t *own = own_policy(a, t, e), *model = NULL, *out = NULL;
	CL_FREE char *chosen = registry_setting_get(a->reg, "model");
	const char *route;

	if (!own && e->code)
		return NULL;
	if (chosen)
		model = json_loads(chosen, JSON_REJECT_DUPLICATES, NULL);
	if (policy_effective(&a->cfg, own, model, &out, e) == 0) {
		fill_model(a, out);
		route = json_string_value(json_object_get(json_object_get(out, "model"), "route"));
		if (!json_object_get(a->routes, route)) {
			(void)cl_fail(e, ENOENT, "model: there is no route '%s'; see: cloister route list",
				      route ? route : "");
			json_decref(out);
			out = NULL;
		}
	}
	json_decref(model);
	json_decref(own);
	return out;
}

/* ---- loading ---------------------------------------------------------------------------- */

static int add_row(void *ctx, const struct registry_tenant *row)
{
	if (!tenant_add(ctx, row))
		cl_log(CL_ERROR, "tenant-load", "no=%u id=%s", row->no, cl_kvs(row->id));
	return 0;
}

/* a file of etc/tenants whose tenant is not there yet makes it */
static int add_file(void *ctx, const char *id)
{
	struct api *a = ctx;
	struct registry_tenant row;
	struct cl_err err = { 0 };
	CL_BUF struct buf text;
	json_t *v = NULL;
	char file[80];
	uint32_t no;

	if (tenant_by_id(a, span_str(id)))
		return 0;
	buf_init(&text, YAML_BYTES_MAX);
	(void)snprintf(file, sizeof file, "tenants/%s.yaml", id);	/* ids are short */
	if (files_tenant_yaml(id, &text, &err) || schema_load(&tenant_schema, buf_span(&text), file, &v, &err)) {
		cl_log(CL_ERROR, "tenant-file", "error=%s", cl_kvs(err.text));
		return 0;
	}
	bool run = json_is_true(json_object_get(v, "run"));

	json_decref(v);
	if (registry_tenant_add(a->reg, id, run, &no, &err) || registry_tenant_by_no(a->reg, no, &row, &err)) {
		cl_log(CL_ERROR, "tenant-file", "id=%s error=%s", id, cl_kvs(cl_err_str(&err)));
		return 0;
	}
	(void)add_row(a, &row);
	registry_tenant_done(&row);
	record_admin(a, id, "tenant.create", "ok", id, file);
	return 0;
}

int tenants_load(struct api *a, struct cl_err *err)
{
	int r = registry_tenants(a->reg, add_row, a, err);

	return r ? r : files_tenants(add_file, a, err);
}

/* ---- as JSON ----------------------------------------------------------------------------- */

json_t *tenant_json(struct api *a, const struct tenant *t)
{
	/* until cloisterd has told otherwise */
	const char *state = t->known ? tenant_state_name(t->state) : t->run ? "starting" : "created";

	return json_pack("{s:I, s:s, s:s, s:b, s:I, s:I, s:I, s:I, s:s}", "no", (json_int_t)t->no, "id", t->id,
			 "state", state, "run", t->run, "pid", (json_int_t)t->pid, "restarts",
			 (json_int_t)t->restarts, "since_us", (json_int_t)t->since_us, "uid",
			 (json_int_t)a->uid_base + t->no, "reason", t->reason);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* From class and tenant to the effective policy, the broker's document and the plan. */
#include "policy/config.h"
#include "policy/near.h"
#include "policy/seal.h"
#include "sandbox/plan.h"

#include <string.h>

#define CLASS_NAMES_MAX 64

static const json_t *at2(const json_t *o, const char *a, const char *b)
{
	return json_object_get(json_object_get(o, a), b);
}

static int no_class(const struct config *c, const char *name, struct cl_err *err)
{
	json_t *classes = json_object_get(c->doc, "classes");
	const char *names[CLASS_NAMES_MAX];
	size_t n = 0;

	for (void *it = json_object_iter(classes); it && n < CLASS_NAMES_MAX;
	     it = json_object_iter_next(classes, it))
		names[n++] = json_object_iter_key(it);
	const char *near = near_word(span_str(name), names, n, sizeof names[0]);

	return cl_fail(err, ENOENT, "no class '%s'%s%s%s; classes stand in cloister.yaml", name,
		       near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

json_t *policy_default_model(const struct config *c, const json_t *model)
{
	const json_t *m = json_object_get(c->doc, "model");

	if (!m)
		m = model;
	if (m)
		return json_deep_copy(m);
	return json_pack("{s:s, s:s}", "route", "simulated", "id", "simulated");
}

/* first of @tenant's, the defaults' */
static json_t *pick(const struct config *c, const json_t *tenant, const char *key)
{
	const json_t *v = tenant ? json_object_get(tenant, key) : NULL;

	if (!v)
		v = at2(c->doc, "defaults", key);
	return v ? json_deep_copy(v) : NULL;
}

/* class's map with the tenant's keys over it */
static json_t *merged(const json_t *class, const json_t *tenant, const char *key)
{
	json_t *m = json_deep_copy(json_object_get(class, key));
	const json_t *t = tenant ? json_object_get(tenant, key) : NULL;

	if (!m)
		m = json_object();
	if (m && t && json_object_update(m, (json_t *)(uintptr_t)t)) {
		json_decref(m);
		return NULL;
	}
	return m;
}

/* the model's own route is always one that may be used */
static json_t *routes_of(const struct config *c, const json_t *tenant, const char *model_route)
{
	json_t *routes = pick(c, tenant, "routes");
	const json_t *v;
	size_t i;

	if (!routes)
		routes = json_array();
	json_array_foreach(routes, i, v)
		if (model_route && strcmp(json_string_value(v), model_route) == 0)
			return routes;
	if (model_route && json_array_append_new(routes, json_string(model_route))) {
		json_decref(routes);
		return NULL;
	}
	return routes;
}

int policy_effective(const struct config *c, const json_t *tenant, const json_t *model,
		     json_t **out, struct cl_err *err)
{
	json_t *class_name = pick(c, tenant, "class"), *e, *m;
	const json_t *class = json_object_get(json_object_get(c->doc, "classes"),
					      json_string_value(class_name));
	const char *route;
	int r = 0;

	if (!class) {
		r = no_class(c, class_name ? json_string_value(class_name) : "", err);
		json_decref(class_name);
		return r;
	}
	m = tenant && json_object_get(tenant, "model") ?
		json_deep_copy(json_object_get(tenant, "model")) : policy_default_model(c, model);
	route = json_string_value(json_object_get(m, "route"));
	/* a route's default id is filled in by who knows the routes; a name must stand */
	if (m && !json_object_get(m, "id"))
		(void)json_object_set_new(m, "id", json_string("default"));
	e = json_object();
	const json_t *hosts = tenant ? json_object_get(tenant, "hosts") : NULL;

	if (!e || !m || json_object_set_new(e, "class", class_name) ||
	    json_object_set_new(e, "agent", pick(c, tenant, "agent")) ||
	    json_object_set_new(e, "timezone", pick(c, tenant, "timezone")) ||
	    json_object_set_new(e, "routes", routes_of(c, tenant, route)) ||
	    json_object_set_new(e, "model", m) ||
	    json_object_set_new(e, "budget", merged(class, tenant, "budget")) ||
	    json_object_set_new(e, "limits", merged(class, tenant, "limits")) ||
	    json_object_set_new(e, "hosts", hosts ? json_deep_copy(hosts) : json_array()))
		r = cl_fail(err, ENOMEM, "policy: no memory");
	if (r) {
		json_decref(e);
		return r;
	}
	*out = e;
	return 0;
}

json_t *policy_for_broker(const json_t *e)
{
	const json_t *m = json_object_get(e, "model");

	return json_pack("{s:{s:O, s:O}, s:O, s:O, s:O}", "model",
			 "route", json_object_get(m, "route"), "id", json_object_get(m, "id"),
			 "routes", json_object_get(e, "routes"), "budget", json_object_get(e, "budget"),
			 "hosts", json_object_get(e, "hosts"));
}

/* ---- the plan -------------------------------------------------------------------- */

static void limits_from(const json_t *l, struct plan_limits *out)
{
	static const struct { const char *key; size_t at; } rows[] = {
#define AT(f) offsetof(struct plan_limits, f)
		{ "memory", AT(memory_bytes) }, { "swap", AT(swap_bytes) }, { "pids", AT(pids) },
		{ "cpu", AT(cpu_ceiling_millicores) }, { "cpu_weight", AT(cpu_weight) },
		{ "open_files", AT(nofile) }, { "tmp", AT(tmp_bytes) }, { "tmp_files", AT(tmp_inodes) },
		{ "workspace", AT(workspace_bytes) }, { "workspace_files", AT(workspace_inodes) },
		{ "log", AT(log_bytes) },
#undef AT
	};

	plan_limits_standard(out);
	for (size_t i = 0; i < CL_ARRAY_LEN(rows); i++) {
		const json_t *v = json_object_get(l, rows[i].key);

		if (v) {
			uint64_t n = (uint64_t)json_integer_value(v);

			memcpy((char *)out + rows[i].at, &n, sizeof n);
		}
	}
}

/* a NUL-ended string, its placeholders filled in */
static int add_string(struct buf *b, const char *name, const char *value, const struct plan_facts *f,
		      struct cl_err *err)
{
	if (name) {
		(void)buf_add_str(b, name);	/* failure is sticky, seen below */
		(void)buf_add_ch(b, '=');
	}
	int r = seal_text(span_str(value), f->values, f->nvalues, b, err);

	if (r)
		return r;
	return buf_add(b, "", 1) ? cl_fail(err, E2BIG, "command or environment is too long") : 0;
}

/* an agent in less memory than it can live in would only die */
static int enough(const json_t *agent, const struct plan_limits *l, struct cl_err *err)
{
	json_int_t min = json_integer_value(json_object_get(json_object_get(agent, "limits"), "memory_min_mb"));

	if (min > 0 && (l->memory_bytes + l->swap_bytes) >> 20 < (uint64_t)min)
		return cl_fail(err, EINVAL, "the agent needs %lld MiB of memory at least; its class gives %llu",
			       (long long)min, (unsigned long long)(l->memory_bytes >> 20));
	return 0;
}

int policy_plan(const json_t *e, const json_t *agent, const struct plan_facts *facts,
		struct buf *out, struct cl_err *err)
{
	CL_BUF struct buf argv, env;
	const char *config_path = json_string_value(json_object_get(agent, "config_path"));
	json_t *vars = json_object_get(agent, "env");
	const json_t *v;
	struct plan p = { 0 };
	size_t i;
	int r = 0;

	buf_init(&argv, PLAN_ARGV_MAX);
	buf_init(&env, PLAN_ENV_MAX);
	json_array_foreach(json_object_get(agent, "command"), i, v)
		r = r ? r : add_string(&argv, NULL, json_string_value(v), facts, err);
	for (void *it = json_object_iter(vars); it && r == 0; it = json_object_iter_next(vars, it))
		r = add_string(&env, json_object_iter_key(it), json_string_value(json_object_iter_value(it)), facts,
			       err);
	if (r)
		return cl_wrap(err, "agent '%s'", json_string_value(json_object_get(agent, "name")));
	p.argv = buf_span(&argv);
	p.env = buf_span(&env);
	p.image = span_str(facts->image);
	p.image_digest = span_str(facts->image_digest);
	p.config_path = span_str(config_path);
	p.config_digest = config_path ? span_str(facts->config_digest) : span_str(NULL);
	p.hostname = span_str(facts->id);
	p.generation = facts->generation;
	limits_from(json_object_get(e, "limits"), &p.limits);
	r = enough(agent, &p.limits, err);
	if (r)
		return r;
	v = json_object_get(agent, "port");
	if (v) {
		p.nports = 1;
		p.ports[0] = (uint16_t)json_integer_value(v);
	}
	return plan_encode(&p, out, err);
}

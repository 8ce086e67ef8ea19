/* SPDX-License-Identifier: Apache-2.0 */
/* The routes, what each tenant may do with them, and their budgets. */
#include "broker/route/route_impl.h"

#include "broker/conv/conv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SAVE_US 250000
#define PERSON_US 600000000

int routes_new(struct routes **out, struct broker *b, struct cl_err *err)
{
	struct routes *rs = calloc(1, sizeof *rs);
	int r;

	if (!rs || !(rs->denials = calloc(DENIALS_KEPT, sizeof *rs->denials))) {
		free(rs);
		return cl_fail(err, ENOMEM, "routes");
	}
	rs->b = b;
	r = scrubber_new(&rs->scrubber, b->vault, err);
	if (r == 0)
		r = budget_open(&rs->store, "budget.db", err);
	if (r) {
		scrubber_unref(rs->scrubber);
		free(rs->denials);
		free(rs);
		return r;
	}
	*out = rs;
	return 0;
}

static void save(struct routes *rs)
{
	struct cl_err err = { 0 };

	if (budget_begin(rs->store)) {
		cl_log(CL_ERROR, "budget", "error=\"cannot write budget.db\"");
		return;
	}
	for (struct broker_tenant *t = rs->b->tenants; t; t = t->next)
		if (t->route && t->route->budget.dirty && budget_save(rs->store, &t->route->budget, &err))
			cl_log(CL_ERROR, "budget", "error=%s", cl_kvs(cl_err_str(&err)));
	if (budget_commit(rs->store))
		cl_log(CL_ERROR, "budget", "error=\"cannot write budget.db\"");
}

static void on_save(struct loop_timer *t)
{
	struct routes *rs = t->ctx;

	rs->saving = false;
	save(rs);
}

void budgets_dirty(struct routes *rs)
{
	if (rs->saving)
		return;
	rs->saving = loop_timer_set(rs->b->loop, &rs->save, SAVE_US, on_save, rs) == 0;
	if (!rs->saving)
		save(rs);
}

void routes_free(struct routes *rs)
{
	if (!rs)
		return;
	loop_timer_del(&rs->save);
	save(rs);
	budget_close(rs->store);
	for (size_t i = 0; i < rs->ndocs; i++)
		route_doc_unref(rs->docs[i]);
	scrubber_unref(rs->scrubber);
	free(rs->denials);
	free(rs);
}

struct route_doc *routes_find(const struct routes *rs, const char *name)
{
	for (size_t i = 0; i < rs->ndocs; i++)
		if (strcmp(rs->docs[i]->name, name) == 0)
			return rs->docs[i];
	return NULL;
}

int routes_put(struct routes *rs, const json_t *doc, struct cl_err *err)
{
	struct route_doc *d;
	int r = route_doc_new(&d, doc, err);

	if (r)
		return r;
	for (size_t i = 0; i < rs->ndocs; i++)
		if (strcmp(rs->docs[i]->name, d->name) == 0) {
			/* calls under way keep their reference; no old connection is used again */
			up_drop_pool(rs->b->up, rs->docs[i]->target.pool);
			route_doc_unref(rs->docs[i]);
			rs->docs[i] = d;
			return 0;
		}
	if (rs->ndocs == CL_ARRAY_LEN(rs->docs)) {
		route_doc_unref(d);
		return cl_fail(err, ENOSPC, "more than %zu routes", CL_ARRAY_LEN(rs->docs));
	}
	rs->docs[rs->ndocs++] = d;
	return 0;
}

void routes_secret_changed(struct routes *rs, const char *name)
{
	struct scrubber *s;
	struct cl_err err = { 0 };
	char pool[72];

	/* calls under way keep the old one, which knows the old secret: right for them */
	if (scrubber_new(&s, rs->b->vault, &err)) {
		cl_log(CL_ERROR, "scrubber", "error=%s", cl_kvs(cl_err_str(&err)));
		return;
	}
	scrubber_unref(rs->scrubber);
	rs->scrubber = s;
	(void)snprintf(pool, sizeof pool, "s:%s", name);
	up_drop_pool(rs->b->up, pool);
}

bool routes_leaks(struct routes *rs, struct span bytes, char *what, size_t n)
{
	return scrubber_find(rs->scrubber, bytes, what, n);
}

/* ---- tenants ------------------------------------------------------------------------ */

static int read_names(const json_t *v, size_t width, char **out, size_t *out_n)
{
	size_t n = json_array_size(v);
	char *p;

	*out = NULL;
	*out_n = 0;
	if (!v || n == 0)
		return 0;
	if (n > 256 || !(p = calloc(n, width)))
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		const char *s = json_string_value(json_array_get(v, i));

		if (!s || span_copy(span_str(s), p + i * width, width)) {
			free(p);
			return -EINVAL;
		}
	}
	*out = p;
	*out_n = n;
	return 0;
}

static int read_budget(const json_t *policy, struct budget *b)
{
	static const char *const keys[BUDGET_KINDS] = { "calls_per_hour", "tokens_per_day" };
	const json_t *o = json_object_get(policy, "budget");

	for (int k = 0; k < BUDGET_KINDS; k++) {
		const json_t *v = json_object_get(o, keys[k]);

		if (v && (!json_is_integer(v) || json_integer_value(v) < 0))
			return -EINVAL;
		b->max[k] = v ? (uint64_t)json_integer_value(v) : 0;
	}
	return 0;
}

int route_tenant_put(struct broker *b, struct broker_tenant *t, const json_t *policy, struct cl_err *err)
{
	struct route_tenant *rt = calloc(1, sizeof *rt), *old = t->route;
	const json_t *model = json_object_get(policy, "model");
	const char *route = json_string_value(json_object_get(model, "route"));
	const char *id = json_string_value(json_object_get(model, "id"));
	int r;

	if (!rt)
		return cl_fail(err, ENOMEM, "tenant");
	if ((route && span_copy(span_str(route), rt->model_route, sizeof rt->model_route)) ||
	    (id && span_copy(span_str(id), rt->model_id, sizeof rt->model_id)) ||
	    read_names(json_object_get(policy, "routes"), sizeof *rt->routes, (char **)&rt->routes, &rt->nroutes) ||
	    read_names(json_object_get(policy, "models"), sizeof *rt->models, (char **)&rt->models, &rt->nmodels) ||
	    read_budget(policy, &rt->budget)) {
		free(rt->routes);
		free(rt->models);
		free(rt);
		return cl_fail(err, EINVAL, "tenant %s: policy: model, routes, models or budget is malformed", t->id);
	}
	if (old) {	/* hot reload: what is used and under way goes on counting */
		uint64_t max[BUDGET_KINDS];

		memcpy(max, rt->budget.max, sizeof max);
		rt->budget = old->budget;
		memcpy(rt->budget.max, max, sizeof max);
		rt->live = old->live;
		memcpy(rt->minutes, old->minutes, sizeof rt->minutes);
		rt->notice_at_us = old->notice_at_us;
		rt->deny_minute = old->deny_minute;
		rt->deny_n = old->deny_n;
		free(old->routes);
		free(old->models);
		free(old);
	} else {
		r = budget_load(b->routes->store, &rt->budget, t->no, err);
		if (r) {
			free(rt->routes);
			free(rt->models);
			free(rt);
			return r;
		}
	}
	t->route = rt;
	return 0;
}

void route_tenant_free(struct broker *b, struct broker_tenant *t)
{
	struct cl_err err = { 0 };

	if (!t->route)
		return;
	if (t->route->budget.dirty && budget_save(b->routes->store, &t->route->budget, &err))
		cl_log(CL_ERROR, "budget", "error=%s", cl_kvs(cl_err_str(&err)));
	free(t->route->routes);
	free(t->route->models);
	free(t->route);
	t->route = NULL;
}

void route_tenant_erase(struct broker *b, uint32_t no)
{
	struct cl_err err = { 0 };

	if (budget_rm(b->routes->store, no, &err))
		cl_log(CL_ERROR, "budget", "error=%s", cl_kvs(cl_err_str(&err)));
}

void person_told(struct broker_tenant *t, const char *text)
{
	int64_t now = cl_mono_us();

	if (t->route->notice_at_us && now - t->route->notice_at_us < PERSON_US)
		return;
	t->route->notice_at_us = now;
	if (t->b->conv && conv_notice(t->b->conv, t->no, text))
		cl_log(CL_WARNING, "notice", "tenant=%s error=\"the person could not be told\"", t->id);
}

/* ---- methods ------------------------------------------------------------------------- */

int call_route_put(struct call *c)
{
	struct cl_err err = { 0 };

	if (routes_put(c->b->routes, c->body, &err))
		return call_fail_with(c, 422, "%s", err.text);
	buf_add_str(c->out, "{}");
	return 200;
}

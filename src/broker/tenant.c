/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tenants that the broker serves. Who is asking is the listener that the
 * kernel accepted on: cloisterd hands it over once a sandbox, and it becomes
 * the listener_ctx of every request that comes through it (I5).
 */
#include "broker/broker.h"

#include "broker/conv/conv.h"
#include "broker/route/route.h"

#include <stdlib.h>
#include <string.h>

struct broker_tenant *tenant_find(struct broker *b, uint32_t no)
{
	for (struct broker_tenant *t = b->tenants; t; t = t->next)
		if (t->no == no)
			return t;
	return NULL;
}

static struct broker_tenant *tenant_make(struct broker *b, uint32_t no, struct span id)
{
	struct broker_tenant *t;

	if (no == 0 || !tenant_id_ok(id) || b->ntenants >= TENANTS_MAX)
		return NULL;
	t = calloc(1, sizeof *t);
	if (!t)
		return NULL;
	t->b = b;
	t->no = no;
	t->held_fd = -1;
	memcpy(t->id, id.p, id.n);	/* tenant_id_ok bounds it */
	t->next = b->tenants;
	b->tenants = t;
	b->ntenants++;
	return t;
}

/* A sandbox's listener is accepted on once its tenant and the rest are known. */
static int serve(struct broker_tenant *t)
{
	int r;

	if (t->held_fd < 0 || !t->known || !t->b->synced)
		return 0;
	r = httpd_listen(t->b->httpd, cl_take_fd(&t->held_fd), t, &t->listener_id);
	if (r)
		return r;
	t->listening = true;
	conv_tenant_listen(t->b->conv, t->no);
	return 0;
}

static void hush(struct broker_tenant *t)
{
	t->held_fd = cl_close(t->held_fd);
	if (t->listening) {
		t->listening = false;
		httpd_unlisten(t->b->httpd, t->listener_id);
		conv_tenant_gone(t->b->conv, t->no);
	}
}

int tenant_put(struct broker *b, uint32_t no, struct span id, uint32_t generation, const json_t *policy,
	       struct cl_err *err)
{
	struct broker_tenant *t = tenant_find(b, no);
	int r;

	if (t && t->known && !span_eq_str(id, t->id))
		return cl_fail(err, EINVAL, "tenant %u is '%s'; remove it first", no, t->id);
	if (!t)
		t = tenant_make(b, no, id);
	if (!t)
		return cl_fail(err, EINVAL, "tenant: bad number or id, or more than %d tenants", TENANTS_MAX);
	r = conv_tenant_put(b->conv, no, id, err);
	if (r == 0)
		r = route_tenant_put(b, t, policy, err);
	if (r)
		return r;
	t->generation = generation;
	t->known = true;
	r = serve(t);
	return r ? cl_fail(err, -r, "tenant %s: listen", t->id) : 0;
}

static void forget(struct broker *b, struct broker_tenant *t)
{
	hush(t);
	route_tenant_free(b, t);
	for (struct broker_tenant **pp = &b->tenants; *pp; pp = &(*pp)->next)
		if (*pp == t) {
			*pp = t->next;
			break;
		}
	b->ntenants--;
	free(t);
}

int tenant_rm(struct broker *b, uint32_t no, struct cl_err *err)
{
	struct broker_tenant *t = tenant_find(b, no);
	int r = conv_tenant_rm(b->conv, no, err);

	/* its numbers go as well */
	route_tenant_erase(b, no);
	if (t)
		forget(b, t);
	return r == -ENOENT ? 0 : r;	/* never spoke: nothing was kept */
}

int tenant_listen(struct broker *b, uint32_t no, struct span id, int fd)
{
	struct broker_tenant *t = tenant_find(b, no);
	int r;

	if (t && !span_eq_str(id, t->id)) {
		(void)cl_close(fd);
		return -EINVAL;
	}
	if (!t)
		t = tenant_make(b, no, id);
	if (!t) {
		(void)cl_close(fd);
		return -EINVAL;
	}
	hush(t);	/* one sandbox a tenant: the old listener is void */
	t->held_fd = fd;
	r = serve(t);
	if (r)
		cl_log(CL_ERROR, "tenant-listen", "tenant=%s error=%s", t->id, cl_kvs(strerror(-r)));
	return 0;
}

void tenant_gone(struct broker *b, uint32_t no)
{
	struct broker_tenant *t = tenant_find(b, no);

	if (t)
		hush(t);
}

void tenants_synced(struct broker *b)
{
	b->synced = true;
	for (struct broker_tenant *t = b->tenants; t; t = t->next) {
		int r = serve(t);

		if (r)
			cl_log(CL_ERROR, "tenant-listen", "tenant=%s error=%s", t->id, cl_kvs(strerror(-r)));
	}
}

void tenants_free(struct broker *b)
{
	while (b->tenants)
		forget(b, b->tenants);
}

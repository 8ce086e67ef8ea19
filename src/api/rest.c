/* SPDX-License-Identifier: Apache-2.0 */
/* The table of the REST API, and what every handler stands on. */
#include "api/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum row_flags {
	ROW_BODY = 1,		/* a JSON object must come with it */
	ROW_MAYBE = 2,		/* ... may come */
	ROW_TENANT = 4,		/* {} number one is a tenant that exists */
	ROW_OPEN = 8,		/* no right is needed (TCP too) */
};

static const struct row {
	const char *method, *path;
	call_fn *fn;
	unsigned flags;
} rows[] = {
	{ "GET", "/healthz", on_health, ROW_OPEN },
	{ "GET", "/readyz", on_health, ROW_OPEN },
	{ "GET", "/v1/version", on_version, 0 },
	{ "GET", "/v1/status", on_status, 0 },
	{ "POST", "/v1/reload", on_reload, ROW_MAYBE },
	{ "GET", "/v1/pubkey", on_pubkey, 0 },
	{ "GET", "/v1/events", on_events, 0 },
	{ "GET", "/v1/tenants", on_tenants, 0 },
	{ "POST", "/v1/tenants", on_tenant_new, ROW_BODY },
	{ "GET", "/v1/tenants/{}", on_tenant, ROW_TENANT },
	{ "DELETE", "/v1/tenants/{}", on_tenant_rm, ROW_TENANT },
	{ "POST", "/v1/tenants/{}/start", on_start, ROW_TENANT | ROW_MAYBE },
	{ "POST", "/v1/tenants/{}/stop", on_stop, ROW_TENANT | ROW_MAYBE },
	{ "POST", "/v1/tenants/{}/restart", on_restart, ROW_TENANT | ROW_MAYBE },
	{ "POST", "/v1/tenants/{}/freeze", on_freeze, ROW_TENANT | ROW_MAYBE },
	{ "POST", "/v1/tenants/{}/wake", on_wake, ROW_TENANT | ROW_MAYBE },
	{ "POST", "/v1/tenants/{}/reset", on_reset, ROW_TENANT | ROW_BODY },
	{ "GET", "/v1/tenants/{}/stats", on_stats, ROW_TENANT },
	{ "GET", "/v1/tenants/{}/snapshots", on_snapshots, ROW_TENANT },
	{ "POST", "/v1/tenants/{}/snapshots", on_snapshot_new, ROW_TENANT | ROW_MAYBE },
	{ "DELETE", "/v1/tenants/{}/snapshots/{}", on_snapshot_rm, ROW_TENANT },
	{ "POST", "/v1/tenants/{}/snapshots/{}/restore", on_snapshot_restore, ROW_TENANT | ROW_MAYBE },
	{ "GET", "/v1/tenants/{}/policy", on_policy, ROW_TENANT },
	{ "PUT", "/v1/tenants/{}/policy", on_policy_set, ROW_TENANT | ROW_BODY },
	{ "POST", "/v1/tenants/{}/policy/explain", on_explain, ROW_TENANT | ROW_BODY },
	{ "GET", "/v1/tenants/{}/chat", on_chat, ROW_TENANT },
	{ "POST", "/v1/tenants/{}/chat", on_chat_send, ROW_TENANT | ROW_BODY },
	{ "POST", "/v1/tenants/{}/invites", on_invite, ROW_TENANT | ROW_MAYBE },
	{ "GET", "/v1/tenants/{}/bindings", on_bindings, ROW_TENANT },
	{ "DELETE", "/v1/tenants/{}/bindings", on_binding_rm, ROW_TENANT | ROW_BODY },
	{ "POST", "/v1/tenants/{}/exec", on_exec, ROW_TENANT | ROW_BODY },
	{ "POST", "/v1/tenants/{}/exec/{}/signal", on_exec_signal, ROW_TENANT | ROW_BODY },
	{ "GET", "/v1/tenants/{}/logs", on_logs, ROW_TENANT },
	{ "GET", "/v1/secrets", on_secrets, 0 },
	{ "PUT", "/v1/secrets/{}", on_secret_put, ROW_BODY },
	{ "DELETE", "/v1/secrets/{}", on_secret_rm, 0 },
	{ "GET", "/v1/routes", on_routes, 0 },
	{ "GET", "/v1/routes/{}", on_route, 0 },
	{ "POST", "/v1/routes/{}/test", on_route_test, ROW_MAYBE },
	{ "GET", "/v1/model", on_model, 0 },
	{ "PUT", "/v1/model", on_model_set, ROW_BODY },
	{ "GET", "/v1/why/{}", on_why, 0 },
	{ "GET", "/v1/audit", on_audit, 0 },
	{ "GET", "/v1/audit/verify", on_audit_verify, 0 },
};

/* ---- answers ------------------------------------------------------------------------- */

#define NO_STORE "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"

void respond(struct httpd_req *r, int status, json_t *v)
{
	CL_FREE char *text = r && v ? json_dumps(v, JSON_COMPACT) : NULL;

	json_decref(v);
	if (!r)
		return;
	if (!text) {
		httpd_respond(r, 500, "application/json", NO_STORE, SPAN("{\"error\":{\"reason\":\"no memory\"}}"));
		return;
	}
	httpd_respond(r, status, "application/json", NO_STORE, span_str(text));
}

void respond_error(struct httpd_req *r, int status, const char *fix, const char *fmt, ...)
{
	char words[700], clean[700];
	json_t *v;
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(words, sizeof words, fmt, ap);	/* cut off is fine: it is a message */
	va_end(ap);
	utf8_scrub(span_str(words), clean, sizeof clean);
	v = json_pack("{s:{s:s, s:s*}}", "error", "reason", clean, "fix", fix);
	respond(r, status, v);
}

void respond_err(struct httpd_req *r, const struct cl_err *err)
{
	int status;

	switch (err->code) {
	case ENOENT: status = 404; break;
	case EEXIST: case EBUSY: case EALREADY: status = 409; break;
	case EINVAL: case EFBIG: case E2BIG: status = 422; break;
	case EPERM: case EACCES: status = 403; break;
	case ENOSPC: status = 507; break;
	case EPIPE: status = 503; break;
	case ETIMEDOUT: status = 504; break;
	default: status = 500; break;
	}
	respond_error(r, status, err->code == ENOSPC ? "make room on the disk" : NULL, "%s", err->text);
}

struct wait *wait_new(struct call *c, const char *act)
{
	struct wait *w = calloc(1, sizeof *w);

	if (!w)
		return NULL;
	w->a = c->a;
	w->req = c->req;
	w->fd = -1;
	(void)span_copy(span_str(act), w->act, sizeof w->act);	/* our own words: short */
	if (c->t) {
		w->no = c->t->no;
		(void)span_copy(span_str(c->t->id), w->id, sizeof w->id);
	}
	c->req->ctx = w;
	return w;
}

struct httpd_req *wait_take(struct wait *w)
{
	struct httpd_req *r = w->req;

	if (r)
		r->ctx = NULL;
	(void)cl_close(w->fd);
	free(w);
	return r;
}

static void on_gone(struct httpd_req *r)
{
	struct wait *w = r->ctx;

	if (!w)
		return;
	w->req = NULL;
	r->ctx = NULL;
	if (w->gone)
		w->gone(w);
}

struct span query_get(const struct httpd_req *r, const char *name)
{
	struct span rest = r->query, pair, key;

	while (rest.n) {
		if (!span_cut(&rest, '&', &pair)) {
			pair = rest;
			rest.n = 0;
		}
		if (!span_cut(&pair, '=', &key) || !span_eq_str(key, name))
			continue;
		for (size_t i = 0; i < pair.n; i++)
			if (!((pair.p[i] >= 'a' && pair.p[i] <= 'z') || (pair.p[i] >= '0' && pair.p[i] <= '9') ||
			      strchr("._-", pair.p[i])))
				return (struct span){ NULL, 0 };
		return pair;
	}
	return (struct span){ NULL, 0 };
}

/* ---- finding the row ------------------------------------------------------------------- */

static bool path_fits(const char *pattern, struct span path, struct span *args)
{
	struct span p = span_str(pattern), a, b;
	size_t n = 0;

	for (;;) {
		bool more_p = span_cut(&p, '/', &a), more_b = span_cut(&path, '/', &b);

		if (!more_p)
			a = p;
		if (!more_b)
			b = path;
		if (span_eq_str(a, "{}")) {
			/* names need no decoding: what would need it is none of ours */
			if (b.n == 0 || b.n > 64 || !name_ok(b) || n == CALL_ARGS_MAX)
				return false;
			args[n++] = b;
		} else if (!span_eq(a, b)) {
			return false;
		}
		if (more_p != more_b)
			return false;
		if (!more_p)
			return true;
	}
}

/* *path_known: some row has this path, with another method */
static const struct row *find(const struct httpd_req *r, struct span *args, bool *path_known)
{
	*path_known = false;
	for (size_t i = 0; i < CL_ARRAY_LEN(rows); i++) {
		if (!path_fits(rows[i].path, r->path, args))
			continue;
		*path_known = true;
		if (span_eq_str(r->method, rows[i].method))
			return &rows[i];
	}
	return NULL;
}

/* root, or who may write to the socket: the kernel checked its mode when they connected */
static bool operator_ok(const struct httpd_req *r)
{
	const struct listener *l = r->listener_ctx;
	struct ucred who;
	socklen_t n = sizeof who;

	if (!l->operator)
		return false;
	return getsockopt(httpd_peer_fd(r), SOL_SOCKET, SO_PEERCRED, &who, &n) == 0 && n == sizeof who &&
	       who.pid > 0;
}

static void dispatch(struct httpd_req *r)
{
	struct call c = { .a = ((struct listener *)r->listener_ctx)->api, .req = r };
	bool path_known;
	const struct row *row = find(r, c.arg, &path_known);
	json_error_t e;

	r->ctx = NULL;
	if (!row) {
		respond_error(r, path_known ? 405 : 404, NULL, path_known ? "this cannot be done with %.*s" :
			      "there is nothing at this path (%.*s)", SPAN_FMT(r->method));
		return;
	}
	if (!(row->flags & ROW_OPEN) && !operator_ok(r)) {
		respond_error(r, 401, "use the cloister command on the machine itself", "operators only");
		return;
	}
	if (row->flags & ROW_TENANT) {
		c.t = tenant_by_id(c.a, c.arg[0]);
		if (!c.t) {
			respond_error(r, 404, "see: cloister tenant list", "there is no tenant '%.*s'", SPAN_FMT(c.arg[0]));
			return;
		}
	}
	if ((row->flags & (ROW_BODY | ROW_MAYBE)) && r->body.n) {
		c.body = json_loadb(r->body.p, r->body.n, JSON_REJECT_DUPLICATES, &e);
		if (!json_is_object(c.body)) {
			respond_error(r, 400, NULL, "the body is not a JSON object: %s", c.body ? "it is another value" : e.text);
			json_decref(c.body);
			return;
		}
	} else if (row->flags & ROW_BODY) {
		respond_error(r, 400, NULL, "a JSON object is missing");
		return;
	}
	row->fn(&c);
	json_decref(c.body);
}

static int on_head(struct httpd_req *r, uint64_t *body_max)
{
	r->ctx = NULL;
	*body_max = API_BODY_MAX;
	return HTTPD_BUFFER;
}

void rest_head_checked(struct httpd_req *r)
{
	dispatch(r);
}

static void on_drain(struct httpd_req *r)
{
	(void)r;	/* streams look at their own files again by timer */
}

const struct httpd_ops rest_ops = {
	.on_head = on_head, .on_request = dispatch, .on_gone = on_gone, .on_drain = on_drain,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* The channels: what cloisterd and the broker may say to the api. */
#include "api/api.h"
#include "base/programs.h"

#include <stdlib.h>
#include <string.h>

static struct api *api_of(struct chan *c)
{
	return c->ctx;
}

/* ---- cloisterd -------------------------------------------------------------------- */

static int on_state(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds)
{
	const struct msg_tenant_state *m = &msg->tenant_state;
	struct api *a = api_of(c);
	struct tenant *t;
	json_t *v;
	char *text;

	(void)seq;
	(void)fds;
	(void)nfds;
	if (m->no == 0 || m->no > REGISTRY_NO_MAX || m->state >= TENANT_STATE_COUNT)
		return -EBADMSG;
	t = a->tenant[m->no];
	if (!t || !span_eq_str(m->id, t->id)) {
		/* left over from a tenant that was removed while we were away */
		cl_log(CL_WARNING, "unknown-tenant", "no=%u id=%s", m->no, cl_kv(m->id));
		return 0;
	}
	t->known = true;
	t->state = m->state;
	t->pid = m->pid;
	t->restarts = m->restarts;
	t->since_us = (int64_t)m->since_us;
	utf8_scrub(m->reason, t->reason, sizeof t->reason);
	cl_log(CL_INFO, "tenant-state", "tenant=%s state=%s reason=%s", t->id, tenant_state_name(t->state),
	       cl_kvs(t->reason));
	v = tenant_json(a, t);
	text = v ? json_dumps(v, JSON_COMPACT) : NULL;
	if (text)
		events_send(a, "tenant", t->no, span_str(text));
	free(text);
	json_decref(v);
	return 0;
}

static int on_event_of_tenant(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds)
{
	const struct msg_tenant_event *m = &msg->tenant_event;
	CL_BUF struct buf b;
	struct api *a = api_of(c);
	struct tenant *t = m->no <= REGISTRY_NO_MAX ? a->tenant[m->no] : NULL;

	(void)seq;
	(void)fds;
	(void)nfds;
	buf_init(&b, 8192);
	(void)buf_printf(&b, "{\"no\":%u,\"tenant\":\"%s\",\"kind\":", m->no, t ? t->id : "");
	(void)buf_add_json_str(&b, m->kind);
	(void)buf_add_str(&b, ",\"text\":");
	(void)buf_add_json_str(&b, m->text);
	(void)buf_add_ch(&b, '}');
	if (!b.failed)
		events_send(a, "limit", m->no, buf_span(&b));
	cl_log(CL_WARNING, "tenant-event", "tenant=%s kind=%s text=%s", t ? t->id : "?", cl_kv(m->kind),
	       cl_kv(m->text));
	return 0;
}

static int on_exec_done(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds)
{
	(void)seq;
	(void)fds;
	(void)nfds;
	exec_done(api_of(c), msg->exec_done.no, msg->exec_done.exec_id, msg->exec_done.status);
	return 0;
}

static int on_link(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds);

static const struct chan_rule control_rules[] = {
	/* what               in which state  a second  */
	{ MSG_LINK,           CHAN_ANY,       16,       on_link },
	{ MSG_TENANT_STATE,   CHAN_ANY,       0,        on_state },
	{ MSG_TENANT_EVENT,   CHAN_ANY,       0,        on_event_of_tenant },
	{ MSG_EXEC_DONE,      CHAN_ANY,       0,        on_exec_done },
};

static void control_closed(struct chan *c)
{
	cl_log(CL_INFO, "stop", "reason=\"cloisterd is gone\"");
	loop_stop(api_of(c)->loop);
}

/* ---- broker ------------------------------------------------------------------------- */

static int on_broker_event(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds)
{
	static const char *const known[] = { "message", "typing", "binding", "denial", "alert" };
	const struct msg_event *m = &msg->event;
	struct api *a = api_of(c);
	json_t *v = json_loadb(m->body.p ? m->body.p : "", m->body.n, JSON_REJECT_DUPLICATES, NULL);
	json_int_t no = json_integer_value(json_object_get(v, "no"));

	(void)seq;
	(void)fds;
	(void)nfds;
	for (size_t i = 0; i < CL_ARRAY_LEN(known); i++)
		if (span_eq_str(m->name, known[i]) && v)
			events_send(a, known[i], no > 0 && no <= REGISTRY_NO_MAX ? (uint32_t)no : 0, m->body);
	json_decref(v);
	return 0;
}

static const struct chan_rule broker_rules[] = {
	{ MSG_EVENT, CHAN_ANY, 0, on_broker_event },
};

static void broker_closed(struct chan *c)
{
	cl_log(CL_WARNING, "broker-gone", "waiting=1");
	api_of(c)->broker_ready = false;
}

static void ledger_closed(struct chan *c)
{
	cl_log(CL_WARNING, "ledger-gone", "waiting=1");
	record_client_link(&api_of(c)->records, NULL);
}

static int on_link(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds)
{
	struct api *a = api_of(c);
	uint32_t role = msg->link.role;
	int r;

	(void)seq;
	if (nfds != 1)
		return -EBADMSG;
	if (role == ROLE_BROKER) {
		chan_done(&a->broker);
		a->broker_ready = false;
		r = chan_init(&a->broker, a->loop, fds[0], ROLE_BROKER, broker_rules,
			      CL_ARRAY_LEN(broker_rules), broker_closed, a);
		if (r)
			return r;
		fds[0] = -1;
		sync_broker(a);
	} else if (role == ROLE_LEDGER) {
		if (chan_up(&a->ledger))
			record_client_link(&a->records, NULL);
		chan_done(&a->ledger);
		r = chan_init(&a->ledger, a->loop, fds[0], ROLE_LEDGER, NULL, 0, ledger_closed, a);
		if (r)
			return r;
		fds[0] = -1;
		record_client_link(&a->records, &a->ledger);
	} else {
		return -EBADMSG;
	}
	return 0;
}

int links_start(struct api *a, struct cl_err *err)
{
	struct msg_ready ready = { 0 };
	int r = chan_init(&a->control, a->loop, PROGRAM_CONTROL_FD, ROLE_CLOISTERD, control_rules,
			  CL_ARRAY_LEN(control_rules), control_closed, a);

	if (r == 0)
		r = chan_send(&a->control, MSG_READY, 0, &ready, NULL, 0);
	return r ? cl_fail(err, -r, "channel to cloisterd") : 0;
}

/* ---- asking the broker ------------------------------------------------------------------ */

struct asking {
	broker_fn *fn;
	void *ctx;
};

static void on_result(void *ctx, uint32_t type, const union wire_any *msg, int *fds, size_t nfds)
{
	struct asking *q = ctx;
	json_t *v = NULL;
	int status = 0;

	(void)fds;
	(void)nfds;
	if (type == MSG_RESULT) {
		status = msg->result.status >= 100 && msg->result.status <= 599 ? (int)msg->result.status : 500;
		v = json_loadb(msg->result.body.p ? msg->result.body.p : "", msg->result.body.n,
			       JSON_REJECT_DUPLICATES, NULL);
	} else if (type != MSG_NONE) {
		status = 500;
	}
	q->fn(q->ctx, status, v);
	json_decref(v);
	free(q);
}

int broker_call(struct api *a, const char *method, json_t *body, broker_fn *fn, void *ctx)
{
	CL_FREE char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	struct asking *q = malloc(sizeof *q);
	struct msg_call m = { .method = span_str(method), .body = span_str(text ? text : "{}") };
	int r = -ENOMEM;

	if (q && (text || !body)) {
		*q = (struct asking){ fn, ctx };
		r = chan_call(&a->broker, MSG_CALL, &m, NULL, 0, on_result, q);
	}
	json_decref(body);
	if (r)
		free(q);
	return r;
}

/* one form for all errors: {"error":{"reason","fix"}} */
json_t *broker_error(const json_t *answer)
{
	const char *reason = json_string_value(json_object_get(answer, "reason"));
	const char *fix = json_string_value(json_object_get(answer, "fix"));

	if (json_object_get(answer, "error"))
		return json_deep_copy(answer);
	return json_pack("{s:{s:s, s:s*}}", "error", "reason", reason ? reason : "the broker refused", "fix", fix);
}

static void forwarded(void *ctx, int status, json_t *answer)
{
	struct wait *w = ctx;
	struct api *a = w->a;

	if (*w->act)
		record_admin(a, w->no && a->tenant[w->no] ? a->tenant[w->no]->id : NULL, w->act,
			     status >= 200 && status < 300 ? "ok" : "refused", w->id, NULL);
	struct httpd_req *r = wait_take(w);

	if (status == 0)
		respond_error(r, 503, "try again in a moment", "the broker was restarted meanwhile");
	else if (status >= 300)
		respond(r, status, broker_error(answer));
	else
		respond(r, status, answer ? json_incref(answer) : json_object());
}

void broker_forward(struct call *c, const char *method, json_t *body)
{
	struct wait *w = wait_new(c, "");

	if (!w || !body) {
		json_decref(body);
		free(w);
		c->req->ctx = NULL;
		respond_error(c->req, 503, NULL, "no memory");
		return;
	}
	int r = broker_call(c->a, method, body, forwarded, w);

	if (r)
		respond_error(wait_take(w), 503, "try again in a moment", "the broker is not up");
}

void record_admin(struct api *a, const char *tenant, const char *act, const char *outcome,
		  const char *target, const char *detail)
{
	struct record r;

	record_begin(&r, RECORD_ADMIN, tenant);
	record_str(&r, RF_ACT, act);
	record_str(&r, RF_OUTCOME, outcome);
	record_str(&r, RF_TARGET, target);
	record_str(&r, RF_BY, "operator");
	record_str(&r, RF_DETAIL, detail);
	(void)record_send(&a->records, &r);	/* a full queue is counted by the client and shown by status */
}

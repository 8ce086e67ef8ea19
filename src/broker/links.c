/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What cloisterd and the api may send to the broker: one const table each.
 * The ledger sends nothing but answers, which wire/ matches.
 */
#include "broker/broker.h"

#include "broker/conv/conv.h"

static struct broker *broker_of(struct chan *c)
{
	return c->ctx;
}

/* ---- api ------------------------------------------------------------------------- */

static int on_call(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds)
{
	(void)fds;	/* no method takes one: closed by the channel */
	(void)nfds;
	broker_of(c)->stats.calls++;
	calls_handle(broker_of(c), seq, msg->call.method, msg->call.body);
	return 0;
}

static const struct chan_rule api_rules[] = {
	{ MSG_CALL, CHAN_ANY, 50000, on_call },
};

static void api_closed(struct chan *c)
{
	/* it comes again; what it said holds until it says otherwise */
	cl_log(CL_WARNING, "api-gone", "waiting=1");
	broker_of(c)->api_linked = false;
}

static void ledger_closed(struct chan *c)
{
	struct broker *b = broker_of(c);

	cl_log(CL_WARNING, "ledger-gone", "waiting=1");
	b->ledger_linked = false;
	record_client_link(&b->records, NULL);
}

/* ---- cloisterd -------------------------------------------------------------------- */

static int on_link(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds)
{
	struct broker *b = broker_of(c);
	int r;

	(void)seq;
	if (nfds != 1)
		return -EBADMSG;
	if (msg->link.role == ROLE_API) {
		chan_done(&b->api);
		r = chan_init(&b->api, b->loop, fds[0], ROLE_API, api_rules, CL_ARRAY_LEN(api_rules),
			      api_closed, b);
		b->api_linked = r == 0;
	} else if (msg->link.role == ROLE_LEDGER) {
		record_client_link(&b->records, NULL);
		chan_done(&b->ledger);
		r = chan_init(&b->ledger, b->loop, fds[0], ROLE_LEDGER, NULL, 0, ledger_closed, b);
		b->ledger_linked = r == 0;
		if (r == 0)
			record_client_link(&b->records, &b->ledger);
	} else {
		return -EBADMSG;
	}
	if (r)
		return r;
	fds[0] = -1;	/* the channel's now */
	return 0;
}

static int on_listen(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds)
{
	(void)seq;
	if (nfds != 1)
		return -EBADMSG;
	return tenant_listen(broker_of(c), msg->tenant_listen.no, msg->tenant_listen.id,
			     cl_take_fd(&fds[0]));
}

static int on_gone(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds)
{
	(void)seq;
	(void)fds;
	(void)nfds;
	tenant_gone(broker_of(c), msg->tenant_gone.no);
	return 0;
}

static int on_state(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds)
{
	struct broker *b = broker_of(c);
	struct broker_tenant *t = tenant_find(b, msg->tenant_state.no);

	(void)seq;
	(void)fds;
	(void)nfds;
	if (t)
		t->state = msg->tenant_state.state;
	conv_tenant_state(b->conv, msg->tenant_state.no, msg->tenant_state.state,
			  msg->tenant_state.reason);
	return 0;
}

/* limits hit and the like: the api tells people; here is nothing to do */
static int on_event(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds)
{
	(void)c;
	(void)seq;
	(void)msg;
	(void)fds;
	return nfds ? -EBADMSG : 0;
}

/* TENANT_READY and TENANT_WAKE are sent without waiting; a refusal is worth a line */
static int on_reply(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds)
{
	(void)c;
	(void)seq;
	(void)fds;
	if (msg->reply.code)
		cl_log(CL_WARNING, "cloisterd-refused", "code=%u text=%s", msg->reply.code,
		       cl_kv(msg->reply.text));
	return nfds ? -EBADMSG : 0;
}

static const struct chan_rule cloisterd_rules[] = {
	{ MSG_LINK, CHAN_ANY, 16, on_link },
	{ MSG_TENANT_LISTEN, CHAN_ANY, 0, on_listen },
	{ MSG_TENANT_GONE, CHAN_ANY, 0, on_gone },
	{ MSG_TENANT_STATE, CHAN_ANY, 0, on_state },
	{ MSG_TENANT_EVENT, CHAN_ANY, 0, on_event },
	{ MSG_REPLY, CHAN_ANY, 0, on_reply },
};

static void cloisterd_closed(struct chan *c)
{
	cl_log(CL_INFO, "stop", "reason=\"cloisterd is gone\"");
	loop_stop(broker_of(c)->loop);
}

int links_init(struct broker *b, int control_fd, struct cl_err *err)
{
	struct msg_ready ready = { 0 };
	int r = chan_init(&b->cloisterd, b->loop, control_fd, ROLE_CLOISTERD, cloisterd_rules,
			  CL_ARRAY_LEN(cloisterd_rules), cloisterd_closed, b);

	if (r == 0)
		r = chan_send(&b->cloisterd, MSG_READY, 0, &ready, NULL, 0);
	return r ? cl_fail(err, -r, "channel to cloisterd") : 0;
}

void links_done(struct broker *b)
{
	record_client_done(&b->records);
	chan_done(&b->api);
	chan_done(&b->ledger);
	chan_done(&b->cloisterd);
}

/* ---- what the parts say through them --------------------------------------------------- */

void broker_event(struct broker *b, const char *name, struct span json)
{
	struct msg_event m = { .name = span_str(name), .body = json };
	int r = b->api_linked ? chan_send(&b->api, MSG_EVENT, 0, &m, NULL, 0) : -EPIPE;

	/* events are nudges: who missed one asks again */
	if (r)
		cl_log(CL_DEBUG, "event-lost", "name=%s code=%d", name, r);
}

int broker_record(struct broker *b, const struct record *rec)
{
	return record_send(&b->records, rec);
}

void broker_tell_cloisterd(struct broker *b, uint32_t type, uint32_t no)
{
	union wire_any m = { .tenant_wake = { .no = no } };	/* TENANT_READY has the same field */
	int r = chan_send(&b->cloisterd, type, 0, &m, NULL, 0);

	if (r)
		cl_log(CL_ERROR, "tell-cloisterd", "message=%s code=%d", wire_type_name(type), r);
}

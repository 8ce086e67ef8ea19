/* SPDX-License-Identifier: Apache-2.0 */
/* The table of tenants, and what api and broker ask about them. */
#include "cloisterd/tenant.h"

#include "cloisterd/attest.h"
#include "cloisterd/dirs.h"
#include "cloisterd/links.h"
#include "cloisterd/tell.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct tenant *tenant_get(struct daemon *d, uint32_t no)
{
	return no >= 1 && no <= TENANTS_MAX ? d->tenant[no] : NULL;
}

uid_t tenant_uid(const struct tenant *t)
{
	return t->d->opt.uid_base + t->no;
}

int tenant_dirfd(const struct tenant *t, struct cl_err *err)
{
	char name[16];

	(void)snprintf(name, sizeof name, "%u", t->no);	/* fits */
	return dirs_ensure(t->d->fd.tenants, name, 0, 0, 0700, err);
}

struct tenant *tenant_new(struct daemon *d, uint32_t no, struct span id, struct cl_err *err)
{
	struct tenant *t;

	if (no < 1 || no > TENANTS_MAX || d->tenant[no]) {
		(void)cl_fail(err, EINVAL, "tenant number %u", no);
		return NULL;
	}
	t = calloc(1, sizeof *t);
	if (!t) {
		(void)cl_fail(err, ENOMEM, "tenant");
		return NULL;
	}
	t->d = d;
	t->no = no;
	t->state = TENANT_CREATED;
	t->since_us = cl_now_us();
	t->pidfd = t->control_fd = t->listener_fd = t->sealed.config_fd = -1;
	logs_init(&t->logs);
	if (span_copy(id, t->id, sizeof t->id)) {
		(void)cl_fail(err, EINVAL, "tenant id");
		free(t);
		return NULL;
	}
	int dir = tenant_dirfd(t, err);

	if (dir < 0) {
		free(t);
		return NULL;
	}
	(void)cl_close(dir);
	d->tenant[no] = t;
	return t;
}

void tenant_forget(struct tenant *t)
{
	loop_timer_del(&t->timer);
	loop_timer_del(&t->watch);
	loop_timer_del(&t->sweep_timer);
	sealed_clear(&t->sealed);
	if (t->has_cgroup)
		cgroup_done(&t->cgroup);
	t->d->tenant[t->no] = NULL;
	free(t);
}

void sealed_clear(struct sealed *s)
{
	free(s->bytes);
	(void)cl_close(s->config_fd);
	*s = (struct sealed){ .config_fd = -1 };
}

int sealed_set(struct sealed *s, struct span plan, int *config_fd, struct cl_err *err)
{
	struct sealed new = { .n = plan.n, .config_fd = -1 };

	new.bytes = malloc(plan.n ? plan.n : 1);
	if (!new.bytes)
		return cl_fail(err, ENOMEM, "plan");
	memcpy(new.bytes, plan.p, plan.n);
	if (plan_decode((struct span){ new.bytes, new.n }, &new.plan, err)) {
		free(new.bytes);
		return -err->code;
	}
	/* that would leave out the image's digest: for sandbox-run, which does not come here */
	if (new.plan.flags & PLAN_THROWAWAY) {
		free(new.bytes);
		return cl_fail(err, EPERM, "plan: a tenant is not for throwing away");
	}
	if ((new.plan.config_path.n != 0) != (*config_fd >= 0)) {
		free(new.bytes);
		return cl_fail(err, EINVAL, "plan: configuration and its descriptor do not match");
	}
	if (*config_fd >= 0 && attest_config(*config_fd, &new.plan, CONFIG_MAX, err)) {
		free(new.bytes);
		return -err->code;
	}
	new.config_fd = cl_take_fd(config_fd);
	sealed_clear(s);
	*s = new;
	return 0;
}

/* ---- telling ------------------------------------------------------------------ */

void tenant_tell(struct tenant *t, struct chan *c)
{
	struct msg_tenant_state m = {
		.no = t->no, .state = t->state, .pid = (uint32_t)t->pid, .restarts = t->restarts,
		.since_us = (uint64_t)t->since_us, .id = span_str(t->id), .reason = span_str(t->reason),
	};

	if (c)
		(void)chan_send(c, MSG_TENANT_STATE, 0, &m, NULL, 0);	/* its end is seen by its owner */
}

void tenant_state(struct tenant *t, enum tenant_state state, const char *fmt, ...)
{
	enum tenant_state before = t->state;
	char text[REASON_MAX];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);	/* may read t->reason; cut is fine */
	va_end(ap);
	utf8_scrub(span_str(text), t->reason, sizeof t->reason);
	t->state = state;
	if (before != state)
		t->since_us = cl_now_us();
	cl_log(state == TENANT_FAILED ? CL_ERROR : CL_INFO, "tenant-state",
	       "tenant=%s no=%u state=%s reason=%s", t->id, t->no, tenant_state_name(state),
	       cl_kvs(t->reason));
	tenant_tell(t, links_chan(t->d, PROGRAM_API));
	tenant_tell(t, links_chan(t->d, PROGRAM_BROKER));
	if (before != state || t->reason[0])
		tell_state(t, before);
}

void tenant_event(struct tenant *t, const char *kind, const char *fmt, ...)
{
	enum program_id to[] = { PROGRAM_API, PROGRAM_BROKER };
	char text[REASON_MAX], clean[REASON_MAX];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);	/* cut is fine */
	va_end(ap);
	utf8_scrub(span_str(text), clean, sizeof clean);
	cl_log(CL_WARNING, "tenant-event", "tenant=%s kind=%s text=%s", t->id, kind, cl_kvs(clean));
	for (size_t i = 0; i < CL_ARRAY_LEN(to); i++) {
		struct chan *c = links_chan(t->d, to[i]);
		struct msg_tenant_event m = { .no = t->no, .kind = span_str(kind),
					      .text = span_str(clean) };

		if (c)
			(void)chan_send(c, MSG_TENANT_EVENT, 0, &m, NULL, 0);
	}
}

void tenants_tell(struct daemon *d, enum program_id who)
{
	for (unsigned i = 1; i <= TENANTS_MAX; i++)
		if (d->tenant[i])
			tenant_tell(d->tenant[i], links_chan(d, who));
}

bool waiter_set(struct waiter *w, struct chan *c, uint32_t seq)
{
	struct program *p = links_program(c);

	if (w->pid)
		return false;
	*w = (struct waiter){ .who = p->id, .pid = p->pid, .seq = seq };
	return true;
}

void waiter_answer(struct daemon *d, struct waiter *w, int code, const char *text)
{
	struct chan *c = w->pid && d->program[w->who].pid == w->pid ?
			 links_chan(d, w->who) : NULL;

	if (c)
		(void)chan_reply(c, w->seq, code, "%s", text);
	*w = (struct waiter){ .pid = 0 };
}

/* ---- requests ------------------------------------------------------------------- */

static struct daemon *daemon_of(struct chan *c)
{
	return links_program(c)->d;
}

/* The tenant of a request, or NULL after it was answered. */
static struct tenant *asked(struct chan *c, uint32_t seq, uint32_t no)
{
	struct tenant *t = tenant_get(daemon_of(c), no);

	if (!t)
		(void)chan_reply(c, seq, ENOENT, "no tenant number %u", no);
	return t;
}

int on_tenant_put(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds)
{
	const struct msg_tenant_put *m = &msg->tenant_put;
	struct daemon *d = daemon_of(c);
	struct tenant *t = tenant_get(d, m->no);
	struct cl_err err = { 0 };
	int none = -1;

	/* the api makes these; one that is not well-formed is not from our api */
	if (nfds > 1 || m->no < 1 || m->no > TENANTS_MAX || !tenant_id_ok(m->id))
		return -EBADMSG;
	if (d->opt.uid_base > UINT32_MAX - TENANTS_MAX)
		return -ERANGE;
	if (t && !span_eq_str(m->id, t->id))
		return chan_reply(c, seq, EEXIST, "number %u belongs to %s", m->no, t->id);
	bool fresh = !t;

	if (fresh && !(t = tenant_new(d, m->no, m->id, &err)))
		return chan_reply(c, seq, err.code, "%s", cl_err_str(&err));
	if (sealed_set(&t->sealed, m->plan, nfds ? &fds[0] : &none, &err)) {
		int code = err.code;

		cl_log(CL_ERROR, "plan-refused", "tenant=%s error=%s", t->id,
		       cl_kvs(cl_err_str(&err)));
		if (fresh)
			tenant_forget(t);
		if (code == EPERM)
			return -EBADMSG;	/* our api makes no such plan */
		return chan_reply(c, seq, code, "%s", cl_err_str(&err));
	}
	return chan_reply(c, seq, 0, "kept");
}

int on_tenant_start(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds)
{
	struct tenant *t = asked(c, seq, msg->tenant_start.no);
	struct cl_err err = { 0 };

	(void)fds;
	if (nfds)
		return -EBADMSG;
	if (!t)
		return 0;
	if (tenant_start(t, &err))
		return chan_reply(c, seq, err.code, "%s", cl_err_str(&err));
	return chan_reply(c, seq, 0, "%s", tenant_state_name(t->state));
}

int on_tenant_stop(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds)
{
	struct tenant *t = asked(c, seq, msg->tenant_stop.no);
	uint32_t grace_ms = msg->tenant_stop.grace_ms;

	(void)fds;
	if (nfds)
		return -EBADMSG;
	if (!t)
		return 0;
	if (t->job.kind != JOB_NONE)
		return chan_reply(c, seq, EBUSY, "%s: a reset, snapshot or removal is at work", t->id);
	if (t->phase == PH_NONE) {
		loop_timer_del(&t->timer);	/* a start that was to come */
		t->spawn_waits = t->keep_go = false;
		if (t->state != TENANT_CREATED && t->state != TENANT_STOPPED)
			tenant_state(t, TENANT_STOPPED, "%s", "");
		return chan_reply(c, seq, 0, "stopped");
	}
	for (size_t i = 0; i < WAITERS_MAX; i++)
		if (waiter_set(&t->waiters[i], c, seq)) {
			tenant_end(t, grace_ms, AFTER_STOP);
			return 0;
		}
	return chan_reply(c, seq, EBUSY, "%s: it is being stopped", t->id);
}

int on_tenant_freeze(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds)
{
	struct tenant *t = asked(c, seq, msg->tenant_freeze.no);
	struct cl_err err = { 0 };

	(void)fds;
	if (nfds)
		return -EBADMSG;
	if (!t)
		return 0;
	if (!t->frozen && tenant_freeze(t, &err))
		return chan_reply(c, seq, err.code, "%s", cl_err_str(&err));
	return chan_reply(c, seq, 0, "dormant");
}

/* From the broker: a message waits. What an operator stopped, or what failed, stays so. */
int on_tenant_wake(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds)
{
	struct tenant *t = asked(c, seq, msg->tenant_wake.no);
	bool operator = links_program(c)->id == PROGRAM_API;
	struct cl_err err = { 0 };

	(void)fds;
	if (nfds)
		return -EBADMSG;
	if (!t)
		return 0;
	if (t->phase == PH_NONE && !operator && t->state != TENANT_DORMANT &&
	    t->state != TENANT_STARTING)
		return chan_reply(c, seq, EPERM, "%s is %s", t->id, tenant_state_name(t->state));
	if (t->phase == PH_NONE && t->state == TENANT_STARTING)
		return chan_reply(c, seq, 0, "starting");	/* its back-off runs */
	if (tenant_start(t, &err))
		return chan_reply(c, seq, err.code, "%s", cl_err_str(&err));
	return chan_reply(c, seq, 0, "%s", tenant_state_name(t->state));
}

int on_tenants_list(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds)
{
	(void)msg;
	(void)fds;
	if (nfds)
		return -EBADMSG;
	tenants_tell(daemon_of(c), links_program(c)->id);
	return chan_reply(c, seq, 0, "listed");
}

/* From the broker: the agent polls its conversation. Said again after each broker's start. */
int on_tenant_ready(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds)
{
	struct tenant *t = tenant_get(daemon_of(c), msg->tenant_ready.no);

	(void)seq;
	(void)fds;
	if (nfds)
		return -EBADMSG;
	if (t)
		tenant_running(t);
	return 0;
}

int on_tenant_stats(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds)
{
	struct tenant *t = asked(c, seq, msg->tenant_stats.no);
	struct cgroup_stats s = { 0 };
	char text[600];

	(void)fds;
	if (nfds)
		return -EBADMSG;
	if (!t)
		return 0;
	if (t->has_cgroup && t->phase != PH_NONE && cgroup_stats(&t->cgroup, &s))
		return chan_reply(c, seq, EIO, "%s: its cgroup cannot be read", t->id);
	const struct plan_limits *l = &t->sealed.plan.limits;
#define LLU(x) (unsigned long long)(x)
	int n = snprintf(text, sizeof text,
			 "memory_bytes=%llu\nmemory_peak_bytes=%llu\nmemory_max_bytes=%llu\nswap_bytes=%llu\n"
			 "pids=%llu\npids_max=%llu\ncpu_us=%llu\nthrottled_us=%llu\noom_kills=%llu\n"
			 "pids_hits=%llu\nrestarts=%u\n",
			 LLU(s.memory_bytes), LLU(s.memory_peak_bytes), LLU(l->memory_bytes),
			 LLU(s.swap_bytes), LLU(s.pids), LLU(l->pids), LLU(s.cpu_us),
			 LLU(s.throttled_us), LLU(s.oom_kills), LLU(s.pids_hits), t->restarts);
#undef LLU
	struct msg_listing m = { .text = { text, n > 0 && (size_t)n < sizeof text ? (size_t)n : 0 } };

	return chan_send(c, MSG_LISTING, seq, &m, NULL, 0);
}

/* ---- the end of the day -------------------------------------------------------------- */

void tenants_stop_all(struct daemon *d)
{
	bool left = false;

	for (unsigned i = 1; i <= TENANTS_MAX; i++) {
		struct tenant *t = d->tenant[i];

		if (!t)
			continue;
		loop_timer_del(&t->sweep_timer);
		if (t->phase == PH_NONE)
			loop_timer_del(&t->timer);
		if (t->job.pid)
			(void)kill(t->job.pid, SIGKILL);	/* our unreaped children */
		if (t->sweep_pid)
			(void)kill(t->sweep_pid, SIGKILL);
		if (t->keep_pid)
			(void)kill(t->keep_pid, SIGKILL);
		if (t->phase != PH_NONE)
			tenant_end(t, STOP_GRACE_MS, AFTER_STOP);
		left = left || t->phase != PH_NONE || t->job.pid || t->sweep_pid || t->keep_pid;
	}
	if (!left)
		daemon_tenants_gone(d);
}

void tenants_kill_all(struct daemon *d)
{
	for (unsigned i = 1; i <= TENANTS_MAX; i++)
		if (d->tenant[i] && d->tenant[i]->has_cgroup)
			(void)cgroup_kill(&d->tenant[i]->cgroup);
}

bool tenants_exited(struct daemon *d, pid_t pid, int status)
{
	for (unsigned i = 1; i <= TENANTS_MAX; i++) {
		struct tenant *t = d->tenant[i];

		if (!t)
			continue;
		if (t->job.pid == pid) {
			job_exited(t, status);
			return true;
		}
		if (t->keep_pid == pid) {
			keep_exited(t, status);
			return true;
		}
		if (t->sweep_pid == pid) {
			sweep_exited(t, status);
			return true;
		}
	}
	return false;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "cloisterd/tell.h"

#include <string.h>
#include <sys/wait.h>

/* A full queue (the ledger is away for long) is counted by the client and logged by it. */
static void put(struct daemon *d, const struct record *r)
{
	if (record_send(&d->records, r))
		cl_log(CL_WARNING, "ledger", "kind=%u outcome=dropped", (unsigned)r->kind);
}

void tell_state(struct tenant *t, enum tenant_state before)
{
	struct record r;

	record_begin(&r, RECORD_TENANT_STATE, t->id);
	record_str(&r, RF_STATE, tenant_state_name(t->state));
	record_str(&r, RF_BEFORE, tenant_state_name(before));
	record_str(&r, RF_REASON, t->reason);
	if (t->pid)
		record_num(&r, RF_PID, (uint64_t)t->pid);
	if (t->exited_known)
		record_num(&r, RF_EXIT, t->exit_status);
	record_num(&r, RF_RESTARTS, t->restarts);
	record_num(&r, RF_NO, t->no);
	put(t->d, &r);
}

void tell_limit(struct tenant *t, const char *limit, uint64_t max, const char *act)
{
	struct record r;

	record_begin(&r, RECORD_LIMIT, t->id);
	record_str(&r, RF_LIMIT, limit);
	record_num(&r, RF_MAX, max);
	record_str(&r, RF_ACT, act);
	record_num(&r, RF_NO, t->no);
	put(t->d, &r);
}

void tell_walls(struct tenant *t, bool ok, struct span detail)
{
	struct record r;

	record_begin(&r, RECORD_SELFTEST, t->id);
	record_str(&r, RF_LAYER, "1-4,7");
	record_str(&r, RF_OUTCOME, ok ? "ok" : "failed");
	record_text(&r, RF_DETAIL, detail);
	record_num(&r, RF_NO, t->no);
	put(t->d, &r);
}

void tell_attest(struct tenant *t, const struct cl_err *why)
{
	struct record r;

	record_begin(&r, RECORD_ATTEST, t->id);
	record_str(&r, RF_OUTCOME, "refused");
	record_str(&r, RF_REASON, why->text);
	record_text(&r, RF_NAME, t->sealed.plan.image);
	record_num(&r, RF_NO, t->no);
	put(t->d, &r);
}

void tell_job(struct tenant *t, bool reset, const char *act, const char *name, int code)
{
	struct record r;

	record_begin(&r, reset ? RECORD_TENANT_RESET : RECORD_SNAPSHOT, t->id);
	record_str(&r, reset ? RF_LEVEL : RF_ACT, act);
	record_str(&r, RF_NAME, name);
	record_str(&r, RF_OUTCOME, code ? "failed" : "ok");
	if (code)
		record_str(&r, RF_REASON, strerror(code));
	record_num(&r, RF_NO, t->no);
	put(t->d, &r);
}

void tell_program(struct daemon *d, const char *name, const char *event, pid_t pid, int status)
{
	struct record r;

	record_begin(&r, RECORD_PROGRAM, NULL);
	record_str(&r, RF_PROGRAM, name);
	record_str(&r, RF_EVENT, event);
	record_num(&r, RF_PID, (uint64_t)pid);
	if (status != -1 && WIFEXITED(status))
		record_num(&r, RF_EXIT, (uint64_t)WEXITSTATUS(status));
	if (status != -1 && WIFSIGNALED(status))
		record_num(&r, RF_SIGNAL, (uint64_t)WTERMSIG(status));
	put(d, &r);
}

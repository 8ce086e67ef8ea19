/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last state that worked. An agent's own state (STATE_NAME in its
 * workspace) can be broken so that it never comes up again: a corrupt
 * database is enough. So, before each start, while nothing runs, a copy is made
 * (KEPT_NEW_NAME); when the agent came up with it, it becomes KEPT_NAME. When it
 * does not come up three times in a row, what it has is set aside as a
 * snapshot and the kept copy takes its place, once.
 */
#include "cloisterd/dirs.h"
#include "cloisterd/tell.h"
#include "cloisterd/tenant.h"
#include "cloisterd/work.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A child copies directory @from_dir/@from into top/@to, made anew. */
static bool copy_to(struct tenant *t, struct places *p, int from_dir, const char *from,
		    const char *to)
{
	uid_t uid = tenant_uid(t);
	CL_CLOSE int in = cl_open_beneath(from_dir, from, O_RDONLY | O_DIRECTORY, 0);
	struct cl_err err;

	if (in < 0 || to_trash(p, p->top, to))
		return false;
	CL_CLOSE int out = dirs_ensure(p->top, to, uid, uid, 0700, &err);
	pid_t pid = out < 0 ? -1 : copy_start(t, in, out, KEPT_MAX);

	if (pid < 0)
		return false;
	t->keep_pid = pid;
	t->keep_go = true;
	return true;
}

bool keep_begin(struct tenant *t)
{
	struct cl_err err;
	struct places p;
	bool busy = false;

	t->kept_new = false;
	if (places_open(t, &p, &err))
		return false;
	CL_CLOSE int work = cl_open_beneath(p.top, "workspace", O_RDONLY | O_DIRECTORY, 0);

	if (work >= 0) {
		t->keep_back = false;
		busy = copy_to(t, &p, work, STATE_NAME, KEPT_NEW_NAME);
	}
	places_done(&p);
	return busy;
}

void keep_works(struct tenant *t)
{
	struct cl_err err;
	struct places p;

	t->recovered = false;
	if (!t->kept_new || places_open(t, &p, &err))
		return;
	t->kept_new = false;
	/* a crash between the two leaves none: then there is one again after the next start */
	if (to_trash(&p, p.top, KEPT_NAME) ||
	    renameat(p.top, KEPT_NEW_NAME, p.top, KEPT_NAME) < 0)
		cl_log(CL_WARNING, "kept-state", "tenant=%s error=%s", t->id, cl_kvs(strerror(errno)));
	places_done(&p);
	sweep_start(t);
}

bool keep_recover(struct tenant *t, const char *why)
{
	struct cl_err err;
	struct places p;
	bool busy = false;

	if (t->recovered || places_open(t, &p, &err))
		return false;
	t->recovered = true;
	t->keep_back = true;
	busy = copy_to(t, &p, p.top, KEPT_NAME, INCOMING_NAME);
	places_done(&p);
	if (busy)
		tenant_event(t, "recovered",
			     "The agent did not come up any more (%s). It is started with the state of its last good start; what it had is kept as a snapshot.",
			     why);
	return busy;
}

/* The copy is whole: the broken state is set aside, the good one takes its place. */
static int put_back(struct tenant *t, struct places *p, struct cl_err *err)
{
	char name[65];

	fresh_name("broken", name, sizeof name);
	if (set_aside(t, p, name, true, err))
		return -err->code;
	tell_job(t, true, "state", name, 0);
	CL_CLOSE int work = cl_open_beneath(p->top, "workspace", O_RDONLY | O_DIRECTORY, 0);

	if (work < 0 || renameat(p->top, INCOMING_NAME, work, STATE_NAME) < 0)
		return cl_fail(err, work < 0 ? -work : errno, "state: put back");
	return 0;
}

void keep_exited(struct tenant *t, int status)
{
	int code = status_errno(status);
	struct cl_err err = { 0 };
	struct places p;

	t->keep_pid = 0;
	if (t->d->stopping) {
		tenants_stop_all(t->d);
		return;
	}
	if (code)
		(void)cl_fail(&err, code, "copy of the state");
	else if (t->keep_back && places_open(t, &p, &err) == 0) {
		code = -put_back(t, &p, &err);
		places_done(&p);
	} else if (!t->keep_back) {
		t->kept_new = true;
	}
	/* without a copy the agent still starts: it is only not safe from itself */
	if (err.code)
		cl_log(CL_WARNING, "kept-state", "tenant=%s error=%s", t->id,
		       cl_kvs(cl_err_str(&err)));
	if (t->keep_go)
		tenant_go_on(t);
}

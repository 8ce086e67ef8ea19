/* SPDX-License-Identifier: Apache-2.0 */
#include "cloisterd/work.h"

#include "cloisterd/dirs.h"
#include "cloisterd/links.h"
#include "cloisterd/narrow.h"
#include "cloisterd/tell.h"
#include "cloisterd/tenant.h"
#include "cloisterd/tree.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SWEEP_MS 2000		/* at work … */
#define SWEEP_PAUSE_MS 200	/* … then others have their turn */
#define SWEEP_AGAIN_MS 30000	/* after a failure */
#define EXIT_MORE 10		/* a sweep's "time is over" */

enum { OP_CREATE, OP_LIST, OP_RM, OP_RESTORE };

void places_done(struct places *p)
{
	p->top = cl_close(p->top);
	p->snapshots = cl_close(p->snapshots);
	p->trash = cl_close(p->trash);
}

int places_open(struct tenant *t, struct places *p, struct cl_err *err)
{
	uid_t uid = tenant_uid(t);

	*p = (struct places){ -1, -1, -1 };
	if ((p->top = tenant_dirfd(t, err)) < 0 ||
	    (p->snapshots = dirs_ensure(p->top, "snapshots", 0, 0, 0700, err)) < 0 ||
	    (p->trash = dirs_ensure(p->top, "trash", uid, uid, 0700, err)) < 0) {
		places_done(p);
		return -err->code;
	}
	return 0;
}

/* ---- helpers: children with the tenant's uid ------------------------------------- */

/* an errno as an exit status and back: 0 is 0, above 200 becomes EIO */
int status_errno(int status)
{
	if (!WIFEXITED(status))
		return EINTR;
	return WEXITSTATUS(status) > 200 ? EIO : WEXITSTATUS(status);
}

pid_t copy_start(struct tenant *t, int from, int to, uint64_t max_bytes)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	int keep[2] = { from, to };

	narrow_helper(tenant_uid(t), keep, 2);
	int r = tree_copy(keep[0], keep[1], max_bytes, t->sealed.bytes ?
			  t->sealed.plan.limits.workspace_inodes : UINT64_MAX);

	_exit(r < 0 ? (-r <= 200 ? -r : EIO) : 0);
}

static void on_sweep_timer(struct loop_timer *timer)
{
	sweep_start(timer->ctx);
}

void sweep_start(struct tenant *t)
{
	struct places p;
	struct cl_err err;

	if (t->sweep_pid || t->d->stopping || places_open(t, &p, &err))
		return;
	pid_t pid = fork();

	if (pid == 0) {
		int keep[1] = { p.trash };

		narrow_helper(tenant_uid(t), keep, 1);
		int r = tree_sweep(keep[0], SWEEP_MS);

		_exit(r == 0 ? 0 : r == 1 ? EXIT_MORE : 1);
	}
	places_done(&p);
	if (pid > 0)
		t->sweep_pid = pid;
	else
		(void)loop_timer_set(t->d->loop, &t->sweep_timer, SWEEP_AGAIN_MS * 1000LL,
				     on_sweep_timer, t);
}

/* Move @name of @from into the trash; what is not there is no failure. */
int to_trash(struct places *p, int from, const char *name)
{
	char to[48];

	(void)snprintf(to, sizeof to, "r-%lld", (long long)cl_now_us());
	if (renameat(from, name, p->trash, to) < 0 && errno != ENOENT)
		return -errno;
	return 0;
}

/* ---- snapshots -------------------------------------------------------------------- */

void fresh_name(const char *prefix, char *buf, size_t n)
{
	(void)snprintf(buf, n, "%s-%lld", prefix, (long long)(cl_now_us() / 1000));	/* fits */
}

static int snapshot_make(struct places *p, const char *name, struct cl_err *err)
{
	if (faccessat(p->snapshots, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return cl_fail(err, EEXIST, "snapshot '%s' is there already", name);
	return dirs_ensure(p->snapshots, name, 0, 0, 0700, err);
}

static int snapshot_drop(struct places *p, const char *name)
{
	static const char *const parts[] = { "workspace", "state" };
	CL_CLOSE int fd = cl_open_beneath(p->snapshots, name, O_RDONLY | O_DIRECTORY, 0);

	if (fd < 0)
		return fd;
	for (size_t i = 0; i < CL_ARRAY_LEN(parts); i++) {
		int r = to_trash(p, fd, parts[i]);

		if (r)
			return r;
	}
	return unlinkat(p->snapshots, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

typedef int each_fn(void *ctx, const char *name, const struct stat *st);

static int snapshots_each(struct places *p, each_fn *fn, void *ctx)
{
	int fd = openat(p->snapshots, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *e;

	if (!d) {
		(void)cl_close(fd);
		return -EIO;
	}
	while (r == 0 && (e = readdir(d))) {
		struct stat st;

		if (name_ok(span_str(e->d_name)) &&
		    fstatat(p->snapshots, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			r = fn(ctx, e->d_name, &st);
	}
	(void)closedir(d);
	return r;
}

struct oldest {
	unsigned count;
	struct timespec at;
	char name[65];
};

static int find_oldest(void *ctx, const char *name, const struct stat *st)
{
	struct oldest *o = ctx;

	if (o->count++ == 0 || st->st_mtim.tv_sec < o->at.tv_sec ||
	    (st->st_mtim.tv_sec == o->at.tv_sec && st->st_mtim.tv_nsec < o->at.tv_nsec)) {
		o->at = st->st_mtim;
		(void)span_copy(span_str(name), o->name, sizeof o->name);	/* name_ok: fits */
	}
	return 0;
}

static void prune(struct tenant *t, struct places *p)
{
	for (;;) {
		struct oldest o = { .count = 0 };

		if (snapshots_each(p, find_oldest, &o) || o.count <= SNAPSHOTS_MAX)
			return;
		int r = snapshot_drop(p, o.name);

		cl_log(CL_INFO, "snapshot-pruned", "tenant=%s name=%s outcome=%s", t->id, o.name,
		       r ? "failed" : "ok");
		if (r)
			return;
	}
}

struct listing {
	struct buf *b;
	struct places *p;
};

static int list_one(void *ctx, const char *name, const struct stat *st)
{
	struct listing *l = ctx;
	CL_CLOSE int fd = cl_open_beneath(l->p->snapshots, name, O_RDONLY | O_DIRECTORY, 0);
	bool state = fd >= 0 && faccessat(fd, "state", F_OK, AT_SYMLINK_NOFOLLOW) == 0;

	return buf_printf(l->b, "name=%s of=%s at_ms=%lld\n", name, state ? "state" : "workspace",
			  (long long)st->st_mtim.tv_sec * 1000 + st->st_mtim.tv_nsec / 1000000);
}

static int snapshot_list(struct tenant *t, struct chan *c, uint32_t seq)
{
	struct cl_err err = { 0 };
	struct places p;
	CL_BUF struct buf b;

	buf_init(&b, 65536);
	if (places_open(t, &p, &err))
		return chan_reply(c, seq, err.code, "%s", cl_err_str(&err));
	struct listing l = { &b, &p };
	int r = snapshots_each(&p, list_one, &l);

	places_done(&p);
	if (r)
		return chan_reply(c, seq, -r, "snapshots cannot be listed");
	struct msg_listing m = { .text = buf_span(&b) };

	return chan_send(c, MSG_LISTING, seq, &m, NULL, 0);
}

/* ---- jobs -------------------------------------------------------------------------- */

static const char *job_word(enum job_kind k)
{
	static const char *const words[] = { "", "state", "workspace", "create", "restore", "rm" };

	return words[k];
}

static void job_done(struct tenant *t, int code, const char *text)
{
	struct job j = t->job;
	bool reset = j.kind == JOB_RESET_STATE || j.kind == JOB_RESET_WORKSPACE;
	struct cl_err err = { 0 };

	t->job = (struct job){ .kind = JOB_NONE };
	if (j.thaw && tenant_thaw(t, &err))
		cl_log(CL_ERROR, "thaw", "tenant=%s error=%s", t->id, cl_kvs(cl_err_str(&err)));
	tell_job(t, reset, job_word(j.kind), j.name, code);
	waiter_answer(t->d, &j.waiter, code, text);
	if (t->state == TENANT_RESETTING)
		tenant_state(t, TENANT_STOPPED, "%s", "");
	if (j.start_again && !t->d->stopping && tenant_start(t, &err))
		tenant_state(t, TENANT_FAILED, "%s", cl_err_str(&err));
	if (!t->d->stopping)
		sweep_start(t);
}

/* Put workspace, or the state in it, aside as the snapshot t->job.name. */
int set_aside(struct tenant *t, struct places *p, const char *name, bool state,
		     struct cl_err *err)
{
	CL_CLOSE int snap = snapshot_make(p, name, err);

	if (snap < 0)
		return snap;
	if (!state) {
		if (renameat(p->top, "workspace", snap, "workspace") < 0 && errno != ENOENT)
			return cl_fail(err, errno, "workspace: set aside");
		return 0;
	}
	CL_CLOSE int work = cl_open_beneath(p->top, "workspace", O_RDONLY | O_DIRECTORY, 0);

	if (work == -ENOENT)
		return 0;
	if (work < 0)
		return cl_fail(err, -work, "workspace");
	/* whatever the agent put under that name: a rename does not look into it */
	if (renameat(work, STATE_NAME, snap, "state") < 0 && errno != ENOENT)
		return cl_fail(err, errno, "state: set aside");
	(void)t;
	return 0;
}

/*
 * Start the copy of @from_dir/@from into INCOMING_NAME. It gets its place by a
 * rename when it is whole: a crash before that has changed nothing.
 */
static int copy_job(struct tenant *t, struct places *p, int from_dir, const char *from,
		    struct cl_err *err)
{
	uid_t uid = tenant_uid(t);
	CL_CLOSE int in = cl_open_beneath(from_dir, from, O_RDONLY | O_DIRECTORY, 0);
	int r;

	if (in < 0)
		return cl_fail(err, -in, "'%s' cannot be copied", from);
	if ((r = to_trash(p, p->top, INCOMING_NAME)))	/* of a crash */
		return cl_fail(err, -r, INCOMING_NAME);
	CL_CLOSE int out = dirs_ensure(p->top, INCOMING_NAME, uid, uid, 0700, err);

	if (out < 0)
		return out;
	pid_t pid = copy_start(t, in, out, t->sealed.bytes ? t->sealed.plan.limits.workspace_bytes :
			       UINT64_MAX);

	if (pid < 0)
		return cl_fail(err, errno, "fork");
	t->job.pid = pid;
	return 0;
}

static int begin_restore(struct tenant *t, struct places *p, struct cl_err *err)
{
	CL_CLOSE int snap = cl_open_beneath(p->snapshots, t->job.name, O_RDONLY | O_DIRECTORY, 0);

	if (snap < 0)
		return cl_fail(err, -snap, "snapshot '%s'", t->job.name);
	t->job.state = faccessat(snap, "state", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
	return copy_job(t, p, snap, t->job.state ? "state" : "workspace", err);
}

/* The copy is whole: what was there is set aside, then it takes the place. */
static int end_restore(struct tenant *t, struct places *p, struct cl_err *err)
{
	char before[65];

	fresh_name("before-restore", before, sizeof before);
	if (set_aside(t, p, before, t->job.state, err))
		return -err->code;
	if (!t->job.state) {
		if (renameat(p->top, INCOMING_NAME, p->top, "workspace") < 0)
			return cl_fail(err, errno, "workspace: restore");
		return 0;
	}
	CL_CLOSE int work = cl_open_beneath(p->top, "workspace", O_RDONLY | O_DIRECTORY, 0);

	if (work < 0 || renameat(p->top, INCOMING_NAME, work, STATE_NAME) < 0)
		return cl_fail(err, work < 0 ? -work : errno, "state: restore");
	return 0;
}

static int end_snapshot(struct tenant *t, struct places *p, struct cl_err *err)
{
	CL_CLOSE int snap = snapshot_make(p, t->job.name, err);

	if (snap < 0)
		return snap;
	if (renameat(p->top, INCOMING_NAME, snap, "workspace") < 0)
		return cl_fail(err, errno, "snapshot '%s'", t->job.name);
	return 0;
}

static int drop_one(void *ctx, const char *name, const struct stat *st)
{
	(void)st;
	return snapshot_drop(ctx, name);
}

/* All into the trash; the rest is root's own and small. */
static int begin_rm(struct tenant *t, struct places *p, struct cl_err *err)
{
	static const char *const others[] = { INCOMING_NAME, KEPT_NEW_NAME, KEPT_NAME };
	int r = to_trash(p, p->top, "workspace");

	for (size_t i = 0; r == 0 && i < CL_ARRAY_LEN(others); i++)
		r = to_trash(p, p->top, others[i]);
	if (r == 0)
		r = snapshots_each(p, drop_one, p);
	if (r)
		return cl_fail(err, r < 0 ? -r : r, "%s: removal", t->id);
	sweep_start(t);
	if (!t->sweep_pid)
		return cl_fail(err, EAGAIN, "%s: removal: no child", t->id);
	return 0;
}

static void rm_last(struct tenant *t)
{
	struct daemon *d = t->d;
	struct waiter w = t->job.waiter;
	struct cl_err err = { 0 };
	struct places p;
	char name[16];
	int r = places_open(t, &p, &err);

	if (r == 0) {
		CL_CLOSE int log = cl_open_beneath(p.top, "log", O_RDONLY | O_DIRECTORY, 0);

		if (log >= 0) {
			(void)unlinkat(log, LOG_NAME, 0);
			(void)unlinkat(log, LOG_OLD_NAME, 0);
			(void)unlinkat(p.top, "log", AT_REMOVEDIR);
		}
		(void)unlinkat(p.top, "snapshots", AT_REMOVEDIR);
		if (unlinkat(p.top, "trash", AT_REMOVEDIR) < 0 && errno == ENOTEMPTY) {
			/* filled after the child had looked */
			places_done(&p);
			sweep_start(t);
			return;
		}
		places_done(&p);
		(void)snprintf(name, sizeof name, "%u", t->no);
		r = unlinkat(d->fd.tenants, name, AT_REMOVEDIR) < 0 ? -errno : 0;
	}
	if (r) {
		t->job.start_again = false;
		tenant_state(t, TENANT_STOPPED, "%s", "");
		job_done(t, -r, "its directory could not be removed");
		return;
	}
	tell_job(t, false, "rm", "", 0);
	tenant_state(t, TENANT_DELETED, "%s", "");
	tenant_forget(t);
	waiter_answer(d, &w, 0, "removed");
}

void job_sandbox_gone(struct tenant *t)
{
	struct cl_err err = { 0 };
	struct places p;
	int r;

	if (t->d->stopping) {
		t->job.start_again = false;
		job_done(t, ECANCELED, "cloisterd is stopping");
		return;
	}
	if (places_open(t, &p, &err)) {
		job_done(t, err.code, cl_err_str(&err));
		return;
	}
	switch (t->job.kind) {
	case JOB_RESET_STATE:
	case JOB_RESET_WORKSPACE:
		r = set_aside(t, &p, t->job.name, t->job.kind == JOB_RESET_STATE, &err);
		prune(t, &p);
		break;
	case JOB_RESTORE:
		r = begin_restore(t, &p, &err);
		break;
	case JOB_RM:
		r = begin_rm(t, &p, &err);
		break;
	case JOB_NONE:
	case JOB_SNAPSHOT:
	default:
		r = cl_fail(&err, EINVAL, "no such job");
		break;
	}
	places_done(&p);
	if (r || !(t->job.pid || t->job.kind == JOB_RM))
		job_done(t, r ? err.code : 0, r ? cl_err_str(&err) : "done");
}

void job_exited(struct tenant *t, int status)
{
	int code = status_errno(status);
	struct cl_err err = { 0 };
	struct places p;

	t->job.pid = 0;
	if (code)
		(void)cl_fail(&err, code, "the copy failed; nothing was changed");
	if (places_open(t, &p, code ? NULL : &err) == 0) {
		if (code)
			(void)to_trash(&p, p.top, INCOMING_NAME);	/* half a copy is none */
		else if (t->job.kind == JOB_SNAPSHOT)
			code = -end_snapshot(t, &p, &err);
		else
			code = -end_restore(t, &p, &err);
		if (!code)
			prune(t, &p);
		places_done(&p);
	} else if (!code) {
		code = err.code;
	}
	job_done(t, code, code ? cl_err_str(&err) : "done");
	if (t->d->stopping)
		tenants_stop_all(t->d);
}

void sweep_exited(struct tenant *t, int status)
{
	bool more = WIFEXITED(status) && WEXITSTATUS(status) == EXIT_MORE;
	bool done = WIFEXITED(status) && WEXITSTATUS(status) == 0;

	t->sweep_pid = 0;
	if (t->d->stopping) {
		tenants_stop_all(t->d);
		return;
	}
	if (done) {
		if (t->job.kind == JOB_RM)
			rm_last(t);
		return;
	}
	if (!more)
		cl_log(CL_WARNING, "sweep", "tenant=%s text=\"something stays in its trash\"", t->id);
	if (!more && t->job.kind == JOB_RM) {
		job_done(t, EIO, "something could not be deleted");
		return;
	}
	(void)loop_timer_set(t->d->loop, &t->sweep_timer,
			     (more ? SWEEP_PAUSE_MS : SWEEP_AGAIN_MS) * 1000LL, on_sweep_timer, t);
}

/* ---- requests -------------------------------------------------------------------------- */

/* End what runs, then the job goes on in job_sandbox_gone(). */
static int job_begin(struct tenant *t, enum job_kind kind, const char *name, struct chan *c,
		     uint32_t seq)
{
	if (t->job.kind != JOB_NONE || t->keep_pid)
		return chan_reply(c, seq, EBUSY, "%s: another is at work", t->id);
	t->job = (struct job){ .kind = kind,
			       .start_again = kind != JOB_RM &&
					      (t->phase != PH_NONE || t->state == TENANT_STARTING) };
	(void)span_copy(span_str(name), t->job.name, sizeof t->job.name);	/* name_ok: fits */
	(void)waiter_set(&t->job.waiter, c, seq);
	if (t->phase == PH_NONE) {
		loop_timer_del(&t->timer);
		t->spawn_waits = t->keep_go = false;
	}
	tenant_state(t, TENANT_RESETTING, "%s", job_word(kind));
	if (t->phase == PH_NONE)
		job_sandbox_gone(t);
	else
		tenant_end(t, STOP_GRACE_MS, AFTER_JOB);
	return 0;
}

int on_tenant_reset(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds)
{
	const struct msg_tenant_reset *m = &msg->tenant_reset;
	struct tenant *t = tenant_get(links_program(c)->d, m->no);
	struct cl_err err = { 0 };
	char name[65];

	(void)fds;
	if (nfds || m->level >= RESET_LEVEL_COUNT || (m->snapshot.n && !name_ok(m->snapshot)))
		return -EBADMSG;
	if (!t)
		return chan_reply(c, seq, ENOENT, "no tenant number %u", m->no);
	if (m->snapshot.n)
		(void)span_copy(m->snapshot, name, sizeof name);	/* name_ok: fits */
	else
		fresh_name("before-reset", name, sizeof name);
	if (m->level != RESET_AGENT)
		return job_begin(t, m->level == RESET_STATE ? JOB_RESET_STATE : JOB_RESET_WORKSPACE,
				 name, c, seq);
	if (t->job.kind != JOB_NONE)
		return chan_reply(c, seq, EBUSY, "%s: another is at work", t->id);
	if (t->phase == PH_NONE || t->phase == PH_SPAWNING) {
		if (tenant_start(t, &err))
			return chan_reply(c, seq, err.code, "%s", cl_err_str(&err));
		return chan_reply(c, seq, 0, "started");
	}
	for (size_t i = 0; i < WAITERS_MAX; i++)
		if (waiter_set(&t->waiters[i], c, seq)) {
			tenant_end(t, STOP_GRACE_MS, AFTER_RESTART);
			return 0;
		}
	return chan_reply(c, seq, EBUSY, "%s: it is being stopped", t->id);
}

/* A copy of a workspace at rest: what runs is frozen meanwhile. */
static int snapshot_create(struct tenant *t, const char *name, struct chan *c, uint32_t seq)
{
	struct cl_err err = { 0 };
	struct places p;
	int r = 0;

	if (t->job.kind != JOB_NONE)
		return chan_reply(c, seq, EBUSY, "%s: another is at work", t->id);
	if (t->phase != PH_NONE && t->state != TENANT_RUNNING && t->state != TENANT_DORMANT)
		return chan_reply(c, seq, EAGAIN, "%s is %s: try again when it runs or is stopped",
				  t->id, tenant_state_name(t->state));
	if (places_open(t, &p, &err))
		return chan_reply(c, seq, err.code, "%s", cl_err_str(&err));
	if (faccessat(p.snapshots, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		r = cl_fail(&err, EEXIST, "snapshot '%s' is there already", name);
	t->job = (struct job){ .kind = JOB_SNAPSHOT };
	(void)span_copy(span_str(name), t->job.name, sizeof t->job.name);	/* name_ok: fits */
	(void)waiter_set(&t->job.waiter, c, seq);
	if (r == 0 && t->phase != PH_NONE && !t->frozen) {
		t->job.thaw = true;	/* before: the record must not call it dormant */
		r = tenant_freeze(t, &err);
	}
	if (r == 0)
		r = copy_job(t, &p, p.top, "workspace", &err);
	places_done(&p);
	if (r)
		job_done(t, err.code, cl_err_str(&err));
	return 0;
}

static int snapshot_rm(struct tenant *t, const char *name, struct chan *c, uint32_t seq)
{
	struct cl_err err = { 0 };
	struct places p;

	if (t->job.kind != JOB_NONE)
		return chan_reply(c, seq, EBUSY, "%s: another is at work", t->id);
	if (places_open(t, &p, &err))
		return chan_reply(c, seq, err.code, "%s", cl_err_str(&err));
	int r = snapshot_drop(&p, name);

	places_done(&p);
	tell_job(t, false, "rm", name, -r);
	sweep_start(t);
	return chan_reply(c, seq, -r, "%s", r ? "no such snapshot, or it cannot be removed" : "removed");
}

int on_snapshot(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds)
{
	const struct msg_snapshot *m = &msg->snapshot;
	struct tenant *t = tenant_get(links_program(c)->d, m->no);
	char name[65];

	(void)fds;
	if (nfds || m->op > OP_RESTORE || (m->name.n && !name_ok(m->name)) ||
	    ((m->op == OP_RM || m->op == OP_RESTORE) && m->name.n == 0))
		return -EBADMSG;
	if (!t)
		return chan_reply(c, seq, ENOENT, "no tenant number %u", m->no);
	if (m->op == OP_LIST)
		return snapshot_list(t, c, seq);
	if (m->name.n)
		(void)span_copy(m->name, name, sizeof name);	/* name_ok: fits */
	else
		fresh_name("snapshot", name, sizeof name);
	if (m->op == OP_CREATE)
		return snapshot_create(t, name, c, seq);
	if (m->op == OP_RM)
		return snapshot_rm(t, name, c, seq);
	/* looked up before anything is stopped */
	struct cl_err err = { 0 };
	struct places p;

	if (places_open(t, &p, &err))
		return chan_reply(c, seq, err.code, "%s", cl_err_str(&err));
	int there = faccessat(p.snapshots, name, F_OK, AT_SYMLINK_NOFOLLOW);

	places_done(&p);
	if (there < 0)
		return chan_reply(c, seq, ENOENT, "%s has no snapshot '%s'", t->id, name);
	return job_begin(t, JOB_RESTORE, name, c, seq);
}

int on_tenant_rm(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds)
{
	struct tenant *t = tenant_get(links_program(c)->d, msg->tenant_rm.no);

	(void)fds;
	if (nfds)
		return -EBADMSG;
	if (!t)
		return chan_reply(c, seq, ENOENT, "no tenant number %u", msg->tenant_rm.no);
	return job_begin(t, JOB_RM, "", c, seq);
}

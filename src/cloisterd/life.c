/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From nothing to a running agent and back.
 *
 * begin() opens and attests everything, makes the cgroup and asks the
 * spawner; the answer brings the descriptors; init's self-test decides
 * whether the agent may run at all; the broker says when it speaks. Each end
 * of a sandbox, asked for or not, goes through sandbox_over() and nothing
 * else, which is called once, when pid 1 has gone.
 */
#include "cloisterd/attest.h"
#include "cloisterd/dirs.h"
#include "cloisterd/links.h"
#include "cloisterd/proc.h"
#include "cloisterd/tenant.h"
#include "cloisterd/tell.h"
#include "sandbox/selftest.h"
#include "sandbox/spawn.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SPAWN_MS 30000		/* until the spawner answers, and init after it */
#define READY_MS 300000		/* until the agent speaks: a gateway takes 12 s of a core */
#define EXIT_MS 5000		/* from the agent's exit to init's */
#define STEADY_US 60000000	/* after so long its crashes are forgotten */
#define BAD_STARTS 3
#define BACKOFF_MAX_S 60
#define WATCH_MS 2000
#define CGROUP_AGAIN_MS 500

static void begin(struct tenant *t);

static bool has_conversation(const struct tenant *t)
{
	return t->sealed.plan.config_path.n != 0;
}

static void cgroup_name(const struct tenant *t, char *buf, size_t n)
{
	(void)snprintf(buf, n, "t%u", t->no);	/* fits: 8 bytes */
}

/* ---- how a start that failed goes on ----------------------------------------- */

static void on_again(struct loop_timer *timer)
{
	begin(timer->ctx);
}

static void again(struct tenant *t, const char *why)
{
	char keep[REASON_MAX];
	int64_t ran_us = t->running_us ? cl_mono_us() - t->running_us : 0;
	bool came_up = t->running_us != 0;

	(void)snprintf(keep, sizeof keep, "%s", why);
	t->running_us = 0;
	if (t->d->stopping) {
		tenant_state(t, TENANT_STOPPED, "%s", keep);
		return;
	}
	t->bad_starts = came_up ? 0 : t->bad_starts + 1;
	if (ran_us > STEADY_US)
		t->crashes = 0;
	if (t->bad_starts >= BAD_STARTS && keep_recover(t, keep)) {
		t->bad_starts = t->crashes = 0;
		t->restarts++;
		tenant_state(t, TENANT_STARTING, "with the last state that worked: %s", keep);
		return;
	}
	if (t->bad_starts >= BAD_STARTS) {
		tenant_state(t, TENANT_FAILED, "it did not come up %d times in a row: %s",
			     BAD_STARTS, keep);
		tenant_event(t, "failed", "The agent did not come up and was not tried again: %s",
			     keep);
		tenant_answer_waiters(t, ECANCELED, "it failed meanwhile");
		return;
	}
	unsigned wait_s = t->crashes < 6 ? 1u << t->crashes : BACKOFF_MAX_S;

	t->crashes++;
	t->restarts++;
	tenant_state(t, TENANT_STARTING, "again in %u s: %s", wait_s, keep);
	if (loop_timer_set(t->d->loop, &t->timer, wait_s * 1000000LL, on_again, t))
		tenant_state(t, TENANT_FAILED, "no memory for a timer");
}

/* ---- the end -------------------------------------------------------------------- */

static void remove_cgroup(struct tenant *t);

static void on_cgroup_again(struct loop_timer *timer)
{
	remove_cgroup(timer->ctx);
}

/* The dead leave a group a moment after their parent could see it: try again later. */
static void remove_cgroup(struct tenant *t)
{
	char name[16];

	if (!t->has_cgroup || t->phase != PH_NONE)
		return;
	cgroup_name(t, name, sizeof name);
	(void)cgroup_kill(&t->cgroup);	/* nobody should be left; the removal tells */
	int r = cgroup_remove(&t->d->cgroups, name, 20);

	if (r == 0 || r == -ENOENT) {
		cgroup_done(&t->cgroup);
		t->has_cgroup = false;
		return;
	}
	if (loop_timer_set(t->d->loop, &t->watch, CGROUP_AGAIN_MS * 1000, on_cgroup_again, t))
		cl_log(CL_ERROR, "cgroup-left", "tenant=%s error=%s", t->id,
		       cl_kvs(strerror(-r)));
}

static void count_events(struct tenant *t)
{
	struct cgroup_stats st;
	uint64_t mib = t->sealed.plan.limits.memory_bytes >> 20;

	if (!t->has_cgroup || cgroup_stats(&t->cgroup, &st))
		return;
	if (st.oom_kills > t->seen_oom) {
		tenant_event(t, "memory",
			     "The agent used more than its %llu MiB of memory and was stopped; it is started again.",
			     (unsigned long long)mib);
		tell_limit(t, "memory", t->sealed.plan.limits.memory_bytes, "killed");
		t->seen_oom = st.oom_kills;
		/* what is left of it is half an agent: all of it ends */
		if (t->phase == PH_UP)
			tenant_end(t, 0, AFTER_CRASH);
	}
	/* the rlimit that stands before the group refuses without a count: being full is the same */
	bool full = st.pids >= t->sealed.plan.limits.pids;

	if (st.pids_hits > t->seen_pids || (full && !t->pids_full)) {
		tenant_event(t, "pids",
			     "The agent wanted more than its %llu processes and threads; some could not be started.",
			     (unsigned long long)t->sealed.plan.limits.pids);
		tell_limit(t, "pids", t->sealed.plan.limits.pids, "refused");
		t->seen_pids = st.pids_hits;
	}
	t->pids_full = full;
}

static void on_watch(struct loop_timer *timer)
{
	struct tenant *t = timer->ctx;

	if (t->phase != PH_UP)
		return;
	count_events(t);
	if (t->phase == PH_UP)
		(void)loop_timer_set(t->d->loop, &t->watch, WATCH_MS * 1000, on_watch, t);
}

static void all_gone(struct daemon *d)
{
	for (unsigned i = 1; i <= TENANTS_MAX; i++)
		if (d->tenant[i] && (d->tenant[i]->phase != PH_NONE || d->tenant[i]->job.pid ||
				     d->tenant[i]->sweep_pid || d->tenant[i]->keep_pid))
			return;
	daemon_tenants_gone(d);
}

void tenant_answer_waiters(struct tenant *t, int code, const char *text)
{
	for (size_t i = 0; i < WAITERS_MAX; i++)
		waiter_answer(t->d, &t->waiters[i], code, text);
}

static void describe_end(struct tenant *t, char *buf, size_t n)
{
	if (t->exited_known && t->exit_status >= 128)
		(void)snprintf(buf, n, "the agent ended by signal %u", t->exit_status - 128);
	else if (t->exited_known)
		(void)snprintf(buf, n, "the agent ended with exit code %u", t->exit_status);
	else if (t->reason[0] && t->state == TENANT_STARTING)
		(void)snprintf(buf, n, "%s", t->reason);
	else
		(void)snprintf(buf, n, "the sandbox ended");
}

/* Pid 1 has gone: everything of the sandbox is let go, then what was to come comes. */
static void sandbox_over(struct tenant *t)
{
	enum after after = t->after;
	char why[REASON_MAX];
	struct chan *broker = links_chan(t->d, PROGRAM_BROKER);
	struct daemon *d = t->d;
	bool was_up = t->running_us != 0;

	if (t->phase == PH_NONE)
		return;
	if (t->control_fd >= 0)
		control_read(&t->control_io, 0);	/* EXITED may still be in it */
	if (t->phase == PH_NONE)
		return;
	count_events(t);
	describe_end(t, why, sizeof why);
	loop_timer_del(&t->timer);
	loop_timer_del(&t->watch);
	loop_io_del(&t->pid_io);
	loop_io_del(&t->control_io);
	control_gone(t);
	logs_stop(&t->logs);
	t->pidfd = cl_close(t->pidfd);
	t->control_fd = cl_close(t->control_fd);
	t->listener_fd = cl_close(t->listener_fd);
	t->phase = PH_NONE;
	t->pid = 0;
	t->frozen = t->end_asked = false;
	t->after = AFTER_CRASH;
	remove_cgroup(t);
	runtime_remove(t);
	if (broker)
		(void)chan_send(broker, MSG_TENANT_GONE, 0,
				&(struct msg_tenant_gone){ .no = t->no }, NULL, 0);
	cl_log(was_up && after == AFTER_CRASH ? CL_WARNING : CL_INFO, "sandbox-over",
	       "tenant=%s reason=%s", t->id, cl_kvs(why));
	switch (after) {
	case AFTER_STOP:
		t->running_us = 0;
		tenant_state(t, TENANT_STOPPED, "%s", "");
		tenant_answer_waiters(t, 0, "stopped");
		break;
	case AFTER_RESTART:
		t->running_us = 0;
		begin(t);
		tenant_answer_waiters(t, 0, "ended and started again");
		break;
	case AFTER_JOB:
		t->running_us = 0;
		job_sandbox_gone(t);	/* may free @t */
		if (d->stopping)
			all_gone(d);
		return;
	case AFTER_CRASH:
	default:
		again(t, why);
		break;
	}
	if (t->d->stopping)
		all_gone(t->d);
}

static void on_pidfd(struct loop_io *io, uint32_t events)
{
	(void)events;
	sandbox_over(io->ctx);
}

static void kill_all(struct tenant *t)
{
	if (t->frozen && cgroup_freeze(&t->cgroup, false) == 0)
		t->frozen = false;
	if (t->has_cgroup && cgroup_kill(&t->cgroup))
		cl_log(CL_ERROR, "cgroup-kill", "tenant=%s", t->id);
	if (t->pidfd >= 0)
		(void)proc_signal(t->pidfd, SIGKILL);	/* the second way: pid 1 takes all along */
}

static void on_grace_over(struct loop_timer *timer)
{
	struct tenant *t = timer->ctx;

	kill_all(t);
	/* its pidfd tells; until then the kill is repeated */
	(void)loop_timer_set(t->d->loop, &t->timer, 1000000, on_grace_over, t);
}

void tenant_end(struct tenant *t, uint32_t grace_ms, enum after after)
{
	if (t->phase == PH_NONE)
		return;
	/* who asks later decides what comes, but a stop or a job outlasts a crash */
	if (t->phase != PH_ENDING || after != AFTER_CRASH)
		t->after = after;
	if (t->phase == PH_SPAWNING) {
		t->end_asked = true;
		return;
	}
	if (t->phase == PH_ENDING && grace_ms)
		return;		/* its time runs already */
	if (grace_ms > STOP_GRACE_MAX_MS)
		grace_ms = STOP_GRACE_MAX_MS;
	if (t->phase != PH_UP)
		grace_ms = 0;	/* there is no agent yet that could take leave */
	t->phase = PH_ENDING;
	if (t->frozen && grace_ms && cgroup_freeze(&t->cgroup, false) == 0)
		t->frozen = false;
	if (grace_ms == 0 || control_send(t, INIT_STOP, 0, 0, 0, (struct span){ "", 0 }, NULL, 0)) {
		kill_all(t);
		grace_ms = 1000;
	}
	if (loop_timer_set(t->d->loop, &t->timer, grace_ms * 1000LL, on_grace_over, t))
		kill_all(t);
}

void tenant_breach(struct tenant *t, const char *what)
{
	cl_log(CL_ERROR, "init-breach", "tenant=%s what=%s", t->id, cl_kvs(what));
	tenant_event(t, "breach", "The sandbox was stopped: its first process broke the rules (%s).",
		     what);
	tenant_end(t, 0, AFTER_CRASH);
}

void tenant_agent_exited(struct tenant *t, uint32_t status)
{
	t->exited_known = true;
	t->exit_status = status;
	/* init ends by itself now; if it does not, it is made to */
	if (t->phase == PH_UP) {
		t->phase = PH_ENDING;
		t->after = AFTER_CRASH;
		if (loop_timer_set(t->d->loop, &t->timer, EXIT_MS * 1000, on_grace_over, t))
			kill_all(t);
	}
}

/* ---- the beginning ---------------------------------------------------------------- */

static void on_too_slow(struct loop_timer *timer)
{
	struct tenant *t = timer->ctx;

	(void)snprintf(t->reason, sizeof t->reason, "%s",
		       t->phase == PH_TESTING ? "init did not answer" :
		       "the agent did not ask for its messages in time");
	tenant_end(t, t->phase == PH_UP ? STOP_GRACE_MS : 0, AFTER_CRASH);
}

int tenant_watch(struct tenant *t, struct cl_err *err)
{
	int dir = tenant_dirfd(t, err), r;

	if (dir < 0)
		return dir;
	r = logs_start(&t->logs, t->d->loop, dir, t->logs.pipe_fd,
		       t->sealed.plan.limits.log_bytes, err);
	(void)cl_close(dir);
	if (r)
		return r;
	if ((r = cl_set_nonblock(t->control_fd)) ||
	    (r = loop_io_add(t->d->loop, &t->control_io, t->control_fd, EPOLLIN, control_read, t)) ||
	    (r = loop_io_add(t->d->loop, &t->pid_io, t->pidfd, EPOLLIN, on_pidfd, t)))
		return cl_fail(err, -r, "watching the sandbox");
	return 0;
}

static void give_listener(struct tenant *t)
{
	struct chan *broker = links_chan(t->d, PROGRAM_BROKER);
	struct msg_tenant_listen m = { .no = t->no, .id = span_str(t->id) };

	/* a broker that is not there gets it when it is (tenants_listen_again) */
	if (broker && t->listener_fd >= 0)
		(void)chan_send(broker, MSG_TENANT_LISTEN, 0, &m, &t->listener_fd, 1);
}

void tenants_listen_again(struct daemon *d)
{
	for (unsigned i = 1; i <= TENANTS_MAX; i++)
		if (d->tenant[i] && d->tenant[i]->phase == PH_UP)
			give_listener(d->tenant[i]);
}

void tenant_running(struct tenant *t)
{
	if (t->phase != PH_UP || t->state != TENANT_STARTING)
		return;
	loop_timer_del(&t->timer);
	t->running_us = cl_mono_us();
	t->bad_starts = 0;
	keep_works(t);
	tenant_state(t, TENANT_RUNNING, "%s", "");
	runtime_write(t);
}

static const char *wall_name(unsigned bit)
{
	static const char *const names[] = {
#define NAME(ID, layer, name) [SELFTEST_##ID] = name,
		SELFTEST_ITEMS(NAME)
#undef NAME
	};

	return bit < CL_ARRAY_LEN(names) ? names[bit] : "unknown";
}

void tenant_walls(struct tenant *t, uint64_t held, uint64_t failed, struct span evidence)
{
	uint64_t must = SELFTEST_REQUIRED;
	char names[200] = "";
	size_t n = 0;

	if (t->sealed.plan.config_path.n)
		must |= SELFTEST_BIT(CONFIG);
	uint64_t bad = failed | (must & ~held);

	for (unsigned i = 0; i < 64 && n < sizeof names; i++)
		if (bad >> i & 1) {
			int k = snprintf(names + n, sizeof names - n, "%s%s", n ? ", " : "",
					 wall_name(i));
			n += k > 0 ? (size_t)k : 0;
		}
	tell_walls(t, bad == 0, bad ? span_str(names) : evidence);
	if (bad) {
		/* a wall that does not stand will not stand at the next try (I9) */
		cl_log(CL_ERROR, "walls", "tenant=%s missing=%s evidence=%s", t->id,
		       cl_kvs(names), cl_kv(evidence));
		(void)snprintf(t->reason, sizeof t->reason, "walls that do not stand: %.150s", names);
		t->bad_starts = BAD_STARTS - 1;
		tenant_end(t, 0, AFTER_CRASH);
		return;
	}
	if (control_send(t, INIT_START, 0, 0, 0, (struct span){ "", 0 }, NULL, 0)) {
		tenant_end(t, 0, AFTER_CRASH);
		return;
	}
	t->phase = PH_UP;
	runtime_write(t);
	give_listener(t);
	(void)loop_timer_set(t->d->loop, &t->watch, WATCH_MS * 1000, on_watch, t);
	if (!has_conversation(t))
		tenant_running(t);
	else if (loop_timer_set(t->d->loop, &t->timer, READY_MS * 1000LL, on_too_slow, t))
		tenant_end(t, 0, AFTER_CRASH);
}

void tenant_adopted(struct tenant *t)
{
	if (!t->running_us && has_conversation(t)) {
		tenant_state(t, TENANT_STARTING, "%s", "");
		if (loop_timer_set(t->d->loop, &t->timer, READY_MS * 1000LL, on_too_slow, t))
			tenant_end(t, 0, AFTER_CRASH);
	} else {
		t->running_us = cl_mono_us();
		tenant_state(t, t->frozen ? TENANT_DORMANT : TENANT_RUNNING, "%s", "");
	}
	(void)loop_timer_set(t->d->loop, &t->watch, WATCH_MS * 1000, on_watch, t);
}

/* Nothing of a sandbox is there: let go of the cgroup, say why, go on. */
static void not_begun(struct tenant *t, const char *why)
{
	enum after after = t->after;
	struct daemon *d = t->d;

	t->phase = PH_NONE;
	t->after = AFTER_CRASH;
	t->end_asked = false;
	remove_cgroup(t);
	if (after == AFTER_STOP) {
		tenant_state(t, TENANT_STOPPED, "%s", "");
		tenant_answer_waiters(t, 0, "stopped");
	} else if (after == AFTER_JOB) {
		job_sandbox_gone(t);	/* may free @t */
		if (d->stopping)
			all_gone(d);
		return;
	} else {
		again(t, why);
	}
	if (t->d->stopping)
		all_gone(t->d);
}

static void on_spawned(void *ctx, uint32_t type, const union wire_any *msg, int *fds, size_t nfds)
{
	struct tenant *t = ctx;
	struct cl_err err = { 0 };
	char why[REASON_MAX];

	if (type == MSG_SPAWN_FAILED) {
		unsigned code = msg->spawn_failed.code;

		(void)snprintf(why, sizeof why, "the sandbox could not be made: %.*s: %.*s: %s",
			       SPAN_FMT(msg->spawn_failed.step), SPAN_FMT(msg->spawn_failed.text),
			       strerror(code < 4096 ? (int)code : EIO));
		not_begun(t, why);
		return;
	}
	if (type != MSG_SPAWNED || nfds != SPAWNED_FD_COUNT || msg->spawned.no != t->no ||
	    msg->spawned.pid > INT32_MAX) {
		/* the spawner died, or lies: what it made is in the group */
		(void)cgroup_kill(&t->cgroup);
		not_begun(t, "the spawner went away");
		return;
	}
	t->pid = (pid_t)msg->spawned.pid;
	t->ticks = msg->spawned.start_ticks;
	t->pidfd = cl_take_fd(&fds[SPAWNED_FD_PID]);
	t->control_fd = cl_take_fd(&fds[SPAWNED_FD_CONTROL]);
	t->listener_fd = cl_take_fd(&fds[SPAWNED_FD_LISTENER]);
	t->logs.pipe_fd = cl_take_fd(&fds[SPAWNED_FD_LOG]);
	t->phase = PH_TESTING;
	if (tenant_watch(t, &err) ||
	    loop_timer_set(t->d->loop, &t->timer, SPAWN_MS * 1000LL, on_too_slow, t)) {
		(void)snprintf(t->reason, sizeof t->reason, "%s", cl_err_str(&err));
		kill_all(t);
		sandbox_over(t);
		return;
	}
	if (t->end_asked)
		tenant_end(t, 0, t->after);
}

/* The agent owns its workspace and may have changed its mode; its owner it cannot change. */
static int workspace_open(struct tenant *t, int dirfd, struct cl_err *err)
{
	uid_t uid = tenant_uid(t);
	struct stat st;
	int fd = cl_open_beneath(dirfd, "workspace", O_RDONLY | O_DIRECTORY, 0);

	if (fd == -ENOENT)
		return dirs_ensure(dirfd, "workspace", uid, uid, 0700, err);
	if (fd < 0)
		return cl_fail(err, -fd, "workspace");
	if (fstat(fd, &st) < 0 || st.st_uid != uid ||
	    ((st.st_mode & 07777) != 0700 && fchmod(fd, 0700) < 0)) {
		(void)cl_close(fd);
		return cl_fail(err, EPERM, "workspace: does not belong to uid %u", uid);
	}
	return fd;
}

static int make_cgroup(struct tenant *t, struct cl_err *err)
{
	char name[16];
	int r;

	if (t->has_cgroup) {	/* of the last run: its removal was still to come */
		cgroup_done(&t->cgroup);
		t->has_cgroup = false;
	}
	cgroup_name(t, name, sizeof name);
	r = cgroup_create(&t->d->cgroups, name, &t->sealed.plan.limits, &t->cgroup, err);
	if (r == -EEXIST) {
		struct cgroup old;

		if (cgroup_open(&t->d->cgroups, name, &old, err) == 0) {
			(void)cgroup_kill(&old);
			cgroup_done(&old);
		}
		if ((r = cgroup_remove(&t->d->cgroups, name, 1000)))
			return cl_fail(err, -r, "cgroup of the last run");
		r = cgroup_create(&t->d->cgroups, name, &t->sealed.plan.limits, &t->cgroup, err);
	}
	if (r)
		return r;
	t->has_cgroup = true;
	t->seen_oom = t->seen_pids = 0;
	t->pids_full = false;
	return 0;
}

static int ask_spawner(struct tenant *t, struct chan *spawner, struct cl_err *err)
{
	int fds[3 + SPAWN_CGROUPS_MAX], r;
	CL_CLOSE int dir = tenant_dirfd(t, err);
	CL_CLOSE int rootfs = -1, workspace = -1, tree_root = -1, tree_work = -1;
	size_t n = 0;

	if (dir < 0)
		return dir;
	if ((rootfs = attest_image(t->d->fd.images, &t->sealed.plan, err)) < 0 ||
	    (workspace = workspace_open(t, dir, err)) < 0 ||
	    (tree_root = spawn_tree(rootfs, true, err)) < 0 ||
	    (tree_work = spawn_tree(workspace, false, err)) < 0 ||
	    make_cgroup(t, err))
		return -err->code;
	fds[n++] = tree_root;
	fds[n++] = tree_work;
	if (t->sealed.plan.config_path.n)
		fds[n++] = t->sealed.config_fd;
	size_t own = n;
	int k = cgroup_join_fds(&t->cgroup, fds + n, SPAWN_CGROUPS_MAX, err);

	if (k < 0)
		return k;
	n += (size_t)k;
	struct msg_spawn m = { .no = t->no, .plan = { t->sealed.bytes, t->sealed.n } };

	r = chan_call(spawner, MSG_SPAWN, &m, fds, n, on_spawned, t);
	for (size_t i = own; i < n; i++)
		(void)cl_close(fds[i]);
	return r ? cl_fail(err, -r, "the spawner cannot be asked") : 0;
}

void tenant_go_on(struct tenant *t)
{
	struct chan *spawner = links_chan(t->d, PROGRAM_SPAWNER);
	struct cl_err err = { 0 };

	if (t->d->stopping || t->phase != PH_NONE)
		return;
	if (!spawner) {
		t->spawn_waits = true;
		tenant_state(t, TENANT_STARTING, "waits for the spawner");
		return;
	}
	t->spawn_waits = false;
	tenant_state(t, TENANT_STARTING, "%s", "");
	t->phase = PH_SPAWNING;
	t->after = AFTER_CRASH;
	if (ask_spawner(t, spawner, &err)) {
		tell_attest(t, &err);
		not_begun(t, cl_err_str(&err));
	}
}

static void begin(struct tenant *t)
{
	t->running_us = 0;
	t->exited_known = false;
	if (t->d->stopping || t->phase != PH_NONE || t->keep_pid)
		return;
	if (has_conversation(t) && keep_begin(t))
		tenant_state(t, TENANT_STARTING, "%s", "");
	else
		tenant_go_on(t);
}

void tenants_spawner_up(struct daemon *d)
{
	for (unsigned i = 1; i <= TENANTS_MAX; i++)
		if (d->tenant[i] && d->tenant[i]->spawn_waits)
			tenant_go_on(d->tenant[i]);
}

int tenant_start(struct tenant *t, struct cl_err *err)
{
	if (t->d->stopping)
		return cl_fail(err, ESHUTDOWN, "cloisterd is stopping");
	if (t->job.kind != JOB_NONE)
		return cl_fail(err, EBUSY, "%s: a reset, snapshot or removal is at work", t->id);
	if (!t->sealed.bytes)
		return cl_fail(err, ENOENT, "%s: no plan yet", t->id);
	if (t->phase == PH_ENDING && t->after == AFTER_STOP) {
		t->after = AFTER_RESTART;
		return 0;
	}
	if (t->phase != PH_NONE) {
		if (t->frozen)
			return tenant_thaw(t, err);
		return 0;	/* is up or on its way */
	}
	loop_timer_del(&t->timer);
	t->bad_starts = t->crashes = 0;
	t->recovered = false;
	t->keep_go = true;	/* a copy that is being made goes on to the start */
	begin(t);
	return 0;
}

int tenant_freeze(struct tenant *t, struct cl_err *err)
{
	if (t->phase != PH_UP || t->state != TENANT_RUNNING)
		return cl_fail(err, EAGAIN, "%s is %s, not running", t->id,
			       tenant_state_name(t->state));
	int r = cgroup_freeze(&t->cgroup, true);

	if (r) {
		(void)cgroup_freeze(&t->cgroup, false);	/* not half of it */
		return cl_fail(err, -r, "%s cannot be frozen", t->id);
	}
	t->frozen = true;
	tenant_state(t, TENANT_DORMANT, "%s", "");
	runtime_write(t);
	return 0;
}

int tenant_thaw(struct tenant *t, struct cl_err *err)
{
	if (!t->frozen)
		return 0;
	int r = cgroup_freeze(&t->cgroup, false);

	if (r)
		return cl_fail(err, -r, "%s cannot be thawed", t->id);
	t->frozen = false;
	tenant_state(t, TENANT_RUNNING, "%s", "");
	runtime_write(t);
	return 0;
}

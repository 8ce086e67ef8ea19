/* SPDX-License-Identifier: Apache-2.0 */
/* See engine.h for how this works. */
#include "sandbox/engine.h"

#include "sandbox/initproto.h"
#include "sandbox/netns.h"
#include "sandbox/step.h"
#include "sandbox/sys.h"
#include "sandbox/userns.h"

#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define SPAWN_TIMEOUT_MS 10000
#define CLONE_INTO_CGROUP_FLAG 0x200000000ull

/* ---- once ------------------------------------------------------------------- */

static int note_host(struct engine *e, struct cl_err *err)
{
	static const char *const names[SNS_COUNT] = { "mnt", "pid", "net", "ipc", "uts", "cgroup",
						      "user", "time" };
	struct stat st;

	for (int i = 0; i < SNS_COUNT; i++) {
		char path[32];

		(void)snprintf(path, sizeof path, "self/ns/%s", names[i]);	/* always fits */
		if (fstatat(e->proc_fd, path, &st, 0) < 0)
			return cl_fail(err, errno, "engine: no %s namespaces in this kernel", names[i]);
		e->host_ns[i] = st.st_ino;
	}
	if (stat("/", &st) < 0)
		return cl_fail(err, errno, "engine: stat /");
	e->host_root_dev = st.st_dev;
	e->host_root_ino = st.st_ino;
	return 0;
}

/*
 * A sealed copy in memory: what runs as pid 1 can be written by nobody, and no
 * path inside leads to a file of the host (CVE-2019-5736). Execute-only, so that
 * the kernel makes the process non-dumpable from its first instruction.
 */
static int load_init(const char *path, struct cl_err *err)
{
	CL_CLOSE int from = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	CL_CLOSE int to = -1;
	struct stat st;
	char buf[16384];

	if (from < 0 || fstat(from, &st) < 0 || !S_ISREG(st.st_mode))
		return cl_fail(err, from < 0 ? errno : EINVAL, "engine: '%s'", path);
	to = memfd_create("cloister-init", MFD_CLOEXEC | MFD_ALLOW_SEALING | 0x10u /* MFD_EXEC */);
	if (to < 0 && errno == EINVAL)	/* before 6.3 there is no MFD_EXEC, and every memfd is executable */
		to = memfd_create("cloister-init", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (to < 0)
		return cl_fail(err, errno, "engine: memfd");
	for (;;) {
		ssize_t k = read(from, buf, sizeof buf);

		if (k < 0)
			return cl_fail(err, errno, "engine: '%s': read", path);
		if (k == 0)
			break;
		int r = cl_write_full(to, buf, (size_t)k);

		if (r)
			return cl_fail(err, -r, "engine: memfd: write");
	}
	if (fchmod(to, 0111) < 0 ||
	    fcntl(to, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
		return cl_fail(err, errno, "engine: memfd: seal");

	/* the writable descriptor must be gone before anything can be executed from it */
	char self[32];

	(void)snprintf(self, sizeof self, "/proc/self/fd/%d", to);	/* always fits */
	int fd = open(self, O_PATH | O_CLOEXEC);

	return fd < 0 ? cl_fail(err, errno, "engine: memfd: reopen") : fd;
}

/* Leave the host's mounts for a tree of two empty directories. */
static int zygote(struct cl_err *err)
{
	CL_CLOSE int fs = -1, mnt = -1;
	int r;

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return cl_fail(err, errno, "engine: own mount namespace");
	fs = sys_fsopen("tmpfs");
	r = fs < 0 ? fs : sys_fsconfig_str(fs, "mode", "0755");
	if (r == 0)
		r = sys_fsconfig_create(fs);
	if (r)
		return cl_fail(err, -r, "engine: tmpfs");
	mnt = sys_fsmount(fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	if (mnt < 0)
		return cl_fail(err, -mnt, "engine: fsmount");
	if (mkdirat(mnt, ZYGOTE_ROOT + 1, 0755) < 0 || mkdirat(mnt, ZYGOTE_TMP + 1, 0755) < 0)
		return cl_fail(err, errno, "engine: mkdir");
	r = sys_ret(syscall(SYS_move_mount, mnt, "", AT_FDCWD, "/proc", MOVE_MOUNT_F_EMPTY_PATH));
	if (r == 0 && fchdir(mnt) < 0)
		r = -errno;
	if (r == 0)
		r = sys_ret(syscall(SYS_pivot_root, ".", "."));
	if (r == 0)
		r = sys_ret(syscall(SYS_umount2, ".", MNT_DETACH));
	if (r == 0 && chdir("/") < 0)
		r = -errno;
	if (r == 0)
		r = sys_mount_attr(mnt, MOUNT_ATTR_RDONLY, 0);
	return r ? cl_fail(err, -r, "engine: pivot") : 0;
}

int engine_init(struct engine *e, const char *init_path, struct cl_err *err)
{
	int r;

	*e = (struct engine){ .proc_fd = -1, .init_fd = -1, .host_net_fd = -1 };
	e->proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (e->proc_fd < 0)
		return cl_fail(err, errno, "engine: /proc");
	r = note_host(e, err);
	if (r)
		return r;
	e->host_net_fd = openat(e->proc_fd, "self/ns/net", O_RDONLY | O_CLOEXEC);
	if (e->host_net_fd < 0)
		return cl_fail(err, errno, "engine: own network namespace");
	r = filter_build(&e->filter);
	if (r)
		return cl_fail(err, -r, "engine: seccomp filter");
	e->init_fd = load_init(init_path, err);
	if (e->init_fd < 0)
		return e->init_fd;
	return zygote(err);
}

void engine_done(struct engine *e)
{
	while (e->nnets)
		netns_done(&e->nets[--e->nnets]);
	e->proc_fd = cl_close(e->proc_fd);
	e->init_fd = cl_close(e->init_fd);
	e->host_net_fd = cl_close(e->host_net_fd);
}

int engine_prepare(struct engine *e, unsigned want, struct cl_err *err)
{
	int r = 0;

	while (r == 0 && e->nnets < want && e->nnets < ENGINE_NETS_MAX) {
		r = netns_make(e->proc_fd, e->host_net_fd, &e->nets[e->nnets], err);
		if (r == 0)
			e->nnets++;
	}
	return r;
}

/* ---- each sandbox -------------------------------------------------------------- */

/* Owned by the parent while a sandbox is being made; all closed at the end. */
struct making {
	int userns_fd;
	int control[2], log[2], report[2];	/* [0] ours, [1] the child's; log: [0] read */
	struct engine_net net;
	int pidfd;
	pid_t pid, helper;
};

static int fail_step(struct engine_failure *f, const char *step, struct cl_err *err, int code,
		     const char *what)
{
	(void)snprintf(f->step, sizeof f->step, "%s", step);	/* names are short */
	return cl_fail(err, code, "sandbox: %s", what);
}

static void making_done(struct making *m)
{
	m->userns_fd = cl_close(m->userns_fd);
	for (int i = 0; i < 2; i++) {
		m->control[i] = cl_close(m->control[i]);
		m->log[i] = cl_close(m->log[i]);
		m->report[i] = cl_close(m->report[i]);
	}
	netns_done(&m->net);
	if (m->pid > 0) {
		/* failed: pid 1 dies and with it whatever it had started */
		(void)syscall(SYS_pidfd_send_signal, m->pidfd, SIGKILL, NULL, 0);
		(void)waitpid(m->pid, NULL, 0);	/* our own child, killed: nothing else to learn */
	}
	m->pidfd = cl_close(m->pidfd);
	userns_reap(&m->helper);
}

static int make_pipes(struct making *m)
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, m->control) < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, m->report) < 0 ||
	    pipe2(m->log, O_CLOEXEC) < 0)
		return -errno;
	/* ours and the log's reader are polled by cloisterd; the child's ends block */
	int r = cl_set_nonblock(m->control[0]);

	return r ? r : cl_set_nonblock(m->log[0]);
}

static int start_child(struct making *m, struct step_ctx *c, unsigned fail_at)
{
	struct clone_args a = {
		.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWTIME |
			 CLONE_PIDFD,
		.pidfd = (uint64_t)(uintptr_t)&m->pidfd,
		.exit_signal = SIGCHLD,
	};

	for (size_t i = 0; i < c->ncgroups; i++) {
		struct stat st;

		if (fstat(c->cgroup_fds[i], &st) == 0 && S_ISDIR(st.st_mode)) {
			a.flags |= CLONE_INTO_CGROUP_FLAG;
			a.cgroup = (uint64_t)(unsigned)c->cgroup_fds[i];
		}
	}

	long pid = syscall(SYS_clone3, &a, sizeof a);

	if (pid < 0)
		return -errno;
	if (pid == 0)
		steps_run(c, fail_at);
	m->pid = (pid_t)pid;
	return 0;
}

/*
 * The child says "about to exec" (step 0) and its end of the socket closes at
 * exec; or it says which step failed; or it died (killed from outside) and says nothing.
 */
static int wait_child(struct making *m, struct engine_failure *f, struct cl_err *err)
{
	struct pollfd p = { .fd = m->report[0], .events = POLLIN };
	bool ready = false;

	for (;;) {
		struct step_report rep = { 0 };
		int r = poll(&p, 1, SPAWN_TIMEOUT_MS);

		if (r <= 0)
			return fail_step(f, "report", err, r == 0 ? ETIMEDOUT : errno,
					 "no report of the new process");
		ssize_t k = recv(m->report[0], &rep, sizeof rep, 0);

		if (k == 0 && ready)
			return 0;
		if (k != (ssize_t)sizeof rep)
			return fail_step(f, "report", err, EPIPE, "the new process ended without a word");
		if (rep.step)
			return fail_step(f, engine_step_name(rep.step), err, rep.error,
					 engine_step_name(rep.step));
		ready = true;
	}
}

/* Field 22 of /proc/PID/stat; the name in field 2 may hold blanks and brackets. */
static int start_ticks(const struct engine *e, pid_t pid, uint64_t *out)
{
	char path[32], buf[1024], *p;
	ssize_t k;

	(void)snprintf(path, sizeof path, "%d/stat", pid);	/* always fits */
	CL_CLOSE int fd = openat(e->proc_fd, path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || (k = read(fd, buf, sizeof buf - 1)) <= 0)
		return -ESRCH;
	buf[k] = '\0';
	p = strrchr(buf, ')');
	for (int i = 0; p && i < 20; i++)
		p = strchr(p + 1, ' ');
	if (!p)
		return -EBADMSG;
	struct span s = span_str(p + 1), num;

	if (!span_cut(&s, ' ', &num))
		return -EBADMSG;
	return num_parse_u64(num, UINT64_MAX, out);
}

static int send_setup(const struct engine *e, struct making *m, const struct step_ctx *c)
{
	struct {
		struct init_msg m;
		struct selftest_setup s;
	} x = {
		.m = { .magic = INIT_MAGIC, .type = INIT_SETUP, .len = sizeof x.s },
		.s = { .listener_cookie = m->net.cookie, .nofile = c->plan->limits.nofile,
		       .host_root_dev = e->host_root_dev, .host_root_ino = e->host_root_ino,
		       .pids = c->plan->limits.pids + STEP_NPROC_ROOM, .tmp_bytes = c->plan->limits.tmp_bytes,
		       .uid_outside = c->uid, .die_with_parent = c->plan->flags & PLAN_THROWAWAY },
	};

	memcpy(x.s.host_ns, e->host_ns, sizeof x.s.host_ns);
	if (c->plan->config_path.n) {
		int r = span_copy(c->plan->config_path, x.s.config_path, sizeof x.s.config_path);

		if (r)
			return r;
	}
	return send(m->control[0], &x, sizeof x, MSG_NOSIGNAL) == (ssize_t)sizeof x ? 0 : -errno;
}

/* Everything up to and including the running pid 1. */
static int make(struct engine *e, struct making *m, struct step_ctx *c, unsigned fail_at,
		struct engine_result *out, struct engine_failure *f, struct cl_err *err)
{
	int r;

	m->userns_fd = userns_make(e->proc_fd, c->uid, c->uid, SANDBOX_UID, &m->helper, err);
	if (m->userns_fd < 0) {
		(void)snprintf(f->step, sizeof f->step, "user-namespace");
		return m->userns_fd;
	}
	r = engine_prepare(e, 1, err);
	if (r) {
		(void)snprintf(f->step, sizeof f->step, "network-namespace");
		return r;
	}
	m->net = e->nets[--e->nnets];
	r = make_pipes(m);
	if (r)
		return fail_step(f, "channels", err, -r, "channels");
	c->net_fd = m->net.ns_fd;
	c->listener_fd = m->net.listener_fd;
	c->userns_fd = m->userns_fd;
	c->control_fd = m->control[1];
	c->control_peer_fd = m->control[0];
	c->log_read_fd = m->log[0];
	c->log_write_fd = m->log[1];
	c->report_fd = m->report[1];
	/* waits in the socket: pid 1 finds it at its first instruction */
	r = send_setup(e, m, c);
	if (r)
		return fail_step(f, "setup", err, -r, "setup of cloister-init");
	r = start_child(m, c, fail_at);
	if (r)
		return fail_step(f, "clone", err, -r, "clone");
	m->report[1] = cl_close(m->report[1]);	/* else its end of file never comes */
	r = wait_child(m, f, err);
	if (r)
		return r;
	r = start_ticks(e, m->pid, &out->start_ticks);
	return r ? fail_step(f, "process", err, -r, "start time of the process") : 0;
}

int engine_spawn(struct engine *e, uint32_t no, uid_t uid, const struct plan *p, const int *fds,
		 size_t nfds, unsigned fail_at, struct engine_result *out,
		 struct engine_failure *fail, struct cl_err *err)
{
	/* one thread: static keeps 4 KiB of pointers off the stack */
	static char *argv[PLAN_STRINGS_MAX + 2], *envp[PLAN_STRINGS_MAX + 1];
	struct making m = { -1, { -1, -1 }, { -1, -1 }, { -1, -1 }, { -1, -1, 0 }, -1, 0, 0 };
	struct engine_result res = { 0 };
	size_t ncgroups;
	int r = plan_check(p, err);

	(void)snprintf(fail->step, sizeof fail->step, "plan");
	if (r == 0 && (no == 0 || no > PLAN_NO_MAX || uid < ENGINE_UID_MIN))
		r = cl_fail(err, EINVAL, "sandbox: tenant number or uid not allowed");
	if (r == 0)
		r = spawn_check_fds(p, fds, nfds, &ncgroups, err);
	if (r == 0 && (plan_strings(p->argv, argv + 1, CL_ARRAY_LEN(argv) - 1) < 0 ||
		       plan_strings(p->env, envp, CL_ARRAY_LEN(envp)) < 0))
		r = cl_fail(err, EINVAL, "sandbox: arguments");
	if (r)
		return r;
	argv[0] = (char *)(uintptr_t)"cloister-init";	/* what follows is the agent's */

	struct step_ctx c = {
		.engine = e, .plan = p, .no = no, .uid = uid, .rootfs_fd = fds[SPAWN_FD_ROOTFS],
		.workspace_fd = fds[SPAWN_FD_WORKSPACE],
		.config_fd = p->config_path.n ? fds[SPAWN_FD_CONFIG] : -1,
		.cgroup_fds = fds + (nfds - ncgroups), .ncgroups = ncgroups, .argv = argv,
		.envp = envp, .tmp_fd = -1,
	};

	r = make(e, &m, &c, fail_at, &res, fail, err);
	if (r == 0) {
		res.pid = m.pid;
		m.pid = 0;	/* alive and handed over: making_done() must not end it */
		res.fds[SPAWNED_FD_PID] = cl_take_fd(&m.pidfd);
		res.fds[SPAWNED_FD_CONTROL] = cl_take_fd(&m.control[0]);
		res.fds[SPAWNED_FD_LISTENER] = cl_take_fd(&m.net.listener_fd);
		res.fds[SPAWNED_FD_LOG] = cl_take_fd(&m.log[0]);
		*out = res;
		fail->step[0] = '\0';
	}
	making_done(&m);
	return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cloister-spawner - a checked plan in, a sandbox out.
 *
 * Privileged and tiny: it holds no secret, few descriptors and no state. What
 * it may be asked, and by whom, is the table `rules`; it decodes and checks the
 * plan once more. It is the parent of every pid 1 and reaps them; who cares
 * holds a pidfd.
 */
#include "sandbox/engine.h"
#include "wire/wire.h"

#include "base/programs.h"

#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static struct engine engine;
static struct loop *loop;
static uint32_t uid_base = 700000;
static uint32_t ahead = 2;		/* network namespaces kept ready */
static struct loop_timer ahead_timer;

/* What making a sandbox takes; all else is dropped at the start. */
static const unsigned kept_caps[] = {
	CAP_DAC_READ_SEARCH,	/* chdir into the tenant's private workspace */
	CAP_KILL, CAP_MKNOD, CAP_NET_ADMIN, CAP_SETGID, CAP_SETPCAP, CAP_SETUID, CAP_SYS_ADMIN,
	CAP_SYS_PTRACE, CAP_SYS_RESOURCE,
};

static int narrow(struct cl_err *err)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = { { 0, 0, 0 }, { 0, 0, 0 } }, have[2];
	struct rlimit none = { 0, 0 };

	if (syscall(SYS_capget, &h, have) < 0)
		return cl_fail(err, errno, "spawner: capget");
	for (size_t i = 0; i < CL_ARRAY_LEN(kept_caps); i++)
		d[kept_caps[i] / 32].permitted |= 1u << (kept_caps[i] % 32);
	for (unsigned cap = 0; cap < 64; cap++) {
		if (d[cap / 32].permitted & (1u << (cap % 32)))
			continue;
		if (prctl(PR_CAPBSET_DROP, (unsigned long)cap, 0, 0, 0) < 0 && errno != EINVAL)
			return cl_fail(err, errno, "spawner: bounding set");
	}
	/* a container may lack some, SYS_RESOURCE above all: the step that misses it says so */
	for (int i = 0; i < 2; i++)
		d[i].effective = d[i].permitted &= have[i].permitted;
	if (syscall(SYS_capset, &h, d) < 0)
		return cl_fail(err, errno, "spawner: capabilities");
	if (setrlimit(RLIMIT_CORE, &none) < 0)
		return cl_fail(err, errno, "spawner: RLIMIT_CORE");
	(void)umask(077);	/* cannot fail */
	return 0;
}

/* Some time after the last request: what the next ones would have to wait for. */
static void on_idle(struct loop_timer *t)
{
	struct cl_err err = { 0 };

	(void)t;
	if (engine_prepare(&engine, ahead, &err) < 0)	/* the next request tries again and says so */
		cl_log(CL_WARNING, "prepare-failed", "error=%s", cl_kvs(cl_err_str(&err)));
}

/* SPAWN from cloisterd: a malformed one is an attack and ends the channel. */
static int on_spawn(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds)
{
	const struct msg_spawn *m = &msg->spawn;
	struct engine_result res;
	struct engine_failure fail = { "" };
	struct cl_err err = { 0 };
	struct plan p;
	int r = plan_decode(m->plan, &p, &err);

	if (r || m->no == 0 || m->no > PLAN_NO_MAX)
		return -EBADMSG;
	if (loop_timer_set(loop, &ahead_timer, 100000, on_idle, NULL) < 0)
		return -ENOMEM;
	r = engine_spawn(&engine, m->no, uid_base + m->no, &p, fds, nfds, 0, &res, &fail, &err);
	if (r) {
		struct msg_spawn_failed f = { .no = m->no, .code = (uint32_t)-r,
					      .step = span_str(fail.step), .text = span_str(err.text) };

		cl_log(CL_ERROR, "spawn-failed", "tenant=%u step=%s error=%s", m->no, fail.step,
		       cl_kvs(cl_err_str(&err)));
		return chan_send(c, MSG_SPAWN_FAILED, seq, &f, NULL, 0);
	}
	struct msg_spawned s = { .no = m->no, .pid = (uint32_t)res.pid, .start_ticks = res.start_ticks };

	r = chan_send(c, MSG_SPAWNED, seq, &s, res.fds, SPAWNED_FD_COUNT);
	if (r)	/* nobody will ever hold it */
		(void)syscall(SYS_pidfd_send_signal, res.fds[SPAWNED_FD_PID], SIGKILL, NULL, 0);
	for (size_t i = 0; i < SPAWNED_FD_COUNT; i++)
		(void)cl_close(res.fds[i]);
	return r;
}

static const struct chan_rule rules[] = {
	{ MSG_SPAWN, CHAN_ANY, 0, on_spawn },
};

static void on_closed(struct chan *c)
{
	(void)c;
	loop_stop(loop);	/* cloisterd has gone; sandboxes live on and are adopted */
}

static void on_signal(struct loop *l, int signo, void *ctx)
{
	(void)ctx;
	while (signo == SIGCHLD && waitpid(-1, NULL, WNOHANG) > 0)
		;
	if (signo != SIGCHLD)
		loop_stop(l);
}

/* --name=value */
static bool option(const char *arg, const char *name, struct span *out)
{
	size_t n = strlen(name);

	if (strncmp(arg, name, n) != 0 || arg[n] != '=')
		return false;
	*out = span_str(arg + n + 1);
	return true;
}

/* cloister-init stands beside us unless said otherwise */
static int init_path(const char *said, char *buf, size_t n)
{
	ssize_t k;
	char *slash;

	if (said)
		return snprintf(buf, n, "%s", said) < (int)n ? 0 : -ENAMETOOLONG;
	k = readlink("/proc/self/exe", buf, n - 32);
	if (k < 0)
		return -errno;
	buf[k] = '\0';
	slash = strrchr(buf, '/');
	if (!slash)
		return -EINVAL;
	(void)snprintf(slash, 32, "/cloister-init");	/* these fit */
	if (faccessat(AT_FDCWD, buf, X_OK, 0) < 0)
		(void)snprintf(slash, 32, "/../init/cloister-init");	/* in the build tree */
	return 0;
}

static int setup(int argc, char **argv, struct cl_err *err)
{
	const char *init = NULL;
	char path[512];
	struct span v;
	int r;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--uid") == 0 || strcmp(argv[i], "--gid") == 0)
			i++;	/* for every program; this one stays root, narrowed */
		else if (option(argv[i], "--init", &v))
			init = v.p;
		else if (option(argv[i], "--ahead", &v)) {
			if (num_parse_u32(v, ENGINE_NETS_MAX, &ahead) < 0)
				return cl_fail(err, EINVAL, "spawner: argument '%s'", argv[i]);
		} else if (!option(argv[i], "--uid-base", &v) ||
			 num_parse_u32(v, UINT32_MAX - PLAN_NO_MAX - 1, &uid_base) < 0 ||
			 uid_base < ENGINE_UID_MIN)
			return cl_fail(err, EINVAL, "spawner: argument '%s'", argv[i]);
	}
	r = init_path(init, path, sizeof path);
	if (r)
		return cl_fail(err, -r, "spawner: path of cloister-init");
	if (geteuid() != 0)
		return cl_fail(err, EPERM, "spawner: must be root");
	/* given to every program; not needed here, and each descriptor costs at each start */
	if (syscall(SYS_close_range, PROGRAM_CONTROL_FD + 1, ~0u, 0) < 0)
		return cl_fail(err, errno, "spawner: close_range");
	r = narrow(err);
	return r ? r : engine_init(&engine, path, err);
}

int main(int argc, char **argv)
{
	static const int signals[] = { SIGCHLD, SIGTERM, SIGINT, 0 };
	static struct chan control;
	static const struct msg_ready ready;
	struct cl_err err = { 0 };

	cl_log_init("spawner");
	if (setup(argc, argv, &err) < 0 || loop_new(&loop, &err) < 0) {
		cl_log(CL_ERROR, "start-failed", "error=%s", cl_kvs(cl_err_str(&err)));
		return 1;
	}
	if (loop_signals(loop, signals, on_signal, NULL) < 0 ||
	    chan_init(&control, loop, PROGRAM_CONTROL_FD, ROLE_CLOISTERD, rules, CL_ARRAY_LEN(rules),
		      on_closed, NULL) < 0 ||
	    chan_send(&control, MSG_READY, 0, &ready, NULL, 0) < 0) {
		cl_log(CL_ERROR, "start-failed", "error=\"channel\"");
		return 1;
	}
	on_idle(&ahead_timer);
	return loop_run(loop) < 0;
}

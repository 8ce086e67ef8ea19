/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox-run - a throw-away sandbox with every wall, without the services:
 *   sandbox-run --image DIR [options] -- COMMAND [ARGUMENT…]
 * The command's output goes to our standard output; its status is our exit
 * code (125: the sandbox could not be made). Everything ends with this process.
 */
#include "sandbox/cgroup.h"
#include "sandbox/engine.h"
#include "sandbox/initproto.h"
#include "sandbox/sys.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define FAILED 125
#define RUN_NO 999999u

struct options {
	const char *image, *workspace, *config, *config_path, *init, *hostname;
	uint32_t uid, port, memory_mib, pids, fail_at, no_cgroup, selftest, timing;
	struct buf env, argv;
};

static volatile sig_atomic_t stop;

static void on_term(int signo)
{
	(void)signo;
	stop = 1;
}

/* ---- command line ------------------------------------------------------------------- */

static int usage(void)
{
	fprintf(stderr,
		"sandbox-run --image DIR [--workspace DIR] [--config FILE --config-path PATH]\n"
		"            [--env NAME=value]... [--port N] [--memory MiB] [--pids N] [--uid N]\n"
		"            [--hostname NAME] [--init PATH] [--no-cgroup] [--selftest] [--timing]\n"
		"            [--fail-step N] -- COMMAND [ARGUMENT...]\n"
		"  --workspace   a directory that belongs to --uid; else an empty one in memory\n"
		"  --selftest    print what the walls look like from inside\n"
		"  --fail-step   1 to %u: let that step fail (to see that nothing is left)\n",
		engine_steps());
	return FAILED;
}

static int add_string(struct buf *b, const char *s)
{
	return buf_add(b, s, strlen(s) + 1);
}

static bool parse(int argc, char **argv, struct options *o)
{
	const struct { const char *name; const char **text; uint32_t *number, *flag; } rows[] = {
		{ "--image", &o->image, NULL, NULL }, { "--workspace", &o->workspace, NULL, NULL },
		{ "--config", &o->config, NULL, NULL },
		{ "--config-path", &o->config_path, NULL, NULL }, { "--init", &o->init, NULL, NULL },
		{ "--hostname", &o->hostname, NULL, NULL }, { "--uid", NULL, &o->uid, NULL },
		{ "--port", NULL, &o->port, NULL }, { "--memory", NULL, &o->memory_mib, NULL },
		{ "--pids", NULL, &o->pids, NULL }, { "--fail-step", NULL, &o->fail_at, NULL },
		{ "--no-cgroup", NULL, NULL, &o->no_cgroup },
		{ "--selftest", NULL, NULL, &o->selftest }, { "--timing", NULL, NULL, &o->timing },
	};
	int i;

	for (i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
		size_t k = 0;

		if (strcmp(argv[i], "--env") == 0 && i + 1 < argc) {
			if (add_string(&o->env, argv[++i]) < 0)
				return false;
			continue;
		}
		while (k < CL_ARRAY_LEN(rows) && strcmp(argv[i], rows[k].name) != 0)
			k++;
		if (k == CL_ARRAY_LEN(rows) || (!rows[k].flag && i + 1 >= argc))
			return false;
		if (rows[k].flag)
			*rows[k].flag = 1;
		else if (rows[k].text)
			*rows[k].text = argv[++i];
		else if (num_parse_u32(span_str(argv[++i]), UINT32_MAX, rows[k].number) < 0)
			return false;
	}
	for (i++; i < argc; i++)
		if (add_string(&o->argv, argv[i]) < 0)
			return false;
	return o->image && o->argv.n && !o->config == !o->config_path;
}

/* ---- what the sandbox gets ------------------------------------------------------------ */

static int open_image(const char *path, struct cl_err *err)
{
	CL_CLOSE int dir = cl_open_dir(path, err);
	CL_CLOSE int root = -1;

	if (dir < 0)
		return dir;
	root = cl_open_beneath(dir, "rootfs", O_RDONLY | O_DIRECTORY, 0);
	return spawn_tree(root >= 0 ? root : dir, true, err);
}

static int open_workspace(const struct options *o, struct cl_err *err)
{
	CL_CLOSE int fs = -1;
	char uid[16];
	int r;

	if (o->workspace) {
		CL_CLOSE int dir = cl_open_dir(o->workspace, err);

		return dir < 0 ? dir : spawn_tree(dir, false, err);
	}
	(void)snprintf(uid, sizeof uid, "%u", o->uid);	/* fits */
	fs = sys_fsopen("tmpfs");
	r = fs < 0 ? fs : sys_fsconfig_str(fs, "uid", uid);
	if (r == 0)
		r = sys_fsconfig_str(fs, "gid", uid);
	if (r == 0)
		r = sys_fsconfig_str(fs, "mode", "0700");
	if (r == 0)
		r = sys_fsconfig_str(fs, "size", "268435456");
	if (r == 0)
		r = sys_fsconfig_create(fs);
	if (r == 0)
		r = sys_fsmount(fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
	return r < 0 ? cl_fail(err, -r, "workspace in memory") : r;
}

static int open_config(const char *path, struct cl_err *err)
{
	CL_BUF struct buf b;
	CL_CLOSE int fd = -1;
	int r;

	buf_init(&b, 1 << 20);
	r = cl_read_file(AT_FDCWD, path, &b, err);
	if (r == -EXDEV) {	/* an absolute path of the operator */
		CL_CLOSE int root = cl_open_dir("/", err);

		r = root < 0 ? root : cl_read_file(root, path + strspn(path, "/"), &b, err);
	}
	if (r)
		return r;
	fd = memfd_create("config", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return cl_fail(err, errno, "config: memfd");
	r = cl_write_full(fd, b.p, b.n);
	if (r == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
		r = -errno;
	return r ? cl_fail(err, -r, "config: memfd") : cl_take_fd(&fd);
}

static void make_plan(const struct options *o, struct plan *p)
{
	*p = (struct plan){
		.flags = PLAN_THROWAWAY, .argv = buf_span(&o->argv), .env = buf_span(&o->env),
		.image = SPAN("throwaway"), .hostname = span_str(o->hostname),
	};
	plan_limits_standard(&p->limits);
	if (o->memory_mib)
		p->limits.memory_bytes = (uint64_t)o->memory_mib << 20;
	if (o->pids)
		p->limits.pids = o->pids;
	if (o->port) {
		p->ports[0] = (uint16_t)o->port;
		p->nports = 1;
	}
	if (o->config_path) {
		p->config_path = span_str(o->config_path);
		/* attested by who sealed it: here nobody asks */
		p->config_digest = SPAN("0000000000000000000000000000000000000000000000000000000000000000");
	}
}

/* ---- its life --------------------------------------------------------------------------- */

static int send_type(int fd, uint32_t type)
{
	struct init_msg m = { .magic = INIT_MAGIC, .type = type };

	return send(fd, &m, sizeof m, MSG_NOSIGNAL) == (ssize_t)sizeof m ? 0 : -errno;
}

/* Return: 0 go on, 1 end of file, -errno a breach; *status once the agent has ended */
static int on_control(const struct options *o, int fd, int *status)
{
	static union {
		struct init_msg m;
		char b[sizeof(struct init_msg) + INIT_EVIDENCE_MAX];
	} u;
	ssize_t k = recv(fd, u.b, sizeof u.b, MSG_DONTWAIT);

	if (k < 0)
		return errno == EAGAIN ? 0 : -errno;
	if (k == 0)
		return 1;
	if (!init_msg_ok(&u.m, (size_t)k, true))
		return -EBADMSG;
	if (u.m.type == INIT_SELFTEST) {
		if (o->selftest || u.m.b)
			fprintf(stderr, "%.*s", (int)u.m.len, u.b + sizeof u.m);
		if (u.m.b || (u.m.a & SELFTEST_REQUIRED) != SELFTEST_REQUIRED) {
			fprintf(stderr, "sandbox-run: a wall is missing\n");
			return -EPERM;
		}
		return send_type(fd, INIT_START);
	}
	if (u.m.type == INIT_STARTED)
		*status = 137;	/* until it says otherwise: killed as a whole */
	if (u.m.type == INIT_EXITED)
		*status = (int)(u.m.a & 0xff);
	return 0;
}

static bool copy_log(int fd)
{
	char buf[16384];
	ssize_t k = read(fd, buf, sizeof buf);

	return k > 0 && cl_write_full(1, buf, (size_t)k) == 0;
}

static int live(const struct options *o, const struct engine_result *res)
{
	int status = FAILED, r = 0;
	bool over = false, silent = false;

	while (!over && !stop) {
		struct pollfd p[3] = { { .fd = res->fds[SPAWNED_FD_LOG], .events = POLLIN },
				       { .fd = silent ? -1 : res->fds[SPAWNED_FD_CONTROL],
					 .events = POLLIN },
				       { .fd = res->fds[SPAWNED_FD_PID], .events = POLLIN } };

		if (poll(p, 3, -1) < 0)
			continue;	/* a signal: judged by the loop */
		if (p[1].revents & POLLIN) {
			r = on_control(o, p[1].fd, &status);
			if (r < 0)
				break;
			silent = r == 1;
		}
		if (p[0].revents & POLLIN)
			(void)copy_log(p[0].fd);
		over = p[2].revents && !(p[1].revents & POLLIN);
	}
	(void)syscall(SYS_pidfd_send_signal, res->fds[SPAWNED_FD_PID], SIGKILL, NULL, 0);
	(void)waitpid(res->pid, NULL, 0);	/* our own child, killed */
	while (copy_log(res->fds[SPAWNED_FD_LOG]))
		;
	return r < 0 || stop ? FAILED : status;
}

/* Everything between the cgroup's creation and its removal. */
static int run(const struct options *o, const struct plan *p, int *fds, size_t nfds, struct cl_err *err)
{
	static struct engine e;
	struct engine_failure fail = { "" };
	struct engine_result res;
	int64_t t0, t1;
	int r = engine_init(&e, o->init, err);

	if (r)
		return r;
	t0 = cl_mono_us();
	r = engine_spawn(&e, RUN_NO, o->uid, p, fds, nfds, o->fail_at, &res, &fail, err);
	t1 = cl_mono_us();
	if (r)
		return cl_wrap(err, "step '%s'", fail.step);
	if (o->timing)
		fprintf(stderr, "sandbox-run: pid 1 after %lld us\n", (long long)(t1 - t0));
	r = live(o, &res);
	for (size_t i = 0; i < SPAWNED_FD_COUNT; i++)
		(void)cl_close(res.fds[i]);
	return r;
}

static int with_cgroup(const struct options *o, const struct plan *p, int *fds, size_t nfds,
		       struct cl_err *err)
{
	struct cgroup_host host;
	struct cgroup cg;
	char base[32];
	int r, n;

	if (o->no_cgroup)
		return run(o, p, fds, nfds, err);
	(void)snprintf(base, sizeof base, "cloister-run-%d", getpid());	/* fits */
	r = cgroup_host_open(&host, base, err);
	if (r)
		return r;
	r = cgroup_create(&host, "sandbox", &p->limits, &cg, err);
	if (r == 0) {
		n = cgroup_join_fds(&cg, fds + nfds, SPAWN_CGROUPS_MAX, err);
		r = n < 0 ? n : run(o, p, fds, nfds + (size_t)n, err);
		for (int i = 0; i < n; i++)
			(void)cl_close(fds[nfds + (size_t)i]);
		(void)cgroup_kill(&cg);	/* pid 1 is gone; nothing should be left */
		cgroup_done(&cg);
		if (cgroup_remove(&host, "sandbox", 2000) < 0)
			fprintf(stderr, "sandbox-run: a control group was left behind\n");
	}
	(void)cgroup_host_remove(&host);	/* said above when it is not empty */
	cgroup_host_done(&host);
	return r;
}

int main(int argc, char **argv)
{
	struct options o = { .uid = 700000 + RUN_NO, .hostname = "throwaway" };
	int fds[3 + SPAWN_CGROUPS_MAX], r;
	struct sigaction sa = { .sa_handler = on_term };
	struct cl_err err = { 0 };
	char init[512] = "";
	size_t nfds = 2;
	struct plan p;

	buf_init(&o.env, PLAN_ENV_MAX);
	buf_init(&o.argv, PLAN_ARGV_MAX);
	if (!parse(argc, argv, &o))
		return usage();
	if (o.env.n == 0 && (add_string(&o.env, "PATH=/opt/agent/bin:/usr/local/bin:/usr/bin:/bin") < 0 ||
			     add_string(&o.env, "HOME=/workspace") < 0 || add_string(&o.env, "LANG=C.UTF-8") < 0))
		return usage();
	if (!o.init) {
		ssize_t k = readlink("/proc/self/exe", init, sizeof init - 64);
		char *slash = k > 0 ? strrchr(init, '/') : NULL;

		/* in the build tree it is in a folder beside ours; installed, in the same */
		if (slash && snprintf(slash, 64, "/cloister-init") > 0 && faccessat(AT_FDCWD, init, X_OK, 0) < 0)
			(void)snprintf(slash, 64, "/../init/cloister-init");	/* fits */
		o.init = init;
	}
	(void)sigaction(SIGTERM, &sa, NULL);	/* cannot fail for these two */
	(void)sigaction(SIGINT, &sa, NULL);
	make_plan(&o, &p);
	r = fds[0] = open_image(o.image, &err);
	if (r >= 0)
		r = fds[1] = open_workspace(&o, &err);
	if (r >= 0 && o.config) {
		r = fds[2] = open_config(o.config, &err);
		nfds = 3;
	}
	if (r >= 0)
		r = with_cgroup(&o, &p, fds, nfds, &err);
	if (r < 0) {
		fprintf(stderr, "sandbox-run: %s\n", cl_err_str(&err));
		r = FAILED;
	}
	buf_done(&o.env);
	buf_done(&o.argv);
	return r;
}

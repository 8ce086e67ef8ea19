/* SPDX-License-Identifier: Apache-2.0 */
/*
 * life - a sandbox's life as cloisterd sees it: self-test, start, exec with
 * and without a terminal, signals, what init refuses, adoption by pidfd, end;
 * two sandboxes of one image that must not notice each other; many in a row
 * with nothing left. Needs root; skipped (77) without.
 *   life INIT COMMAND     COMMAND is this program, static, for what runs inside
 */
#include "sandbox/cgroup.h"
#include "sandbox/engine.h"
#include "sandbox/initproto.h"

#include <dirent.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define UID0 1699000u
#define CHECK(c)										\
	do {											\
		if (!(c)) {									\
			fprintf(stderr, "FAILED line %d: %s (errno %d)\n", __LINE__, #c, errno); \
			exit(1);								\
		}										\
	} while (0)

struct box {
	struct cgroup cg;
	struct engine_result res;
	char name[32];
};

static struct engine engine;
static struct cgroup_host host;
static char image[64];
static int trees[64][2], next_tree, ntrees;
/* of the host, opened before its mounts are left */
static int null_fd, master, slave;

/* ---- what runs inside --------------------------------------------------------------- */

static int inside(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[2] : "";
	struct winsize w;

	if (strcmp(what, "wait") == 0) {
		printf("up\n");
		fflush(stdout);
		for (;;)
			pause();
	}
	if (strcmp(what, "env") == 0)
		return printf("A=%s B=%s\n", getenv("A"), getenv("B")) < 0 || fflush(stdout) ? 1 : 9;
	if (strcmp(what, "tty") == 0) {
		int t = open("/dev/tty", O_RDWR);

		return isatty(0) && t >= 0 && ioctl(0, TIOCGWINSZ, &w) == 0 && w.ws_row == 33 ? 11 : 1;
	}
	if (strcmp(what, "orphans") == 0) {	/* init has to reap what nobody else does */
		for (int i = 0; i < 50; i++)
			if (fork() == 0) {
				if (fork() == 0)
					usleep(1000);
				_exit(0);
			}
		while (wait(NULL) > 0)
			;
		int n = 0;

		for (int tries = 0; tries < 100; tries++) {	/* init may have to wait for a processor */
			DIR *d = opendir("/proc");
			struct dirent *e;

			for (n = 0; d && (e = readdir(d));)
				n += e->d_name[0] >= '0' && e->d_name[0] <= '9';
			if (d)
				closedir(d);
			if (n <= 3)
				break;
			usleep(50000);
		}
		return n <= 3 ? 12 : 1;	/* the agent, ourselves; init is hidden */
	}
	if (strcmp(what, "lock") == 0) {
		int fd = open("/bin/life", O_RDONLY), in = inotify_init1(IN_NONBLOCK);

		if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 || inotify_add_watch(in, "/bin/life", IN_OPEN) < 0)
			return 1;
		printf("locked\n");
		fflush(stdout);
		char ev[512];

		for (int i = 0; i < 100; i++) {	/* one second for the neighbour to be noticed in */
			if (read(in, ev, sizeof ev) > 0)
				return 2;
			usleep(10000);
		}
		return 13;
	}
	if (strcmp(what, "touch") == 0) {	/* the neighbour: must not find the lock */
		int fd = open("/bin/life", O_RDONLY);

		return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 ? 14 : 1;
	}
	return 2;
}

/* ---- helpers ---------------------------------------------------------------------------- */

static void make_image(const char *self)
{
	static const char *const dirs[] = { "bin", "proc", "dev", "tmp", "workspace", "etc" };
	char cmd[300], path[128];

	(void)snprintf(image, sizeof image, "/tmp/cloister-life.%d", getpid());
	CHECK(mkdir(image, 0755) == 0);
	for (size_t i = 0; i < CL_ARRAY_LEN(dirs); i++) {
		(void)snprintf(path, sizeof path, "%s/%s", image, dirs[i]);
		CHECK(mkdir(path, 0755) == 0);
	}
	(void)snprintf(cmd, sizeof cmd, "%s/bin/life", image);
	CL_BUF struct buf b;
	struct cl_err err = { 0 };
	int from = open(self, O_RDONLY | O_CLOEXEC), to = open(cmd, O_WRONLY | O_CREAT | O_EXCL, 0755);
	ssize_t k;

	buf_init(&b, 0);
	CHECK(from >= 0 && to >= 0);
	while ((k = read(from, cmd, sizeof cmd)) > 0)
		CHECK(cl_write_full(to, cmd, (size_t)k) == 0);
	close(from);
	close(to);
	int img = cl_open_dir(image, &err), work = cl_open_dir(image, &err);

	CHECK(img >= 0 && work >= 0);
	/* before engine_init(): trees are of the host's mount namespace */
	for (ntrees = 0; ntrees < (int)CL_ARRAY_LEN(trees); ntrees++) {
		trees[ntrees][0] = spawn_tree(img, true, &err);
		(void)snprintf(path, sizeof path, "%s/workspace", image);
		int w = cl_open_dir(path, &err);

		trees[ntrees][1] = spawn_tree(w, false, &err);
		close(w);
		CHECK(trees[ntrees][0] >= 0 && trees[ntrees][1] >= 0);
	}
	(void)snprintf(path, sizeof path, "%s/workspace", image);
	CHECK(chown(path, UID0, UID0) == 0);
	close(img);
	close(work);
}

static struct init_msg get(struct box *b, uint32_t type)
{
	static union {
		struct init_msg m;
		char b[sizeof(struct init_msg) + INIT_EVIDENCE_MAX];
	} u;
	struct pollfd p = { .fd = b->res.fds[SPAWNED_FD_CONTROL], .events = POLLIN };

	CHECK(poll(&p, 1, 20000) == 1);
	ssize_t k = recv(p.fd, u.b, sizeof u.b, 0);

	CHECK(k > 0 && init_msg_ok(&u.m, (size_t)k, true));
	if (u.m.type != type || (type == INIT_SELFTEST && u.m.b))
		fprintf(stderr, "%.*s\n", (int)u.m.len, u.b + sizeof u.m);
	CHECK(u.m.type == type);
	return u.m;
}

static void put(struct box *b, uint32_t type, uint32_t id, uint64_t a)
{
	struct init_msg m = { .magic = INIT_MAGIC, .type = type, .id = id, .a = a };

	CHECK(send(b->res.fds[SPAWNED_FD_CONTROL], &m, sizeof m, MSG_NOSIGNAL) == (ssize_t)sizeof m);
}

static void start(struct box *b, const char *name)
{
	static const char argv[] = "/bin/life\0inside\0wait";
	struct plan p = { .flags = PLAN_THROWAWAY, .argv = { argv, sizeof argv },
			  .env = SPAN("A=1\0B=2\0"), .image = SPAN("life"), .hostname = SPAN("life") };
	int fds[2 + SPAWN_CGROUPS_MAX] = { trees[next_tree][0], trees[next_tree][1] }, n;
	struct engine_failure fail;
	struct cl_err err = { 0 };
	char text[8];

	next_tree++;
	(void)snprintf(b->name, sizeof b->name, "%s", name);
	plan_limits_standard(&p.limits);
	CHECK(cgroup_create(&host, name, &p.limits, &b->cg, &err) == 0);
	n = cgroup_join_fds(&b->cg, fds + 2, SPAWN_CGROUPS_MAX, &err);
	CHECK(n > 0);
	if (engine_spawn(&engine, 1, UID0, &p, fds, 2 + (size_t)n, 0, &b->res, &fail, &err) < 0) {
		fprintf(stderr, "step %s: %s\n", fail.step, cl_err_str(&err));
		CHECK(false);
	}
	for (int i = 0; i < 2 + n; i++)
		close(fds[i]);
	struct init_msg m = get(b, INIT_SELFTEST);

	CHECK(m.b == 0 && (m.a & SELFTEST_REQUIRED) == SELFTEST_REQUIRED);
	put(b, INIT_START, 0, 0);
	CHECK(get(b, INIT_STARTED).a > 1);
	struct pollfd lp = { .fd = b->res.fds[SPAWNED_FD_LOG], .events = POLLIN };

	CHECK(poll(&lp, 1, 20000) == 1 && read(lp.fd, text, sizeof text) == 3 && memcmp(text, "up\n", 3) == 0);
	CHECK(cgroup_has(&b->cg, b->res.pid) == 1);
}

static void end(struct box *b)
{
	CHECK(cgroup_kill(&b->cg) == 0);
	CHECK(waitpid(b->res.pid, NULL, 0) == b->res.pid);
	for (int i = 0; i < SPAWNED_FD_COUNT; i++)
		close(b->res.fds[i]);
	cgroup_done(&b->cg);
	CHECK(cgroup_remove(&host, b->name, 5000) == 0);
}

static void send_exec(struct box *b, uint32_t id, bool tty, struct span argv, struct span env, const int *fds)
{
	struct init_msg m = { .magic = INIT_MAGIC, .type = INIT_EXEC, .id = id,
			      .len = (uint32_t)(argv.n + env.n), .a = tty, .b = argv.n };
	struct iovec iov[3] = { { &m, sizeof m }, { (void *)(uintptr_t)argv.p, argv.n },
				{ (void *)(uintptr_t)env.p, env.n } };
	union {
		char b[CMSG_SPACE(3 * sizeof(int))];
		struct cmsghdr align;
	} ctl = { { 0 } };
	struct msghdr mh = { .msg_iov = iov, .msg_iovlen = 3, .msg_control = ctl.b, .msg_controllen = sizeof ctl.b };
	struct cmsghdr *c = CMSG_FIRSTHDR(&mh);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(3 * sizeof(int));
	memcpy(CMSG_DATA(c), fds, 3 * sizeof(int));
	CHECK(sendmsg(b->res.fds[SPAWNED_FD_CONTROL], &mh, MSG_NOSIGNAL) > 0);
}

#define ARGV(what) SPAN("/bin/life\0inside\0" what "\0")

static int exec_plain(struct box *b, uint32_t id, struct span argv, struct span env, char *out, size_t n)
{
	int p[2], fds[3];

	CHECK(pipe2(p, O_CLOEXEC) == 0);
	fds[0] = null_fd;
	fds[1] = fds[2] = p[1];
	send_exec(b, id, false, argv, env, fds);
	close(p[1]);
	size_t at = 0;
	ssize_t k;

	while (out && at < n - 1 && (k = read(p[0], out + at, n - 1 - at)) > 0)
		at += (size_t)k;
	if (out)
		out[at] = '\0';
	struct init_msg m = get(b, INIT_DONE);

	close(p[0]);
	CHECK(m.id == id);
	return (int)m.a;
}

/* ---- what is shown ------------------------------------------------------------------------ */

static void exec_and_signals(struct box *b)
{
	char out[256];
	int fds[3];

	/* the agent's environment, changed by the request's */
	CHECK(exec_plain(b, 1, ARGV("env"), SPAN("B=two\0"), out, sizeof out) == 9);
	CHECK(strcmp(out, "A=1 B=two\n") == 0);
	CHECK(exec_plain(b, 2, SPAN("/bin/nothing\0"), SPAN(""), NULL, 0) == 127);
	CHECK(exec_plain(b, 3, ARGV("orphans"), SPAN(""), NULL, 0) == 12);

	fds[0] = fds[1] = fds[2] = slave;
	send_exec(b, 4, true, ARGV("tty"), SPAN(""), fds);
	CHECK(get(b, INIT_DONE).a == 11);

	/* hang up a terminal's program by signal: 128 + 15 */
	send_exec(b, 5, true, ARGV("wait"), SPAN(""), fds);
	usleep(100000);
	put(b, INIT_SIGNAL, 5, SIGTERM);
	CHECK(get(b, INIT_DONE).a == 128 + SIGTERM);

	/* what init refuses: an id that is not there, no signal, an id of 0, garbage for argv */
	put(b, INIT_SIGNAL, 77, SIGTERM);
	CHECK(get(b, INIT_REFUSED).id == 77);
	put(b, INIT_SIGNAL, 0, 0);
	CHECK(get(b, INIT_REFUSED).id == 0);
	put(b, INIT_START, 0, 0);
	(void)get(b, INIT_REFUSED);
	put(b, INIT_EXEC, 9, 0);
	CHECK(get(b, INIT_REFUSED).id == 9);
}

static void adopt(struct box *b)
{
	int pidfd = (int)syscall(SYS_pidfd_open, b->res.pid, 0);
	int control = (int)syscall(SYS_pidfd_getfd, pidfd, INIT_FD_CONTROL_PEER, 0);
	int log = (int)syscall(SYS_pidfd_getfd, pidfd, INIT_FD_LOG, 0);
	int listener = (int)syscall(SYS_pidfd_getfd, pidfd, INIT_FD_LISTENER, 0);
	int accepting = 0;
	socklen_t n = sizeof accepting;

	CHECK(pidfd >= 0 && control >= 0 && log >= 0 && listener >= 0);
	CHECK(getsockopt(listener, SOL_SOCKET, SO_ACCEPTCONN, &accepting, &n) == 0 && accepting);
	/* the old ends go, as with a cloisterd that has died; the new ones do the same work */
	close(b->res.fds[SPAWNED_FD_CONTROL]);
	close(b->res.fds[SPAWNED_FD_LOG]);
	close(b->res.fds[SPAWNED_FD_LISTENER]);
	close(b->res.fds[SPAWNED_FD_PID]);
	b->res.fds[SPAWNED_FD_CONTROL] = control;
	b->res.fds[SPAWNED_FD_LOG] = log;
	b->res.fds[SPAWNED_FD_LISTENER] = listener;
	b->res.fds[SPAWNED_FD_PID] = pidfd;
	CHECK(exec_plain(b, 20, ARGV("env"), SPAN(""), NULL, 0) == 9);
}

static void freeze(struct box *b)
{
	struct cgroup_stats s;

	CHECK(cgroup_freeze(&b->cg, true) == 0);
	CHECK(cgroup_freeze(&b->cg, false) == 0);
	CHECK(cgroup_stats(&b->cg, &s) == 0 && s.pids >= 2 && s.memory_bytes > 0);
	CHECK(exec_plain(b, 30, ARGV("env"), SPAN(""), NULL, 0) == 9);
}

static void neighbours(struct box *a, struct box *b)
{
	int p[2], fds[3];
	char text[16];

	CHECK(pipe2(p, O_CLOEXEC) == 0);
	fds[0] = fds[1] = fds[2] = p[1];
	send_exec(a, 40, false, ARGV("lock"), SPAN(""), fds);
	close(p[1]);
	CHECK(read(p[0], text, sizeof text) == 7);	/* "locked" */
	CHECK(exec_plain(b, 41, ARGV("touch"), SPAN(""), NULL, 0) == 14);
	struct init_msg m = get(a, INIT_DONE);

	if (m.a != 13)
		fprintf(stderr, "status %d\n", (int)m.a);
	CHECK(m.a == 13);
	close(p[0]);
}

/* STOP: SIGTERM to the agent; init says how it ended, ends the rest and goes. */
static void stop(struct box *b)
{
	struct pollfd p = { .fd = b->res.fds[SPAWNED_FD_PID], .events = POLLIN };

	put(b, INIT_STOP, 0, 0);
	CHECK(get(b, INIT_EXITED).a == 128 + SIGTERM);
	CHECK(poll(&p, 1, 20000) == 1);
	end(b);
}

static int count_fds(void)
{
	DIR *d = opendir("/dev/fd");
	int n = 0;

	if (!d) {	/* the zygote has no /dev: ask the kernel */
		for (int i = 0; i < 1024; i++)
			n += fcntl(i, F_GETFD) >= 0;
		return n;
	}
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void many(void)
{
	struct box b[8];
	int before = 0;

	for (int round = 0; round < 4; round++) {
		for (int i = 0; i < 8; i++) {
			char name[16];

			(void)snprintf(name, sizeof name, "many%d", i);
			start(&b[i], name);
		}
		for (int i = 0; i < 8; i++)
			end(&b[i]);
		int now = count_fds() + 2 * next_tree;	/* each start uses up two trees */

		if (round == 0)
			before = now;
		CHECK(now == before);
	}
}

static int drop_group(void *ctx, const char *name)
{
	(void)ctx;
	(void)cgroup_remove(&host, name, 2000);	/* what stays is seen by cgroup_host_remove */
	return 0;
}

int main(int argc, char **argv)
{
	struct cl_err err = { 0 };
	struct box a, b;
	char base[40];

	if (argc > 1 && strcmp(argv[1], "inside") == 0)
		return inside(argc, argv);
	if (argc < 3)
		return 2;
	if (geteuid() != 0)
		return 77;
	(void)snprintf(base, sizeof base, "cloister-life-%d", getpid());
	const struct winsize w33 = { .ws_row = 33, .ws_col = 99 };

	null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	CHECK(null_fd >= 0 && openpty(&master, &slave, NULL, NULL, &w33) == 0);
	CHECK(fchown(slave, UID0, UID0) == 0);
	make_image(argv[2]);
	CHECK(cgroup_host_open(&host, base, &err) == 0);
	/* engine_init() leaves this mount namespace: a child of it does the work */
	pid_t worker = fork();

	if (worker == 0) {
		if (engine_init(&engine, argv[1], &err) < 0)
			fprintf(stderr, "%s\n", cl_err_str(&err));
		CHECK(err.code == 0);
		start(&a, "a");
		start(&b, "b");
		exec_and_signals(&a);
		adopt(&a);
		freeze(&a);
		neighbours(&a, &b);
		stop(&a);
		end(&b);
		many();
		engine_done(&engine);
		_exit(0);
	}
	int w = 0;

	CHECK(waitpid(worker, &w, 0) == worker);
	for (int i = 0; i < ntrees; i++) {
		close(trees[i][0]);
		close(trees[i][1]);
	}
	(void)cgroup_list(&host, drop_group, NULL);	/* only when the worker failed is there any */
	int gone = cgroup_host_remove(&host);
	char rm[100];

	(void)snprintf(rm, sizeof rm, "%s", image);
	pid_t r = fork();

	if (r == 0)
		execlp("rm", "rm", "-rf", rm, (char *)NULL);
	waitpid(r, NULL, 0);
	CHECK(WIFEXITED(w) && WEXITSTATUS(w) == 0);
	CHECK(gone == 0);
	printf("life: all held\n");
	return 0;
}

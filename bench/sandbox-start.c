/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox-start - how long a sandbox takes, by the engine that the spawner runs.
 *   sandbox-start ROUNDS IMAGE INIT COMMAND   a line a round: start pid1 teardown, in us
 *   sandbox-start --stamp                     what COMMAND is: says when its first instruction ran
 *   sandbox-start --peer ROUNDS COMMAND...    the same of a command that makes a sandbox and runs COMMAND
 *                                             --stamp in it: start, start again, teardown
 *   sandbox-start --steps ROUNDS IMAGE INIT   the median time until each step, in us
 * With SANDBOX_START_AHEAD set the network namespace is made before the clock runs.
 * start: from the request (trees cloned, control group made and limited) to the
 * first instruction of the command, self-test of every wall included. pid1: to the exec of
 * pid 1. teardown: from the kill until nothing is left, control group included.
 */
#include "sandbox/cgroup.h"
#include "sandbox/engine.h"
#include "sandbox/initproto.h"

#include <poll.h>
#include <spawn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS_MAX 400

struct trees {
	int rootfs, workspace;
	int64_t took_us;
};

static int64_t now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);	/* cannot fail */
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static _Noreturn void die(const char *what, const struct cl_err *err)
{
	fprintf(stderr, "sandbox-start: %s: %s\n", what, err ? cl_err_str(err) : strerror(errno));
	exit(1);
}

static struct trees clone_trees(int image, int work)
{
	int64_t t0 = cl_mono_us();
	struct cl_err err = { 0 };
	struct trees t = { spawn_tree(image, true, &err), spawn_tree(work, false, &err), 0 };

	if (t.rootfs < 0 || t.workspace < 0)
		die("trees", &err);
	t.took_us = cl_mono_us() - t0;
	return t;
}

/* Through the self-test to the command's own word: when it ran, CLOCK_MONOTONIC in ns. */
static int64_t first_instruction(const struct engine_result *res)
{
	static char buf[sizeof(struct init_msg) + INIT_EVIDENCE_MAX];
	struct init_msg start = { .magic = INIT_MAGIC, .type = INIT_START }, m;
	struct pollfd p = { .fd = res->fds[SPAWNED_FD_CONTROL], .events = POLLIN };
	char text[64];
	ssize_t k;

	if (poll(&p, 1, 5000) != 1 || (k = recv(p.fd, buf, sizeof buf, 0)) < (ssize_t)sizeof m)
		die("self-test", NULL);
	memcpy(&m, buf, sizeof m);
	if (m.type != INIT_SELFTEST || m.b)
		die("a wall is missing", NULL);
	if (send(p.fd, &start, sizeof start, 0) < 0)
		die("start", NULL);
	p.fd = res->fds[SPAWNED_FD_LOG];
	if (poll(&p, 1, 5000) != 1 || (k = read(p.fd, text, sizeof text - 1)) <= 0)
		die("no word of the command", NULL);
	text[k] = '\0';
	return strtoll(text, NULL, 10);
}

struct bench {
	struct engine engine;
	struct cgroup_host host;
	struct plan plan;
};

static void make_group(struct bench *b, struct cgroup *cg, int *fds, size_t *nfds)
{
	struct cl_err err = { 0 };
	int n;

	if (cgroup_create(&b->host, "one", &b->plan.limits, cg, &err) < 0)
		die("group", &err);
	n = cgroup_join_fds(cg, fds + 2, SPAWN_CGROUPS_MAX, &err);
	if (n < 0)
		die("group", &err);
	*nfds = 2 + (size_t)n;
}

static void drop_group(struct bench *b, struct cgroup *cg, int *fds, size_t nfds)
{
	for (size_t i = 0; i < nfds; i++)
		(void)close(fds[i]);	/* nothing was written to a file */
	cgroup_done(cg);
	if (cgroup_remove(&b->host, "one", 5000) < 0)
		die("group stays", NULL);
}

/* @ahead: network namespaces are made before the clock runs, as an idle spawner does */
static void one_round(struct bench *b, struct trees t, bool ahead)
{
	int fds[2 + SPAWN_CGROUPS_MAX] = { t.rootfs, t.workspace };
	struct engine_failure fail;
	struct engine_result res;
	struct cl_err err = { 0 };
	struct cgroup cg;
	size_t nfds;
	int64_t t0, t1, t2, t3;

	if (ahead && engine_prepare(&b->engine, 1, &err) < 0)
		die("network namespace", &err);
	t0 = now_ns();
	make_group(b, &cg, fds, &nfds);
	if (engine_spawn(&b->engine, 1, 1699997, &b->plan, fds, nfds, 0, &res, &fail, &err) < 0)
		die(fail.step, &err);
	t1 = now_ns();
	t2 = first_instruction(&res);
	t3 = now_ns();
	if (cgroup_kill(&cg) < 0 || waitpid(res.pid, NULL, 0) < 0)
		die("kill", NULL);
	for (int i = 0; i < SPAWNED_FD_COUNT; i++)
		(void)close(res.fds[i]);	/* nothing was written to a file */
	drop_group(b, &cg, fds, nfds);
	printf("%lld %lld %lld\n", (long long)((t2 - t0) / 1000 + t.took_us),
	       (long long)((t1 - t0) / 1000 + t.took_us), (long long)((now_ns() - t3) / 1000));
}

/* COMMAND makes the sandbox: from its spawn to the stamp, from the stamp to its end. */
static void peer_round(char **cmd)
{
	int p[2];
	char text[64];
	size_t at = 0;
	ssize_t k;
	int64_t t0, t2;
	pid_t pid;
	posix_spawn_file_actions_t fa;
	int w = 0;

	if (pipe(p) < 0 || posix_spawn_file_actions_init(&fa) || posix_spawn_file_actions_adddup2(&fa, p[1], 1) ||
	    posix_spawn_file_actions_addclose(&fa, p[0]) || posix_spawn_file_actions_addclose(&fa, p[1]))
		die("pipe", NULL);
	t0 = now_ns();
	if (posix_spawnp(&pid, cmd[0], &fa, NULL, cmd, environ) != 0)
		die(cmd[0], NULL);
	(void)close(p[1]);	/* the child has its own */
	while (at < sizeof text - 1 && (k = read(p[0], text + at, sizeof text - 1 - at)) > 0)
		at += (size_t)k;
	text[at] = '\0';
	(void)close(p[0]);	/* read only */
	if (waitpid(pid, &w, 0) != pid || !WIFEXITED(w) || WEXITSTATUS(w) != 0 || at == 0)
		die(cmd[0], NULL);
	(void)posix_spawn_file_actions_destroy(&fa);
	t2 = strtoll(text, NULL, 10);
	printf("%lld %lld %lld\n", (long long)((t2 - t0) / 1000), (long long)((t2 - t0) / 1000),
	       (long long)((now_ns() - t2) / 1000));
}

static int by_size(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

/* Each step is made to fail in turn: what that took is the time until it. */
static void steps(struct bench *b, struct trees *t, int rounds)
{
	for (unsigned s = 1; s <= engine_steps(); s++) {
		static int64_t v[ROUNDS_MAX];

		for (int i = 0; i < rounds; i++) {
			int fds[2 + SPAWN_CGROUPS_MAX] = { t->rootfs, t->workspace };
			struct engine_failure fail;
			struct engine_result res;
			struct cl_err err;
			struct cgroup cg;
			size_t nfds;

			make_group(b, &cg, fds, &nfds);
			t++;
			if (engine_prepare(&b->engine, 1, &err) < 0)
				die("network namespace", &err);
			int64_t t0 = cl_mono_us();

			if (engine_spawn(&b->engine, 1, 1699997, &b->plan, fds, nfds, s, &res, &fail, &err) == 0)
				die("a step did not fail", NULL);
			v[i] = cl_mono_us() - t0;
			drop_group(b, &cg, fds, nfds);
		}
		qsort(v, (size_t)rounds, sizeof v[0], by_size);
		printf("%-14s min %lld p50 %lld\n", engine_step_name(s), (long long)v[0],
		       (long long)v[rounds / 2]);
	}
}

int main(int argc, char **argv)
{
	static struct trees trees[ROUNDS_MAX * 4];
	static struct bench b;
	struct cl_err err = { 0 };
	char base[32], text[300];
	bool by_step = argc == 5 && strcmp(argv[1], "--steps") == 0;

	if (argc == 2 && strcmp(argv[1], "--stamp") == 0) {
		printf("%lld\n", (long long)now_ns());
		return fflush(stdout) != 0;
	}
	if (argc > 3 && strcmp(argv[1], "--peer") == 0) {
		for (long i = strtol(argv[2], NULL, 10); i > 0; i--)
			peer_round(argv + 3);
		return 0;
	}
	if (argc != 5)
		return 2;
	int rounds = (int)strtol(argv[by_step ? 2 : 1], NULL, 10), image, work;
	int n = by_step ? rounds * (int)engine_steps() : rounds;

	if (rounds < 1 || n > (int)CL_ARRAY_LEN(trees) || (image = cl_open_dir(argv[by_step ? 3 : 2], &err)) < 0 ||
	    (work = cl_open_dir("/tmp", &err)) < 0)
		die("arguments", &err);
	(void)snprintf(base, sizeof base, "cloister-run-%d", getpid());	/* fits */
	n = by_step ? n : rounds;
	for (int i = 0; i < n; i++)
		trees[i] = clone_trees(image, work);
	int len = snprintf(text, sizeof text, "%s%c--stamp", by_step ? "/bin/true" : argv[4], 0) + 1;

	b.plan = (struct plan){ .flags = PLAN_THROWAWAY, .argv = { text, (size_t)len },
				.image = SPAN("bench"), .hostname = SPAN("bench") };
	plan_limits_standard(&b.plan.limits);
	if (cgroup_host_open(&b.host, base, &err) < 0 || engine_init(&b.engine, argv[by_step ? 4 : 3], &err) < 0)
		die("init", &err);
	if (by_step)
		steps(&b, trees, rounds);
	for (int i = 0; i < rounds && !by_step; i++)
		one_round(&b, trees[i], getenv("SANDBOX_START_AHEAD") != NULL);
	engine_done(&b.engine);
	if (cgroup_host_remove(&b.host) < 0)
		die("base group", NULL);
	return 0;
}

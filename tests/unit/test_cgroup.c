/* SPDX-License-Identifier: Apache-2.0 */
/* cgroup: real groups on whatever this host has; skipped without root. */
#include "sandbox/cgroup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct cgroup_host host;

static int open_host(void **state)
{
	struct cl_err err;
	char base[48];

	(void)state;
	if (geteuid() != 0)
		return 0;
	(void)snprintf(base, sizeof base, "cloister-unit-%d", getpid());
	return cgroup_host_open(&host, base, &err);
}

static int close_host(void **state)
{
	(void)state;
	if (geteuid() != 0)
		return 0;
	int r = cgroup_host_remove(&host);

	cgroup_host_done(&host);
	return r;
}

static struct plan_limits small(void)
{
	struct plan_limits l;

	plan_limits_standard(&l);
	l.memory_bytes = 64u << 20;
	l.swap_bytes = 0;
	l.pids = 20;
	l.cpu_ceiling_millicores = 500;
	return l;
}

static void names_that_could_lead_elsewhere_are_refused(void **state)
{
	struct plan_limits l = small();
	struct cgroup_host h;
	struct cgroup cg;
	struct cl_err err;

	(void)state;
	assert_int_equal(cgroup_host_open(&h, "../up", &err), -EINVAL);
	if (geteuid() != 0)
		skip();
	assert_int_equal(cgroup_create(&host, "../up", &l, &cg, &err), -EINVAL);
	assert_int_equal(cgroup_create(&host, "", &l, &cg, &err), -EINVAL);
	assert_int_equal(cgroup_open(&host, "a/b", &cg, &err), -EINVAL);
	assert_int_equal(cgroup_remove(&host, ".", 0), -EINVAL);
}

static int count(void *ctx, const char *name)
{
	*(int *)ctx += strcmp(name, "one") == 0;
	return 0;
}

static void a_group_is_made_found_listed_and_removed(void **state)
{
	struct plan_limits l = small();
	struct cgroup cg, again;
	struct cl_err err;
	int n = 0;

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(cgroup_open(&host, "one", &again, &err), -ENOENT);
	assert_int_equal(cgroup_create(&host, "one", &l, &cg, &err), 0);
	assert_int_equal(cgroup_create(&host, "one", &l, &again, &err), -EEXIST);
	assert_int_equal(cgroup_open(&host, "one", &again, &err), 0);
	assert_int_equal(cgroup_list(&host, count, &n), 0);
	assert_true(n >= 1);
	assert_int_equal(cgroup_populated(&again), 0);
	/* changed while it lives: up, then down again */
	l.memory_bytes = 256u << 20;
	assert_int_equal(cgroup_limits(&cg, &l, &err), 0);
	l.memory_bytes = 32u << 20;
	assert_int_equal(cgroup_limits(&cg, &l, &err), 0);
	cgroup_done(&cg);
	cgroup_done(&again);
	assert_int_equal(cgroup_remove(&host, "one", 100), 0);
	assert_int_equal(cgroup_remove(&host, "one", 100), 0);	/* twice: gone is gone */
}

static void processes_join_are_frozen_counted_and_killed(void **state)
{
	struct plan_limits l = small();
	int fds[16], n, status = 0, ready[2];
	struct cgroup_stats s;
	struct cgroup cg;
	struct cl_err err;
	char c;

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(cgroup_create(&host, "two", &l, &cg, &err), 0);
	n = cgroup_join_fds(&cg, fds, 16, &err);
	assert_true(n > 0);
	assert_int_equal(cgroup_join_fds(&cg, fds, 0, &err), -E2BIG);
	assert_int_equal(pipe(ready), 0);
	pid_t pid = fork();

	if (pid == 0) {
		FILE *f = NULL;
		char path[300];

		/* all v1 files take "0"; the v2 directory is entered by its procs file here */
		for (int i = 0; i < n; i++)
			if (write(fds[i], "0\n", 2) != 2) {
				(void)snprintf(path, sizeof path, "/proc/self/fd/%d/cgroup.procs", fds[i]);
				f = fopen(path, "we");
				if (!f || fputs("0\n", f) < 0 || fclose(f) != 0)
					_exit(9);
			}
		if (write(ready[1], "x", 1) != 1)
			_exit(8);
		for (;;)
			(void)pause();
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	assert_int_equal(cgroup_has(&cg, pid), 1);
	assert_int_equal(cgroup_has(&cg, getpid()), 0);
	assert_int_equal(cgroup_remove(&host, "two", 0), -EBUSY);
	assert_int_equal(cgroup_freeze(&cg, true), 0);
	assert_int_equal(cgroup_stats(&cg, &s), 0);
	assert_int_equal(s.pids, 1);
	assert_int_equal(cgroup_kill(&cg), 0);		/* frozen as it is */
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	for (int i = 0; i < n; i++)
		(void)close(fds[i]);
	(void)close(ready[0]);
	(void)close(ready[1]);
	cgroup_done(&cg);
	assert_int_equal(cgroup_remove(&host, "two", 2000), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_that_could_lead_elsewhere_are_refused),
		cmocka_unit_test(a_group_is_made_found_listed_and_removed),
		cmocka_unit_test(processes_join_are_frozen_counted_and_killed),
	};

	return cmocka_run_group_tests(tests, open_host, close_host);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A helper gives the new namespace a process that the maps can be written
 * to; it does nothing and is killed at once. The parent, with power over the
 * initial namespace, writes the maps and keeps the namespace by a descriptor.
 */
#include "sandbox/userns.h"

#include "sandbox/step.h"
#include "sandbox/sys.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

/* Shares our memory: it may touch nothing, not even errno. */
static int helper(void *arg)
{
	(void)arg;
	while (pause() <= 0)
		;	/* until killed */
	return 0;
}

static int map(int proc_fd, pid_t pid, unsigned inside, uid_t uid, gid_t gid)
{
	char path[48], text[48];
	int r;

	(void)snprintf(path, sizeof path, "%d/setgroups", pid);	/* all fit: numbers of 10 digits */
	r = step_text(proc_fd, path, "deny");
	(void)snprintf(path, sizeof path, "%d/gid_map", pid);
	(void)snprintf(text, sizeof text, "%u %u 1\n", inside, gid);
	if (r == 0)
		r = step_text(proc_fd, path, text);
	(void)snprintf(path, sizeof path, "%d/uid_map", pid);
	(void)snprintf(text, sizeof text, "%u %u 1\n", inside, uid);
	if (r == 0)
		r = step_text(proc_fd, path, text);
	if (r)
		return r;
	(void)snprintf(path, sizeof path, "%d/ns/user", pid);
	return sys_ret(openat(proc_fd, path, O_RDONLY | O_CLOEXEC));
}

void userns_reap(pid_t *pid)
{
	if (*pid > 0)
		(void)waitpid(*pid, NULL, 0);	/* our own child, killed: nothing to learn */
	*pid = 0;
}

int userns_make(int proc_fd, uid_t uid, gid_t gid, unsigned inside, pid_t *out_helper,
		struct cl_err *err)
{
	/* one helper at a time, and a small one: it calls pause() and nothing else */
	static char stack[16384] __attribute__((aligned(16)));
	pid_t pid = clone(helper, stack + sizeof stack, CLONE_VM | CLONE_NEWUSER | SIGCHLD, NULL);
	int fd;

	*out_helper = 0;
	if (pid < 0)
		return cl_fail(err, errno, "user namespace: clone");
	fd = map(proc_fd, pid, inside, uid, gid);
	(void)kill(pid, SIGKILL);	/* not reaped yet: the number is still its own */
	*out_helper = pid;
	return fd < 0 ? cl_fail(err, -fd, "user namespace: map") : fd;
}

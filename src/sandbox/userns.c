/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A short-lived helper stands in the new namespace: it alone can write the
 * namespace's own sysctl, and it alone gives the maps a process to belong to.
 * The parent, with power over the initial namespace, writes the maps and
 * keeps the namespace by a descriptor.
 */
#include "sandbox/userns.h"

#include "sandbox/step.h"
#include "sandbox/sys.h"

#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

static _Noreturn void helper(int proc_fd, int say_fd)
{
	int r = step_text(proc_fd, "sys/user/max_user_namespaces", "0\n");

	if (write(say_fd, &r, sizeof r) != (ssize_t)sizeof r)
		_exit(1);
	for (;;)
		(void)pause();	/* until killed: the parent is writing the maps */
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

int userns_make(int proc_fd, uid_t uid, gid_t gid, unsigned inside, struct cl_err *err)
{
	int say[2], pidfd = -1, said = 0, fd;
	struct clone_args a = { .flags = CLONE_NEWUSER | CLONE_PIDFD, .exit_signal = SIGCHLD,
				.pidfd = (uint64_t)(uintptr_t)&pidfd };
	ssize_t k;
	long pid;

	if (pipe2(say, O_CLOEXEC) < 0)
		return cl_fail(err, errno, "user namespace: pipe");
	pid = syscall(SYS_clone3, &a, sizeof a);
	if (pid == 0)
		helper(proc_fd, say[1]);
	fd = pid < 0 ? -errno : 0;
	(void)cl_close(say[1]);
	if (pid < 0) {
		(void)cl_close(say[0]);
		return cl_fail(err, -fd, "user namespace: clone");
	}
	k = read(say[0], &said, sizeof said);	/* end of file when the helper dies */
	(void)cl_close(say[0]);
	fd = k != (ssize_t)sizeof said ? -EPIPE : said;
	if (fd == 0)
		fd = map(proc_fd, (pid_t)pid, inside, uid, gid);
	(void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);	/* it may be gone already */
	(void)waitpid((pid_t)pid, NULL, 0);	/* our own child: cannot fail but by being reaped */
	(void)cl_close(pidfd);
	if (fd < 0)
		return cl_fail(err, -fd, "user namespace: %s", said ? "limit" : "map");
	return fd;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The last steps: known descriptors only, the system call filter, cloister-init. */
#include "sandbox/initproto.h"
#include "sandbox/step.h"

#include <linux/close_range.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HIGH 32		/* above every final place; with the copies below the smallest RLIMIT_NOFILE */

/*
 * Every source is first copied above all final places, so that no copy can
 * overwrite a source that is still to come; then each to its place, and all
 * else is closed. Nothing here may close by cleanup: the numbers change hands.
 */
int step_descriptors(struct step_ctx *c)
{
	int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	const struct { int from, to; bool stays; } map[] = {
		{ null_fd, 0, true },
		{ c->log_write_fd, 1, true },
		{ c->log_write_fd, 2, true },
		{ c->control_fd, INIT_FD_CONTROL, true },
		{ c->control_peer_fd, INIT_FD_CONTROL_PEER, true },
		{ c->log_read_fd, INIT_FD_LOG, true },
		{ c->listener_fd, INIT_FD_LISTENER, true },
		{ c->engine->init_fd, CHILD_FD_INIT, false },
		{ c->report_fd, CHILD_FD_REPORT, false },
	};
	int high[CL_ARRAY_LEN(map)];

	if (null_fd < 0)
		return -errno;
	for (size_t i = 0; i < CL_ARRAY_LEN(map); i++) {
		high[i] = fcntl(map[i].from, F_DUPFD_CLOEXEC, HIGH);
		if (high[i] < 0)
			return -errno;
	}
	for (size_t i = 0; i < CL_ARRAY_LEN(map); i++)
		if (dup3(high[i], map[i].to, map[i].stays ? 0 : O_CLOEXEC) < 0)
			return -errno;
	c->report_fd = CHILD_FD_REPORT;
	return syscall(SYS_close_range, CHILD_FD_END, ~0u, 0) < 0 ? -errno : 0;
}

int step_seccomp(struct step_ctx *c)
{
	struct sock_fprog prog = { .len = c->engine->filter.len,
				   .filter = (struct sock_filter *)(uintptr_t)c->engine->filter.insn };

	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0 ? -errno : 0;
}

int step_exec(struct step_ctx *c)
{
	const struct step_report ready = { 0 };

	if (send(c->report_fd, &ready, sizeof ready, MSG_NOSIGNAL) != (ssize_t)sizeof ready)
		return -EPIPE;
	(void)syscall(SYS_execveat, CHILD_FD_INIT, "", c->argv, c->envp, AT_EMPTY_PATH);
	return -errno;		/* only reached when it failed */
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spawn - how cloisterd has a sandbox made, and what it holds afterwards.
 *
 * 1. cloisterd opens the image's rootfs and the tenant's workspace beneath
 *    its own directory descriptors and makes of each a detached mount:
 *    spawn_tree(). Neither is ever looked up by path again.
 * 2. It makes the cgroup (cgroup.h) and sends the spawner (channel, ROLE_SPAWNER)
 *        SPAWN { no, plan } + descriptors: rootfs, workspace,
 *        the configuration memfd (only when the plan has a config_path),
 *        then what cgroup_join_fds() gave.
 *    The spawner answers (chan_call) one of
 *        SPAWNED { no, pid, start_ticks } + 4 descriptors, in the order of enum spawned_fd
 *        SPAWN_FAILED { no, code, step, text }: nothing is left, the cgroup is empty again.
 * 3. init tests each wall from inside and reports SELFTEST over the control
 *    descriptor (initproto.h, selftest.h). Only when no bit failed and all of
 *    SELFTEST_REQUIRED hold, cloisterd hands the listener to the broker and sends START.
 * 4. The sandbox is over when the pidfd is readable: pid 1 has gone and with
 *    it every process inside. cloisterd is not its parent: no exit status; that
 *    came before as EXITED. To end it: cgroup_kill(), or SIGKILL to the pidfd.
 *
 * Adoption: pidfd_open(pid), check start_ticks and that the process is in the
 * tenant's cgroup, then pidfd_getfd() of INIT_FD_CONTROL_PEER, INIT_FD_LOG, INIT_FD_LISTENER.
 */
#ifndef CL_SANDBOX_SPAWN_H
#define CL_SANDBOX_SPAWN_H

#include "sandbox/plan.h"

/* Descriptors of SPAWN, in this order; config is absent without config_path. */
enum spawn_fd { SPAWN_FD_ROOTFS, SPAWN_FD_WORKSPACE, SPAWN_FD_CONFIG };
#define SPAWN_CGROUPS_MAX 10

/* Descriptors of SPAWNED. */
enum spawned_fd {
	SPAWNED_FD_PID,		/* pidfd of pid 1 */
	SPAWNED_FD_CONTROL,	/* SEQPACKET, initproto.h */
	SPAWNED_FD_LISTENER,	/* 127.0.0.1:8377 inside, listening, for the broker */
	SPAWNED_FD_LOG,		/* read end of the pipe that is the agent's 1 and 2 */
	SPAWNED_FD_COUNT
};

/*
 * spawn_tree - a detached mount of the directory @dirfd (of the caller's own mount namespace)
 * @readonly: for an image. Always nosuid, nodev, private; symlinks and
 * submounts below are not followed: only this one mount is cloned.
 * Return: mount descriptor (close-on-exec), or -errno with words in @err.
 * Runs in: cloisterd. Syscalls: open_tree mount_setattr.
 */
int spawn_tree(int dirfd, bool readonly, struct cl_err *err);

/*
 * spawn_check_fds - as many, and of the kinds, as @p asks for
 * @out_ncgroups: how many of them are cgroup descriptors (the last ones)
 * Return: 0; -EINVAL said in @err.
 */
int spawn_check_fds(const struct plan *p, const int *fds, size_t nfds, size_t *out_ncgroups,
		    struct cl_err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * step - what one step of the table gets. Runs in: the child of
 * engine_spawn(), between clone and exec: no heap, no stdio, no log. A step
 * returns 0 or -errno; the first failure ends the child.
 */
#ifndef CL_SANDBOX_STEP_H
#define CL_SANDBOX_STEP_H

#include "sandbox/engine.h"

/* In the zygote's mount namespace: where the rootfs and the tmpfs are put. */
#define ZYGOTE_ROOT "/r"
#define ZYGOTE_TMP "/t"

/* RLIMIT_NPROC stands this much behind pids.max: the group refuses first, and counts it */
#define STEP_NPROC_ROOM 16u

struct step_ctx {
	const struct engine *engine;
	const struct plan *plan;
	uint32_t no;
	uid_t uid;			/* host uid of the tenant */
	int rootfs_fd, workspace_fd;	/* detached mounts; rootfs_fd stays valid once in place */
	int config_fd;			/* -1: none */
	const int *cgroup_fds;
	size_t ncgroups;
	int userns_fd, net_fd, listener_fd;
	int control_fd, control_peer_fd, log_read_fd, log_write_fd;
	int report_fd;
	char *const *argv, *const *envp;	/* of the agent; init passes them on */
	/* made on the way */
	int tmp_fd;			/* the sandbox's one tmpfs, as an attached tree */
};

typedef int step_fn(struct step_ctx *c);

step_fn step_cgroup, step_namespaces, step_host_name, step_network, step_rootfs, step_tmpfs,
	step_inodes, step_tmp, step_proc, step_devpts, step_workspace, step_config, step_pivot, step_rlimits, step_session,
	step_ids, step_capabilities, step_keyring, step_no_new_privs, step_landlock, step_descriptors,
	step_seccomp, step_exec;

/* What the child says over the report socket when a step fails; it is silent when all is well. */
struct step_report {
	uint32_t step;		/* 1-based */
	int32_t error;		/* positive errno */
};

/* Descriptors of the child just before exec, beyond INIT_FD_END. */
enum { CHILD_FD_INIT = 7, CHILD_FD_REPORT = 8, CHILD_FD_END = 9 };

/* step_text - write a small file below @dirfd; 0 or -errno */
int step_text(int dirfd, const char *path, const char *text);

_Noreturn void steps_run(struct step_ctx *c, unsigned fail_at);

#endif

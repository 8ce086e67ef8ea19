/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine - makes sandboxes: what the spawner (and sandbox-run) do.
 *
 * How this works: the process that calls engine_init() moves into a mount
 * namespace of its own that holds two empty directories and nothing of the
 * host ("zygote"): copying it for each sandbox is cheap and there is nothing in it
 * to leak. For each sandbox engine_spawn() takes a network namespace that it
 * made ahead, makes a user namespace with one mapped uid, then clones a child
 * into new mount, pid, ipc and uts namespaces; all of them belong to the
 * *initial* user namespace. The child runs the const table of steps (steps.c). The tenant's user namespace is
 * entered last: nothing inside has any power over a namespace of its own.
 * Fail closed: the first step that fails ends the child; the parent learns
 * which, and leaves nothing behind.
 */
#ifndef CL_SANDBOX_ENGINE_H
#define CL_SANDBOX_ENGINE_H

#include "sandbox/filter.h"
#include "sandbox/plan.h"
#include "sandbox/selftest.h"
#include "sandbox/spawn.h"

/* A network namespace with lo up and the broker's listener in it, not yet anybody's. */
struct engine_net {
	int ns_fd, listener_fd;
	uint64_t cookie;	/* SO_COOKIE of the listener */
};
#define ENGINE_NETS_MAX 16

struct engine {
	int proc_fd;		/* the host's /proc */
	int init_fd;		/* cloister-init in a sealed memfd, execute only */
	uint64_t host_ns[SNS_COUNT];
	uint64_t host_root_dev, host_root_ino;
	struct filter filter;
	int host_net_fd;
	/* made ahead, as they are what takes longest; each is used once */
	struct engine_net nets[ENGINE_NETS_MAX];
	unsigned nnets;
};

struct engine_result {
	pid_t pid;		/* as seen by the caller; its child, to be reaped */
	uint64_t start_ticks;
	int fds[SPAWNED_FD_COUNT];	/* owned by the caller; enum spawned_fd */
};

/* Which step failed: a name of the table, or one of the parent's own. */
struct engine_failure {
	char step[64];
};

/*
 * engine_init - once, single-threaded, as root. Changes the mount namespace of the caller.
 * @init_path: the static cloister-init
 * Return: 0, or -errno with words. Runs in: spawner, sandbox-run.
 */
int engine_init(struct engine *e, const char *init_path, struct cl_err *err);

/* engine_prepare - have @want network namespaces ready (at most ENGINE_NETS_MAX); when idle */
int engine_prepare(struct engine *e, unsigned want, struct cl_err *err);
void engine_done(struct engine *e);

/*
 * engine_spawn - one sandbox; blocks until its pid 1 is cloister-init (1 to 2 ms), at most 10 s
 * @no: tenant number, @uid: its host uid and gid, at least ENGINE_UID_MIN
 * @fds: in the order of enum spawn_fd, borrowed
 * @fail_at: for tests: the 1-based step that is to fail with EIO; 0 none
 * Return: 0; else -errno, @fail names the step, nothing is left.
 */
#define ENGINE_UID_MIN 65536u
int engine_spawn(struct engine *e, uint32_t no, uid_t uid, const struct plan *p, const int *fds,
		 size_t nfds, unsigned fail_at, struct engine_result *out,
		 struct engine_failure *fail, struct cl_err *err);

/* engine_steps - how many steps the table has (tests fail each in turn), and a step's name */
unsigned engine_steps(void);
const char *engine_step_name(unsigned i);	/* 1-based */

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cgroup - one group a sandbox, on cgroup v2 or v1, behind one header.
 *
 * How this works: struct cgroup_host holds a directory descriptor of our base
 * group in each hierarchy that is used; everything below is reached from
 * there. On v1 a sandbox is one directory in each controller's hierarchy, and,
 * where the host has a v2 hierarchy without controllers beside it (hybrid), one
 * there for freezing and killing. The sandbox's first process joins before it
 * runs anything: the spawner gets cgroup_join_fds().
 * Blocking, no allocation. Runs in: cloisterd, sandbox-run.
 */
#ifndef CL_SANDBOX_CGROUP_H
#define CL_SANDBOX_CGROUP_H

#include "sandbox/plan.h"

#define CGROUP_ROOT "/sys/fs/cgroup"

enum cgroup_ctl {
	CG_UNIFIED,	/* v2; in hybrid: freeze and kill only */
	CG_MEMORY, CG_PIDS, CG_CPU, CG_FREEZER, CG_DEVICES, CG_BLKIO,	/* v1 */
	CG_COUNT
};

struct cgroup_host {
	bool v2;		/* controllers are on v2; else v1 */
	int base_fd[CG_COUNT];	/* our base group; -1 where not used */
	char base[64];
};

struct cgroup {
	const struct cgroup_host *host;	/* borrowed, outlives this */
	int fd[CG_COUNT];		/* directory of this group; -1 */
	char name[65];
};

struct cgroup_stats {
	uint64_t memory_bytes, memory_peak_bytes, swap_bytes;
	uint64_t pids;
	uint64_t cpu_us;
	uint64_t throttled_us;
	uint64_t oom_kills;	/* processes killed for memory since creation */
	uint64_t pids_hits;	/* forks refused since creation */
};

/* The named pieces that doctor reports: what this host offers. */
struct cgroup_probe {
	bool v2, hybrid;	/* v2: memory and pids are v2 controllers */
	bool have[CG_COUNT];	/* the hierarchy, or on v2 the controller, is there */
	bool kill_file;		/* cgroup.kill */
};
void cgroup_probe(struct cgroup_probe *out);

/*
 * cgroup_host_open - find the hierarchies, make and open group @base in each
 * @base: name_ok(); one for each running cloisterd.
 * Return: 0; -ENOSYS no memory or no pids controller (I9), said in @err; else -errno.
 */
int cgroup_host_open(struct cgroup_host *h, const char *base, struct cl_err *err);
void cgroup_host_done(struct cgroup_host *h);		/* closes; groups stay */
/* cgroup_host_remove - rmdir the base groups; -EBUSY while groups are in it */
int cgroup_host_remove(struct cgroup_host *h);

/*
 * cgroup_create - make group @name (name_ok()) with @l applied
 * On failure nothing is left. -EEXIST: there already: cgroup_open() and judge it.
 */
int cgroup_create(struct cgroup_host *h, const char *name, const struct plan_limits *l,
		  struct cgroup *out, struct cl_err *err);
/* cgroup_open - one that exists (adoption); -ENOENT */
int cgroup_open(struct cgroup_host *h, const char *name, struct cgroup *out, struct cl_err *err);
void cgroup_done(struct cgroup *cg);			/* closes; the group stays */
int cgroup_limits(struct cgroup *cg, const struct plan_limits *l, struct cl_err *err);

/*
 * cgroup_join_fds - descriptors for SPAWN, owned by the caller
 * v2 (and hybrid): the directory, for CLONE_INTO_CGROUP; v1: each tasks file, opened for writing.
 * Return: how many (at most SPAWN_CGROUPS_MAX), or -errno.
 */
int cgroup_join_fds(struct cgroup *cg, int *fds, size_t max, struct cl_err *err);

int cgroup_freeze(struct cgroup *cg, bool frozen);	/* returns when it is so, at most 2 s: -ETIMEDOUT */
/* cgroup_kill - SIGKILL to every process of it, frozen ones too; does not wait */
int cgroup_kill(struct cgroup *cg);
/* cgroup_has - is process @pid in it? 1, 0, -errno */
int cgroup_has(struct cgroup *cg, pid_t pid);
int cgroup_populated(struct cgroup *cg);		/* 1, 0, -errno */
int cgroup_stats(struct cgroup *cg, struct cgroup_stats *out);
/* cgroup_remove - rmdir in each hierarchy; waits at most @wait_ms for the dead to go; -EBUSY */
int cgroup_remove(struct cgroup_host *h, const char *name, int wait_ms);

/* cgroup_list - call @fn for each group below the base (orphans of a crash); stops when it returns != 0 */
typedef int cgroup_list_fn(void *ctx, const char *name);
int cgroup_list(struct cgroup_host *h, cgroup_list_fn *fn, void *ctx);

#endif

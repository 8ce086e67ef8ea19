/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenant - one tenant as cloisterd knows it, and its state machine.
 *
 *   created --start--> starting --ready--> running <--wake/freeze--> dormant
 *                         |  ^                |
 *                   3 x no|  | back-off       | crash, restart
 *                         v  '----------------'
 *                       failed        stop: any --> stopped
 *                                     reset, restore: any --> resetting --> as before
 *
 * The sandbox itself has phases of its own (enum phase): what is there, as
 * opposed to what was asked for.
 */
#ifndef CL_CLOISTERD_TENANT_H
#define CL_CLOISTERD_TENANT_H

#include "cloisterd/daemon.h"
#include "cloisterd/logs.h"
#include "sandbox/cgroup.h"
#include "sandbox/initproto.h"
#include "sandbox/plan.h"
#include "wire/tenant.h"

#define WAITERS_MAX 8
#define CONFIG_MAX (4u << 20)	/* bytes of a sealed configuration */
#define REASON_MAX 400
#define STOP_GRACE_MS 10000	/* when nobody says otherwise */
#define STOP_GRACE_MAX_MS 120000

/* What the api said the tenant shall be: checked, sealed, kept until the next PUT. */
struct sealed {
	char *bytes;		/* encoded plan, owned; NULL: none yet */
	size_t n;
	struct plan plan;	/* its spans point into bytes */
	int config_fd;		/* sealed memfd, or -1 */
};

enum phase {
	PH_NONE,	/* no process */
	PH_SPAWNING,	/* the spawner was asked */
	PH_TESTING,	/* init probes the walls */
	PH_UP,		/* the agent was let go */
	PH_ENDING,	/* asked or made to end; its pidfd tells when */
};

/* a request that is answered later */
struct waiter {
	enum program_id who;
	pid_t pid;		/* of the program then: a new one did not ask */
	uint32_t seq;
};

struct exec_slot {
	uint32_t id;		/* ours, towards init; 0 = free */
	uint32_t exec_id;	/* the api's */
	pid_t api_pid;
};

/* what comes when the sandbox has gone */
enum after {
	AFTER_CRASH,	/* nobody asked: start again, later each time */
	AFTER_STOP,
	AFTER_RESTART,	/* asked for: start again at once */
	AFTER_JOB,	/* a reset, restore or removal goes on */
};

/* reset, snapshot, restore, removal: work.c */
enum job_kind { JOB_NONE, JOB_RESET_STATE, JOB_RESET_WORKSPACE, JOB_SNAPSHOT, JOB_RESTORE, JOB_RM };

struct job {
	enum job_kind kind;
	struct waiter waiter;
	char name[65];		/* of the snapshot */
	bool start_again;	/* it ran before */
	bool thaw;		/* it was frozen for the copy */
	bool state;		/* of the agent's state, not the workspace */
	pid_t pid;		/* of the helper at work, 0 none */
};

struct tenant {
	struct daemon *d;
	uint32_t no;
	char id[TENANT_ID_MAX + 1];
	struct sealed sealed;

	enum tenant_state state;
	char reason[REASON_MAX];
	int64_t since_us;	/* of the state, wall clock */
	uint32_t restarts;
	uint32_t bad_starts;	/* in a row, that never came to running */
	uint32_t crashes;	/* for the back-off; forgotten after a while of running */
	enum after after;
	int64_t running_us;	/* monotonic, since when it runs; 0 not */

	enum phase phase;
	bool end_asked;		/* while SPAWNING: end it as soon as it is there */
	bool frozen;
	bool spawn_waits;	/* for the spawner to be there */
	bool has_cgroup;
	struct cgroup cgroup;
	pid_t pid;
	uint64_t ticks;
	int pidfd, control_fd, listener_fd;	/* -1 when not there */
	struct loop_io pid_io, control_io;
	struct logs logs;
	bool exited_known;
	uint32_t exit_status;	/* of the agent, from init */
	struct loop_timer timer;	/* back-off, patience, grace, cgroup removal */
	struct loop_timer watch;	/* limits and their events */
	uint64_t seen_oom, seen_pids;	/* events already told */
	bool pids_full;			/* told, and still so */
	struct waiter waiters[WAITERS_MAX];	/* of a stop */
	struct exec_slot exec[INIT_EXECS_MAX];
	uint32_t next_exec;

	struct job job;
	/* keep.c: the state with which it last came up */
	pid_t keep_pid;		/* the helper that copies, 0 none */
	bool keep_back;		/* it copies the kept state back */
	bool keep_go;		/* then the start goes on */
	bool kept_new;		/* a copy of what it is being started with is there */
	bool recovered;		/* the kept one was tried since it last ran */

	pid_t sweep_pid;	/* the helper that empties the trash, 0 none */
	struct loop_timer sweep_timer;
};

/* ---- tenant.c: the table and the requests ---- */

struct tenant *tenant_get(struct daemon *d, uint32_t no);	/* NULL: none */
/* tenant_new - the entry of @no, with its directories; NULL with words */
struct tenant *tenant_new(struct daemon *d, uint32_t no, struct span id, struct cl_err *err);
void tenant_forget(struct tenant *t);	/* frees @t */
int tenant_dirfd(const struct tenant *t, struct cl_err *err);	/* tenants/<no>; owned by the caller */
uid_t tenant_uid(const struct tenant *t);
/*
 * sealed_set - judge @plan and @config_fd and keep them
 * @config_fd: taken over on success only, -1 when the plan has no config_path
 */
int sealed_set(struct sealed *s, struct span plan, int *config_fd, struct cl_err *err);
void sealed_clear(struct sealed *s);
/* tenant_state - go to @state and tell api and broker */
void tenant_state(struct tenant *t, enum tenant_state state, const char *fmt, ...) CL_PRINTF(3, 4);
void tenant_tell(struct tenant *t, struct chan *c);
void tenant_event(struct tenant *t, const char *kind, const char *fmt, ...) CL_PRINTF(3, 4);
bool waiter_set(struct waiter *w, struct chan *c, uint32_t seq);
void waiter_answer(struct daemon *d, struct waiter *w, int code, const char *text);
/* tell a program that has just become ready what it must know */
void tenants_tell(struct daemon *d, enum program_id who);
void tenants_stop_all(struct daemon *d);
void tenants_kill_all(struct daemon *d);
/* a child was reaped; Return: true when it was one of a tenant's helpers */
bool tenants_exited(struct daemon *d, pid_t pid, int status);

chan_fn on_tenant_put, on_tenant_start, on_tenant_stop, on_tenant_freeze, on_tenant_wake,
	on_tenant_rm, on_tenants_list, on_tenant_ready, on_tenant_stats;

/* ---- life.c: from nothing to running and back ---- */

int tenant_start(struct tenant *t, struct cl_err *err);
/* tenant_end - make the sandbox end: SIGTERM inside, after @grace_ms kill; then @after */
void tenant_end(struct tenant *t, uint32_t grace_ms, enum after after);
void tenant_running(struct tenant *t);
int tenant_freeze(struct tenant *t, struct cl_err *err);
int tenant_thaw(struct tenant *t, struct cl_err *err);
/*
 * tenant_watch - descriptors, pid and cgroup are set: watch them
 * On failure the caller kills the group; what was added is taken back.
 */
int tenant_watch(struct tenant *t, struct cl_err *err);
/* tenant_adopted - it was taken over in phase UP; frozen and running_us say how it was */
void tenant_adopted(struct tenant *t);
/* tenant_walls - the self-test's answer; tenant_agent_exited - EXITED */
void tenant_walls(struct tenant *t, uint64_t held, uint64_t failed, struct span evidence);
void tenant_agent_exited(struct tenant *t, uint32_t status);
/* tenant_breach - init said what it may not say: the sandbox ends at once */
void tenant_breach(struct tenant *t, const char *what);
void tenant_answer_waiters(struct tenant *t, int code, const char *text);
void tenants_spawner_up(struct daemon *d);
void tenants_listen_again(struct daemon *d);	/* for a new broker */

/* ---- keep.c: the last state that worked ---- */

/*
 * keep_begin - before a start: copy the agent's state, at rest, aside
 * Return: true: a child is at work, tenant_go_on() comes later; false: nothing to do.
 */
bool keep_begin(struct tenant *t);
void keep_works(struct tenant *t);	/* it came up with that state */
/* keep_recover - it does not come up: put the kept state back. As keep_begin(). */
bool keep_recover(struct tenant *t, const char *why);
void keep_exited(struct tenant *t, int status);
void tenant_go_on(struct tenant *t);	/* life.c: the start goes on */

/* ---- control.c: the channel to init ---- */

int control_send(struct tenant *t, enum init_type type, uint32_t id, uint64_t a, uint64_t b,
		 struct span bytes, const int *fds, size_t nfds);
void control_read(struct loop_io *io, uint32_t events);
void control_gone(struct tenant *t);	/* the sandbox ended: all execs are over */
chan_fn on_tenant_exec, on_exec_signal, on_tenant_logs;

/* ---- runtime.c: records for adoption ---- */

void runtime_write(struct tenant *t);
void runtime_remove(struct tenant *t);
/* runtime_adopt - on start: take over what lives, end what cannot be trusted */
void runtime_adopt(struct daemon *d);

/* ---- work.c: reset, snapshots, removal ---- */

chan_fn on_tenant_reset, on_snapshot;
void job_sandbox_gone(struct tenant *t);	/* AFTER_JOB, AFTER_RM */
void job_exited(struct tenant *t, int status);
void sweep_start(struct tenant *t);
void sweep_exited(struct tenant *t, int status);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * programs - starting the other programs, and again when they die.
 *
 * One const table says which there are: binary, user, descriptors. Links
 * between two of them are socketpairs made here and handed to both ends,
 * again each time one of the two is started again.
 */
#ifndef CL_CLOISTERD_PROGRAMS_H
#define CL_CLOISTERD_PROGRAMS_H

#include "base/base.h"
#include "loop/loop.h"
#include "wire/wire.h"

struct daemon;

enum program_id {
	PROGRAM_LEDGER, PROGRAM_SPAWNER, PROGRAM_BROKER, PROGRAM_API, PROGRAM_MODEL,
	PROGRAM_COUNT
};

enum program_state {
	PROG_OFF,	/* not wanted */
	PROG_WAITING,	/* died; a timer starts it again */
	PROG_STARTED,	/* runs, has not said READY */
	PROG_UP,	/* serves */
	PROG_ENDING,	/* its channel is closed: it has END_GRACE_MS to exit */
};

struct program {
	enum program_id id;
	enum program_state state;
	struct daemon *d;
	pid_t pid;		/* 0: no process */
	int pidfd;		/* -1: no process */
	uint64_t start_ticks;
	struct chan chan;	/* chan_up() says whether it can be sent to */
	int64_t started_us;	/* monotonic */
	uint32_t quick_deaths;	/* in a row, each within QUICK_US of its start */
	uint32_t restarts;
	struct loop_timer timer;	/* back-off, or grace at the end */
};

const char *program_name(enum program_id id);

/* programs_start - fork and exec all; Return: 0, or -errno with words */
int programs_start(struct daemon *d, struct cl_err *err);
/* programs_ready - MSG_READY from @c */
int programs_ready(struct chan *c);
/* programs_exited - a child was reaped; Return: true when it was one of these */
bool programs_exited(struct daemon *d, pid_t pid, int status);
/* programs_stop - in order; daemon_programs_gone() is called at the end */
void programs_stop(struct daemon *d);
/* programs_kill - SIGKILL to whatever still runs; the last resort of the stop */
void programs_kill(struct daemon *d);
/*
 * programs_end_leftovers - end those of a cloisterd that died (they end by
 * themselves when its channel closes; this waits for it, up to @wait_ms,
 * then kills). Judged by pid and start time, never by pid alone.
 */
void programs_end_leftovers(struct daemon *d, int wait_ms);
/* programs_forget - the record of who runs; after programs_stop() */
void programs_forget(struct daemon *d);
/* the channel to a program, or NULL while it does not run */
struct chan *program_chan(struct daemon *d, enum program_id id);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop - one epoll loop a program: descriptors, timers, signals.
 *
 * How this works: each watched descriptor is a struct loop_io that lives
 * inside its owner; the loop never allocates per event. Timers are nodes of
 * a binary heap. A handler may delete any watch, its own included: deleted
 * watches are skipped for the rest of the round.
 */
#ifndef CL_LOOP_H
#define CL_LOOP_H

#include "base/base.h"

#include <sys/epoll.h>

struct loop;
struct loop_io;
struct loop_timer;

typedef void loop_io_fn(struct loop_io *io, uint32_t events);	/* EPOLLIN ... */
typedef void loop_timer_fn(struct loop_timer *t);
typedef void loop_signal_fn(struct loop *l, int signo, void *ctx);

struct loop_io {
	struct loop *loop;	/* NULL while not watched */
	int fd;			/* borrowed: the owner closes it after loop_io_del */
	uint32_t events;
	loop_io_fn *fn;
	void *ctx;
};

struct loop_timer {
	struct loop *loop;
	int64_t at_us;		/* monotonic */
	size_t heap_at;		/* 1-based place in the heap, 0 = not armed */
	loop_timer_fn *fn;
	void *ctx;
};

int loop_new(struct loop **out, struct cl_err *err);
void loop_free(struct loop *l);
/* loop_run - until loop_stop(); returns 0 or -errno of epoll */
int loop_run(struct loop *l);
void loop_stop(struct loop *l);
int64_t loop_now_us(const struct loop *l);	/* monotonic, cached per round */

/* @events may contain EPOLLET. @io is borrowed until loop_io_del. */
int loop_io_add(struct loop *l, struct loop_io *io, int fd, uint32_t events,
		loop_io_fn *fn, void *ctx);
int loop_io_mod(struct loop_io *io, uint32_t events);
void loop_io_del(struct loop_io *io);	/* safe when not watched */

/* arm or re-arm; fires once */
int loop_timer_set(struct loop *l, struct loop_timer *t, int64_t in_us,
		   loop_timer_fn *fn, void *ctx);
void loop_timer_del(struct loop_timer *t);

/* block @signos (zero-terminated) and deliver them through a signalfd */
int loop_signals(struct loop *l, const int *signos, loop_signal_fn *fn, void *ctx);

#endif

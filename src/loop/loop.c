/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/loop.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define ROUND_EVENTS 128

struct loop {
	int ep_fd;
	bool stop;
	int64_t now_us;
	struct loop_timer **heap;	/* heap[1..n] */
	size_t n, cap;
	/* events of the round that are still to be handled: a deleted watch is
	 * struck out of them */
	struct epoll_event ev[ROUND_EVENTS];
	int ev_at, ev_n;
	struct loop_io sig_io;
	int sig_fd;
	loop_signal_fn *sig_fn;
	void *sig_ctx;
};

int loop_new(struct loop **out, struct cl_err *err)
{
	struct loop *l = calloc(1, sizeof *l);

	if (!l)
		return cl_fail(err, ENOMEM, "loop");
	l->sig_fd = -1;
	l->ep_fd = epoll_create1(EPOLL_CLOEXEC);
	if (l->ep_fd < 0) {
		int e = errno;

		free(l);
		return cl_fail(err, e, "epoll_create1");
	}
	l->now_us = cl_mono_us();
	*out = l;
	return 0;
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	cl_close(l->sig_fd);
	cl_close(l->ep_fd);
	free(l->heap);
	free(l);
}

void loop_stop(struct loop *l)
{
	l->stop = true;
}

int64_t loop_now_us(const struct loop *l)
{
	return l->now_us;
}

int loop_io_add(struct loop *l, struct loop_io *io, int fd, uint32_t events,
		loop_io_fn *fn, void *ctx)
{
	struct epoll_event ev = { .events = events, .data.ptr = io };

	if (epoll_ctl(l->ep_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
		return -errno;
	*io = (struct loop_io){ .loop = l, .fd = fd, .events = events, .fn = fn, .ctx = ctx };
	return 0;
}

int loop_io_mod(struct loop_io *io, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = io };

	if (!io->loop)
		return -EINVAL;
	if (io->events == events && !(events & (EPOLLET | EPOLLONESHOT)))
		return 0;
	if (epoll_ctl(io->loop->ep_fd, EPOLL_CTL_MOD, io->fd, &ev) < 0)
		return -errno;
	io->events = events;
	return 0;
}

void loop_io_del(struct loop_io *io)
{
	struct loop *l = io->loop;

	if (!l)
		return;
	(void)epoll_ctl(l->ep_fd, EPOLL_CTL_DEL, io->fd, NULL); /* fd may be gone already */
	for (int i = l->ev_at; i < l->ev_n; i++)
		if (l->ev[i].data.ptr == io)
			l->ev[i].data.ptr = NULL;
	io->loop = NULL;
}

static void heap_put(struct loop *l, size_t at, struct loop_timer *t)
{
	l->heap[at] = t;
	t->heap_at = at;
}

static void heap_up(struct loop *l, size_t at)
{
	struct loop_timer *t = l->heap[at];

	while (at > 1 && l->heap[at / 2]->at_us > t->at_us) {
		heap_put(l, at, l->heap[at / 2]);
		at /= 2;
	}
	heap_put(l, at, t);
}

static void heap_down(struct loop *l, size_t at)
{
	struct loop_timer *t = l->heap[at];

	for (;;) {
		size_t kid = at * 2;

		if (kid > l->n)
			break;
		if (kid < l->n && l->heap[kid + 1]->at_us < l->heap[kid]->at_us)
			kid++;
		if (l->heap[kid]->at_us >= t->at_us)
			break;
		heap_put(l, at, l->heap[kid]);
		at = kid;
	}
	heap_put(l, at, t);
}

void loop_timer_del(struct loop_timer *t)
{
	struct loop *l = t->loop;
	size_t at = t->heap_at;

	if (!l || at == 0)
		return;
	struct loop_timer *last = l->heap[l->n--];

	t->heap_at = 0;
	if (last == t)
		return;
	heap_put(l, at, last);
	heap_up(l, at);
	heap_down(l, last->heap_at);
}

int loop_timer_set(struct loop *l, struct loop_timer *t, int64_t in_us,
		   loop_timer_fn *fn, void *ctx)
{
	loop_timer_del(t);
	if (l->n + 2 > l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 64;
		struct loop_timer **h = realloc(l->heap, cap * sizeof(struct loop_timer *));

		if (!h)
			return -ENOMEM;
		l->heap = h;
		l->cap = cap;
	}
	*t = (struct loop_timer){ .loop = l, .at_us = cl_mono_us() + in_us, .fn = fn, .ctx = ctx };
	l->n++;
	heap_put(l, l->n, t);
	heap_up(l, l->n);
	return 0;
}

static void run_timers(struct loop *l)
{
	/* only those due now: a timer that re-arms with 0 waits for the next round */
	int64_t now = l->now_us;

	while (l->n && l->heap[1]->at_us <= now && !l->stop) {
		struct loop_timer *t = l->heap[1];

		loop_timer_del(t);
		t->fn(t);
	}
}

int loop_run(struct loop *l)
{
	l->stop = false;
	while (!l->stop) {
		int wait_ms = -1;

		if (l->n) {
			int64_t d = l->heap[1]->at_us - cl_mono_us();

			wait_ms = d <= 0 ? 0 : d > 3600000000LL ? 3600000 : (int)((d + 999) / 1000);
		}
		int n = epoll_wait(l->ep_fd, l->ev, ROUND_EVENTS, wait_ms);

		if (n < 0 && errno != EINTR)
			return -errno;
		l->now_us = cl_mono_us();
		l->ev_n = n > 0 ? n : 0;
		for (l->ev_at = 0; l->ev_at < l->ev_n && !l->stop;) {
			struct epoll_event *e = &l->ev[l->ev_at++];
			struct loop_io *io = e->data.ptr;

			if (io)
				io->fn(io, e->events);
		}
		l->ev_n = 0;
		if (!l->stop)
			run_timers(l);
	}
	return 0;
}

static void on_signal(struct loop_io *io, uint32_t events)
{
	struct loop *l = io->ctx;
	struct signalfd_siginfo si;

	(void)events;
	while (read(io->fd, &si, sizeof si) == (ssize_t)sizeof si)
		l->sig_fn(l, (int)si.ssi_signo, l->sig_ctx);
}

int loop_signals(struct loop *l, const int *signos, loop_signal_fn *fn, void *ctx)
{
	sigset_t set;

	sigemptyset(&set);
	for (; *signos; signos++)
		sigaddset(&set, *signos);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	l->sig_fd = signalfd(l->sig_fd, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (l->sig_fd < 0)
		return -errno;
	l->sig_fn = fn;
	l->sig_ctx = ctx;
	return loop_io_add(l, &l->sig_io, l->sig_fd, EPOLLIN, on_signal, l);
}

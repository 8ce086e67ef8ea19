/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "loop/loop.h"

#include <signal.h>
#include <stdlib.h>

static int fired[64], nfired;

static void on_timer(struct loop_timer *t)
{
	fired[nfired++] = (int)(intptr_t)t->ctx;
}

static void on_last(struct loop_timer *t)
{
	loop_stop(t->ctx);
}

static void timers_fire_in_the_order_of_their_times_and_not_when_deleted(void **state)
{
	static const int order[] = { 5, 1, 9, 3, 7, 2, 8, 4, 6, 0 };
	struct loop_timer t[10] = { { .loop = NULL } }, last = { .loop = NULL };
	struct loop *l;

	(void)state;
	nfired = 0;
	assert_int_equal(loop_new(&l, NULL), 0);
	for (size_t i = 0; i < 10; i++)
		assert_int_equal(loop_timer_set(l, &t[order[i]], order[i] * 1000, on_timer,
						(void *)(intptr_t)order[i]), 0);
	loop_timer_del(&t[4]);
	loop_timer_del(&t[4]);			/* twice is fine */
	assert_int_equal(loop_timer_set(l, &t[0], 9500, on_timer, (void *)(intptr_t)0), 0);	/* moved */
	assert_int_equal(loop_timer_set(l, &last, 15000, on_last, l), 0);
	assert_int_equal(loop_run(l), 0);
	static const int want[] = { 1, 2, 3, 5, 6, 7, 8, 9, 0 };

	assert_int_equal(nfired, 9);
	for (int i = 0; i < 9; i++)
		assert_int_equal(fired[i], want[i]);
	loop_free(l);
}

static void many_timers_set_and_deleted_at_random_keep_their_order(void **state)
{
	enum { N = 500 };
	struct loop_timer *t = calloc(N, sizeof *t), last = { .loop = NULL };
	struct loop *l;
	unsigned r = 12345;
	bool on[N] = { false };
	int left = 0;

	(void)state;
	assert_non_null(t);
	assert_int_equal(loop_new(&l, NULL), 0);
	for (int i = 0; i < 20000; i++) {
		r = r * 1103515245u + 12345u;
		unsigned k = (r >> 8) % N;

		if ((r >> 4) & 1) {
			assert_int_equal(loop_timer_set(l, &t[k], 3600000000LL + (r >> 3), on_timer, NULL), 0);
			on[k] = true;
		} else {
			loop_timer_del(&t[k]);
			on[k] = false;
		}
		assert_int_equal(t[k].heap_at != 0, on[k]);
	}
	nfired = 0;
	for (int i = 0; i < N; i++)
		left += on[i];
	assert_true(left > 100);
	/* none is due: only the last one fires */
	assert_int_equal(loop_timer_set(l, &last, 0, on_last, l), 0);
	assert_int_equal(loop_run(l), 0);
	assert_int_equal(nfired, 0);
	for (int i = 0; i < N; i++)
		loop_timer_del(&t[i]);
	loop_free(l);
	free(t);
}

struct pair { struct loop *l; struct loop_io a, b; int calls; };

static void on_either(struct loop_io *io, uint32_t events)
{
	struct pair *p = io->ctx;

	(void)events;
	p->calls++;
	/* both are readable: whoever comes first takes the other away */
	loop_io_del(&p->a);
	loop_io_del(&p->b);
	loop_stop(p->l);
}

static void a_watch_deleted_by_another_handler_is_not_called_any_more(void **state)
{
	struct pair p = { .calls = 0 };
	int x[2], y[2];

	(void)state;
	assert_int_equal(pipe(x), 0);
	assert_int_equal(pipe(y), 0);
	assert_int_equal(write(x[1], "1", 1), 1);
	assert_int_equal(write(y[1], "1", 1), 1);
	assert_int_equal(loop_new(&p.l, NULL), 0);
	assert_int_equal(loop_io_add(p.l, &p.a, x[0], EPOLLIN, on_either, &p), 0);
	assert_int_equal(loop_io_add(p.l, &p.b, y[0], EPOLLIN, on_either, &p), 0);
	assert_int_equal(loop_run(p.l), 0);
	assert_int_equal(p.calls, 1);
	loop_io_del(&p.a);			/* safe when not watched */
	assert_int_equal(loop_io_mod(&p.a, EPOLLIN), -EINVAL);
	loop_free(p.l);
	for (int i = 0; i < 2; i++) {
		(void)close(x[i]);
		(void)close(y[i]);
	}
}

static int seen_signal;

static void on_signal(struct loop *l, int signo, void *ctx)
{
	seen_signal = signo;
	assert_ptr_equal(ctx, &seen_signal);
	loop_stop(l);
}

static void signals_arrive_in_the_loop(void **state)
{
	static const int signos[] = { SIGUSR1, SIGTERM, 0 };
	struct loop *l;

	(void)state;
	assert_int_equal(loop_new(&l, NULL), 0);
	assert_int_equal(loop_signals(l, signos, on_signal, &seen_signal), 0);
	assert_int_equal(raise(SIGTERM), 0);
	assert_int_equal(loop_run(l), 0);
	assert_int_equal(seen_signal, SIGTERM);
	loop_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(timers_fire_in_the_order_of_their_times_and_not_when_deleted),
		cmocka_unit_test(many_timers_set_and_deleted_at_random_keep_their_order),
		cmocka_unit_test(a_watch_deleted_by_another_handler_is_not_called_any_more),
		cmocka_unit_test(signals_arrive_in_the_loop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

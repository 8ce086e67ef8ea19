/* SPDX-License-Identifier: Apache-2.0 */
/* The journal: crashes at any place, rotation, retention, a damaged past. */
#include "ledger_world.h"

#include <signal.h>
#include <sys/wait.h>

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof *w);

	assert_non_null(w);
	world_make(w);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	world_end(*state);
	free(*state);
	return 0;
}

/* Records after the last checkpoint, as a crash finds them: no stop, no head. */
static void crash_after(struct world *w, int n)
{
	world_open(w, NULL);
	world_write(w, 0, n);
	assert_int_equal(journal_commit(&w->j, NULL), 0);
	journal_done(&w->j);
}

static uint64_t head_offset(struct world *w)
{
	struct ledger_head head;
	size_t n, pos = SEGMENT_HEADER_SIZE;
	char *p = world_read(w, "segment-00000001.cl", &n);
	struct frame f = { 0 };

	assert_int_equal(head_read(w->dirfd, &head, NULL), 1);
	while (f.number < head.number) {
		assert_int_equal(frame_decode((struct span){ p + pos, n - pos }, &f), 1);
		pos += f.size;
	}
	free(p);
	return pos;
}

static void a_crash_in_the_middle_of_any_write_is_repaired_and_recorded(void **state)
{
	struct world *w = *state;
	size_t n, nhead, tried = 0;
	uint64_t torn = 0;

	crash_after(w, 7);
	char *p = world_read(w, "segment-00000001.cl", &n);
	char *head = world_read(w, "head", &nhead);
	size_t from = (size_t)head_offset(w);

	assert_true(from < n);
	/* each is some waits for the disk: every seventh byte reaches every part of a frame */
	for (size_t cut = from; cut <= n; cut += 7) {
		tried++;
		world_put(w, "segment-00000001.cl", p, cut);
		world_put(w, "head", head, nhead);
		world_open(w, NULL);
		world_write(w, 0, 3);
		world_close(w);
		torn += world_verified(w).torn;
	}
	/* all but those at the borders between frames */
	assert_true(tried > 50 && torn > tried / 2 && torn < tried);
	free(p);
	free(head);
}

static void what_is_cut_is_kept_beside(void **state)
{
	struct world *w = *state;
	size_t n, m;
	char name[64];

	crash_after(w, 7);
	char *p = world_read(w, "segment-00000001.cl", &n);

	world_put(w, "segment-00000001.cl", p, n - 1);
	world_open(w, NULL);
	world_close(w);
	struct frame f = { 0 };
	size_t pos = SEGMENT_HEADER_SIZE, last = pos;

	while (pos < n) {
		last = pos;
		assert_int_equal(frame_decode((struct span){ p + pos, n - pos }, &f), 1);
		pos += f.size;
	}
	(void)snprintf(name, sizeof name, "torn-00000001-%zu", last);
	char *kept = world_read(w, name, &m);

	assert_int_equal(m, n - 1 - last);
	assert_memory_equal(kept, p + last, m);
	free(kept);
	free(p);
}

static void zeros_and_rubbish_at_the_end_are_cut_too(void **state)
{
	struct world *w = *state;
	size_t n;

	crash_after(w, 7);
	char *p = world_read(w, "segment-00000001.cl", &n);
	char *more = calloc(1, n + 5000);

	assert_non_null(more);
	memcpy(more, p, n);
	world_put(w, "segment-00000001.cl", more, n + 5000);
	world_open(w, NULL);
	world_close(w);
	assert_int_equal(world_verified(w).torn, 1);
	memset(more + n, 0xa5, 5000);
	world_put(w, "segment-00000001.cl", more, n + 5000);
	struct cl_err err;

	/* the head is newer now than this copy: that is no crash */
	assert_int_equal(journal_open(&w->j, w->dirfd, NULL, &err), -EBADMSG);
	free(more);
	free(p);
}

static void damage_before_the_signed_head_stops_the_start_and_changes_nothing(void **state)
{
	struct world *w = *state;
	struct cl_err err = { 0 };
	size_t n, m;

	world_open(w, NULL);
	world_write(w, 0, 30);
	world_close(w);
	char *p = world_read(w, "segment-00000001.cl", &n);

	for (size_t i = 0; i < n; i += 13) {
		p[i] ^= 4;
		world_put(w, "segment-00000001.cl", p, n);
		assert_int_equal(journal_open(&w->j, w->dirfd, NULL, &err), -EBADMSG);
		char *q = world_read(w, "segment-00000001.cl", &m);

		assert_int_equal(m, n);
		assert_memory_equal(p, q, n);
		free(q);
		p[i] ^= 4;
	}
	world_put(w, "segment-00000001.cl", p, n);
	assert_int_equal(unlinkat(w->dirfd, "segment-00000001.cl", 0), 0);
	assert_int_equal(journal_open(&w->j, w->dirfd, NULL, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "missing"));
	free(p);
}

static void a_lost_signing_key_does_not_go_unseen(void **state)
{
	struct world *w = *state;
	struct cl_err err = { 0 };

	world_open(w, NULL);
	world_close(w);
	assert_int_equal(unlinkat(w->dirfd, "key", 0), 0);
	assert_int_equal(journal_open(&w->j, w->dirfd, NULL, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "key"));
	(void)world_verified(w);	/* the public key beside it is still the old one */
}

static void retention_deletes_the_oldest_and_says_so(void **state)
{
	struct world *w = *state;
	const struct journal_options opt = { .segment_bytes = 1500, .check_every = 5, .keep_segments = 3 };

	world_open(w, &opt);
	world_write(w, 0, 120);
	world_close(w);
	struct audit_report rep = world_verified(w);

	assert_int_equal(rep.segments, 3);
	assert_true(rep.first > 50);
	assert_int_equal(rep.pruned_to, rep.first - 1);
}

static void a_batch_that_is_too_large_is_said_before_and_numbers_stay(void **state)
{
	struct world *w = *state;
	struct record r;
	uint64_t number = 0;
	int x, n = 0;

	world_open(w, NULL);
	record_begin(&r, RECORD_ALERT, NULL);
	record_str(&r, RF_EVENT, "x");
	record_str(&r, RF_REASON, "y");
	char detail[1000];

	memset(detail, 'd', sizeof detail);
	record_text(&r, RF_DETAIL, (struct span){ detail, sizeof detail });
	while ((x = journal_append(&w->j, r.kind, ROLE_API, false, SPAN(""), (struct span){ r.body, r.n },
				   &number, NULL)) == 0)
		n++;
	assert_int_equal(x, -E2BIG);
	assert_true(n > 900);
	assert_int_equal(journal_commit(&w->j, NULL), 0);
	assert_int_equal(journal_append(&w->j, r.kind, ROLE_API, false, SPAN(""),
					(struct span){ r.body, r.n }, &number, NULL), 0);
	assert_int_equal(number, n + 3);	/* start, checkpoint, n, this */
	world_close(w);
	(void)world_verified(w);
}

/* A child that is killed while it writes as fast as it can; again and again. */
static void kill_9_while_writing_and_rotating_always_opens_again(void **state)
{
	struct world *w = *state;
	const struct journal_options opt = { .segment_bytes = 6000, .check_every = 7 };
	uint64_t last = 0;

	for (int round = 0; round < 12; round++) {
		int pipes[2];
		uint64_t told = 0, got;

		assert_int_equal(pipe(pipes), 0);
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (pid == 0) {
			world_open(w, &opt);
			for (int i = 0;; i++) {
				struct record r;

				record_begin(&r, RECORD_TENANT_STATE, "alice");
				record_str(&r, RF_STATE, "running");
				world_append(w, &r);
				if (i % 2 && journal_commit(&w->j, NULL))
					_exit(1);
				if (journal_due(&w->j) && journal_checkpoint(&w->j, NULL))
					_exit(2);
				if (write(pipes[1], &w->j.number, sizeof w->j.number) < 0)
					_exit(3);
			}
		}
		(void)close(pipes[1]);
		for (int k = 0; k < 5 + 31 * round; k++)
			if (read(pipes[0], &got, sizeof got) == sizeof got)
				told = got;
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		while (read(pipes[0], &got, sizeof got) == sizeof got)
			told = got;
		(void)close(pipes[0]);
		assert_true(told > last);
		world_open(w, &opt);
		world_close(w);
		last = world_verified(w).last;
		assert_true(last > told);
	}
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_crash_in_the_middle_of_any_write_is_repaired_and_recorded),
		T(what_is_cut_is_kept_beside),
		T(zeros_and_rubbish_at_the_end_are_cut_too),
		T(damage_before_the_signed_head_stops_the_start_and_changes_nothing),
		T(a_lost_signing_key_does_not_go_unseen),
		T(retention_deletes_the_oldest_and_says_so),
		T(a_batch_that_is_too_large_is_said_before_and_numbers_stay),
		T(kill_9_while_writing_and_rotating_always_opens_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

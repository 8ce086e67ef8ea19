/* SPDX-License-Identifier: Apache-2.0 */
/* The conversation store: what a crash leaves, and whose rows are whose. */
#include "test.h"

#include "store/conversation.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

static char dir[64], db[96];
static struct cvs *S;

static void reopen(void)
{
	struct cl_err err = { 0 };

	cvs_close(S);
	if (cvs_open(&S, db, &err))
		fail_msg("%s", cl_err_str(&err));
}

static int setup(void **state)
{
	(void)state;
	(void)snprintf(dir, sizeof(dir), "/tmp/cl-cvs-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	(void)snprintf(db, sizeof(db), "%s/conversation.db", dir);
	S = NULL;
	reopen();
	return cvs_tenant_put(S, 1, SPAN("alice"), NULL) || cvs_tenant_put(S, 2, SPAN("bob"), NULL);
}

static int teardown(void **state)
{
	(void)state;
	cvs_close(S);
	test_rm_tree(dir);
	return 0;
}

static int add(struct cvs *s, uint32_t no, const char *text, int64_t *id)
{
	struct cvs_message m = { .no = no, .from = CVS_OWNER, .text = span_str(text), .at_ms = 5 };
	int64_t update;
	int rc = cvs_message_add(s, &m, NULL);

	*id = m.id;
	return rc ? rc : cvs_update_add(s, no, "message", SPAN("{}"), m.id, &update, NULL);
}

static void count(void *ctx, const struct cvs_message *m)
{
	(void)m;
	++*(int *)ctx;
}

static int messages(uint32_t no)
{
	int n = 0;

	assert_true(cvs_history(S, no, 0, 1000000, count, &n, NULL) >= 0);
	return n;
}

static void what_was_accepted_is_there_after_kill_and_what_was_not_is_not(void **state)
{
	int pipefd[2], status, told = 0;
	char byte;
	pid_t pid;

	(void)state;
	cvs_close(S);
	S = NULL;
	assert_int_equal(pipe(pipefd), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct cvs *s = NULL;
		int64_t id;

		close(pipefd[0]);
		if (cvs_open(&s, db, NULL))
			_exit(1);
		for (;;) {
			/* one byte for each message that the store has accepted */
			if (cvs_begin(s, NULL) || add(s, 1, "x", &id) || cvs_commit(s, NULL) || write(pipefd[1], "x", 1) != 1)
				_exit(2);
		}
	}
	close(pipefd[1]);
	while (told < 40 && read(pipefd[0], &byte, 1) == 1)
		told++;
	assert_int_equal(kill(pid, SIGKILL), 0);
	while (read(pipefd[0], &byte, 1) == 1)
		told++;
	close(pipefd[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	reopen();
	/* all that were told, and at most the one that was committed but not yet told */
	assert_in_range(messages(1), told, told + 1);
	assert_int_equal(cvs_waiting(S, 1, NULL), messages(1));
}

static void an_update_without_its_message_cannot_be(void **state)
{
	int64_t id;

	(void)state;
	assert_int_equal(cvs_begin(S, NULL), 0);
	assert_int_equal(add(S, 1, "half", &id), 0);
	cvs_rollback(S);
	reopen();
	assert_int_equal(messages(1), 0);
	assert_int_equal(cvs_update_from_end(S, 1, 1, &id, NULL), 0);
	assert_int_equal(id, 0);
}

static void numbers_are_each_tenants_own_and_never_used_twice(void **state)
{
	int64_t a, b;

	(void)state;
	assert_int_equal(add(S, 1, "one", &a), 0);
	assert_int_equal(add(S, 2, "one", &b), 0);
	assert_int_equal(a, 1);
	assert_int_equal(b, 1);
	assert_int_equal(cvs_message_rm(S, 1, 1, NULL), 0);
	assert_int_equal(add(S, 1, "two", &a), 0);
	assert_int_equal(a, 2);
	assert_int_equal(messages(2), 1);
	assert_int_equal(add(S, 3, "nobody", &a), -ENOENT);
}

static void confirming_delivers_only_what_is_below_the_offset(void **state)
{
	int64_t id, first;

	(void)state;
	for (int i = 0; i < 3; i++)
		assert_int_equal(add(S, 1, "x", &id), 0);
	assert_int_equal(add(S, 2, "x", &id), 0);
	assert_int_equal(cvs_update_confirm(S, 1, 3, NULL), 2);
	assert_int_equal(cvs_waiting(S, 1, NULL), 1);
	assert_int_equal(cvs_waiting(S, 2, NULL), 1);
	assert_int_equal(cvs_update_from_end(S, 1, 100, &first, NULL), 0);
	assert_int_equal(first, 3);
	assert_int_equal(cvs_update_confirm(S, 1, 3, NULL), 0);
}

static void an_invitation_works_once_in_time_and_on_its_channel(void **state)
{
	uint8_t one[CVS_HASH] = { 1 }, two[CVS_HASH] = { 2 };
	uint32_t no = 0;

	(void)state;
	assert_int_equal(cvs_invite_add(S, one, 2, SPAN("telegram"), 1000, NULL), 0);
	assert_int_equal(cvs_invite_add(S, two, 2, SPAN("telegram"), 1000, NULL), 0);
	assert_int_equal(cvs_invite_use(S, one, SPAN("web"), 10, &no, NULL), -ENOENT);
	assert_int_equal(cvs_invite_use(S, one, SPAN("telegram"), 10, &no, NULL), 0);
	assert_int_equal(no, 2);
	assert_int_equal(cvs_invite_use(S, one, SPAN("telegram"), 10, &no, NULL), -EALREADY);
	assert_int_equal(cvs_invite_use(S, two, SPAN("telegram"), 1001, &no, NULL), -ETIME);
}

static void an_address_belongs_to_one_tenant(void **state)
{
	struct cvs_binding b = { .channel = SPAN("telegram"), .address = SPAN("555"), .no = 1 };
	uint32_t no = 0;

	(void)state;
	assert_int_equal(cvs_binding_add(S, &b, NULL), 0);
	b.no = 2;
	assert_int_equal(cvs_binding_add(S, &b, NULL), -EEXIST);
	assert_int_equal(cvs_binding_owner(S, SPAN("telegram"), SPAN("555"), &no, NULL), 0);
	assert_int_equal(no, 1);
	assert_int_equal(cvs_binding_rm(S, 2, SPAN("telegram"), SPAN("555"), NULL), -ENOENT);
	assert_int_equal(cvs_binding_rm(S, 1, SPAN("telegram"), SPAN("555"), NULL), 0);
	assert_int_equal(cvs_binding_owner(S, SPAN("telegram"), SPAN("555"), &no, NULL), -ENOENT);
}

static void removing_a_tenant_removes_every_row_of_it_and_none_of_others(void **state)
{
	struct cvs_binding b = { .channel = SPAN("web"), .address = SPAN("s"), .no = 1 };
	uint32_t no;
	int64_t id;

	(void)state;
	assert_int_equal(add(S, 1, "hers", &id), 0);
	assert_int_equal(add(S, 2, "his", &id), 0);
	assert_int_equal(cvs_binding_add(S, &b, NULL), 0);
	assert_int_equal(cvs_media_add(S, &(struct cvs_media){ .handle = SPAN("h"), .no = 1, .kind = SPAN("photo") }, NULL), 0);
	assert_int_equal(cvs_tenant_rm(S, 1, NULL), 0);
	assert_int_equal(messages(1), 0);
	assert_int_equal(messages(2), 1);
	assert_int_equal(cvs_binding_owner(S, SPAN("web"), SPAN("s"), &no, NULL), -ENOENT);
	assert_int_equal(cvs_tenant_rm(S, 1, NULL), -ENOENT);
}

static void the_fate_of_what_goes_out_is_kept(void **state)
{
	struct cvs_message m = { .no = 1, .from = CVS_AGENT, .state = CVS_QUEUED, .text = SPAN("out") };
	struct cvs_out o = { .no = 1, .op = SPAN("send"), .channel = SPAN("telegram"), .address = SPAN("5"),
			     .state = CVS_QUEUED };
	CL_BUF struct buf words = { 0 };
	int state_now = -1;

	(void)state;
	buf_init(&words, 1024);
	assert_int_equal(cvs_message_add(S, &m, NULL), 0);
	o.message_id = m.id;
	assert_int_equal(cvs_out_add(S, &o, 1, NULL), 0);
	assert_int_equal(cvs_out_state(S, o.id, CVS_SENDING, SPAN(""), 2, NULL), 0);
	reopen();
	assert_int_equal(cvs_out_state(S, o.id, CVS_UNKNOWN, SPAN("crash"), 3, NULL), 0);
	assert_int_equal(cvs_out_fate(S, 1, m.id, &state_now, &words, NULL), 0);
	assert_int_equal(state_now, CVS_UNKNOWN);
	assert_true(span_eq_str(buf_span(&words), "crash"));
	assert_int_equal(cvs_out_fate(S, 2, m.id, &state_now, &words, NULL), -ENOENT);
}

static void a_channels_position_moves_only_with_its_updates(void **state)
{
	int64_t at = -1, id;

	(void)state;
	assert_int_equal(cvs_channel_offset(S, SPAN("telegram"), &at, NULL), 0);
	assert_int_equal(at, 0);
	assert_int_equal(cvs_begin(S, NULL), 0);
	assert_int_equal(add(S, 1, "x", &id), 0);
	assert_int_equal(cvs_channel_offset_put(S, SPAN("telegram"), 8, NULL), 0);
	cvs_rollback(S);
	assert_int_equal(cvs_channel_offset(S, SPAN("telegram"), &at, NULL), 0);
	assert_int_equal(at, 0);
	assert_int_equal(messages(1), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(what_was_accepted_is_there_after_kill_and_what_was_not_is_not),
		T(an_update_without_its_message_cannot_be),
		T(numbers_are_each_tenants_own_and_never_used_twice),
		T(confirming_delivers_only_what_is_below_the_offset),
		T(an_invitation_works_once_in_time_and_on_its_channel),
		T(an_address_belongs_to_one_tenant),
		T(removing_a_tenant_removes_every_row_of_it_and_none_of_others),
		T(the_fate_of_what_goes_out_is_kept),
		T(a_channels_position_moves_only_with_its_updates),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

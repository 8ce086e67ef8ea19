/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of cloisterd and of a tenant, with the real cloisterd, spawner and
 * init, and stand-ins for the rest (cloisterd_standin.c). Needs root.
 * usage: cloisterd_life CLOISTERD SPAWNER INIT STANDIN AGENT
 */
#include "cloisterd_world.h"

#include "sandbox/plan.h"

#include <signal.h>
#include <sodium.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- programs ---------------------------------------------------------------------------- */

static void a_start_and_a_stop_leave_nothing(void **state)
{
	(void)state;
	daemon_up();
	assert_int_equal(kill(daemon_pid, SIGTERM), 0);
	assert_int_equal(daemon_ended(), 0);
	assert_int_equal(leftovers(), 0);
	/* and again in the same directories */
	daemon_up();
	assert_int_equal(kill(daemon_pid, SIGINT), 0);
	assert_int_equal(daemon_ended(), 0);
}

static void each_killed_program_is_started_again(void **state)
{
	static const char *const all[] = { "cloister-ledger", "cloister-broker", "cloister-api",
					   "cloister-model-sim", "cloister-spawner" };

	(void)state;
	daemon_up();
	for (size_t i = 0; i < CL_ARRAY_LEN(all); i++) {
		pid_t old = program_other(all[i], 0);

		assert_int_equal(kill(old, SIGKILL), 0);
		(void)program_other(all[i], old);
	}
}

static void a_killed_cloisterd_leaves_no_program_twice(void **state)
{
	(void)state;
	daemon_up();
	pid_t old = program_pid("cloister-broker");

	assert_int_equal(kill(daemon_pid, SIGKILL), 0);
	assert_true(daemon_ended() == SIGKILL);
	daemon_up();
	reap_orphans();
	assert_int_not_equal(program_pid("cloister-broker"), old);
	assert_int_equal(kill(old, 0), -1);
}

static void a_program_that_cannot_start_refuses_the_start_with_words(void **state)
{
	char said[400], p[100];

	(void)state;
	daemon_start("--pass", "broker:--die");
	daemon_said(said, sizeof said);
	assert_non_null(strstr(said, "E "));
	assert_non_null(strstr(said, "cloister-broker"));
	int status = daemon_ended();

	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	assert_int_equal(leftovers(), 0);
	path_of(p, sizeof p, "bin/cloister-ledger");
	assert_int_equal(unlink(p), 0);
	daemon_start(NULL, NULL);
	daemon_said(said, sizeof said);
	assert_non_null(strstr(said, "cannot be executed"));
	status = daemon_ended();
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
}

static void a_second_one_on_the_same_directory_ends_with_3(void **state)
{
	pid_t first;
	char said[400];
	int first_ready;

	(void)state;
	daemon_up();
	first = daemon_pid;
	first_ready = ready_fd;
	ready_fd = -1;
	daemon_start(NULL, NULL);
	daemon_said(said, sizeof said);
	int status = daemon_ended();

	daemon_pid = first;
	(void)close(first_ready);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 3);
	assert_non_null(strstr(said, "another cloisterd"));
}

static void a_directory_that_others_changed_refuses_the_start(void **state)
{
	char said[400], p[100];

	(void)state;
	daemon_up();
	assert_int_equal(kill(daemon_pid, SIGTERM), 0);
	assert_int_equal(daemon_ended(), 0);
	path_of(p, sizeof p, "state/broker");
	assert_int_equal(chmod(p, 0755), 0);
	daemon_start(NULL, NULL);
	daemon_said(said, sizeof said);
	assert_non_null(strstr(said, "'broker'"));
	int status = daemon_ended();

	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
}

/* ---- tenants ------------------------------------------------------------------------------ */

static void a_tenant_runs_answers_exec_is_logged_frozen_woken_and_stopped(void **state)
{
	char out[200];

	(void)state;
	daemon_up();
	api_connect();
	tenant_up(1, "alice", "");
	assert_int_equal(exec_in(1, "echo", "hello", out, sizeof out), 5);
	assert_string_equal(out, "hello\n");

	struct got *g = api_ask(MSG_TENANT_LOGS, &(struct msg_tenant_logs){ .no = 1 }, NULL, 0);

	assert_int_equal(g->m.reply.code, 0);
	assert_true(g->nfds >= 1);
	ssize_t k = read(g->fds[0], out, sizeof out - 1);

	out[k > 0 ? k : 0] = '\0';
	assert_non_null(strstr(out, "agent started"));
	for (uint32_t i = 0; i < g->nfds; i++)
		(void)close(g->fds[i]);

	assert_int_equal(api_do(MSG_TENANT_FREEZE, &(struct msg_tenant_freeze){ .no = 1 }), 0);
	(void)wait_state(1, TENANT_DORMANT);
	assert_int_equal(api_do(MSG_TENANT_WAKE, &(struct msg_tenant_wake){ .no = 1 }), 0);
	(void)wait_state(1, TENANT_RUNNING);
	/* also out of the cold: stop finds it frozen */
	assert_int_equal(api_do(MSG_TENANT_FREEZE, &(struct msg_tenant_freeze){ .no = 1 }), 0);
	assert_int_equal(api_do(MSG_TENANT_STOP, &(struct msg_tenant_stop){ .no = 1, .grace_ms = 2000 }), 0);
	(void)wait_state(1, TENANT_STOPPED);
}

static void what_is_not_as_the_plan_says_does_not_run(void **state)
{
	char p[200];

	(void)state;
	daemon_up();
	api_connect();
	assert_int_equal(api_do(MSG_TENANT_START, &(struct msg_tenant_start){ .no = 3 }), ENOENT);
	assert_int_equal(put_plan(3, "carol", "", 64 << 20), 0);
	path_of(p, sizeof p, "images/test/files.sha256");
	int fd = open(p, O_WRONLY | O_APPEND | O_CLOEXEC);

	assert_int_equal(write(fd, "x", 1), 1);
	(void)close(fd);
	assert_int_equal(api_do(MSG_TENANT_START, &(struct msg_tenant_start){ .no = 3 }), 0);
	(void)wait_state(3, TENANT_FAILED);
	assert_non_null(memmem(last.m.tenant_state.reason.p, last.m.tenant_state.reason.n,
			       "not the one of the plan", 23));
}

static void an_agent_that_does_not_come_up_fails_and_the_rest_goes_on(void **state)
{
	char out[100];

	(void)state;
	daemon_up();
	api_connect();
	tenant_up(1, "alice", "");
	assert_int_equal(put_plan(2, "bob", "die", 64 << 20), 0);
	assert_int_equal(api_do(MSG_TENANT_START, &(struct msg_tenant_start){ .no = 2 }), 0);
	(void)wait_state(2, TENANT_FAILED);
	assert_non_null(memmem(last.m.tenant_state.reason.p, last.m.tenant_state.reason.n,
			       "exit code 3", 11));
	assert_int_equal(exec_in(1, "echo", "still", out, sizeof out), 5);
}

static void a_limit_that_is_hit_is_an_event_in_plain_words(void **state)
{
	char out[100];
	bool memory = false, pids = false;

	(void)state;
	daemon_up();
	api_connect();
	tenant_up(1, "alice", "");
	/* more processes than 64, and they stay: the hit is counted */
	(void)exec_in(1, "fork", "", out, sizeof out);
	for (int i = 0; i < 100 && !pids; i++)
		if (api_read(&last, 200) && last.type == MSG_TENANT_EVENT)
			pids = span_eq_str(last.m.tenant_event.kind, "pids");
	assert_true(pids);
	assert_int_equal(api_do(MSG_TENANT_STOP, &(struct msg_tenant_stop){ .no = 1 }), 0);

	assert_int_equal(put_plan(1, "alice", "eat", 32 << 20), 0);
	assert_int_equal(api_do(MSG_TENANT_START, &(struct msg_tenant_start){ .no = 1 }), 0);
	for (int i = 0; i < 100 && !memory; i++)
		if (api_read(&last, 200) && last.type == MSG_TENANT_EVENT)
			memory = span_eq_str(last.m.tenant_event.kind, "memory");
	assert_true(memory);
}

static void a_killed_cloisterd_adopts_what_runs_without_touching_it(void **state)
{
	char out[100];

	(void)state;
	daemon_up();
	api_connect();
	tenant_up(1, "alice", "");
	assert_int_equal(exec_in(1, "write", "kept", out, sizeof out), 0);
	uint32_t pid = wait_state(1, TENANT_RUNNING);

	for (int i = 0; i < 3; i++) {
		daemon_killed_and_up_again();
		assert_int_equal(wait_state(1, TENANT_RUNNING), pid);
		assert_int_equal(exec_in(1, "echo", "again", out, sizeof out), 5);
		assert_int_equal(exec_in(1, "has", "kept", out, sizeof out), 0);
	}
	/* a frozen one stays frozen */
	assert_int_equal(api_do(MSG_TENANT_FREEZE, &(struct msg_tenant_freeze){ .no = 1 }), 0);
	daemon_killed_and_up_again();
	assert_int_equal(wait_state(1, TENANT_DORMANT), pid);
	assert_int_equal(api_do(MSG_TENANT_WAKE, &(struct msg_tenant_wake){ .no = 1 }), 0);
	assert_int_equal(wait_state(1, TENANT_RUNNING), pid);
}

static void a_sandbox_that_died_meanwhile_is_started_again(void **state)
{
	(void)state;
	daemon_up();
	api_connect();
	tenant_up(1, "alice", "");
	uint32_t pid = wait_state(1, TENANT_RUNNING);

	assert_int_equal(kill(daemon_pid, SIGKILL), 0);
	assert_true(daemon_ended() == SIGKILL);
	assert_int_equal(kill((pid_t)pid, SIGKILL), 0);
	(void)usleep(200000);
	reap_orphans();
	daemon_up();
	api_connect();
	assert_int_not_equal(wait_state(1, TENANT_RUNNING), pid);
}

static void the_agent_outlives_every_other_program(void **state)
{
	static const char *const all[] = { "cloister-ledger", "cloister-broker", "cloister-api",
					   "cloister-spawner" };
	char out[100];

	(void)state;
	daemon_up();
	api_connect();
	tenant_up(1, "alice", "");
	uint32_t pid = wait_state(1, TENANT_RUNNING);

	for (size_t i = 0; i < CL_ARRAY_LEN(all); i++) {
		pid_t old = program_other(all[i], 0);

		assert_int_equal(kill(old, SIGKILL), 0);
		(void)program_other(all[i], old);
		(void)usleep(300000);
		api_connect();
		assert_int_equal(wait_state(1, TENANT_RUNNING), pid);
		assert_int_equal(exec_in(1, "echo", "x", out, sizeof out), 5);
	}
	/* and the new spawner makes new ones */
	tenant_up(2, "bob", "");
}

static void resets_and_snapshots_bring_back_what_was_there(void **state)
{
	char out[100];
	struct msg_snapshot create = { .no = 1, .op = 0, .name = SPAN("good") };
	struct msg_snapshot restore = { .no = 1, .op = 3, .name = SPAN("good") };
	struct msg_tenant_reset reset = { .no = 1, .level = RESET_WORKSPACE };

	(void)state;
	daemon_up();
	api_connect();
	tenant_up(1, "alice", "");
	assert_int_equal(exec_in(1, "write", "precious", out, sizeof out), 0);
	assert_int_equal(api_do(MSG_SNAPSHOT, &create), 0);
	(void)wait_state(1, TENANT_RUNNING);
	assert_int_equal(api_do(MSG_SNAPSHOT, &create), EEXIST);

	assert_int_equal(api_do(MSG_TENANT_RESET, &reset), 0);
	(void)wait_state(1, TENANT_RUNNING);
	assert_int_equal(exec_in(1, "has", "precious", out, sizeof out), 1);

	assert_int_equal(api_do(MSG_SNAPSHOT, &restore), 0);
	(void)wait_state(1, TENANT_RUNNING);
	assert_int_equal(exec_in(1, "has", "precious", out, sizeof out), 0);

	struct got *g = api_ask(MSG_SNAPSHOT, &(struct msg_snapshot){ .no = 1, .op = 1 }, NULL, 0);

	assert_int_equal(g->type, MSG_LISTING);
	assert_non_null(memmem(g->m.listing.text.p, g->m.listing.text.n, "name=good", 9));
	assert_non_null(memmem(g->m.listing.text.p, g->m.listing.text.n, "name=before-reset", 17));
	assert_int_equal(api_do(MSG_SNAPSHOT, &(struct msg_snapshot){ .no = 1, .op = 2,
								      .name = SPAN("good") }), 0);
	assert_int_equal(api_do(MSG_SNAPSHOT, &restore), ENOENT);
	assert_int_equal(api_do(MSG_TENANT_RESET, &(struct msg_tenant_reset){ .no = 1,
				.level = RESET_AGENT }), 0);
	(void)wait_state(1, TENANT_RUNNING);
	assert_int_equal(exec_in(1, "has", "precious", out, sizeof out), 0);
}

static void an_agent_that_broke_its_state_is_brought_back_from_the_last_good_one(void **state)
{
	char out[100];

	(void)state;
	daemon_up();
	api_connect();
	tenant_up(1, "alice", "state");
	assert_int_equal(exec_in(1, "write", ".openclaw/memory", out, sizeof out), 0);
	/* the second start finds a state, comes up with it, and so keeps it */
	assert_int_equal(api_do(MSG_TENANT_STOP, &(struct msg_tenant_stop){ .no = 1, .grace_ms = 1000 }), 0);
	tenant_up(1, "alice", "state");
	assert_int_equal(exec_in(1, "write", ".openclaw/bad", out, sizeof out), 0);
	assert_int_equal(exec_in(1, "write", "work", out, sizeof out), 0);
	assert_int_equal(api_do(MSG_TENANT_STOP, &(struct msg_tenant_stop){ .no = 1, .grace_ms = 1000 }), 0);
	assert_int_equal(api_do(MSG_TENANT_START, &(struct msg_tenant_start){ .no = 1 }), 0);
	(void)wait_state(1, TENANT_STARTING);
	(void)wait_state(1, TENANT_RUNNING);
	assert_int_equal(exec_in(1, "has", ".openclaw/bad", out, sizeof out), 1);
	assert_int_equal(exec_in(1, "has", ".openclaw/memory", out, sizeof out), 0);
	assert_int_equal(exec_in(1, "has", "work", out, sizeof out), 0);

	struct got *g = api_ask(MSG_SNAPSHOT, &(struct msg_snapshot){ .no = 1, .op = 1 }, NULL, 0);

	assert_non_null(memmem(g->m.listing.text.p, g->m.listing.text.n, "name=broken-", 12));
	assert_non_null(memmem(g->m.listing.text.p, g->m.listing.text.n, "of=state", 8));
}

/* kill -9 of cloisterd at moments spread over start, snapshot, reset, restore, stop. */
static void a_kill_at_any_moment_leaves_no_half_tenant(void **state)
{
	struct msg_snapshot create = { .no = 1, .op = 0 }, restore = { .no = 1, .op = 3,
								       .name = SPAN("good") };
	struct msg_tenant_reset reset = { .no = 1, .level = RESET_WORKSPACE };
	char out[100];

	(void)state;
	daemon_up();
	api_connect();
	tenant_up(1, "alice", "");
	assert_int_equal(exec_in(1, "write", "precious", out, sizeof out), 0);
	assert_int_equal(api_do(MSG_SNAPSHOT, &(struct msg_snapshot){ .no = 1, .op = 0,
								      .name = SPAN("good") }), 0);
	for (unsigned i = 0; i < 24; i++) {
		switch (i % 4) {
		case 0:
			(void)api_send(MSG_TENANT_RESET, &reset, NULL, 0);
			break;
		case 1:
			(void)api_send(MSG_SNAPSHOT, &restore, NULL, 0);
			break;
		case 2:
			(void)api_send(MSG_SNAPSHOT, &create, NULL, 0);
			break;
		default:
			(void)api_send(MSG_TENANT_STOP, &(struct msg_tenant_stop){ .no = 1 }, NULL, 0);
			(void)api_send(MSG_TENANT_START, &(struct msg_tenant_start){ .no = 1 }, NULL, 0);
			break;
		}
		(void)usleep(i * 1700);
		daemon_killed_and_up_again();
		/* as the api does after each of its starts */
		tenant_up(1, "alice", "");
		assert_int_equal(exec_in(1, "echo", "alive", out, sizeof out), 5);
	}
	/* nothing that was good is lost, whatever was interrupted */
	assert_int_equal(api_do(MSG_SNAPSHOT, &restore), 0);
	(void)wait_state(1, TENANT_RUNNING);
	assert_int_equal(exec_in(1, "has", "precious", out, sizeof out), 0);
}

static void a_removed_tenant_is_gone_with_all_that_was_its(void **state)
{
	char out[100], p[100];

	(void)state;
	daemon_up();
	api_connect();
	tenant_up(1, "alice", "");
	assert_int_equal(exec_in(1, "write", "x", out, sizeof out), 0);
	assert_int_equal(api_do(MSG_TENANT_RM, &(struct msg_tenant_rm){ .no = 1 }), 0);
	path_of(p, sizeof p, "state/tenants/1");
	assert_int_equal(faccessat(AT_FDCWD, p, F_OK, 0), -1);
	assert_int_equal(api_do(MSG_TENANT_START, &(struct msg_tenant_start){ .no = 1 }), ENOENT);
}

static void a_message_that_the_api_may_not_send_ends_the_api(void **state)
{
	(void)state;
	daemon_up();
	api_connect();
	pid_t old = program_pid("cloister-api");

	(void)api_send(MSG_TENANT_READY, &(struct msg_tenant_ready){ .no = 1 }, NULL, 0);
	old = program_other("cloister-api", old);
	/* nor a plan that leaves a check out; the new one has to be READY first */
	(void)usleep(300000);
	api_connect();
	(void)send_plan(5, "eve", "", 64 << 20, PLAN_THROWAWAY);
	(void)program_other("cloister-api", old);
}

int main(int argc, char **argv)
{
#define T(f) cmocka_unit_test_setup_teardown(f, make_world, clean_world)
	const struct CMUnitTest tests[] = {
		T(a_start_and_a_stop_leave_nothing),
		T(each_killed_program_is_started_again),
		T(a_killed_cloisterd_leaves_no_program_twice),
		T(a_program_that_cannot_start_refuses_the_start_with_words),
		T(a_second_one_on_the_same_directory_ends_with_3),
		T(a_directory_that_others_changed_refuses_the_start),
		T(a_message_that_the_api_may_not_send_ends_the_api),
		T(a_tenant_runs_answers_exec_is_logged_frozen_woken_and_stopped),
		T(what_is_not_as_the_plan_says_does_not_run),
		T(an_agent_that_does_not_come_up_fails_and_the_rest_goes_on),
		T(a_limit_that_is_hit_is_an_event_in_plain_words),
		T(a_killed_cloisterd_adopts_what_runs_without_touching_it),
		T(a_sandbox_that_died_meanwhile_is_started_again),
		T(the_agent_outlives_every_other_program),
		T(resets_and_snapshots_bring_back_what_was_there),
		T(an_agent_that_broke_its_state_is_brought_back_from_the_last_good_one),
		T(a_kill_at_any_moment_leaves_no_half_tenant),
		T(a_removed_tenant_is_gone_with_all_that_was_its),
	};

	if (argc < 6) {
		print_error("usage: cloisterd_life CLOISTERD SPAWNER INIT STANDIN AGENT\n");
		return 2;
	}
	if (geteuid() != 0) {
		print_error("needs root: skipped\n");
		return 77;
	}
	if (argc > 6)
		cmocka_set_test_filter(argv[6]);
	cloisterd = argv[1];
	spawner = argv[2];
	init = argv[3];
	standin = argv[4];
	agent = argv[5];
	if (sodium_init() < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
		return 2;
	return cmocka_run_group_tests(tests, NULL, NULL);
}

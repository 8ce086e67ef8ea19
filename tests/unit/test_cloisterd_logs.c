/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cloisterd/dirs.h"
#include "cloisterd/logs.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int top;
static char top_path[] = "/tmp/test-logs-XXXXXX";
static struct loop *loop;

static int make(void **state)
{
	(void)state;
	memcpy(top_path + sizeof top_path - 7, "XXXXXX", 6);
	if (!mkdtemp(top_path))
		return -1;
	top = open(top_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (geteuid() != 0)
		return 0;	/* the directory must be root's: said by the test itself */
	return top < 0 ? -1 : loop_new(&loop, NULL);
}

static int clean(void **state)
{
	(void)state;
	(void)unlinkat(top, "log/" LOG_NAME, 0);
	(void)unlinkat(top, "log/" LOG_OLD_NAME, 0);
	(void)unlinkat(top, "log", AT_REMOVEDIR);
	(void)close(top);
	if (loop)
		loop_free(loop);
	loop = NULL;
	return rmdir(top_path);
}

static void stop(struct loop_timer *t)
{
	loop_stop(t->loop);
}

static void run_ms(int ms)
{
	struct loop_timer t = { .heap_at = 0 };

	assert_int_equal(loop_timer_set(loop, &t, ms * 1000LL, stop, NULL), 0);
	assert_int_equal(loop_run(loop), 0);
}

static off_t size_of(const char *name)
{
	struct stat st;

	return fstatat(top, name, &st, 0) < 0 ? -1 : st.st_size;
}

static void what_an_agent_says_is_in_the_file(void **state)
{
	struct cl_err err = { 0 };
	struct logs g;
	int p[2], out[2];
	char text[32];

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	assert_int_equal(logs_start(&g, loop, top, p[0], 65536, &err), 0);
	assert_int_equal(write(p[1], "hello\n", 6), 6);
	run_ms(20);
	assert_int_equal(logs_open(top, out), 0);
	assert_int_equal(read(out[0], text, sizeof text), 6);
	assert_memory_equal(text, "hello\n", 6);
	assert_true(out[1] < 0);
	/* read-only: nothing that holds it can change the log */
	assert_int_equal(write(out[0], "x", 1), -1);
	/* what was still in the pipe is taken at the end */
	assert_int_equal(write(p[1], "bye\n", 4), 4);
	logs_stop(&g);
	assert_int_equal(size_of("log/" LOG_NAME), 10);
	(void)close(out[0]);
	(void)close(p[1]);
}

static void both_files_together_stay_below_their_bound(void **state)
{
	static char piece[30000];
	struct cl_err err = { 0 };
	struct logs g;
	int p[2];

	(void)state;
	if (geteuid() != 0)
		skip();
	memset(piece, 'x', sizeof piece);
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	assert_int_equal(logs_start(&g, loop, top, p[0], 200000, &err), 0);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(write(p[1], piece, sizeof piece), sizeof piece);
		run_ms(5);
	}
	assert_true(size_of("log/" LOG_NAME) <= 100000);
	assert_true(size_of("log/" LOG_OLD_NAME) <= 100000);
	assert_true(size_of("log/" LOG_OLD_NAME) > 60000);
	(void)close(p[1]);
	logs_stop(&g);
}

static void a_flood_waits_in_its_own_pipe(void **state)
{
	static char piece[65536];
	struct cl_err err = { 0 };
	struct logs g;
	uint64_t sent = 0;
	int p[2];

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(pipe2(p, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(logs_start(&g, loop, top, p[0], 1 << 20, &err), 0);
	for (int i = 0; i < 200; i++) {
		ssize_t n = write(p[1], piece, sizeof piece);

		sent += n > 0 ? (uint64_t)n : 0;
		run_ms(1);
	}
	/* two seconds at most have begun: two allowances and a full pipe */
	assert_true(sent >= LOG_BYTES_PER_SECOND);
	assert_true(sent <= 2 * LOG_BYTES_PER_SECOND + 3 * sizeof piece);
	(void)close(p[1]);
	logs_stop(&g);
}

static void a_directory_of_another_owner_or_mode_is_refused_with_words(void **state)
{
	struct cl_err err = { 0 };
	int fd;

	(void)state;
	if (geteuid() != 0)
		skip();
	fd = dirs_ensure(top, "log", 0, 0, 0700, &err);
	assert_true(fd >= 0);
	assert_int_equal(fchmod(fd, 0755), 0);
	assert_int_equal(dirs_ensure(top, "log", 0, 0, 0700, &err), -EPERM);
	assert_non_null(strstr(err.text, "0755"));
	assert_int_equal(fchmod(fd, 0700), 0);
	assert_int_equal(fchown(fd, 12345, 0), 0);
	assert_int_equal(dirs_ensure(top, "log", 0, 0, 0700, &err), -EPERM);
	assert_non_null(strstr(err.text, "12345"));
	(void)close(fd);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, make, clean)
	const struct CMUnitTest tests[] = {
		T(what_an_agent_says_is_in_the_file),
		T(both_files_together_stay_below_their_bound),
		T(a_flood_waits_in_its_own_pipe),
		T(a_directory_of_another_owner_or_mode_is_refused_with_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

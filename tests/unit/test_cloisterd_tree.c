/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cloisterd/tree.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int top;		/* a scratch directory with from/ and to/ */
static char top_path[] = "/tmp/test-tree-XXXXXX";

static int make_dirs(void **state)
{
	(void)state;
	memcpy(top_path + sizeof top_path - 7, "XXXXXX", 6);
	if (!mkdtemp(top_path))
		return -1;
	top = open(top_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return top < 0 || mkdirat(top, "from", 0700) || mkdirat(top, "to", 0700) ? -1 : 0;
}

static int remove_dirs(void **state)
{
	(void)state;
	int r = tree_sweep(top, 60000);

	(void)close(top);
	return r || rmdir(top_path) ? -1 : 0;
}

static int sub(const char *name)
{
	int fd = openat(top, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void put(int dir, const char *name, const char *text, mode_t mode)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(cl_write_full(fd, text, strlen(text)), 0);
	assert_int_equal(fchmod(fd, mode), 0);
	(void)close(fd);
}

static bool empty(int dir)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), n = 0;
	DIR *d = fdopendir(fd);

	assert_non_null(d);
	while (readdir(d))
		n++;
	(void)closedir(d);
	return n == 2;
}

static void a_copy_has_files_links_fifos_and_no_set_id_bit(void **state)
{
	int from = sub("from"), to = sub("to");
	char target[32] = "";
	struct stat st;
	CL_BUF struct buf b;

	(void)state;
	put(from, "plain", "hello", 0640);
	put(from, "suid", "x", 04755);
	put(from, "shut", "secret", 0000);
	put(from, "odd\n\xff name", "y", 0600);
	assert_int_equal(mkdirat(from, "dir", 0755), 0);
	assert_int_equal(symlinkat("/etc/shadow", from, "dir/link"), 0);
	assert_int_equal(mkfifoat(from, "fifo", 0600), 0);
	assert_int_equal(tree_copy(from, to, 1 << 20, 100), 0);

	buf_init(&b, 100);
	assert_int_equal(cl_read_file(to, "plain", &b, NULL), 0);
	assert_true(span_eq_str(buf_span(&b), "hello"));
	assert_int_equal(fstatat(to, "plain", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(fstatat(to, "suid", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	assert_int_equal(fstatat(to, "shut", &st, 0), 0);
	assert_int_equal(st.st_size, 6);
	assert_int_equal(fstatat(to, "odd\n\xff name", &st, 0), 0);
	assert_int_equal(readlinkat(to, "dir/link", target, sizeof target - 1), 11);
	assert_string_equal(target, "/etc/shadow");
	assert_int_equal(fstatat(to, "fifo", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(S_ISFIFO(st.st_mode));
	(void)close(from);
	(void)close(to);
}

static void a_hole_stays_a_hole(void **state)
{
	int from = sub("from"), to = sub("to");
	struct stat st;
	int fd = openat(from, "sparse", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)1 << 36), 0);	/* 64 GiB of nothing */
	assert_int_equal(pwrite(fd, "end", 3, ((off_t)1 << 36) - 3), 3);
	(void)close(fd);
	assert_int_equal(tree_copy(from, to, 1 << 20, 100), 0);
	assert_int_equal(fstatat(to, "sparse", &st, 0), 0);
	assert_true(st.st_size == (off_t)1 << 36);
	assert_true(st.st_blocks < 1024);
	(void)close(from);
	(void)close(to);
}

static void a_copy_stops_at_its_limits(void **state)
{
	int from = sub("from"), to = sub("to"), to2;

	(void)state;
	put(from, "a", "12345678", 0600);
	put(from, "b", "12345678", 0600);
	assert_int_equal(tree_copy(from, to, 1 << 20, 1), -EDQUOT);
	assert_int_equal(mkdirat(top, "to2", 0700), 0);
	to2 = sub("to2");
	assert_int_equal(tree_copy(from, to2, 8, 100), -EDQUOT);
	(void)close(from);
	(void)close(to);
	(void)close(to2);
}

/* @deep directories in one another, made without a path */
static void dig(int dir, int deep)
{
	int at = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	for (int i = 0; i < deep; i++) {
		assert_int_equal(mkdirat(at, "d", 0700), 0);
		int next = openat(at, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		assert_true(next >= 0);
		(void)close(at);
		at = next;
	}
	put(at, "bottom", "b", 0600);
	(void)close(at);
}

static void a_copy_refuses_what_is_too_deep(void **state)
{
	int from = sub("from"), to = sub("to");

	(void)state;
	dig(from, TREE_DEPTH_MAX + 1);
	assert_int_equal(tree_copy(from, to, 1 << 20, 10000), -ELOOP);
	(void)close(from);
	(void)close(to);
}

static void a_sweep_takes_depth_odd_names_shut_directories_and_fifos(void **state)
{
	int from = sub("from");

	(void)state;
	dig(from, 3000);
	assert_int_equal(mkdirat(from, "shut", 0700), 0);
	assert_int_equal(mkdirat(from, "shut/in", 0700), 0);
	put(from, "shut/in/file", "x", 0400);
	assert_int_equal(fchmodat(from, "shut/in", 0000, 0), 0);
	assert_int_equal(fchmodat(from, "shut", 0000, 0), 0);
	assert_int_equal(mkfifoat(from, "fifo", 0000), 0);
	put(from, "new\nline", "x", 0000);
	assert_int_equal(symlinkat("/", from, "root"), 0);
	for (int i = 0; i < 2000; i++) {
		char name[32];

		(void)snprintf(name, sizeof name, "f%d", i);
		put(from, name, "", 0600);
	}
	assert_int_equal(tree_sweep(from, 60000), 0);
	assert_true(empty(from));
	(void)close(from);
}

static void a_sweep_says_that_its_time_is_over(void **state)
{
	int from = sub("from"), rounds = 0, r;

	(void)state;
	for (int i = 0; i < 50; i++) {
		char name[32];

		(void)snprintf(name, sizeof name, "d%d", i);
		assert_int_equal(mkdirat(from, name, 0700), 0);
		(void)snprintf(name, sizeof name, "d%d/f", i);
		put(from, name, "", 0600);
	}
	while ((r = tree_sweep(from, 0)) == 1)
		assert_true(++rounds < 1000);
	assert_int_equal(r, 0);
	assert_true(rounds > 1);
	assert_true(empty(from));
	(void)close(from);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, make_dirs, remove_dirs)
	const struct CMUnitTest tests[] = {
		T(a_copy_has_files_links_fifos_and_no_set_id_bit),
		T(a_hole_stays_a_hole),
		T(a_copy_stops_at_its_limits),
		T(a_copy_refuses_what_is_too_deep),
		T(a_sweep_takes_depth_odd_names_shut_directories_and_fifos),
		T(a_sweep_says_that_its_time_is_over),
	};

	/* as in cloisterd: a tenant's own uid, for which a mode of 000 means something */
	if (geteuid() == 0 && (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534)))
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}

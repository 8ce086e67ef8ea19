/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "base/base.h"

#include <stdlib.h>
#include <sys/stat.h>

struct dir { char path[64]; int fd; };

static int setup(void **state)
{
	struct dir *d = calloc(1, sizeof *d);

	assert_non_null(d);
	(void)snprintf(d->path, sizeof d->path, "/tmp/cl-file-XXXXXX");
	assert_non_null(mkdtemp(d->path));
	d->fd = cl_open_dir(d->path, NULL);
	assert_true(d->fd >= 0);
	*state = d;
	return 0;
}

static int teardown(void **state)
{
	struct dir *d = *state;

	(void)cl_close(d->fd);
	test_rm_tree(d->path);
	free(d);
	return 0;
}

static void opening_beneath_follows_no_link_and_goes_nowhere_else(void **state)
{
	struct dir *d = *state;

	assert_int_equal(symlinkat("/etc/passwd", d->fd, "link"), 0);
	assert_int_equal(symlinkat("..", d->fd, "up"), 0);
	assert_int_equal(cl_open_beneath(d->fd, "link", O_RDONLY, 0), -ELOOP);
	assert_true(cl_open_beneath(d->fd, "up/x", O_RDONLY, 0) < 0);
	assert_int_equal(cl_open_beneath(d->fd, "../x", O_RDONLY, 0), -EXDEV);
	assert_int_equal(cl_open_beneath(d->fd, "/etc/passwd", O_RDONLY, 0), -EXDEV);
	assert_int_equal(cl_open_beneath(d->fd, "none", O_RDONLY, 0), -ENOENT);
}

static void a_file_is_written_whole_or_not_at_all(void **state)
{
	struct dir *d = *state;
	CL_BUF struct buf b;
	struct stat st;

	assert_int_equal(cl_write_file(d->fd, "f", 0600, SPAN("one"), NULL), 0);
	assert_int_equal(cl_write_file(d->fd, "f", 0600, SPAN("two"), NULL), 0);
	buf_init(&b, 100);
	assert_int_equal(cl_read_file(d->fd, "f", &b, NULL), 0);
	assert_true(span_eq_str(buf_span(&b), "two"));
	assert_int_equal(fstatat(d->fd, "f.new", &st, 0), -1);
	/* where it cannot be written, what was there stays */
	assert_int_equal(mkdirat(d->fd, "g", 0700), 0);
	assert_true(cl_write_file(d->fd, "g", 0600, SPAN("x"), NULL) < 0);
	assert_int_equal(fstatat(d->fd, "g.new", &st, 0), -1);
}

static void reading_has_a_maximum_and_wants_a_regular_file(void **state)
{
	struct dir *d = *state;
	CL_BUF struct buf b, exact;

	assert_int_equal(cl_write_file(d->fd, "f", 0600, SPAN("12345"), NULL), 0);
	buf_init(&exact, 5);
	assert_int_equal(cl_read_file(d->fd, "f", &exact, NULL), 0);
	assert_int_equal(exact.n, 5);
	buf_init(&b, 4);
	assert_int_equal(cl_read_file(d->fd, "f", &b, NULL), -EFBIG);
	assert_int_equal(mkfifoat(d->fd, "fifo", 0600), 0);
	buf_clear(&b);
	assert_int_equal(cl_read_file(d->fd, "fifo", &b, NULL), -EINVAL);	/* and does not wait */
	assert_int_equal(cl_read_file(d->fd, "none", &b, NULL), -ENOENT);
}

static void exact_reads_tell_an_early_end(void **state)
{
	char b[10];
	int p[2];

	(void)state;
	assert_int_equal(pipe(p), 0);
	assert_int_equal(cl_write_full(p[1], "abc", 3), 0);
	(void)cl_close(p[1]);
	assert_int_equal(cl_read_full(p[0], b, 2), 0);
	assert_int_equal(cl_read_full(p[0], b, 2), -EPIPE);
	(void)cl_close(p[0]);
	assert_int_equal(cl_write_full(p[0], "x", 1), -EBADF);
}

static void directories_are_made_by_component_without_links_or_dots(void **state)
{
	struct dir *d = *state;
	struct stat st;

	assert_int_equal(cl_mkdir_path(d->fd, "a/b/c", 0700), 0);
	assert_int_equal(cl_mkdir_path(d->fd, "a/b/c", 0700), 0);
	assert_int_equal(fstatat(d->fd, "a/b/c", &st, 0), 0);
	assert_int_equal(cl_mkdir_path(d->fd, "a/../../x", 0700), -EINVAL);
	assert_int_equal(cl_mkdir_path(d->fd, "/tmp", 0700), -EINVAL);
	assert_int_equal(cl_mkdir_path(d->fd, "", 0700), -EINVAL);
	assert_int_equal(cl_mkdir_path(d->fd, "a//b", 0700), -EINVAL);
	assert_int_equal(symlinkat("a", d->fd, "l"), 0);
	assert_int_equal(cl_mkdir_path(d->fd, "l/z", 0700), -ENOTDIR);
	assert_int_equal(fstatat(d->fd, "a/z", &st, 0), -1);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(opening_beneath_follows_no_link_and_goes_nowhere_else),
		T(a_file_is_written_whole_or_not_at_all),
		T(reading_has_a_maximum_and_wants_a_regular_file),
		T(exact_reads_tell_an_early_end),
		T(directories_are_made_by_component_without_links_or_dots),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What unit tests share. */
#ifndef CL_TEST_H
#define CL_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define TEST_UNUSED __attribute__((unused))

static inline TEST_UNUSED int test_rm_one(const char *path, const struct stat *st, int flag,
					  struct FTW *f)
{
	(void)st;
	(void)flag;
	(void)f;
	return remove(path);
}

/* test_rm_tree - a scratch directory of this test, and only below /tmp */
static inline TEST_UNUSED void test_rm_tree(const char *path)
{
	assert_int_equal(strncmp(path, "/tmp/cl-", 8), 0);
	(void)nftw(path, test_rm_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/*
 * test_at_edge - a copy of @n bytes whose last byte lies before an unmapped
 * page: whoever reads one too many dies. Kept until the process ends.
 */
static inline TEST_UNUSED char *test_at_edge(const void *p, size_t n)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (n / page + 1) * page;
	char *m = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(m != MAP_FAILED);
	assert_int_equal(mprotect(m + room, page, PROT_NONE), 0);
	if (n)
		memcpy(m + room - n, p, n);
	return m + room - n;
}

static inline TEST_UNUSED void test_edge_free(char *p, size_t n)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (n / page + 1) * page;

	assert_int_equal(munmap(p + n - room, room + page), 0);
}

#endif

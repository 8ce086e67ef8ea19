/* SPDX-License-Identifier: Apache-2.0 */
/* A ledger in a scratch directory, as several tests need it. */
#ifndef CL_TEST_LEDGER_WORLD_H
#define CL_TEST_LEDGER_WORLD_H

#include "test.h"

#include "ledger/journal.h"
#include "record/audit.h"

#include <stdlib.h>
#include <sys/stat.h>

struct world {
	char dir[64];
	int dirfd;
	struct journal j;
};

static inline TEST_UNUSED void world_make(struct world *w)
{
	(void)snprintf(w->dir, sizeof w->dir, "/tmp/cl-world-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	w->dirfd = open(w->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(w->dirfd >= 0);
}

static inline TEST_UNUSED void world_end(struct world *w)
{
	(void)cl_close(w->dirfd);
	test_rm_tree(w->dir);
}

static inline TEST_UNUSED void world_open(struct world *w, const struct journal_options *opt)
{
	struct cl_err err = { 0 };
	int r = journal_open(&w->j, w->dirfd, opt, &err);

	if (r)
		print_error("open: %s\n", err.text);
	assert_int_equal(r, 0);
}

static inline TEST_UNUSED void world_append(struct world *w, const struct record *r)
{
	struct cl_err err = { 0 };

	assert_int_equal(r->failed, 0);
	assert_int_equal(record_check(r->kind, (struct span){ r->body, r->n }, false, &err), 0);
	assert_int_equal(journal_append(&w->j, r->kind, ROLE_BROKER, true, span_str(r->tenant),
					(struct span){ r->body, r->n }, NULL, &err), 0);
}

/* Records @from to @to - 1 of different kinds, committed in batches of 3. */
static inline TEST_UNUSED void world_write(struct world *w, int from, int to)
{
	struct record r;

	for (int i = from; i < to; i++) {
		if (i % 3 == 0) {
			record_begin(&r, RECORD_MESSAGE, "alice");
			record_num(&r, RF_MESSAGE, (uint64_t)i);
			record_str(&r, RF_DIRECTION, "in");
			record_str(&r, RF_FATE, "accepted");
			record_str(&r, RF_ADDRESS, "telegram:4711");
		} else if (i % 3 == 1) {
			record_begin(&r, RECORD_REQUEST_DENIED, "bob");
			record_fmt(&r, RF_ID, "d-%d", i);
			record_str(&r, RF_RULE, "recipient");
			record_str(&r, RF_REASON, "only its owner");
			record_num(&r, RF_STATUS, 403);
		} else {
			record_begin(&r, RECORD_TENANT_STATE, "alice");
			record_str(&r, RF_STATE, "running");
		}
		world_append(w, &r);
		if (i % 3 == 2) {
			assert_int_equal(journal_commit(&w->j, NULL), 0);
			if (journal_due(&w->j))
				assert_int_equal(journal_checkpoint(&w->j, NULL), 0);
		}
	}
}

static inline TEST_UNUSED void world_close(struct world *w)
{
	assert_int_equal(journal_checkpoint(&w->j, NULL), 0);
	journal_done(&w->j);
}

static inline TEST_UNUSED int world_verify(struct world *w, const struct audit_anchor *anchor,
					   struct audit_report *rep, struct cl_err *err)
{
	unsigned char pub[32];

	*err = (struct cl_err){ 0 };
	assert_int_equal(audit_key_read(w->dirfd, "ledger.pub", pub, err), 0);
	return audit_verify(w->dirfd, pub, false, anchor, rep, err);
}

static inline TEST_UNUSED struct audit_report world_verified(struct world *w)
{
	struct audit_report rep;
	struct cl_err err;
	int r = world_verify(w, NULL, &rep, &err);

	if (r)
		print_error("verify: %s\n", err.text);
	assert_int_equal(r, 0);
	return rep;
}

/* whole file into memory; the caller frees */
static inline TEST_UNUSED char *world_read(struct world *w, const char *name, size_t *n)
{
	int fd = openat(w->dirfd, name, O_RDONLY | O_CLOEXEC);
	struct stat st;

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	char *p = malloc((size_t)st.st_size + 1);

	assert_non_null(p);
	assert_int_equal(cl_read_full(fd, p, (size_t)st.st_size), 0);
	(void)cl_close(fd);
	*n = (size_t)st.st_size;
	return p;
}

static inline TEST_UNUSED void world_put(struct world *w, const char *name, const char *p, size_t n)
{
	int fd = openat(w->dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);

	assert_true(fd >= 0);
	assert_int_equal(cl_write_full(fd, p, n), 0);
	(void)cl_close(fd);
}

#endif

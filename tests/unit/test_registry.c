/* SPDX-License-Identifier: Apache-2.0 */
/* registry: tenants, numbers and generations, policies, secrets, settings; what survives a close. */
#include "store/registry.h"

#include "test.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct registry *r;
static char dir[] = "/tmp/cloister-registry-XXXXXX";

static int setup(void **state)
{
	struct cl_err err;

	memcpy(dir + sizeof dir - 7, "XXXXXX", 6);
	return !mkdtemp(dir) || chdir(dir) < 0 || registry_open("r.db", &r, &err);
}

static int teardown(void **state)
{
	registry_close(r);
	(void)unlink("r.db");
	(void)unlink("r.db-wal");
	(void)unlink("r.db-shm");
	return chdir("/") < 0 || rmdir(dir) < 0;
}

static uint32_t add(const char *id)
{
	struct cl_err err;
	uint32_t no = 0;

	assert_int_equal(registry_tenant_add(r, id, false, &no, &err), 0);
	return no;
}

static uint64_t generation(uint32_t no)
{
	struct registry_tenant t;
	uint64_t g;

	assert_int_equal(registry_tenant_by_no(r, no, &t, NULL), 0);
	g = t.generation;
	registry_tenant_done(&t);
	return g;
}

static void an_id_is_given_once(void **state)
{
	struct cl_err err;
	uint32_t no = 99;

	assert_int_equal(add("alice"), 1);
	assert_int_equal(add("bob"), 2);
	assert_int_equal(registry_tenant_add(r, "alice", true, &no, &err), -EEXIST);
	assert_non_null(strstr(err.text, "alice"));
	assert_int_equal(no, 99);
	assert_int_equal(add("carol"), 3);	/* the refused one has taken nothing */
}

static void a_number_that_comes_back_has_a_higher_generation(void **state)
{
	uint32_t no = add("alice");

	assert_int_equal(generation(no), 1);
	assert_int_equal(registry_tenant_renew(r, no, NULL), 0);
	assert_int_equal(generation(no), 2);
	assert_int_equal(registry_tenant_rm(r, no, NULL), 0);
	assert_int_equal(registry_tenant_rm(r, no, NULL), -ENOENT);
	assert_int_equal(add("mallory"), no);
	assert_int_equal(generation(no), 3);	/* no token of alice is good for mallory */
}

static void the_smallest_free_number_is_given(void **state)
{
	add("a");
	add("b");
	add("c");
	assert_int_equal(registry_tenant_rm(r, 2, NULL), 0);
	assert_int_equal(add("d"), 2);
	assert_int_equal(add("e"), 4);
}

static void everything_is_there_after_a_close(void **state)
{
	struct registry_tenant t;
	struct cl_err err;
	char gateway[65];
	char *s;

	add("alice");
	assert_int_equal(registry_tenant_set_run(r, 1, true, &err), 0);
	assert_int_equal(registry_tenant_set_policy(r, 1, "class: small\n", "{\"class\":\"small\"}", "operator", &err), 0);
	assert_int_equal(registry_setting_set(r, "model", "{}", &err), 0);
	assert_int_equal(registry_tenant_get(r, "alice", &t, &err), 0);
	memcpy(gateway, t.gateway, sizeof gateway);
	registry_tenant_done(&t);
	registry_close(r);
	assert_int_equal(registry_open("r.db", &r, &err), 0);
	assert_int_equal(registry_tenant_get(r, "alice", &t, &err), 0);
	assert_true(t.run);
	assert_int_equal(t.no, 1);
	assert_string_equal(t.policy_yaml, "class: small\n");
	assert_string_equal(t.policy_json, "{\"class\":\"small\"}");
	assert_string_equal(t.gateway, gateway);
	assert_int_equal(strlen(gateway), 64);
	registry_tenant_done(&t);
	s = registry_setting_get(r, "model");
	assert_string_equal(s, "{}");
	free(s);
	assert_int_equal(registry_setting_set(r, "model", NULL, &err), 0);
	assert_null(registry_setting_get(r, "model"));
}

static int count(void *ctx, const struct registry_tenant *t)
{
	/* a callback may use the store */
	assert_int_equal(registry_tenant_set_run(r, t->no, true, NULL), 0);
	return ++*(int *)ctx == 2;
}

static void listing_goes_in_order_and_can_be_stopped(void **state)
{
	int n = 0;

	add("b");
	add("a");
	add("c");
	assert_int_equal(registry_tenants(r, count, &n, NULL), 0);
	assert_int_equal(n, 2);
}

static int see(void *ctx, const struct registry_secret *s)
{
	char *out = ctx;

	assert_string_equal(s->name, "openai");
	assert_int_equal(span_copy(s->sealed, out, 16), 0);
	return 0;
}

static void a_secret_is_replaced_listed_and_removed(void **state)
{
	struct cl_err err;
	char out[16] = "";

	assert_false(registry_secret_has(r, "openai"));
	assert_int_equal(registry_secret_put(r, "openai", SPAN("box1"), "f1", &err), 0);
	assert_int_equal(registry_secret_put(r, "openai", SPAN("box2"), "f2", &err), 0);
	assert_true(registry_secret_has(r, "openai"));
	assert_int_equal(registry_secrets(r, see, out, &err), 0);
	assert_string_equal(out, "box2");
	assert_int_equal(registry_secret_put(r, "x", (struct span){ "", 0 }, "f", &err), -EINVAL);
	assert_int_equal(registry_secret_rm(r, "openai", &err), 0);
	assert_int_equal(registry_secret_rm(r, "openai", &err), -ENOENT);
}

static void a_file_that_is_not_ours_is_refused(void **state)
{
	struct registry *x = NULL;
	struct cl_err err = { 0 };
	CL_CLOSE int fd = open("junk.db", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_int_equal(cl_write_full(fd, "this is not a database, and long enough to be looked at as one", 62), 0);
	assert_true(registry_open("junk.db", &x, &err) < 0);
	assert_null(x);
	assert_true(err.text[0]);
	(void)unlink("junk.db");
	assert_int_equal(symlink("r.db", "link.db"), 0);
	assert_true(registry_open("link.db", &x, &err) < 0);	/* never through a link */
	(void)unlink("link.db");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(an_id_is_given_once), T(a_number_that_comes_back_has_a_higher_generation),
		T(the_smallest_free_number_is_given), T(everything_is_there_after_a_close),
		T(listing_goes_in_order_and_can_be_stopped), T(a_secret_is_replaced_listed_and_removed),
		T(a_file_that_is_not_ours_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

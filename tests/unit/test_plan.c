/* SPDX-License-Identifier: Apache-2.0 */
/* plan: what leaves encode comes out of decode, and nothing else does. */
#include "sandbox/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static struct plan good(void)
{
	struct plan p = {
		.argv = SPAN("/opt/agent/bin/node\0main.mjs\0gateway\0"), .env = SPAN("HOME=/workspace\0A_1=\0"),
		.image = SPAN("openclaw"), .image_digest = SPAN(HEX64),
		.config_path = SPAN("/etc/agent/openclaw.json"), .config_digest = SPAN(HEX64),
		.hostname = SPAN("alice"), .generation = 7, .nports = 1, .ports = { 18789 },
	};

	/* SPAN() of a literal with NULs inside keeps them and leaves out the last */
	plan_limits_standard(&p.limits);
	return p;
}

static void a_plan_survives_the_way_there_and_back(void **state)
{
	struct plan p = good(), q;
	struct buf b;
	struct cl_err err;
	char *vec[8];

	(void)state;
	buf_init(&b, PLAN_BYTES_MAX);
	assert_int_equal(plan_encode(&p, &b, &err), 0);
	assert_int_equal(plan_decode(buf_span(&b), &q, &err), 0);
	assert_true(span_eq(p.argv, q.argv) && span_eq(p.env, q.env) && span_eq(p.image, q.image));
	assert_true(span_eq(p.config_path, q.config_path) && span_eq(p.hostname, q.hostname));
	assert_true(span_eq(p.image_digest, q.image_digest) && span_eq(p.config_digest, q.config_digest));
	assert_memory_equal(&p.limits, &q.limits, sizeof p.limits);
	assert_int_equal(q.generation, 7);
	assert_int_equal(q.nports, 1);
	assert_int_equal(q.ports[0], 18789);
	assert_int_equal(plan_strings(q.argv, vec, 8), 3);
	assert_string_equal(vec[2], "gateway");
	assert_null(vec[3]);
	assert_int_equal(plan_strings(q.argv, vec, 3), -E2BIG);
	buf_done(&b);
}

static void every_prefix_of_a_plan_is_refused_without_reading_past_it(void **state)
{
	struct plan p = good(), q;
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *map = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct buf b;
	struct cl_err err;

	(void)state;
	assert_true(map != MAP_FAILED);
	assert_int_equal(mprotect(map + page, page, PROT_NONE), 0);
	buf_init(&b, PLAN_BYTES_MAX);
	assert_int_equal(plan_encode(&p, &b, &err), 0);
	assert_true(b.n < page);
	for (size_t n = 0; n < b.n; n++) {
		char *at = map + page - n;

		memcpy(at, b.p, n);
		assert_int_equal(plan_decode((struct span){ at, n }, &q, &err), -EBADMSG);
	}
	assert_int_equal(buf_add_ch(&b, 0), 0);
	assert_int_equal(plan_decode(buf_span(&b), &q, &err), -EBADMSG);	/* one byte more */
	buf_done(&b);
	assert_int_equal(munmap(map, 2 * page), 0);
}

static void a_changed_byte_never_crashes_and_never_passes_the_check_unseen(void **state)
{
	struct plan p = good(), q;
	struct buf b, again;
	struct cl_err err;

	(void)state;
	buf_init(&b, PLAN_BYTES_MAX);
	buf_init(&again, PLAN_BYTES_MAX);
	assert_int_equal(plan_encode(&p, &b, &err), 0);
	for (size_t i = 0; i < b.n; i++)
		for (int v = 0; v < 256; v += 5) {
			char old = b.p[i];

			b.p[i] = (char)v;
			if (plan_decode(buf_span(&b), &q, &err) == 0) {
				/* accepted: then it is one that we could have written ourselves */
				buf_clear(&again);
				assert_int_equal(plan_encode(&q, &again, &err), 0);
				assert_true(span_eq(buf_span(&again), buf_span(&b)));
			}
			b.p[i] = old;
		}
	buf_done(&b);
	buf_done(&again);
}

#define REFUSED(change)								\
	do {									\
		struct plan p = good();						\
		struct cl_err err;						\
		change;								\
		if (plan_check(&p, &err) != -EINVAL)				\
			fail_msg("accepted: %s", #change);			\
	} while (0)

static void each_field_out_of_its_range_is_named(void **state)
{
	(void)state;
	REFUSED(p.flags = 0x80000000u);
	REFUSED(p.argv.n = 0);
	REFUSED(p.argv = SPAN("node\0"));
	REFUSED(p.argv = SPAN("/bin/../bin/node\0"));
	REFUSED(p.argv = SPAN("/bin//node\0"));
	REFUSED(p.argv = SPAN("/bin/node"));
	REFUSED(p.env = SPAN("NOVALUE\0"));
	REFUSED(p.env = SPAN("=x\0"));
	REFUSED(p.env = SPAN("1A=x\0"));
	REFUSED(p.env = SPAN("A B=x\0"));
	REFUSED(p.env = SPAN("A=x"));
	REFUSED(p.env = SPAN("\0"));
	REFUSED(p.image = SPAN("../etc"));
	REFUSED(p.image.n = 0);
	REFUSED(p.image_digest = SPAN("00"));
	REFUSED(p.image_digest.n = 0);
	REFUSED(p.config_path = SPAN("etc/x"));
	REFUSED(p.config_path = SPAN("/etc/../x"));
	REFUSED(p.config_path = SPAN("/etc/x\n"));
	REFUSED(p.config_path.n = 0);			/* the digest stays */
	REFUSED(p.config_digest.n = 0);
	REFUSED(p.config_digest.n = 63);
	REFUSED(p.hostname = SPAN("Alice"));
	REFUSED(p.hostname = SPAN("-a"));
	REFUSED(p.hostname.n = 0);
	REFUSED(p.limits.memory_bytes = 1);
	REFUSED(p.limits.memory_bytes = UINT64_MAX);
	REFUSED(p.limits.pids = 7);
	REFUSED(p.limits.pids = 0);
	REFUSED(p.limits.cpu_ceiling_millicores = 9);
	REFUSED(p.limits.nofile = 63);
	REFUSED(p.limits.tmp_bytes = 0);
	REFUSED(p.limits.workspace_inodes = 0);
	REFUSED(p.limits.log_bytes = 1);
	REFUSED(p.nports = PLAN_PORTS_MAX + 1);
	REFUSED(p.ports[0] = 0);
	REFUSED(p.ports[0] = SANDBOX_PORT);
}

static void only_a_throwaway_may_be_without_an_image_digest(void **state)
{
	struct plan p = good();
	struct cl_err err;

	(void)state;
	p.image_digest.n = 0;
	assert_int_equal(plan_check(&p, &err), -EINVAL);
	p.flags = PLAN_THROWAWAY;
	assert_int_equal(plan_check(&p, &err), 0);
}

static void a_plan_larger_than_its_buffer_leaves_the_buffer_as_it_was(void **state)
{
	struct plan p = good();
	struct cl_err err;
	struct buf b;

	(void)state;
	buf_init(&b, 64);
	assert_int_equal(buf_add_str(&b, "abc"), 0);
	assert_int_equal(plan_encode(&p, &b, &err), -E2BIG);
	assert_int_equal(b.n, 3);
	assert_false(b.failed);
	buf_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_plan_survives_the_way_there_and_back),
		cmocka_unit_test(every_prefix_of_a_plan_is_refused_without_reading_past_it),
		cmocka_unit_test(a_changed_byte_never_crashes_and_never_passes_the_check_unseen),
		cmocka_unit_test(each_field_out_of_its_range_is_named),
		cmocka_unit_test(only_a_throwaway_may_be_without_an_image_digest),
		cmocka_unit_test(a_plan_larger_than_its_buffer_leaves_the_buffer_as_it_was),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "base/base.h"

static void a_buffer_never_grows_above_its_maximum_and_says_so_to_the_end(void **state)
{
	CL_BUF struct buf b;

	(void)state;
	buf_init(&b, 10);
	assert_int_equal(buf_add(&b, "0123456789", 10), 0);
	assert_int_equal(buf_add_ch(&b, 'x'), -E2BIG);
	assert_true(b.failed);
	assert_int_equal(b.n, 10);
	assert_int_equal(buf_reserve(&b, SIZE_MAX), -E2BIG);	/* the sum would wrap */
	buf_clear(&b);
	assert_false(b.failed);
	assert_int_equal(buf_add(&b, "abc", 3), 0);
	assert_true(span_eq_str(buf_span(&b), "abc"));
}

static void consuming_moves_what_is_left_to_the_front(void **state)
{
	CL_BUF struct buf b;

	(void)state;
	buf_init(&b, 100);
	assert_int_equal(buf_add_str(&b, "hello world"), 0);
	buf_consume(&b, 6);
	assert_true(span_eq_str(buf_span(&b), "world"));
	buf_consume(&b, 99);
	assert_int_equal(b.n, 0);
}

static void printing_works_below_and_above_the_small_buffer(void **state)
{
	CL_BUF struct buf b;
	char big[700];

	(void)state;
	memset(big, 'y', sizeof big);
	big[sizeof big - 1] = '\0';
	buf_init(&b, 2000);
	assert_int_equal(buf_printf(&b, "%d-%s", 5, "x"), 0);
	assert_int_equal(buf_printf(&b, "<%s>", big), 0);
	assert_int_equal(b.n, 3 + 701);
	assert_int_equal(b.p[b.n - 1], '>');
	assert_int_equal(buf_printf(&b, "%s%s", big, big), -E2BIG);
	assert_int_equal(b.n, 3 + 701);
}

static void json_strings_are_escaped_and_always_valid(void **state)
{
	CL_BUF struct buf b;

	(void)state;
	buf_init(&b, 200);
	assert_int_equal(buf_add_json_str(&b, SPAN("a\"\\\n\r\t\x01\x7f\xc3\xa4\xff\xe2\x82\0z")), 0);
	assert_true(span_eq_str(buf_span(&b), "\"a\\\"\\\\\\n\\r\\t\\u0001\\u007f\xc3\xa4\\ufffd"
				"\\ufffd\\ufffd\\u0000z\""));
	assert_true(utf8_ok(buf_span(&b)));
}

static void json_strings_are_read_within_their_bytes(void **state)
{
	static const char text[] = "ab\xf0\x9f\x98\x80\xe2\x82\xac\xc3\xa4";
	CL_BUF struct buf b;

	(void)state;
	buf_init(&b, 400);
	for (size_t n = 0; n < sizeof text; n++) {
		char *p = test_at_edge(text, n);

		buf_clear(&b);
		assert_int_equal(buf_add_json_str(&b, (struct span){ p, n }), 0);
		assert_true(utf8_ok(buf_span(&b)));
		test_edge_free(p, n);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_buffer_never_grows_above_its_maximum_and_says_so_to_the_end),
		cmocka_unit_test(consuming_moves_what_is_left_to_the_front),
		cmocka_unit_test(printing_works_below_and_above_the_small_buffer),
		cmocka_unit_test(json_strings_are_escaped_and_always_valid),
		cmocka_unit_test(json_strings_are_read_within_their_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

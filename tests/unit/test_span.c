/* SPDX-License-Identifier: Apache-2.0 */
/* Spans, UTF-8, numbers, names, errors, time. */
#include "test.h"

#include "base/base.h"

static void cut_takes_the_part_before_and_leaves_the_rest(void **state)
{
	struct span s = SPAN("a:b:"), before;

	(void)state;
	assert_true(span_cut(&s, ':', &before));
	assert_true(span_eq_str(before, "a"));
	assert_true(span_cut(&s, ':', &before));
	assert_true(span_eq_str(before, "b"));
	assert_int_equal(s.n, 0);
	assert_false(span_cut(&s, ':', &before));
	s = SPAN("none");
	assert_false(span_cut(&s, ':', &before));
	assert_true(span_eq_str(s, "none"));
}

static void comparing_looks_at_all_bytes(void **state)
{
	(void)state;
	assert_true(span_eq(SPAN(""), span_str(NULL)));
	assert_false(span_eq(SPAN("a"), SPAN("a\0")));
	assert_true(span_eq_nocase(SPAN("Content-LENGTH"), SPAN("content-length")));
	assert_false(span_eq_nocase(SPAN("["), SPAN("{")));	/* differ by the case bit only */
	assert_true(span_starts(SPAN("abc"), SPAN("")));
	assert_false(span_starts(SPAN("ab"), SPAN("abc")));
	assert_true(span_eq_str(span_trim(SPAN(" \t x y\t ")), "x y"));
	assert_int_equal(span_trim(SPAN("  ")).n, 0);
}

static void copy_refuses_what_does_not_fit_or_has_a_nul(void **state)
{
	char b[4] = "???";

	(void)state;
	assert_int_equal(span_copy(SPAN("abc"), b, sizeof b), 0);
	assert_string_equal(b, "abc");
	assert_int_equal(span_copy(SPAN("abcd"), b, sizeof b), -ENAMETOOLONG);
	assert_int_equal(span_copy(SPAN("a\0b"), b, sizeof b), -EINVAL);
	assert_int_equal(span_copy(SPAN(""), b, sizeof b), 0);
	assert_string_equal(b, "");
}

static void utf8_is_strict(void **state)
{
	static const struct { struct span s; bool ok; } rows[] = {
		{ SPAN(""), true }, { SPAN("abc\0d"), true }, { SPAN("\xc3\xa4"), true },
		{ SPAN("\xe2\x82\xac"), true }, { SPAN("\xf0\x9f\x98\x80"), true },
		{ SPAN("\xf4\x8f\xbf\xbf"), true }, { SPAN("\xc0\x80"), false },	/* overlong */
		{ SPAN("\xc1\xbf"), false }, { SPAN("\xe0\x9f\xbf"), false },
		{ SPAN("\xf0\x8f\xbf\xbf"), false }, { SPAN("\xed\xa0\x80"), false },	/* surrogate */
		{ SPAN("\xf4\x90\x80\x80"), false },	/* above U+10FFFF */
		{ SPAN("\xf5\x80\x80\x80"), false }, { SPAN("\x80"), false }, { SPAN("\xff"), false },
		{ SPAN("\xc3"), false }, { SPAN("\xe2\x82"), false }, { SPAN("\xf0\x9f\x98"), false },
		{ SPAN("\xc3("), false },
	};

	(void)state;
	for (size_t i = 0; i < CL_ARRAY_LEN(rows); i++) {
		char *p = test_at_edge(rows[i].s.p, rows[i].s.n);

		assert_int_equal(utf8_ok((struct span){ p, rows[i].s.n }), rows[i].ok);
		test_edge_free(p, rows[i].s.n);
	}
}

static void scrub_shows_only_what_can_be_shown_and_never_half_a_character(void **state)
{
	char b[8];

	(void)state;
	utf8_scrub(SPAN("a\n\x1b\xff\xc3\xa4"), b, sizeof b);
	assert_string_equal(b, "a???\xc3\xa4");
	utf8_scrub(SPAN("aaaaaa\xc3\xa4"), b, sizeof b);	/* 7 fit, the last has 2 */
	assert_string_equal(b, "aaaaaa");
	utf8_scrub(SPAN("x"), b, 1);
	assert_string_equal(b, "");
}

static void numbers_are_digits_within_their_maximum(void **state)
{
	static const struct span bad[] = { SPAN(""), SPAN("01"), SPAN("+1"), SPAN("-1"), SPAN(" 1"), SPAN("1 "),
					   SPAN("1x"), SPAN("0x1"), SPAN("1e3"), SPAN("000"), SPAN("1\0") };
	uint64_t u = 7;
	uint32_t v = 7;
	int64_t i = 7;

	(void)state;
	for (size_t k = 0; k < CL_ARRAY_LEN(bad); k++)
		assert_int_equal(num_parse_u64(bad[k], UINT64_MAX, &u), -EINVAL);
	assert_int_equal(num_parse_u64(SPAN("18446744073709551616"), UINT64_MAX, &u), -ERANGE);
	assert_int_equal(num_parse_u64(SPAN("99999999999999999999"), UINT64_MAX, &u), -ERANGE);
	assert_int_equal(num_parse_u64(SPAN("101"), 100, &u), -ERANGE);
	assert_int_equal(u, 7);		/* untouched on failure */
	assert_int_equal(num_parse_u64(SPAN("18446744073709551615"), UINT64_MAX, &u), 0);
	assert_true(u == UINT64_MAX);
	assert_int_equal(num_parse_u64(SPAN("0"), 0, &u), 0);
	assert_int_equal(u, 0);
	assert_int_equal(num_parse_u32(SPAN("4294967296"), UINT32_MAX, &v), -ERANGE);
	assert_int_equal(v, 7);
	assert_int_equal(num_parse_i64(SPAN("-9223372036854775808"), &i), 0);
	assert_true(i == INT64_MIN);
	assert_int_equal(num_parse_i64(SPAN("-9223372036854775809"), &i), -ERANGE);
	assert_int_equal(num_parse_i64(SPAN("9223372036854775808"), &i), -ERANGE);
	assert_int_equal(num_parse_i64(SPAN("--1"), &i), -EINVAL);
}

static void tenant_ids_and_names_are_as_the_design_says(void **state)
{
	char id[TENANT_ID_MAX + 2];

	(void)state;
	memset(id, 'a', sizeof id);
	assert_true(tenant_id_ok((struct span){ id, TENANT_ID_MAX }));
	assert_false(tenant_id_ok((struct span){ id, TENANT_ID_MAX + 1 }));
	assert_true(tenant_id_ok(SPAN("a")) && tenant_id_ok(SPAN("0-a")));
	assert_false(tenant_id_ok(SPAN("")) || tenant_id_ok(SPAN("-a")) || tenant_id_ok(SPAN("a-")));
	assert_false(tenant_id_ok(SPAN("A")) || tenant_id_ok(SPAN("a_b")) || tenant_id_ok(SPAN("a.b")));
	assert_false(tenant_id_ok(SPAN("a/b")) || tenant_id_ok(SPAN("a\nb")) || tenant_id_ok(SPAN("a\0")));
	assert_true(name_ok(SPAN("a_b-9")));
	assert_false(name_ok(SPAN("")) || name_ok(SPAN("a.b")) || name_ok(SPAN("../x")));
}

static void an_error_keeps_its_code_and_its_beginning(void **state)
{
	struct cl_err err = { 0 };
	char big[2 * CL_ERR_TEXT_MAX];

	(void)state;
	assert_int_equal(cl_fail(&err, ENOENT, "secret '%s'", "x"), -ENOENT);
	assert_int_equal(cl_wrap(&err, "tenant %s", "acme"), -ENOENT);
	assert_string_equal(err.text, "tenant acme: secret 'x'");
	memset(big, 'z', sizeof big);
	big[sizeof big - 1] = '\0';
	assert_int_equal(cl_wrap(&err, "%s", big), -ENOENT);
	assert_int_equal(strlen(err.text), CL_ERR_TEXT_MAX - 1);
	assert_int_equal(cl_fail(NULL, EIO, "nobody listens"), -EIO);
}

static void time_hex_and_compare(void **state)
{
	char b[40];

	(void)state;
	cl_time_rfc3339(0, b, sizeof b);
	assert_string_equal(b, "1970-01-01T00:00:00.000000Z");
	cl_time_rfc3339(951827696000001, b, sizeof b);
	assert_string_equal(b, "2000-02-29T12:34:56.000001Z");
	cl_time_rfc3339(-1, b, sizeof b);
	assert_string_equal(b, "1969-12-31T23:59:59.999999Z");
	cl_hex("\x00\xff\x10", 3, b);
	assert_string_equal(b, "00ff10");
	assert_true(cl_ct_eq("abc", "abd", 2));
	assert_false(cl_ct_eq("abc", "abd", 3));
}

static void log_text_of_others_is_quoted_and_bounded(void **state)
{
	char big[1000];

	(void)state;
	assert_string_equal(cl_kvs("a\"b\\c\nd"), "\"a\\\"b\\\\c?d\"");
	memset(big, '"', sizeof big);
	assert_true(strlen(cl_kv((struct span){ big, sizeof big })) < 212);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cut_takes_the_part_before_and_leaves_the_rest),
		cmocka_unit_test(comparing_looks_at_all_bytes),
		cmocka_unit_test(copy_refuses_what_does_not_fit_or_has_a_nul),
		cmocka_unit_test(utf8_is_strict),
		cmocka_unit_test(scrub_shows_only_what_can_be_shown_and_never_half_a_character),
		cmocka_unit_test(numbers_are_digits_within_their_maximum),
		cmocka_unit_test(tenant_ids_and_names_are_as_the_design_says),
		cmocka_unit_test(an_error_keeps_its_code_and_its_beginning),
		cmocka_unit_test(time_hex_and_compare),
		cmocka_unit_test(log_text_of_others_is_quoted_and_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "json/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

static int check(const char *s)
{
	return json_check(span_str(s), NULL, NULL);
}

static void json_accepts_what_the_grammar_allows(void **state)
{
	static const char *const good[] = {
		"{}", "[]", "0", "-0", "1.5e3", "\"\"", " [ 1 , 2 ] ", "null", "true", "false",
		"{\"a\":{\"b\":[1,{\"c\":null}]}}", "\"\\u00e9\\ud83d\\ude00\"", "\"\xc3\xa9\"",
		"[1E+2,0.1,-1e-9]", "{\"a\":1,\"A\":2}", "{\"\":1}", "\"\\u0000\"", "\"\x7f\"",
	};
	(void)state;
	for (size_t i = 0; i < CL_ARRAY_LEN(good); i++)
		if (check(good[i]))
			fail_msg("refused: %s", good[i]);
}

static void json_refuses_what_two_parsers_could_read_differently(void **state)
{
	static const char *const bad[] = {
		"", " ", "{", "[", "]", "[1,]", "[,1]", "{\"a\":1,}", "{a:1}", "{'a':1}", "01", "1.",
		".5", "+1", "1e", "-", "NaN", "Infinity", "tru", "\"", "\"\\x\"", "\"\\u12\"",
		"\"\\ud800\"", "\"\\udc00\"", "\"\\ud800\\u0041\"", "\"\xff\"", "\"\xc0\x80\"",
		"\"\xed\xa0\x80\"", "\xef\xbb\xbf{}", "{}{}", "1 2", "\"\n\"", "\"\t\"", "// x\n1",
		"{\"a\":1,\"a\":2}", "{\"a\":1,\"\\u0061\":2}", "{\"\xc3\xa9\":1,\"\\u00e9\":2}",
		"{\"a\\u0000b\":1}", "1e400", "-1e400", "[1 2]", "{\"a\" 1}", "{1:2}", "\x0c[]",
		"{\"x\":{\"a\":1,\"b\":2,\"a\":3}}",
	};
	(void)state;
	for (size_t i = 0; i < CL_ARRAY_LEN(bad); i++)
		if (!check(bad[i]))
			fail_msg("accepted: %s", bad[i]);
	assert_int_not_equal(json_check((struct span){ "1\0", 2 }, NULL, NULL), 0);
}

static void json_bounds_depth_and_keys(void **state)
{
	char deep[2 * JSON_DEPTH + 4];

	(void)state;
	memset(deep, '[', JSON_DEPTH);
	memset(deep + JSON_DEPTH, ']', JSON_DEPTH);
	assert_int_equal(json_check((struct span){ deep, 2 * JSON_DEPTH }, NULL, NULL), 0);
	memset(deep, '[', JSON_DEPTH + 1);
	memset(deep + JSON_DEPTH + 1, ']', JSON_DEPTH + 1);
	assert_int_equal(json_check((struct span){ deep, 2 * JSON_DEPTH + 2 }, NULL, NULL), -E2BIG);

	struct buf b;

	buf_init(&b, 1 << 20);
	for (int i = 0; i <= JSON_KEYS; i++)
		assert_int_equal(buf_printf(&b, "%c\"k%d\":0", i ? ',' : '{', i), 0);
	assert_int_equal(buf_add_ch(&b, '}'), 0);
	assert_int_equal(json_check(buf_span(&b), NULL, NULL), -E2BIG);
	buf_done(&b);
}

/* each prefix against an unmapped page: no read beyond the end, no acceptance */
static void json_refuses_every_prefix(void **state)
{
	static const char doc[] = "{\"a\":[1.5e1,true,{\"b\\n\":\"\\u00e9\\ud83d\\ude00\xc3\xa9\"}],\"c\":null}";
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *m = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_ptr_not_equal(m, MAP_FAILED);
	assert_int_equal(mprotect(m + page, page, PROT_NONE), 0);
	for (size_t n = 0; n <= sizeof doc - 1; n++) {
		char *at = m + page - n;

		memcpy(at, doc, n);
		int r = json_check((struct span){ at, n }, NULL, NULL);

		if (n < sizeof doc - 1)
			assert_int_not_equal(r, 0);
		else
			assert_int_equal(r, 0);
	}
	munmap(m, 2 * page);
}

static void json_finds_values_by_pointer(void **state)
{
	static const char doc[] = " {\"a\":{\"b/c\":[10,{\"~\":\"x\\ty\"}]}, \"\\u0064\" : -5 , \"e\":[]}";
	struct json_val r = json_root(SPAN(doc)), v;
	char text[16];
	uint64_t u;
	int64_t i;

	(void)state;
	assert_int_equal(check(doc), 0);
	assert_int_equal(json_at(r, "/a/b~1c/0", &v), 0);
	assert_int_equal(json_u64(v, &u), 0);
	assert_int_equal(u, 10);
	assert_int_equal(json_at(r, "/a/b~1c/1/~0", &v), 0);
	assert_int_equal(json_text_copy(v, text, sizeof text), 0);
	assert_string_equal(text, "x\ty");
	assert_int_equal(json_text_copy(v, text, 3), -ENAMETOOLONG);
	assert_int_equal(json_at(r, "/d", &v), 0);
	assert_int_equal(json_i64(v, &i), 0);
	assert_int_equal(i, -5);
	assert_int_equal(json_u64(v, &u), -EINVAL);
	assert_int_equal(json_at(r, "/a/b~1c/2", &v), -ENOENT);
	assert_int_equal(json_at(r, "/a/nope", &v), -ENOENT);
	assert_int_equal(json_at(r, "a", &v), -EINVAL);
	assert_int_equal(json_at(r, "", &v), 0);
	assert_int_equal(v.type, JSON_OBJECT);
	assert_int_equal(json_get(r, "e").type, JSON_ARRAY);
	assert_int_equal(json_get(r, "nope").type, JSON_NONE);
	assert_int_equal(json_get(json_get(r, "e"), "x").type, JSON_NONE);
}

static void json_iterates_in_order(void **state)
{
	static const char doc[] = "{ \"a\" : 1 , \"b\" : [ \"x,]\" , {} ] }";
	struct json_it it = json_each(json_root(SPAN(doc)));
	struct json_val v;
	struct span k;

	(void)state;
	assert_true(json_next(&it, &k, &v));
	assert_true(json_key_is(k, "a"));
	assert_true(json_next(&it, &k, &v));
	assert_true(json_key_is(k, "b"));
	assert_int_equal(v.type, JSON_ARRAY);

	struct json_it in = json_each(v);
	struct json_val e;

	assert_true(json_next(&in, &k, &e));
	assert_true(json_is(e, "x,]"));
	assert_true(json_next(&in, &k, &e));
	assert_int_equal(e.type, JSON_OBJECT);
	assert_false(json_next(&in, &k, &e));
	assert_false(json_next(&it, &k, &v));
}

static void json_decodes_escapes(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 64);
	assert_int_equal(json_text(json_root(SPAN("\"\\u00e9\\ud83d\\ude00\\n\\/\"")), &b), 0);
	assert_int_equal(b.n, 8);
	assert_memory_equal(b.p, "\xc3\xa9\xf0\x9f\x98\x80\n/", 8);
	buf_done(&b);
}

static void json_splices_one_value(void **state)
{
	static const char doc[] = "{\"a\":1,\"m\":\"old\",\"z\":[2]}";
	struct buf b;

	(void)state;
	buf_init(&b, 256);
	assert_int_equal(json_splice(SPAN(doc), json_get(json_root(SPAN(doc)), "m"), SPAN("\"new\""), &b), 0);
	assert_true(span_eq_str(buf_span(&b), "{\"a\":1,\"m\":\"new\",\"z\":[2]}"));
	buf_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(json_accepts_what_the_grammar_allows),
		cmocka_unit_test(json_refuses_what_two_parsers_could_read_differently),
		cmocka_unit_test(json_bounds_depth_and_keys),
		cmocka_unit_test(json_refuses_every_prefix),
		cmocka_unit_test(json_finds_values_by_pointer),
		cmocka_unit_test(json_iterates_in_order),
		cmocka_unit_test(json_decodes_escapes),
		cmocka_unit_test(json_splices_one_value),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

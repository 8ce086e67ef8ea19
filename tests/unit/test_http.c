/* SPDX-License-Identifier: Apache-2.0 */
/* http/: heads, chunks, paths. Every prefix of every input lies against an unmapped page. */
#include "http/http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

/* @s copied so that its last byte is the last of a page whose neighbour cannot be read */
static char *edge_map;
static size_t edge_size;

static struct span edge(const char *p, size_t n)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	if (!edge_map) {
		edge_size = 32 * page;
		edge_map = mmap(NULL, edge_size + page, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		assert_true(edge_map != MAP_FAILED);
		assert_int_equal(mprotect(edge_map + edge_size, page, PROT_NONE), 0);
	}
	assert_true(n <= edge_size);
	if (n)
		memcpy(edge_map + edge_size - n, p, n);
	return (struct span){ edge_map + edge_size - n, n };
}

static int parse(const char *text, size_t n, struct http_head *h)
{
	size_t looked = 0;
	const char *why = "";
	struct span in = edge(text, n);
	ssize_t end = http_head_end(in, &looked, 65536);

	if (end < 0)
		return -400;
	if (end == 0)
		return 1;
	return http_request((struct span){ in.p, (size_t)end }, h, &why);
}

static int parse_str(const char *text, struct http_head *h)
{
	return parse(text, strlen(text), h);
}

static const char *const golden[] = {
	"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
	"POST /v1/chat/completions?x=1 HTTP/1.1\r\nHost: 127.0.0.1:8377\r\nContent-Length: 12\r\n"
	"Authorization: Bearer x\r\nAccept: */*\r\nX-Empty:\r\nX-Pad:   a b\t \r\n\r\n",
	"PUT /x HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: Chunked\r\nExpect: 100-continue\r\n\r\n",
	"CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n\r\n",
};

static void every_prefix_of_a_golden_request_is_incomplete_and_the_whole_is_accepted(void **state)
{
	struct http_head h;

	(void)state;
	for (size_t i = 0; i < CL_ARRAY_LEN(golden); i++) {
		size_t n = strlen(golden[i]);

		for (size_t k = 0; k < n; k++)
			assert_int_equal(parse(golden[i], k, &h), 1);
		assert_int_equal(parse(golden[i], n, &h), 0);
	}
}

static void a_head_that_comes_byte_by_byte_ends_at_the_same_place(void **state)
{
	(void)state;
	for (size_t i = 0; i < CL_ARRAY_LEN(golden); i++) {
		size_t n = strlen(golden[i]), looked = 0;
		ssize_t end = 0;

		for (size_t k = 1; k <= n && end == 0; k++)
			end = http_head_end((struct span){ golden[i], k }, &looked, 65536);
		assert_int_equal(end, (ssize_t)n);
	}
}

static void the_fields_of_a_request_are_what_was_sent(void **state)
{
	struct http_head h;

	(void)state;
	assert_int_equal(parse_str(golden[1], &h), 0);
	assert_true(span_eq_str(h.method, "POST"));
	assert_true(span_eq_str(h.target, "/v1/chat/completions?x=1"));
	assert_int_equal(h.body, HTTP_LENGTH);
	assert_int_equal(h.length, 12);
	assert_int_equal(h.n, 6);
	assert_true(span_eq_str(http_get(&h, "x-pad"), "a b"));
	assert_int_equal(http_get(&h, "x-empty").n, 0);
	assert_null(http_get(&h, "x-absent").p);
	assert_false(h.close);
	assert_int_equal(parse_str(golden[2], &h), 0);
	assert_int_equal(h.body, HTTP_CHUNKED);
	assert_true(h.expect);
	assert_int_equal(parse_str(golden[4], &h), 0);
	assert_true(h.upgrade);
}

static void ambiguous_framing_is_refused(void **state)
{
	static const struct { int want; const char *text; } bad[] = {
		{ -400, "GET / HTTP/1.1\nHost: a\n\n" },
		{ -400, "GET / HTTP/1.1\r\nHost: a\n\r\n" },
		{ -400, "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n" },
		{ -400, "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n" },
		{ -400, "GET / HTTP/1.1\r\n Host: a\r\n\r\n" },
		{ -400, "GET / HTTP/1.1\r\nHost : a\r\n\r\n" },
		{ -400, "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n" },
		{ -400, "GET / HTTP/1.1\r\nHost: a\r\nX: a\x01\r\n\r\n" },
		{ -400, "GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n" },
		{ -400, "GET / HTTP/1.1\r\nHost: a\r\n: v\r\n\r\n" },
		{ -400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n" },
		{ -400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n" },
		{ -400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n" },
		{ -400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n" },
		{ -400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x12\r\n\r\n" },
		{ -400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 1\r\n\r\n" },
		{ -400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n" },
		{ -400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551617\r\n\r\n" },
		{ -400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" },
		{ -400, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" },
		{ -501, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n" },
		{ -501, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n" },
		{ -501, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n" },
		{ -400, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n" },
		{ -400, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" },
		{ -400, "GET / HTTP/1.1\r\nX: a\r\n\r\n" },
		{ -505, "GET / HTTP/1.0\r\nHost: a\r\n\r\n" },
		{ -505, "GET / HTTP/2.0\r\nHost: a\r\n\r\n" },
		{ -400, "GET / HTTP/1.1 \r\nHost: a\r\n\r\n" },
		{ -400, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n" },
		{ -400, "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n" },
		{ -400, "get / HTTP/1.1\r\nHost: a\r\n\r\n" },
		{ -400, "GET http://evil/ HTTP/1.1\r\nHost: a\r\n\r\n" },
		{ -400, "GET * HTTP/1.1\r\nHost: a\r\n\r\n" },
		{ -400, "GET evil HTTP/1.1\r\nHost: a\r\n\r\n" },
		{ -400, "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n" },
		{ -400, "GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n" },
		{ -400, "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n" },
		{ -400, "GET /% HTTP/1.1\r\nHost: a\r\n\r\n" },
		{ -400, "GET /\x80 HTTP/1.1\r\nHost: a\r\n\r\n" },
		{ -400, "CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n" },
		{ -400, "CONNECT user@a:443 HTTP/1.1\r\nHost: a\r\n\r\n" },
		{ -400, "GET / HTTP/1.1\r\nHost: a\r\nExpect: something\r\n\r\n" },
	};
	static const char nul[] = "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n";
	struct http_head h;

	(void)state;
	for (size_t i = 0; i < CL_ARRAY_LEN(bad); i++) {
		int r = parse_str(bad[i].text, &h);

		if (r != bad[i].want)
			fail_msg("%d instead of %d: %s", r, bad[i].want, bad[i].text);
	}
	assert_int_equal(parse(nul, sizeof nul - 1, &h), -400);
}

static void too_many_or_too_large_headers_are_refused(void **state)
{
	char text[4096];
	struct http_head h;
	size_t looked = 0, n = 0;

	(void)state;
	n += (size_t)snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: a\r\n");
	for (int i = 0; i < HTTP_HEADERS_MAX; i++)
		n += (size_t)snprintf(text + n, sizeof text - n, "A%d: b\r\n", i);
	n += (size_t)snprintf(text + n, sizeof text - n, "\r\n");
	assert_int_equal(parse(text, n, &h), -431);
	assert_int_equal(http_head_end((struct span){ text, 100 }, &looked, 100), -E2BIG);
}

static void responses_are_read_as_strictly(void **state)
{
	static const struct { int want; bool to_head; enum http_body body; const char *text; } t[] = {
		{ 0, false, HTTP_LENGTH, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" },
		{ 0, true, HTTP_NO_BODY, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" },
		{ 0, false, HTTP_CHUNKED, "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n" },
		{ 0, false, HTTP_CLOSE, "HTTP/1.0 200 OK\r\n\r\n" },
		{ 0, false, HTTP_NO_BODY, "HTTP/1.1 204 No Content\r\n\r\n" },
		{ 0, false, HTTP_NO_BODY, "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n" },
		{ 0, false, HTTP_NO_BODY, "HTTP/1.1 100 Continue\r\n\r\n" },
		{ -EBADMSG, false, 0, "HTTP/1.1 204 No\r\nContent-Length: 3\r\n\r\n" },
		{ -EBADMSG, false, 0, "HTTP/1.1 100 C\r\nTransfer-Encoding: chunked\r\n\r\n" },
		{ -EBADMSG, false, 0, "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" },
		{ -EBADMSG, false, 0, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n" },
		{ -EBADMSG, false, 0, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" },
		{ -EBADMSG, false, 0, "HTTP/1.1 99 OK\r\n\r\n" },
		{ -EBADMSG, false, 0, "HTTP/1.1 2000 OK\r\n\r\n" },
		{ -EBADMSG, false, 0, "HTTP/2 200 OK\r\n\r\n" },
		{ -EBADMSG, false, 0, "HTTP/1.1  200 OK\r\n\r\n" },
		{ -EBADMSG, false, 0, "HTTP/1.1 200 OK\r\nSet-Cookie: a\r\n b\r\n\r\n" },
		{ -EBADMSG, false, 0, "ICY 200 OK\r\n\r\n" },
	};

	(void)state;
	for (size_t i = 0; i < CL_ARRAY_LEN(t); i++) {
		size_t looked = 0, n = strlen(t[i].text);
		struct http_head h;
		const char *why;

		for (size_t k = 0; k < n; k++) {
			looked = 0;
			assert_int_equal(http_head_end(edge(t[i].text, k), &looked, 65536), 0);
		}
		looked = 0;
		struct span in = edge(t[i].text, n);

		assert_int_equal(http_head_end(in, &looked, 65536), (ssize_t)n);
		int r = http_response(in, t[i].to_head, &h, &why);

		if (r != t[i].want)
			fail_msg("%d instead of %d: %s", r, t[i].want, t[i].text);
		if (r == 0)
			assert_int_equal(h.body, t[i].body);
	}
}

/* Feed @text in pieces of @step bytes. Return: as http_chunked_next at the end */
static int dechunk(const char *text, size_t n, size_t step, bool strict, char *out, size_t *out_n,
		   size_t *used)
{
	struct http_chunked c;
	int r = HTTP_CHUNK_MORE;

	*out_n = 0;
	http_chunked_init(&c, strict);
	for (size_t at = 0; at < n && r == HTTP_CHUNK_MORE; at += step) {
		struct span in = edge(text + at, at + step > n ? n - at : step), piece;

		while ((r = http_chunked_next(&c, &in, &piece)) == HTTP_CHUNK_PIECE) {
			memcpy(out + *out_n, piece.p, piece.n);
			*out_n += piece.n;
		}
		*used = at + step > n ? n - in.n : at + step - in.n;
	}
	return r;
}

static void chunks_are_put_together_whatever_the_pieces(void **state)
{
	static const char text[] = "5\r\nhello\r\n1;ext=\"x\"\r\n \r\nB\r\nworld wide!\r\n0\r\n"
				   "Trailer: x\r\nOther: y\r\n\r\nNEXT";
	char out[64];
	size_t n, used = 0;

	(void)state;
	for (size_t step = 1; step < sizeof text; step++) {
		assert_int_equal(dechunk(text, sizeof text - 1, step, false, out, &n, &used),
				 HTTP_CHUNK_END);
		assert_int_equal(n, 17);
		assert_memory_equal(out, "hello world wide!", 17);
		assert_int_equal(used, sizeof text - 1 - 4);
	}
	for (size_t k = 0; k < sizeof text - 1 - 4; k++)
		assert_int_equal(dechunk(text, k, 7, false, out, &n, &used), HTTP_CHUNK_MORE);
	assert_int_equal(dechunk(text, sizeof text - 1, 64, true, out, &n, &used), -EBADMSG);
}

static void bad_chunks_are_refused(void **state)
{
	static const char *const bad[] = {
		"\r\n", "x\r\n", "+1\r\na\r\n", "-1\r\n", "0x1\r\na\r\n", " 1\r\na\r\n", "1 \r\na\r\n",
		"1\na\n", "1\r\nab\r\n", "1\r\na\n", "1\r\na\r0", "1\r\r\n", "ffffffffffffffff\r\n",
		"0\r\n\n", "0\r\n : x\r\n\r\n", "0\r\nA: b\n\r\n", "0\r\nA: \x01\r\n\r\n", "1_0\r\n",
	};
	char out[64];
	size_t n, used;

	(void)state;
	for (size_t i = 0; i < CL_ARRAY_LEN(bad); i++)
		if (dechunk(bad[i], strlen(bad[i]), 1, true, out, &n, &used) != -EBADMSG)
			fail_msg("accepted: %s", bad[i]);
}

static void a_chunk_line_is_lower_case_hex(void **state)
{
	char line[20];

	(void)state;
	assert_int_equal(http_chunk_line(0x1f4, line), 5);
	assert_memory_equal(line, "1f4\r\n", 5);
	assert_int_equal(http_chunk_line(0, line), 3);
	assert_int_equal(http_chunk_line(SIZE_MAX, line), 18);
}

static void only_paths_that_everyone_reads_alike_are_strict(void **state)
{
	static const char *const good[] = { "/", "/v1/chat/completions", "/a/b/", "/a%20b",
		"/v1beta/models/gemini-2.0:generateContent", "/caf%C3%A9", "/a.b/..c/...", "/@x/~y" };
	static const char *const bad[] = { "", "a", "//", "//evil", "/a//b", "/.", "/..", "/a/../b",
		"/a/./b", "/a/..", "/%2e%2e/b", "/a%2fb", "/a%5cb", "/a%5Cb", "/%252e", "/a%00", "/a%0d",
		"/a;b", "/a\\b", "/a%41", "/a?b", "/a%", "/a%4", "/a b", "/a%3bb", "/%7f" };

	(void)state;
	for (size_t i = 0; i < CL_ARRAY_LEN(good); i++)
		if (http_path_strict(edge(good[i], strlen(good[i]))))
			fail_msg("refused: %s", good[i]);
	for (size_t i = 0; i < CL_ARRAY_LEN(bad); i++)
		if (!http_path_strict(edge(bad[i], strlen(bad[i]))))
			fail_msg("accepted: %s", bad[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_prefix_of_a_golden_request_is_incomplete_and_the_whole_is_accepted),
		cmocka_unit_test(a_head_that_comes_byte_by_byte_ends_at_the_same_place),
		cmocka_unit_test(the_fields_of_a_request_are_what_was_sent),
		cmocka_unit_test(ambiguous_framing_is_refused),
		cmocka_unit_test(too_many_or_too_large_headers_are_refused),
		cmocka_unit_test(responses_are_read_as_strictly),
		cmocka_unit_test(chunks_are_put_together_whatever_the_pieces),
		cmocka_unit_test(bad_chunks_are_refused),
		cmocka_unit_test(a_chunk_line_is_lower_case_hex),
		cmocka_unit_test(only_paths_that_everyone_reads_alike_are_strict),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* httpd/ over a real socket; client and server share one thread and one loop. */
#include "httpd/httpd.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static struct {
	struct loop *loop;
	struct httpd *h;
	uint32_t id;
	struct sockaddr_in addr;
	int requests, gone, drains, bads, last_status;
	struct httpd_req *held;
	struct httpd_req *stream;
	size_t streamed;
	bool last_seen;
	size_t fds_seen;
} t;

static int on_head(struct httpd_req *r, uint64_t *body_max)
{
	if (span_eq_str(r->path, "/small"))
		*body_max = 4;
	if (span_eq_str(r->path, "/stream")) {
		t.stream = r;
		t.streamed = 0;
		t.last_seen = false;
		return HTTPD_STREAM;
	}
	if (span_eq_str(r->path, "/early")) {
		httpd_respond_json(r, 401, SPAN("{}"));
		return HTTPD_DONE;
	}
	return HTTPD_BUFFER;
}

static void on_body(struct httpd_req *r, struct span piece, bool last)
{
	t.streamed += piece.n;
	t.last_seen = last;
	if (last)
		httpd_respond(r, 200, "text/plain", NULL, SPAN("streamed"));
}

static void on_request(struct httpd_req *r)
{
	t.requests++;
	t.fds_seen += r->nfds;
	if (span_eq_str(r->path, "/hold")) {
		t.held = r;
		return;
	}
	if (span_eq_str(r->path, "/chunked")) {
		httpd_start(r, 200, SPAN("X-A: b\r\n"), UINT64_MAX);
		assert_int_equal(httpd_write(r, SPAN("one")), 0);
		assert_int_equal(httpd_write(r, SPAN("two")), 0);
		httpd_finish(r);
		return;
	}
	if (span_eq_str(r->path, "/short")) {
		httpd_start(r, 200, SPAN(""), 10);
		assert_int_equal(httpd_write(r, SPAN("12345")), 0);
		httpd_finish(r);
		return;
	}
	httpd_respond(r, 200, "text/plain", NULL, r->has_body ? r->body : r->path);
}

static void on_gone(struct httpd_req *r)
{
	t.gone++;
	if (t.held == r)
		t.held = NULL;
}

static void on_drain(struct httpd_req *r)
{
	(void)r;
	t.drains++;
}

static void on_bad(void *ctx, int status, const char *why)
{
	(void)ctx;
	(void)why;
	t.bads++;
	t.last_status = status;
}

static void stop(struct loop_timer *x)
{
	loop_stop(x->ctx);
}

static void run_ms(int ms)
{
	struct loop_timer timer = { 0 };

	assert_int_equal(loop_timer_set(t.loop, &timer, ms * 1000, stop, t.loop), 0);
	assert_int_equal(loop_run(t.loop), 0);
	loop_timer_del(&timer);
}

static int setup(void **state)
{
	struct httpd_ops ops = { on_head, on_request, on_body, on_gone, on_drain, on_bad };
	struct httpd_limits lim = { .head_max = 4096, .body_max = 1000, .head_timeout_ms = 80,
				    .idle_timeout_ms = 200, .body_timeout_ms = 80, .out_high = 65536,
				    .conns_max = 4, .buffered_max = 1500 };
	socklen_t n = sizeof t.addr;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	memset(&t, 0, sizeof t);
	t.addr.sin_family = AF_INET;
	t.addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, (struct sockaddr *)&t.addr, n), 0);
	assert_int_equal(listen(fd, 16), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&t.addr, &n), 0);
	assert_int_equal(loop_new(&t.loop, NULL), 0);
	assert_int_equal(httpd_new(&t.h, t.loop, &ops, &lim, NULL), 0);
	assert_int_equal(httpd_listen(t.h, fd, &t, &t.id), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	httpd_free(t.h);
	loop_free(t.loop);
	return 0;
}

static int client(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&t.addr, sizeof t.addr), 0);
	assert_int_equal(cl_set_nonblock(fd), 0);
	return fd;
}

static void say(int fd, const char *s)
{
	assert_int_equal(send(fd, s, strlen(s), MSG_NOSIGNAL), (ssize_t)strlen(s));
}

/* what came within @ms; @closed: the server's end of it was seen */
static const char *hear(int fd, int ms, bool *closed)
{
	static char buf[65536];
	size_t n = 0;

	run_ms(ms);
	*closed = false;
	for (;;) {
		ssize_t k = recv(fd, buf + n, sizeof buf - 1 - n, 0);

		if (k <= 0) {
			*closed = k == 0 || errno != EAGAIN;
			break;
		}
		n += (size_t)k;
	}
	buf[n] = '\0';
	return buf;
}

static size_t count(const char *s, const char *word)
{
	size_t n = 0;

	for (; (s = strstr(s, word)); s++)
		n++;
	return n;
}

static void requests_on_one_connection_are_answered_in_order(void **state)
{
	bool closed;
	int fd = client();

	(void)state;
	say(fd, "GET /a HTTP/1.1\r\nHost: x\r\n\r\nPOST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
		"GET /chunked HTTP/1.1\r\nHost: x\r\n\r\nGET /d HTTP/1.1\r\nHost: x\r\n\r\n");
	const char *s = hear(fd, 20, &closed);

	assert_false(closed);
	assert_int_equal(t.requests, 4);
	assert_int_equal(count(s, "HTTP/1.1 200 OK"), 4);
	const char *a = strstr(s, "\r\n\r\n/a"), *b = strstr(s, "\r\n\r\nabc");
	const char *c = strstr(s, "3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"), *d = strstr(s, "\r\n\r\n/d");

	assert_true(a && b && c && d && a < b && b < c && c < d);
	(void)close(fd);
}

static void a_request_that_comes_byte_by_byte_is_the_same(void **state)
{
	static const char text[] = "POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
				   "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
	bool closed;
	int fd = client();

	(void)state;
	for (size_t i = 0; i < sizeof text - 1; i++) {
		assert_int_equal(send(fd, text + i, 1, 0), 1);
		if (i % 3 == 0)
			run_ms(0);
	}
	assert_non_null(strstr(hear(fd, 20, &closed), "\r\n\r\nabcde"));
	(void)close(fd);
}

static void bad_requests_get_words_and_the_end(void **state)
{
	static const struct { int status; const char *text; } bad[] = {
		{ 400, "GET / HTTP/1.1\nHost: x\n\n" },
		{ 400, "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" },
		{ 505, "GET / HTTP/1.0\r\nHost: x\r\n\r\n" },
		{ 501, "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n" },
		{ 413, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n" },
		{ 413, "POST /small HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n" },
		{ 400, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" },
	};

	(void)state;
	for (size_t i = 0; i < CL_ARRAY_LEN(bad); i++) {
		bool closed;
		char want[32];
		int fd = client();

		(void)snprintf(want, sizeof want, "HTTP/1.1 %d ", bad[i].status);
		say(fd, bad[i].text);
		const char *s = hear(fd, 20, &closed);

		if (!strstr(s, want) || !strstr(s, "Connection: close") || !closed)
			fail_msg("%s -> %s (closed %d)", bad[i].text, s, closed);
		assert_int_equal(count(s, "Content-Length: "), 1);
		assert_int_equal(t.last_status, bad[i].status);
		(void)close(fd);
		run_ms(5);
	}
}

static void a_slow_head_and_a_slow_body_time_out_and_an_idle_connection_ends(void **state)
{
	bool closed;
	int fd = client();

	(void)state;
	say(fd, "GET / HT");
	assert_non_null(strstr(hear(fd, 150, &closed), "HTTP/1.1 408"));
	(void)close(fd);
	fd = client();
	say(fd, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab");
	assert_non_null(strstr(hear(fd, 150, &closed), "HTTP/1.1 408"));
	(void)close(fd);
	fd = client();
	assert_string_equal(hear(fd, 300, &closed), "");
	assert_true(closed);
	(void)close(fd);
}

static void a_held_request_is_answered_later(void **state)
{
	bool closed;
	int fd = client();

	(void)state;
	say(fd, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\nGET /next HTTP/1.1\r\nHost: x\r\n\r\n");
	assert_string_equal(hear(fd, 300, &closed), "");
	assert_false(closed);
	assert_non_null(t.held);
	httpd_respond(t.held, 200, "text/plain", NULL, SPAN("late"));
	const char *s = hear(fd, 20, &closed);

	assert_non_null(strstr(s, "\r\n\r\nlate"));
	assert_non_null(strstr(s, "\r\n\r\n/next"));
	assert_int_equal(t.gone, 0);
	(void)close(fd);
}

static void a_client_that_leaves_is_told_once_and_answers_to_it_are_harmless(void **state)
{
	int fd = client();

	(void)state;
	say(fd, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
	run_ms(10);
	assert_non_null(t.held);
	(void)close(fd);
	run_ms(10);
	assert_int_equal(t.gone, 1);
	assert_null(t.held);
}

static void unlisten_ends_live_requests_at_once(void **state)
{
	bool closed;
	int fd = client();

	(void)state;
	say(fd, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
	run_ms(10);
	httpd_unlisten(t.h, t.id);
	assert_int_equal(t.gone, 1);
	(void)hear(fd, 10, &closed);
	assert_true(closed);
	(void)close(fd);
}

static void an_answer_before_the_body_closes_the_connection_after_it_was_read(void **state)
{
	static char big[200000];
	bool closed;
	int fd = client();

	(void)state;
	say(fd, "POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n");
	memset(big, 'x', sizeof big);
	(void)send(fd, big, sizeof big, MSG_NOSIGNAL);
	const char *s = hear(fd, 30, &closed);

	assert_non_null(strstr(s, "HTTP/1.1 401"));
	assert_non_null(strstr(s, "Connection: close"));
	assert_true(closed);
	(void)close(fd);
}

static void an_answer_shorter_than_announced_is_cut_not_padded(void **state)
{
	bool closed;
	int fd = client();

	(void)state;
	say(fd, "GET /short HTTP/1.1\r\nHost: x\r\n\r\n");
	(void)hear(fd, 20, &closed);
	assert_true(closed);
	(void)close(fd);
}

static void expect_continue_is_answered_before_the_body(void **state)
{
	bool closed;
	int fd = client();

	(void)state;
	say(fd, "POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
	assert_string_equal(hear(fd, 20, &closed), "HTTP/1.1 100 Continue\r\n\r\n");
	say(fd, "ok");
	assert_non_null(strstr(hear(fd, 20, &closed), "\r\n\r\nok"));
	(void)close(fd);
}

static void a_head_request_gets_a_length_and_no_body(void **state)
{
	bool closed;
	int fd = client();

	(void)state;
	say(fd, "HEAD /abc HTTP/1.1\r\nHost: x\r\n\r\nGET /z HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
	const char *s = hear(fd, 20, &closed);

	assert_non_null(strstr(s, "Content-Length: 4\r\n"));
	assert_null(strstr(s, "/abc"));
	assert_non_null(strstr(s, "/z"));
	assert_true(closed);
	(void)close(fd);
}

static void a_paused_upload_stops_the_client_and_goes_on(void **state)
{
	static char big[1 << 16];
	int fd = client();
	size_t sent = 0, total = 20u << 20;
	char head[128];
	bool closed;

	(void)state;
	(void)snprintf(head, sizeof head, "POST /stream HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n",
		       total);
	say(fd, head);
	run_ms(5);
	assert_non_null(t.stream);
	httpd_pause_body(t.stream);
	for (int i = 0; i < 100; i++) {
		ssize_t k = send(fd, big, sizeof big, MSG_NOSIGNAL);

		if (k < 0)
			run_ms(1);
		else
			sent += (size_t)k;
	}
	run_ms(120);	/* longer than the body's time-out: a pause is ours, not the client's */
	assert_int_equal(t.streamed, 0);
	assert_true(sent < total);
	httpd_resume_body(t.stream);
	while (sent < total) {
		size_t n = total - sent < sizeof big ? total - sent : sizeof big;
		ssize_t k = send(fd, big, n, MSG_NOSIGNAL);

		if (k < 0)
			run_ms(1);
		else
			sent += (size_t)k;
	}
	assert_non_null(strstr(hear(fd, 50, &closed), "streamed"));
	assert_int_equal(t.streamed, total);
	(void)close(fd);
}

static void a_slow_reader_is_reported_and_drained(void **state)
{
	static char big[1 << 16], sink[1 << 16];
	int fd = client();
	size_t wrote = 0, got = 0;
	int r = 0;

	(void)state;
	say(fd, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
	run_ms(5);
	httpd_start(t.held, 200, SPAN(""), UINT64_MAX);
	while (r == 0 && wrote < (64u << 20)) {
		r = httpd_write(t.held, (struct span){ big, sizeof big });
		wrote += sizeof big;
	}
	assert_int_equal(r, 1);
	for (int i = 0; i < 2000 && !t.drains; i++) {
		ssize_t k = recv(fd, sink, sizeof sink, 0);

		if (k > 0)
			got += (size_t)k;
		run_ms(0);
	}
	assert_int_equal(t.drains, 1);
	httpd_finish(t.held);
	for (int i = 0; i < 4000 && got < wrote; i++) {
		ssize_t k = recv(fd, sink, sizeof sink, 0);

		if (k > 0)
			got += (size_t)k;
		else
			run_ms(0);
	}
	assert_true(got > wrote);
	(void)close(fd);
}

static void more_connections_than_allowed_wait_until_one_ends(void **state)
{
	int fds[5];
	bool closed;

	(void)state;
	for (int i = 0; i < 5; i++)
		fds[i] = client();
	say(fds[4], "GET /five HTTP/1.1\r\nHost: x\r\n\r\n");
	assert_string_equal(hear(fds[4], 30, &closed), "");
	(void)close(fds[0]);
	assert_non_null(strstr(hear(fds[4], 30, &closed), "/five"));
	for (int i = 1; i < 5; i++)
		(void)close(fds[i]);
}

static void buffered_bodies_of_a_listener_are_bounded_together_and_the_room_comes_back(void **state)
{
	static char body[801];
	char head[128];
	bool closed;
	int a = client(), b = client();

	(void)state;
	memset(body, 'x', 800);
	(void)snprintf(head, sizeof head, "POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 801\r\n\r\n");
	say(a, head);
	say(a, body);
	assert_string_equal(hear(a, 10, &closed), "");
	say(b, head);
	say(b, body);
	assert_non_null(strstr(hear(b, 20, &closed), "HTTP/1.1 503"));
	(void)close(a);
	(void)close(b);
	run_ms(10);
	for (int i = 0; i < 5; i++) {
		a = client();
		say(a, head);
		say(a, body);
		say(a, "y");
		assert_non_null(strstr(hear(a, 10, &closed), "HTTP/1.1 200"));
		(void)close(a);
		run_ms(5);
	}
}

static void descriptors_come_with_a_request_on_a_unix_socket_that_takes_them(void **state)
{
	struct httpd_ops ops = { on_head, on_request, on_body, on_gone, on_drain, on_bad };
	struct httpd_limits lim = { .take_fds = true };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct httpd *h;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int cfd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t n = sizeof un;
	bool closed;

	(void)state;
	assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof un.sun_family), 0);	/* autobind */
	assert_int_equal(listen(fd, 4), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&un, &n), 0);
	assert_int_equal(httpd_new(&h, t.loop, &ops, &lim, NULL), 0);
	assert_int_equal(httpd_listen(h, fd, NULL, NULL), 0);
	assert_int_equal(connect(cfd, (struct sockaddr *)&un, n), 0);
	assert_int_equal(cl_set_nonblock(cfd), 0);
	static const char text[] = "GET /fd HTTP/1.1\r\nHost: x\r\n\r\n";
	union { char b[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } ctl = { { 0 } };
	struct iovec iov = { (void *)(uintptr_t)text, sizeof text - 1 };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl.b,
			     .msg_controllen = sizeof ctl.b };
	struct cmsghdr *cm = CMSG_FIRSTHDR(&mh);
	int pass = 0;

	cm->cmsg_level = SOL_SOCKET;
	cm->cmsg_type = SCM_RIGHTS;
	cm->cmsg_len = CMSG_LEN(sizeof pass);
	memcpy(CMSG_DATA(cm), &pass, sizeof pass);
	assert_true(sendmsg(cfd, &mh, 0) > 0);
	assert_non_null(strstr(hear(cfd, 20, &closed), "/fd"));
	assert_int_equal(t.fds_seen, 1);
	httpd_free(h);
	(void)close(cfd);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(requests_on_one_connection_are_answered_in_order),
		T(a_request_that_comes_byte_by_byte_is_the_same),
		T(bad_requests_get_words_and_the_end),
		T(a_slow_head_and_a_slow_body_time_out_and_an_idle_connection_ends),
		T(a_held_request_is_answered_later),
		T(a_client_that_leaves_is_told_once_and_answers_to_it_are_harmless),
		T(unlisten_ends_live_requests_at_once),
		T(an_answer_before_the_body_closes_the_connection_after_it_was_read),
		T(an_answer_shorter_than_announced_is_cut_not_padded),
		T(expect_continue_is_answered_before_the_body),
		T(a_head_request_gets_a_length_and_no_body),
		T(a_paused_upload_stops_the_client_and_goes_on),
		T(a_slow_reader_is_reported_and_drained),
		T(more_connections_than_allowed_wait_until_one_ends),
		T(buffered_bodies_of_a_listener_are_bounded_together_and_the_room_comes_back),
		T(descriptors_come_with_a_request_on_a_unix_socket_that_takes_them),
	};
#undef T

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The upstream client against scripted services: a child process that
 * answers each connection with given bytes, plain or over TLS.
 */
#include "broker/route/resolve.h"
#include "broker/route/up.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

/* One answer a request; the connection goes on unless .close. */
struct step { const char *answer; size_t piece; bool close; };
struct service { pid_t pid; uint16_t port; };

static struct loop *l;
static struct up *u;
static struct up_trust *trust;

static EVP_PKEY *pkey;
static X509 *cert;

static void make_cert(void)
{
	X509_EXTENSION *san;

	pkey = EVP_EC_gen("P-256");
	cert = X509_new();
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), -60);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_set_version(cert, 2);
	X509_set_pubkey(cert, pkey);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
				   (const unsigned char *)"test", -1, -1, 0);
	X509_set_issuer_name(cert, X509_get_subject_name(cert));
	san = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:localhost");
	X509_add_ext(cert, san, -1);
	X509_EXTENSION_free(san);
	X509_sign(cert, pkey, EVP_sha256());

	BIO *mem = BIO_new(BIO_s_mem());
	struct cl_err err;
	char *pem;

	PEM_write_bio_X509(mem, cert);
	long n = BIO_get_mem_data(mem, &pem);

	assert_int_equal(up_trust_new(&trust, (struct span){ pem, (size_t)n }, &err), 0);
	BIO_free(mem);
}

static bool read_request(int fd, SSL *ssl)
{
	char b[4096];
	size_t n = 0;

	while (n < sizeof b - 1) {
		ssize_t k = ssl ? SSL_read(ssl, b + n, (int)(sizeof b - 1 - n)) : read(fd, b + n, sizeof b - 1 - n);

		if (k <= 0)
			return false;
		n += (size_t)k;
		b[n] = '\0';
		char *end = strstr(b, "\r\n\r\n"), *cl = strstr(b, "Content-Length: ");

		if (end && n >= (size_t)(end + 4 - b) + (cl ? strtoul(cl + 16, NULL, 10) : 0))
			return true;
	}
	return false;
}

static void serve(int lfd, const struct step *steps, size_t nsteps, SSL_CTX *ctx)
{
	size_t at = 0;

	while (at < nsteps) {
		int fd = accept(lfd, NULL, NULL);
		SSL *ssl = NULL;

		if (fd < 0)
			_exit(1);
		if (ctx) {
			ssl = SSL_new(ctx);
			SSL_set_fd(ssl, fd);
			if (SSL_accept(ssl) != 1) {
				close(fd);
				continue;
			}
		}
		for (bool on = true; on && at < nsteps && read_request(fd, ssl); at++) {
			const struct step *s = &steps[at];
			size_t n = strlen(s->answer), piece = s->piece ? s->piece : n;

			for (size_t i = 0; i < n; i += piece) {
				size_t k = n - i < piece ? n - i : piece;

				if (ssl)
					(void)SSL_write(ssl, s->answer + i, (int)k);
				else if (write(fd, s->answer + i, k) < 0)
					break;
			}
			on = !s->close;
		}
		if (ssl)
			SSL_shutdown(ssl);
		close(fd);
	}
	pause();
}

static struct service start(const struct step *steps, size_t nsteps, bool tls)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct service s;

	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(listen(fd, 16), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
	s.port = ntohs(a.sin_port);
	s.pid = fork();
	assert_true(s.pid >= 0);
	if (s.pid == 0) {
		SSL_CTX *ctx = NULL;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		signal(SIGPIPE, SIG_IGN);
		if (tls) {
			ctx = SSL_CTX_new(TLS_server_method());
			SSL_CTX_use_certificate(ctx, cert);
			SSL_CTX_use_PrivateKey(ctx, pkey);
		}
		serve(fd, steps, nsteps, ctx);
		_exit(0);
	}
	close(fd);
	return s;
}

static void stop(struct service s)
{
	kill(s.pid, SIGKILL);
	waitpid(s.pid, NULL, 0);
}

struct result {
	int status, heads, dones;
	struct buf body;
	char step[16];	/* "" = ended well */
	char why[256];
	bool sent;
	struct loop_timer guard;
	struct up_call *call;
	bool cancel_in_body;
};

static void on_head(void *ctx, const struct http_head *h)
{
	struct result *r = ctx;

	r->heads++;
	r->status = h->status;
}

static void on_body(void *ctx, struct span piece)
{
	struct result *r = ctx;

	assert_int_equal(buf_add_span(&r->body, piece), 0);
	if (r->cancel_in_body) {
		up_cancel(r->call);
		loop_stop(l);
	}
}

static void on_end(void *ctx)
{
	struct result *r = ctx;

	r->dones++;
	loop_stop(l);
}

static void on_fail(void *ctx, const struct up_failure *f)
{
	struct result *r = ctx;

	r->dones++;
	r->sent = f->reached;
	(void)snprintf(r->step, sizeof r->step, "%s", f->step);
	(void)snprintf(r->why, sizeof r->why, "%s", f->words);
	loop_stop(l);
}

static const struct up_ops events = { on_head, on_body, on_end, on_fail };

static void too_long(struct loop_timer *t)
{
	(void)t;
	fail_msg("the test's time is over");
}

static int idle_ms = 5000;

static struct up_target target(uint16_t port)
{
	return (struct up_target){ .host = "127.0.0.1", .port = port, .allow_private = true, .pool = "k1" };
}

static void ask(const struct up_target *t, const char *request, struct result *r)
{
	struct up_request rq = { .head = span_str(request), .connect_ms = 5000, .idle_ms = idle_ms,
				 .total_ms = 10000 };
	struct cl_err err;

	buf_init(&r->body, 1 << 20);
	assert_int_equal(loop_timer_set(l, &r->guard, 20000000, too_long, r), 0);
	assert_int_equal(up_call(u, t, &rq, &events, r, &r->call, &err), 0);
	assert_int_equal(r->dones, 0);	/* events never come from inside */
	assert_int_equal(loop_run(l), 0);
	loop_timer_del(&r->guard);
}

#define GET "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
#define POST "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
#define OK2 "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

static void up_reads_answers_in_pieces_of_one_byte(void **state)
{
	static const struct step steps[] = {
		{ "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 1, true },
		{ "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
		  "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", 1, true },
		{ "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end", 3, true },
		{ "HTTP/1.1 204 No Content\r\n\r\n", 0, true },
	};
	static const char *const want[] = { "hello", "abcde", "until the end", "" };
	struct service s = start(steps, CL_ARRAY_LEN(steps), false);
	struct up_target t = target(s.port);

	(void)state;
	for (size_t i = 0; i < CL_ARRAY_LEN(steps); i++) {
		struct result r = { 0 };

		ask(&t, POST, &r);
		assert_string_equal(r.step, "");
		assert_int_equal(r.heads, 1);
		assert_true(span_eq_str(buf_span(&r.body), want[i]));
		buf_done(&r.body);
	}
	stop(s);
}

static void up_refuses_odd_answers(void **state)
{
	static const struct step steps[] = {
		{ "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc", 0, true },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0, true },
		{ "HTTP/1.1 200 OK\nContent-Length: 2\n\nab", 0, true },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 0, true },
		{ "HTTP/1.1 200 OK\r\nA : b\r\n\r\n", 0, true },
		{ "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", 0, true },
		{ "garbage\r\n\r\n", 0, true },
		{ "HTTP/1.1 102 P\r\n\r\nHTTP/1.1 102 P\r\n\r\nHTTP/1.1 102 P\r\n\r\nHTTP/1.1 102 P\r\n\r\n"
		  "HTTP/1.1 102 P\r\n\r\nHTTP/1.1 102 P\r\n\r\nHTTP/1.1 102 P\r\n\r\nHTTP/1.1 102 P\r\n\r\n"
		  "HTTP/1.1 102 P\r\n\r\n" OK2, 0, true },
	};
	struct service s = start(steps, CL_ARRAY_LEN(steps), false);
	struct up_target t = target(s.port);

	(void)state;
	for (size_t i = 0; i < CL_ARRAY_LEN(steps); i++) {
		struct result r = { 0 };

		ask(&t, POST, &r);
		if (strcmp(r.step, "answer") != 0)
			fail_msg("answer %zu: step '%s' (%s)", i, r.step, r.why);
		assert_int_equal(r.dones, 1);
		buf_done(&r.body);
	}
	stop(s);
}

static void up_tells_a_cut_answer(void **state)
{
	static const struct step steps[] = {
		{ "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", 0, true },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", 0, true },
		{ "HTTP/1.1 200", 0, true },
		{ "", 0, true },
	};
	struct service s = start(steps, CL_ARRAY_LEN(steps), false);
	struct up_target t = target(s.port);

	(void)state;
	for (size_t i = 0; i < CL_ARRAY_LEN(steps); i++) {
		struct result r = { 0 };

		ask(&t, POST, &r);
		assert_string_equal(r.step, "answer");
		assert_true(r.sent);
		buf_done(&r.body);
	}
	stop(s);
}

/* bytes behind an answer: the connection is not used again, the next gets its own answer */
static void up_never_reuses_a_desynchronised_connection(void **state)
{
	static const struct step steps[] = {
		{ OK2 "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", 0, false },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nclean", 0, false },
	};
	struct service s = start(steps, CL_ARRAY_LEN(steps), false);
	struct up_target t = target(s.port);
	struct result a = { 0 }, b = { 0 };

	(void)state;
	ask(&t, POST, &a);
	assert_true(span_eq_str(buf_span(&a.body), "ok"));
	ask(&t, POST, &b);
	assert_true(span_eq_str(buf_span(&b.body), "clean"));
	buf_done(&a.body);
	buf_done(&b.body);
	stop(s);
}

static void up_keeps_connections_per_key(void **state)
{
	/* one connection serves two calls of a key; another key needs its own,
	 * which this service (one connection at a time) never accepts */
	static const struct step steps[] = { { OK2, 0, false }, { OK2, 0, false }, { OK2, 0, false } };
	struct service s = start(steps, CL_ARRAY_LEN(steps), false);
	struct up_target t = target(s.port);
	struct result r = { 0 };

	(void)state;
	for (int i = 0; i < 2; i++) {
		r = (struct result){ 0 };
		ask(&t, POST, &r);
		assert_string_equal(r.step, "");
		buf_done(&r.body);
	}
	memcpy(t.pool, "k2", 3);
	idle_ms = 300;
	r = (struct result){ 0 };
	ask(&t, POST, &r);
	assert_string_equal(r.step, "timeout");
	buf_done(&r.body);
	stop(s);
}

static void up_tries_again_only_what_is_safe(void **state)
{
	/* the service closes behind its first answer without saying so */
	static const struct step steps[] = { { OK2, 0, true }, { OK2, 0, true } };
	struct service s = start(steps, CL_ARRAY_LEN(steps), false);
	struct up_target t = target(s.port);
	struct result r = { 0 };

	(void)state;
	ask(&t, GET, &r);
	assert_string_equal(r.step, "");
	buf_done(&r.body);
	r = (struct result){ 0 };
	ask(&t, GET, &r);
	assert_string_equal(r.step, "");
	buf_done(&r.body);
	stop(s);
}

static void up_refuses_addresses_that_a_route_may_not_reach(void **state)
{
	struct up_target t = target(9);
	struct result r = { 0 };

	(void)state;
	t.allow_private = false;
	ask(&t, GET, &r);
	assert_string_equal(r.step, "address");
	assert_false(r.sent);
	buf_done(&r.body);
	t.allow_private = true;
	(void)snprintf(t.host, sizeof t.host, "169.254.169.254");
	r = (struct result){ 0 };
	ask(&t, GET, &r);
	assert_string_equal(r.step, "address");
	buf_done(&r.body);
}

static void up_says_when_nothing_listens(void **state)
{
	struct service s = start(NULL, 0, false);
	struct up_target t = target(s.port);
	struct result r = { 0 };

	(void)state;
	stop(s);
	ask(&t, GET, &r);
	assert_string_equal(r.step, "connect");
	assert_false(r.sent);
	buf_done(&r.body);
}

static void up_can_be_cancelled_from_its_own_event(void **state)
{
	static const struct step steps[] = { { "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 1, true } };
	struct service s = start(steps, 1, false);
	struct up_target t = target(s.port);
	struct result r = { .cancel_in_body = true };

	(void)state;
	ask(&t, GET, &r);
	assert_int_equal(r.dones, 0);
	assert_true(r.body.n >= 1);
	buf_done(&r.body);
	stop(s);
}

static void up_verifies_certificates(void **state)
{
	static const struct step steps[] = { { OK2, 0, true }, { OK2, 0, true }, { OK2, 0, true } };
	struct service s = start(steps, CL_ARRAY_LEN(steps), true);
	struct up_target t = target(s.port);
	struct result r = { 0 };

	(void)state;
	t.tls = true;
	(void)snprintf(t.host, sizeof t.host, "localhost");
	ask(&t, GET, &r);			/* not in the system's store */
	assert_string_equal(r.step, "tls");
	assert_false(r.sent);
	buf_done(&r.body);
	t.trust = trust;
	(void)snprintf(t.host, sizeof t.host, "127.0.0.1");	/* pinned, but another name */
	r = (struct result){ 0 };
	ask(&t, GET, &r);
	assert_string_equal(r.step, "tls");
	buf_done(&r.body);
	(void)snprintf(t.host, sizeof t.host, "localhost");
	r = (struct result){ 0 };
	ask(&t, GET, &r);
	if (r.step[0])
		fail_msg("pinned: %s", r.why);
	assert_true(span_eq_str(buf_span(&r.body), "ok"));
	buf_done(&r.body);
	stop(s);
}

static bool allowed(const char *text, bool private)
{
	union addr a;

	assert_true(addr_literal(text, 80, &a));
	enum addr_class c = addr_class(&a);

	return c == ADDR_PUBLIC || (c == ADDR_PRIVATE && private);
}

static void addresses_are_judged_in_every_spelling(void **state)
{
	static const char *const pub[] = { "1.1.1.1", "8.8.8.8", "172.32.0.1", "2606:4700::1111",
					   "::ffff:8.8.8.8", "64:ff9b::808:808" };
	static const char *const private[] = { "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1",
					       "100.64.0.1", "::1", "fd12::1", "::ffff:127.0.0.1",
					       "::ffff:10.0.0.1" };
	static const char *const never[] = { "0.0.0.0", "169.254.169.254", "224.0.0.1", "255.255.255.255",
					     "198.18.0.1", "fe80::1", "ff02::1", "fd00:ec2::254", "::",
					     "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe",
					     "2002:7f00:1::", "2001::1", "2001:db8::1", "::7f00:1" };

	(void)state;
	for (size_t i = 0; i < CL_ARRAY_LEN(pub); i++)
		if (!allowed(pub[i], false))
			fail_msg("public refused: %s", pub[i]);
	for (size_t i = 0; i < CL_ARRAY_LEN(private); i++)
		if (allowed(private[i], false) || !allowed(private[i], true))
			fail_msg("private: %s", private[i]);
	for (size_t i = 0; i < CL_ARRAY_LEN(never); i++)
		if (allowed(never[i], false) || allowed(never[i], true))
			fail_msg("allowed: %s", never[i]);
}

static int setup(void **state)
{
	struct cl_err err;

	(void)state;
	make_cert();
	struct up_tls *tls;

	return loop_new(&l, &err) || up_tls_new(&tls, "/etc/ssl/certs/ca-certificates.crt", &err) ||
	       up_new(&u, l, tls, &err);
}

static int teardown(void **state)
{
	(void)state;
	up_free(u);
	up_trust_free(trust);
	loop_free(l);
	X509_free(cert);
	EVP_PKEY_free(pkey);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(up_reads_answers_in_pieces_of_one_byte),
		cmocka_unit_test(up_refuses_odd_answers),
		cmocka_unit_test(up_tells_a_cut_answer),
		cmocka_unit_test(up_never_reuses_a_desynchronised_connection),
		cmocka_unit_test(up_keeps_connections_per_key),
		cmocka_unit_test(up_tries_again_only_what_is_safe),
		cmocka_unit_test(up_refuses_addresses_that_a_route_may_not_reach),
		cmocka_unit_test(up_says_when_nothing_listens),
		cmocka_unit_test(up_can_be_cancelled_from_its_own_event),
		cmocka_unit_test(up_verifies_certificates),
		cmocka_unit_test(addresses_are_judged_in_every_spelling),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}

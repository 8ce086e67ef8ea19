/* SPDX-License-Identifier: Apache-2.0 */
/* What a peer may send is one table; the rest ends the connection. */
#include "test.h"

#include "wire/wire.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/socket.h>

#define STATE_A 1u
#define STATE_B 2u

struct ends {
	struct loop *l;
	struct chan us, peer;
	int ready, closed, peer_closed, listens, states;
	int answers, lost;
	uint32_t code;
	struct loop_timer t;
	int result;		/* what the next handler returns */
	int got_fd;
};

static struct ends *e;

static int on_ready(struct chan *c, uint32_t seq, const union wire_any *m, int *fds, size_t nfds)
{
	(void)c; (void)seq; (void)m; (void)fds; (void)nfds;
	e->ready++;
	return e->result;
}

static int on_listen(struct chan *c, uint32_t seq, const union wire_any *m, int *fds, size_t nfds)
{
	(void)seq;
	e->listens++;
	if (nfds == 1 && m->tenant_listen.no == 7)
		e->got_fd = cl_take_fd(&fds[0]);
	c->state = STATE_B;
	return 0;
}

static int on_start(struct chan *c, uint32_t seq, const union wire_any *m, int *fds, size_t nfds)
{
	(void)m; (void)fds; (void)nfds;
	e->states++;
	return chan_reply(c, seq, ENOENT, "no tenant %s", "x");
}

static void on_closed(struct chan *c)
{
	(void)c;
	e->closed++;
}

static void on_peer_closed(struct chan *c)
{
	(void)c;
	e->peer_closed++;
}

static const struct chan_rule rules[] = {
	{ MSG_READY, CHAN_ANY, 3, on_ready },
	{ MSG_TENANT_LISTEN, STATE_A, 0, on_listen },
	{ MSG_TENANT_START, STATE_B, 0, on_start },
};

static void on_turn(struct loop_timer *t)
{
	loop_stop(t->ctx);
}

static void spin(void)
{
	for (int i = 0; i < 4; i++) {
		assert_int_equal(loop_timer_set(e->l, &e->t, 1000, on_turn, e->l), 0);
		assert_int_equal(loop_run(e->l), 0);
	}
}

static int setup(void **state)
{
	int sv[2];

	e = calloc(1, sizeof *e);
	assert_non_null(e);
	e->got_fd = -1;
	assert_int_equal(loop_new(&e->l, NULL), 0);
	assert_int_equal(chan_pair(sv), 0);
	assert_int_equal(chan_init(&e->us, e->l, sv[0], ROLE_BROKER, rules, CL_ARRAY_LEN(rules), on_closed,
				   NULL), 0);
	assert_int_equal(chan_init(&e->peer, e->l, sv[1], ROLE_CLOISTERD, NULL, 0, on_peer_closed, NULL), 0);
	*state = e;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	loop_timer_del(&e->t);
	chan_done(&e->us);
	chan_done(&e->peer);
	(void)cl_close(e->got_fd);
	loop_free(e->l);
	free(e);
	return 0;
}

static const struct msg_ready ready;

static void what_the_table_allows_reaches_its_handler(void **state)
{
	struct msg_tenant_listen m = { .no = 7, .id = SPAN("alice") };
	int p[2];

	(void)state;
	assert_int_equal(pipe(p), 0);
	assert_int_equal(chan_send(&e->peer, MSG_TENANT_LISTEN, 0, &m, &p[0], 1), 0);
	spin();
	assert_int_equal(e->listens, 1);
	assert_true(e->got_fd >= 0);
	assert_int_equal(fcntl(e->got_fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_int_equal(write(p[1], "x", 1), 1);
	char c;

	assert_int_equal(read(e->got_fd, &c, 1), 1);	/* the same pipe */
	assert_int_equal(e->closed, 0);
	(void)close(p[0]);
	(void)close(p[1]);
}

static void a_type_that_is_not_in_the_table_ends_the_connection(void **state)
{
	(void)state;
	assert_int_equal(chan_send(&e->peer, MSG_TENANTS_LIST, 0, &(struct msg_tenants_list){ 0 }, NULL, 0), 0);
	spin();
	assert_int_equal(e->closed, 1);
	assert_false(chan_up(&e->us));
	assert_int_equal(e->peer_closed, 1);
}

static void a_message_in_the_wrong_state_ends_the_connection(void **state)
{
	(void)state;
	assert_int_equal(chan_send(&e->peer, MSG_TENANT_START, 0, &(struct msg_tenant_start){ 0 }, NULL, 0), 0);
	spin();
	assert_int_equal(e->states, 0);
	assert_int_equal(e->closed, 1);
}

static void too_many_a_second_ends_the_connection(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(chan_send(&e->peer, MSG_READY, 0, &ready, NULL, 0), 0);
	spin();
	assert_int_equal(e->ready, 3);
	assert_int_equal(e->closed, 1);
}

static void a_handler_that_refuses_ends_the_connection(void **state)
{
	(void)state;
	e->result = -EBADMSG;
	assert_int_equal(chan_send(&e->peer, MSG_READY, 0, &ready, NULL, 0), 0);
	spin();
	assert_int_equal(e->ready, 1);
	assert_int_equal(e->closed, 1);
}

static void bytes_that_are_no_message_end_the_connection(void **state)
{
	(void)state;
	assert_int_equal(send(e->peer.fd, "rubbish", 7, MSG_NOSIGNAL), 7);
	spin();
	assert_int_equal(e->closed, 1);
}

static int open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void descriptors_that_nobody_takes_are_closed(void **state)
{
	int before, fds[WIRE_FDS_MAX];

	(void)state;
	for (size_t i = 0; i < CL_ARRAY_LEN(fds); i++)
		fds[i] = STDERR_FILENO;
	before = open_fds();
	assert_int_equal(chan_send(&e->peer, MSG_READY, 0, &ready, fds, CL_ARRAY_LEN(fds)), 0);
	spin();
	assert_int_equal(e->ready, 1);
	assert_int_equal(open_fds(), before);
	/* said to have one descriptor, has none */
	char m[8] = { MSG_READY, 0, 1 };

	assert_int_equal(send(e->peer.fd, m, sizeof m, MSG_NOSIGNAL), sizeof m);
	spin();
	assert_int_equal(e->ready, 1);
	assert_int_equal(e->closed, 1);
}

static void on_answer(void *ctx, uint32_t type, const union wire_any *m, int *fds, size_t nfds)
{
	(void)ctx; (void)fds; (void)nfds;
	if (!m) {
		e->lost++;
		return;
	}
	assert_int_equal(type, MSG_REPLY);
	e->answers++;
	e->code = m->reply.code;
	assert_true(span_eq_str(m->reply.text, "no tenant x"));
}

static void a_call_gets_its_answer(void **state)
{
	(void)state;
	e->us.state = STATE_B;
	assert_int_equal(chan_call(&e->peer, MSG_TENANT_START, &(struct msg_tenant_start){ .no = 1 }, NULL, 0,
				   on_answer, NULL), 0);
	spin();
	assert_int_equal(e->answers, 1);
	assert_int_equal(e->code, ENOENT);
	assert_int_equal(e->closed, 0);
}

static void a_call_learns_that_the_peer_is_gone(void **state)
{
	(void)state;
	assert_int_equal(chan_call(&e->peer, MSG_READY, &ready, NULL, 0, on_answer, NULL), 0);
	chan_done(&e->us);
	spin();
	assert_int_equal(e->lost, 1);
	assert_int_equal(e->peer_closed, 1);
	assert_int_equal(chan_send(&e->peer, MSG_READY, 0, &ready, NULL, 0), -EPIPE);
}

static void an_answer_that_nobody_asked_for_ends_the_connection(void **state)
{
	(void)state;
	assert_int_equal(chan_reply(&e->peer, 0x40000001u, 0, "%s", ""), 0);
	spin();
	assert_int_equal(e->closed, 1);
}

static int counted;

static int on_record(struct chan *c, uint32_t seq, const union wire_any *m, int *fds, size_t nfds)
{
	(void)c; (void)seq; (void)fds; (void)nfds;
	assert_int_equal(m->record.kind, counted);
	counted++;
	return 0;
}

static void more_than_the_socket_holds_is_queued_and_arrives_in_order(void **state)
{
	static const struct chan_rule any[] = { { MSG_RECORD, CHAN_ANY, 0, on_record } };
	static char body[16384];
	struct msg_record m = { .tenant = SPAN("a"), .body = { body, sizeof body } };
	int r = 0, n = 0;

	(void)state;
	e->us.rules = any;
	e->us.nrules = 1;
	counted = 0;
	for (; r == 0 && n < 100000; n += r == 0) {
		m.kind = (uint32_t)n;
		r = chan_send(&e->peer, MSG_RECORD, 0, &m, NULL, 0);
	}
	assert_int_equal(r, -ENOBUFS);		/* the queue has an end */
	assert_true(n > 4000);			/* 64 MiB of 16 KiB */
	for (int i = 0; i < 200 && counted < n; i++)
		spin();
	assert_int_equal(counted, n);
	assert_int_equal(e->closed, 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(what_the_table_allows_reaches_its_handler),
		T(a_type_that_is_not_in_the_table_ends_the_connection),
		T(a_message_in_the_wrong_state_ends_the_connection),
		T(too_many_a_second_ends_the_connection),
		T(a_handler_that_refuses_ends_the_connection),
		T(bytes_that_are_no_message_end_the_connection),
		T(descriptors_that_nobody_takes_are_closed),
		T(a_call_gets_its_answer),
		T(a_call_learns_that_the_peer_is_gone),
		T(an_answer_that_nobody_asked_for_ends_the_connection),
		T(more_than_the_socket_holds_is_queued_and_arrives_in_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

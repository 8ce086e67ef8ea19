/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real cloister-ledger, started as cloisterd starts it: channel on fd 3,
 * its directory on fd 4, as a user of its own. LEDGER_BIN is the program.
 */
#include "test.h"

#include "base/programs.h"
#include "record/audit.h"
#include "record/segment.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sched.h>
#include <unistd.h>

#define USER 64731	/* nobody's: only numbers matter */

struct prog {
	pid_t pid;
	struct loop *loop;
	struct chan chan;
	struct record_client rc;
	bool ready, closed;
	int dirfd;
	char dir[64];
};

static struct prog *the;

static int on_ready(struct chan *c, uint32_t seq, const union wire_any *m, int *fds, size_t nfds)
{
	(void)c; (void)seq; (void)m; (void)fds; (void)nfds;
	the->ready = true;
	loop_stop(the->loop);
	return 0;
}

static void on_closed(struct chan *c)
{
	(void)c;
	the->closed = true;
	record_client_link(&the->rc, NULL);
	loop_stop(the->loop);
}

static const struct chan_rule rules[] = { { MSG_READY, CHAN_ANY, 0, on_ready } };

static void on_timeout(struct loop_timer *t)
{
	loop_stop(t->ctx);
}

/* run the loop until somebody stops it, at most @ms */
static void spin(struct prog *p, int ms)
{
	struct loop_timer t = { 0 };

	the = p;
	assert_int_equal(loop_timer_set(p->loop, &t, ms * 1000LL, on_timeout, p->loop), 0);
	assert_int_equal(loop_run(p->loop), 0);
	loop_timer_del(&t);
}

static void start(struct prog *p, const char *arg)
{
	int sv[2];

	assert_int_equal(chan_pair(sv), 0);
	p->dirfd = open(p->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(p->dirfd >= 0);
	p->pid = fork();
	assert_true(p->pid >= 0);
	if (p->pid == 0) {
		char uid[16], gid[16];
		int chan = fcntl(sv[1], F_DUPFD, 20), dir = fcntl(p->dirfd, F_DUPFD, 20);

		(void)snprintf(uid, sizeof uid, "%u", geteuid() ? geteuid() : USER);
		(void)snprintf(gid, sizeof gid, "%u", geteuid() ? getegid() : USER);
		if (dup2(chan, PROGRAM_CONTROL_FD) < 0 || dup2(dir, PROGRAM_STATE_FD) < 0)
			_exit(99);
		(void)close(chan);
		(void)close(dir);
		execl(LEDGER_BIN, "cloister-ledger", "--uid", uid, "--gid", gid, arg, (char *)NULL);
		_exit(98);
	}
	(void)close(sv[1]);
	assert_int_equal(loop_new(&p->loop, NULL), 0);
	p->ready = p->closed = false;
	the = p;
	assert_int_equal(chan_init(&p->chan, p->loop, sv[0], ROLE_LEDGER, rules, 1, on_closed, p), 0);
	while (!p->ready && !p->closed)
		spin(p, 10000);
	assert_true(p->ready);
	record_client_link(&p->rc, &p->chan);
}

static int end(struct prog *p, int signo)
{
	int status = 0;

	record_client_link(&p->rc, NULL);
	if (signo)
		assert_int_equal(kill(p->pid, signo), 0);
	else
		chan_done(&p->chan);
	assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
	chan_done(&p->chan);
	loop_free(p->loop);
	p->loop = NULL;
	(void)close(p->dirfd);
	return status;
}

static int setup(void **state)
{
	struct prog *p = calloc(1, sizeof *p);

	assert_non_null(p);
	(void)snprintf(p->dir, sizeof p->dir, "/tmp/cl-ledger-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	if (geteuid() == 0) {
		assert_int_equal(chown(p->dir, USER, USER), 0);
	}
	record_client_init(&p->rc);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct prog *p = *state;

	record_client_done(&p->rc);
	test_rm_tree(p->dir);
	free(p);
	return 0;
}

struct told {
	struct prog *p;
	int n, want, code;
	uint64_t number;
};

static void on_durable(void *ctx, int code, uint64_t number)
{
	struct told *t = ctx;

	t->code = code;
	t->number = number;
	if (++t->n == t->want)
		loop_stop(t->p->loop);
}

static void fill(struct record *r, enum record_kind kind, int i)
{
	record_begin(r, kind, "alice");
	if (kind == RECORD_TENANT_STATE) {
		record_str(r, RF_STATE, "running");
		record_num(r, RF_PID, (uint64_t)i);
	} else {
		record_str(r, RF_EVENT, "stranger");
		record_fmt(r, RF_DETAIL, "number %d", i);
	}
	assert_int_equal(r->failed, 0);
}

static void send_many(struct prog *p, int n, struct told *t)
{
	struct record r;

	*t = (struct told){ .p = p, .want = n };
	for (int i = 0; i < n; i++) {
		fill(&r, i % 2 ? RECORD_TENANT_STATE : RECORD_BOUNDARY, i);
		assert_int_equal(record_send_must(&p->rc, &r, on_durable, t), 0);
	}
	spin(p, 20000);
	assert_int_equal(t->n, n);
}

static struct audit_report verified(const char *dir)
{
	struct audit_report rep;
	struct cl_err err = { 0 };
	unsigned char pub[32];
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(audit_key_read(fd, "ledger.pub", pub, &err), 0);
	int r = audit_verify(fd, pub, false, NULL, &rep, &err);

	if (r)
		print_error("verify: %s\n", err.text);
	assert_int_equal(r, 0);
	(void)close(fd);
	return rep;
}

static void records_are_durable_numbered_and_verify_after_a_clean_stop(void **state)
{
	struct prog *p = *state;
	struct told t;

	start(p, NULL);
	send_many(p, 500, &t);
	assert_int_equal(t.code, 0);
	assert_true(t.number >= 500);
	int status = end(p, 0);

	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	struct audit_report rep = verified(p->dir);

	/* start, checkpoint, 500, stop, checkpoint */
	assert_int_equal(rep.records, 504);
	assert_int_equal(rep.signed_to, rep.last);
}

static void the_signing_key_is_private_and_files_are_for_the_group(void **state)
{
	struct prog *p = *state;
	struct stat st;

	start(p, NULL);
	assert_int_equal(fstatat(p->dirfd, "key", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(fstatat(p->dirfd, "segment-00000001.cl", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(WEXITSTATUS(end(p, SIGTERM)), 0);
}

static void a_kind_of_another_program_is_refused_and_noted(void **state)
{
	struct prog *p = *state;
	struct told t = { .p = p, .want = 1 };
	struct record r;

	start(p, NULL);
	record_begin(&r, RECORD_REQUEST_DENIED, "alice");	/* only the broker may */
	record_str(&r, RF_ID, "x");
	record_str(&r, RF_RULE, "x");
	record_str(&r, RF_REASON, "x");
	assert_int_equal(record_send_must(&p->rc, &r, on_durable, &t), 0);
	spin(p, 10000);
	assert_int_equal(t.n, 1);
	assert_int_equal(t.code, EPERM);
	assert_int_equal(WEXITSTATUS(end(p, 0)), 0);
	assert_int_equal(verified(p->dir).records, 5);	/* the note is one of them */
}

static void kill_9_at_any_moment_loses_nothing_that_was_answered(void **state)
{
	struct prog *p = *state;
	uint64_t highest = 0;

	for (int round = 0; round < 12; round++) {
		struct told t = { .p = p };
		struct record r;

		start(p, round % 2 ? "--segment-bytes=20000" : NULL);
		for (int i = 0; i < 300; i++) {
			fill(&r, RECORD_TENANT_STATE, i);
			assert_int_equal(record_send_must(&p->rc, &r, on_durable, &t), 0);
		}
		spin(p, 1 + round);	/* some are answered, some not */
		int status = end(p, SIGKILL);

		assert_true(WIFSIGNALED(status));
		if (t.n && t.number > highest)
			highest = t.number;
		record_client_done(&p->rc);
		record_client_init(&p->rc);
	}
	start(p, NULL);
	assert_int_equal(WEXITSTATUS(end(p, 0)), 0);
	assert_true(verified(p->dir).last > highest);
}

static void records_wait_for_the_next_ledger_and_are_sent_again(void **state)
{
	struct prog *p = *state;
	struct told t = { .p = p, .want = 50 };
	struct record r;

	start(p, NULL);
	assert_int_equal(kill(p->pid, SIGSTOP), 0);
	for (int i = 0; i < 50; i++) {
		fill(&r, RECORD_TENANT_STATE, i);
		assert_int_equal(record_send_must(&p->rc, &r, on_durable, &t), 0);
	}
	(void)end(p, SIGKILL);
	assert_int_equal(t.n, 0);
	assert_int_equal(p->rc.n, 50);
	start(p, NULL);
	spin(p, 10000);
	assert_int_equal(t.n, 50);
	assert_int_equal(t.code, 0);
	assert_int_equal(p->rc.n, 0);
	assert_int_equal(WEXITSTATUS(end(p, 0)), 0);
	(void)verified(p->dir);
}

struct late { int resent, timed; };

static int count_late(void *ctx, const struct audit_record *r)
{
	struct late *l = ctx;
	struct record_value v;

	l->resent += record_find(r->body, RF_RESENT, &v);
	l->timed += record_find(r->body, RF_SENT_US, &v);
	return 0;
}

static void what_waited_says_since_when_and_what_was_sent_before_says_so(void **state)
{
	struct prog *p = *state;
	struct told t = { .p = p, .want = 5 };
	struct late l = { 0 };
	struct record r;

	for (int i = 0; i < 5; i++) {		/* no link yet */
		fill(&r, RECORD_TENANT_STATE, i);
		assert_int_equal(record_send_must(&p->rc, &r, on_durable, &t), 0);
	}
	start(p, NULL);
	spin(p, 10000);
	assert_int_equal(t.n, 5);
	assert_int_equal(audit_read(p->dirfd, &(struct audit_query){ .tenant = "alice" }, count_late, &l,
				    NULL, NULL), 0);
	assert_int_equal(l.timed, 5);
	assert_int_equal(l.resent, 0);
	assert_int_equal(kill(p->pid, SIGSTOP), 0);
	t = (struct told){ .p = p, .want = 3 };
	for (int i = 0; i < 3; i++) {		/* sent, never answered */
		fill(&r, RECORD_TENANT_STATE, i);
		assert_int_equal(record_send_must(&p->rc, &r, on_durable, &t), 0);
	}
	(void)end(p, SIGKILL);
	start(p, NULL);
	spin(p, 10000);
	assert_int_equal(t.n, 3);
	l = (struct late){ 0 };
	assert_int_equal(audit_read(p->dirfd, &(struct audit_query){ .tenant = "alice" }, count_late, &l,
				    NULL, NULL), 0);
	assert_int_equal(l.timed, 8);
	assert_int_equal(l.resent, 3);
	assert_int_equal(WEXITSTATUS(end(p, 0)), 0);
}

/* Fills the small disk with a file of its own until nothing goes. */
static void fill_disk(struct prog *p, const char *name)
{
	static char zero[4096];
	int fd = openat(p->dirfd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	while (write(fd, zero, sizeof zero) > 0)
		;
	(void)close(fd);
}

static void a_full_disk_refuses_and_the_ledger_goes_on_when_there_is_room(void **state)
{
	struct prog *p = *state;
	struct told t;
	struct record r;
	int waited = 0;

	if (geteuid() != 0)
		skip();		/* a small file system needs root */
	assert_int_equal(mount("tmpfs", p->dir, "tmpfs", MS_NOSUID | MS_NODEV, "size=6m,mode=0777"), 0);
	assert_int_equal(chown(p->dir, USER, USER), 0);
	start(p, NULL);
	send_many(p, 10, &t);
	assert_int_equal(t.code, 0);
	fill_disk(p, "ballast");
	for (int i = 0; i < 5000 && t.code == 0; i++) {
		t = (struct told){ .p = p, .want = 1 };
		fill(&r, RECORD_BOUNDARY, i);
		assert_int_equal(record_send_must(&p->rc, &r, on_durable, &t), 0);
		spin(p, 10000);
		assert_int_equal(t.n, 1);
	}
	assert_int_equal(t.code, ENOSPC);
	assert_int_equal(unlinkat(p->dirfd, "ballast", 0), 0);
	for (; t.code == ENOSPC && waited < 50; waited++) {
		spin(p, 200);
		t = (struct told){ .p = p, .want = 1 };
		fill(&r, RECORD_BOUNDARY, 1);
		assert_int_equal(record_send_must(&p->rc, &r, on_durable, &t), 0);
		spin(p, 10000);
	}
	assert_int_equal(t.code, 0);
	assert_int_equal(WEXITSTATUS(end(p, 0)), 0);
	(void)verified(p->dir);
	assert_int_equal(umount(p->dir), 0);
}

int main(void)
{
	/* the small disk of one test stays in a mount namespace of our own */
	if (geteuid() == 0 && (unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0))
		return 1;
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(records_are_durable_numbered_and_verify_after_a_clean_stop),
		T(the_signing_key_is_private_and_files_are_for_the_group),
		T(a_kind_of_another_program_is_refused_and_noted),
		T(kill_9_at_any_moment_loses_nothing_that_was_answered),
		T(records_wait_for_the_next_ledger_and_are_sent_again),
		T(what_waited_says_since_when_and_what_was_sent_before_says_so),
		T(a_full_disk_refuses_and_the_ledger_goes_on_when_there_is_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

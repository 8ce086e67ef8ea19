/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cloister-ledger - appends; nothing else.
 *
 * How this works: every other program has a channel to this one; the sender
 * of a record is the role of the channel that it came on. Records of one
 * round of the loop go to the disk together (group commit); who asked is
 * answered when they are there. Reading is done by others, from the files.
 *
 * Runs as: cloister-ledger. Holds: the signing key, keys of personal fields.
 */
#include "base/drop.h"
#include "base/programs.h"
#include "ledger/journal.h"
#include "loop/loop.h"
#include "wire/wire.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CHECK_US (10 * 1000000LL)	/* a checkpoint at least this often */
#define RETRY_US 1000000LL		/* while the disk is full */
#define LAST_US 200000LL		/* after cloisterd went away: what is still in the pipes */

struct waiter {
	struct chan *chan;
	uint32_t seq;
	uint64_t number;
};

struct ledger {
	struct loop *loop;
	struct journal journal;
	struct chan links[ROLE_COUNT];		/* ROLE_CLOISTERD: fd 3 */
	struct loop_timer commit, check, retry, last;
	struct waiter waiters[BATCH_MAX / FRAME_HEAD];
	size_t nwaiters;
	int status;
};

static struct ledger ledger;

static void answer(struct chan *c, uint32_t seq, uint64_t number, int code)
{
	struct msg_recorded m = { .number = number, .code = (uint32_t)code };

	if (chan_up(c))
		(void)chan_send(c, MSG_RECORDED, seq, &m, NULL, 0);	/* broken: closed() follows */
}

/* The disk's state is not known any more: end, and read it again from the start. */
static void broken(const struct cl_err *err)
{
	cl_log(CL_ERROR, "ledger-disk", "error=%s", cl_kvs(cl_err_str(err)));
	ledger.status = 1;
	loop_stop(ledger.loop);
}

static void on_retry(struct loop_timer *t);

/* What journal_commit() or journal_checkpoint() returned, for all who wait. */
static void settle(int r, const struct cl_err *err)
{
	size_t n = ledger.nwaiters;

	ledger.nwaiters = 0;
	for (size_t i = 0; i < n; i++)
		answer(ledger.waiters[i].chan, ledger.waiters[i].seq,
		       r ? 0 : ledger.waiters[i].number, -r);
	if (r && r != -ENOSPC)
		broken(err);
	if (ledger.journal.full && !ledger.retry.heap_at) {
		cl_log(CL_ERROR, "ledger-full", "fix=\"free space on the disk of the ledger\"");
		(void)loop_timer_set(ledger.loop, &ledger.retry, RETRY_US, on_retry, NULL);
	}
}

static void on_retry(struct loop_timer *t)
{
	struct cl_err err = { 0 };
	int r = journal_retry(&ledger.journal, &err);

	(void)t;
	if (r == 0)
		cl_log(CL_INFO, "ledger-resumed", "record=%llu",
		       (unsigned long long)ledger.journal.number);
	else if (r == -ENOSPC)
		(void)loop_timer_set(ledger.loop, &ledger.retry, RETRY_US, on_retry, NULL);
	else
		broken(&err);
}

static void commit_now(void)
{
	struct cl_err err = { 0 };
	int r = journal_commit(&ledger.journal, &err);

	loop_timer_del(&ledger.commit);
	settle(r, &err);
	if (r == 0 && journal_due(&ledger.journal)) {
		r = journal_checkpoint(&ledger.journal, &err);
		settle(r, &err);
	}
}

static void on_commit(struct loop_timer *t)
{
	(void)t;
	commit_now();
}

static void on_check(struct loop_timer *t)
{
	struct cl_err err = { 0 };

	(void)t;
	if (!ledger.journal.full)
		settle(journal_checkpoint(&ledger.journal, &err), &err);
	(void)loop_timer_set(ledger.loop, &ledger.check, CHECK_US, on_check, NULL);
}

/* A record that may not be: not written, but that it was tried is. */
static int refuse(struct chan *c, uint32_t seq, const struct msg_record *m, int code,
		  const char *why)
{
	struct record rec;
	struct cl_err err;

	cl_log(CL_WARNING, "record-refused", "peer=%s kind=%u reason=%s", wire_role_name(c->peer),
	       m->kind, cl_kvs(why));
	record_begin(&rec, RECORD_LEDGER_REFUSED, NULL);
	record_str(&rec, RF_PROGRAM, wire_role_name(c->peer));
	record_num(&rec, RF_VALUE, m->kind);
	record_str(&rec, RF_REASON, why);
	if (journal_append(&ledger.journal, rec.kind, ROLE_LEDGER, false, (struct span){ "", 0 },
			   (struct span){ rec.body, rec.n }, NULL, &err) == 0)
		(void)loop_timer_set(ledger.loop, &ledger.commit, 0, on_commit, NULL);
	if (m->must)
		answer(c, seq, 0, code);
	return 0;
}

static int on_record(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds)
{
	const struct msg_record *m = &msg->record;
	const struct record_kind_info *k = record_kind_info(m->kind);
	struct journal *j = &ledger.journal;
	struct cl_err err = { 0 };
	uint64_t number = 0;
	int r;

	(void)fds;
	if (nfds || m->must > 2)
		return -EBADMSG;
	if (!k || !(k->roles & (1u << c->peer)))
		return refuse(c, seq, m, EPERM, "this program may not record that");
	if (m->tenant.n && !tenant_id_ok(m->tenant))
		return refuse(c, seq, m, EBADMSG, "no tenant id");
	if (record_check(m->kind, m->body, false, &err))
		return refuse(c, seq, m, EBADMSG, err.text);
	if (seal_has_person(m->body) && !m->tenant.n)
		return refuse(c, seq, m, EBADMSG, "a personal field without a tenant");
	if (m->kind == RECORD_TENANT_ERASED) {
		/* before it is recorded: after a crash between, the sender asks again */
		r = journal_erase(j, m->tenant, &err);
		if (r) {
			answer(c, seq, 0, -r);
			return 0;
		}
	}
	for (int i = 0; i < 2; i++) {
		r = journal_append(j, m->kind, (uint8_t)c->peer, m->must == 1, m->tenant, m->body,
				   &number, &err);
		if (r != -E2BIG && ledger.nwaiters < CL_ARRAY_LEN(ledger.waiters))
			break;
		commit_now();
	}
	if (r) {
		if (m->must)
			answer(c, seq, 0, -r);
		return 0;
	}
	if (m->must)
		ledger.waiters[ledger.nwaiters++] = (struct waiter){ c, seq, number };
	return loop_timer_set(ledger.loop, &ledger.commit, 0, on_commit, NULL);
}

static const struct chan_rule sender_rules[] = {
	{ MSG_RECORD, CHAN_ANY, 100000, on_record },
};

/* Waiters of a channel that is gone get no answer: they send it again. */
static void forget(const struct chan *c)
{
	size_t n = 0;

	for (size_t i = 0; i < ledger.nwaiters; i++)
		if (ledger.waiters[i].chan != c)
			ledger.waiters[n++] = ledger.waiters[i];
	ledger.nwaiters = n;
}

static void on_sender_closed(struct chan *c)
{
	forget(c);
}

static int on_link(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds)
{
	uint32_t role = msg->link.role;

	(void)c;
	(void)seq;
	if (nfds != 1 || (role != ROLE_BROKER && role != ROLE_API && role != ROLE_SPAWNER))
		return -EBADMSG;

	struct chan *to = &ledger.links[role];

	if (chan_up(to)) {
		chan_done(to);
		forget(to);
	}
	return chan_init(to, ledger.loop, cl_take_fd(&fds[0]), (enum wire_role)role, sender_rules,
			 CL_ARRAY_LEN(sender_rules), on_sender_closed, NULL);
}

static const struct chan_rule cloisterd_rules[] = {
	{ MSG_LINK, CHAN_ANY, 100, on_link },
	{ MSG_RECORD, CHAN_ANY, 100000, on_record },
};

static void on_last(struct loop_timer *t)
{
	(void)t;
	loop_stop(ledger.loop);
}

/* cloisterd is gone: take what the others still say, then end */
static void on_cloisterd_closed(struct chan *c)
{
	forget(c);
	(void)loop_timer_set(ledger.loop, &ledger.last, LAST_US, on_last, NULL);
}

static void on_signal(struct loop *l, int signo, void *ctx)
{
	(void)signo;
	(void)ctx;
	loop_stop(l);
}

/* ---- start and end -------------------------------------------------------------- */

static const int calls[] = {
	SYS_read, SYS_write, SYS_writev, SYS_pread64, SYS_pwrite64, SYS_lseek, SYS_close, SYS_openat,
	SYS_openat2, SYS_newfstatat, SYS_fstat, SYS_statx, SYS_fstatfs, SYS_statfs, SYS_fsync,
	SYS_fdatasync, SYS_ftruncate, SYS_fallocate, SYS_unlinkat, SYS_renameat, SYS_mkdirat,
	SYS_getdents64, SYS_recvmsg, SYS_sendmsg, SYS_epoll_wait, SYS_epoll_pwait, SYS_epoll_ctl,
	SYS_umask, SYS_fcntl, SYS_clock_gettime, SYS_clock_nanosleep, SYS_getrandom, SYS_brk, SYS_munmap,
	SYS_mremap, SYS_madvise, SYS_mlock, SYS_futex, SYS_rt_sigprocmask, SYS_rt_sigaction,
	SYS_rt_sigreturn, SYS_restart_syscall, SYS_getpid, SYS_gettid, SYS_tgkill, SYS_exit,
	SYS_exit_group,
};

struct options {
	uint32_t uid, gid;
	struct journal_options journal;
};

static const struct { const char *name; size_t at; } numbers[] = {
	{ "--segment-bytes=", offsetof(struct options, journal.segment_bytes) },
	{ "--check-every=", offsetof(struct options, journal.check_every) },
	{ "--reserve-bytes=", offsetof(struct options, journal.reserve_bytes) },
	{ "--keep-segments=", offsetof(struct options, journal.keep_segments) },
};

static int option(struct options *o, struct span arg)
{
	for (size_t i = 0; i < CL_ARRAY_LEN(numbers); i++) {
		struct span name = span_str(numbers[i].name);

		if (span_starts(arg, name))
			return num_parse_u64((struct span){ arg.p + name.n, arg.n - name.n },
					     1ULL << 40, (uint64_t *)(void *)((char *)o + numbers[i].at));
	}
	return -EINVAL;
}

static int options_parse(struct options *o, int argc, char **argv, struct cl_err *err)
{
	for (int i = 1; i < argc; i++) {
		struct span a = span_str(argv[i]);
		bool uid = span_eq_str(a, "--uid"), gid = span_eq_str(a, "--gid");
		int r;

		if ((uid || gid) && i + 1 < argc)
			r = num_parse_u32(span_str(argv[++i]), UINT32_MAX - 1, uid ? &o->uid : &o->gid);
		else
			r = option(o, a);
		if (r)
			return cl_fail(err, EINVAL, "cloister-ledger: argument %s", argv[i]);
	}
	return 0;
}

static int narrow(const struct options *o, struct cl_err *err)
{
	const int state = PROGRAM_STATE_FD;
	int r = drop_to_user(o->uid, o->gid, err);

	if (r == 0)
		r = landlock_only(NULL, 0, &state, 1, true, NULL, err);
	if (r == 0)
		r = seccomp_only(calls, CL_ARRAY_LEN(calls), err);
	return r;
}

static int start(int argc, char **argv, struct cl_err *err)
{
	static const int signals[] = { SIGTERM, SIGINT, 0 };
	struct options o = { 0 };
	int r = options_parse(&o, argc, argv, err);

	if (r == 0)
		r = ledger_crypto_init(err);
	if (r == 0)
		r = loop_new(&ledger.loop, err);
	if (r == 0)
		r = loop_signals(ledger.loop, signals, on_signal, NULL);
	if (r == 0)
		r = narrow(&o, err);
	if (r == 0) {
		/* the directory's group (the api) may read; `key` is 0600 by its own mode */
		umask(027);
		r = journal_open(&ledger.journal, PROGRAM_STATE_FD, &o.journal, err);
	}
	if (r == 0)
		r = chan_init(&ledger.links[ROLE_CLOISTERD], ledger.loop, PROGRAM_CONTROL_FD,
			      ROLE_CLOISTERD, cloisterd_rules, CL_ARRAY_LEN(cloisterd_rules),
			      on_cloisterd_closed, NULL);
	if (r == 0)
		r = loop_timer_set(ledger.loop, &ledger.check, CHECK_US, on_check, NULL);
	if (r == 0)
		r = chan_send(&ledger.links[ROLE_CLOISTERD], MSG_READY, 0, &(struct msg_ready){ 0 },
			      NULL, 0);
	return r;
}

static void finish(void)
{
	struct cl_err err = { 0 };
	struct record rec;

	record_begin(&rec, RECORD_LEDGER_STOP, NULL);
	record_str(&rec, RF_REASON, "stopped in order");
	(void)journal_append(&ledger.journal, rec.kind, ROLE_LEDGER, false, (struct span){ "", 0 },
			     (struct span){ rec.body, rec.n }, NULL, &err);
	settle(journal_checkpoint(&ledger.journal, &err), &err);
}

int main(int argc, char **argv)
{
	struct cl_err err = { 0 };

	cl_log_init("cloister-ledger");
	for (size_t i = 0; i < ROLE_COUNT; i++)
		ledger.links[i].fd = -1;
	if (start(argc, argv, &err)) {
		cl_log(CL_ERROR, "ledger-start", "error=%s", cl_kvs(cl_err_str(&err)));
		return 1;
	}
	if (ledger.journal.full)
		settle(0, &err);
	cl_log(CL_INFO, "ledger-ready", "record=%llu segment=%llu",
	       (unsigned long long)ledger.journal.number, (unsigned long long)ledger.journal.segment);
	if (loop_run(ledger.loop) < 0)
		ledger.status = 1;
	if (ledger.status == 0)
		finish();
	for (size_t i = 0; i < ROLE_COUNT; i++)
		chan_done(&ledger.links[i]);
	journal_done(&ledger.journal);
	loop_free(ledger.loop);
	return ledger.status;
}

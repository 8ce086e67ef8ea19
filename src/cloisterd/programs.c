/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How this works: a program is a child with a channel. It dies in one of
 * three ways: it exits (SIGCHLD), it closes its channel, or it breaks the
 * protocol (wire closes the channel). The last two give it a moment to exit
 * and then kill it; so all end in programs_exited(), which starts it again.
 */
#include "cloisterd/programs.h"

#include "base/programs.h"
#include "cloisterd/daemon.h"
#include "cloisterd/links.h"
#include "cloisterd/proc.h"
#include "cloisterd/tell.h"
#include "cloisterd/tenant.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define QUICK_US 10000000	/* a death sooner than this after its start counts */
#define QUICK_LOOP 5		/* so many in a row: somebody must look */
#define START_TRIES 3		/* deaths before the first READY that refuse the start */
#define END_GRACE_MS 5000
#define RECORD_NAME "programs"
#define RECORD_MAGIC 0x31474f5250435243ULL	/* "CRCPROG1" */

/* what a program finds at 3, 4, 5 … */
enum source {
	S_END, S_CHANNEL, S_NULL, S_BROKER_DIR, S_API_DIR, S_LEDGER_DIR, S_API_SOCK, S_LISTEN,
	S_ETC, S_IMAGES, S_WEB, S_AGENTS, S_ROUTES, S_MODEL_LISTEN
};

static const struct desc {
	const char *name, *binary;
	enum wire_role role;
	size_t user_at;
	int stop_round;		/* ended in this order; equal ones together */
	enum source fds[12];	/* from 3 on, as base/programs.h says */
} descs[PROGRAM_COUNT] = {
#define USER(u) offsetof(struct options, u)
	[PROGRAM_LEDGER] = { "ledger", "cloister-ledger", ROLE_LEDGER, USER(ledger), 3,
			     { S_CHANNEL, S_LEDGER_DIR } },
	[PROGRAM_SPAWNER] = { "spawner", "cloister-spawner", ROLE_SPAWNER, USER(spawner), 2,
			      { S_CHANNEL, S_NULL, S_IMAGES } },
	[PROGRAM_BROKER] = { "broker", "cloister-broker", ROLE_BROKER, USER(broker), 1,
			     { S_CHANNEL, S_BROKER_DIR } },
	[PROGRAM_API] = { "api", "cloister-api", ROLE_API, USER(api), 0,
			  { S_CHANNEL, S_API_DIR, S_API_SOCK, S_LISTEN, S_ETC, S_IMAGES,
			    S_LEDGER_DIR, S_WEB, S_AGENTS, S_ROUTES } },
	[PROGRAM_MODEL] = { "model-sim", "cloister-model-sim", ROLE_MODEL, USER(model), 1,
			    { S_CHANNEL, S_NULL, S_MODEL_LISTEN } },
#undef USER
};
#define STOP_ROUNDS 4

/* who talks to whom, beside cloisterd */
static const struct { enum program_id a, b; } links[] = {
	{ PROGRAM_BROKER, PROGRAM_LEDGER },
	{ PROGRAM_BROKER, PROGRAM_API },
	{ PROGRAM_API, PROGRAM_LEDGER },
};

struct record_program {
	uint64_t magic, pid, ticks;
};

static void start_later(struct program *p);

const char *program_name(enum program_id id)
{
	return descs[id].name;
}

struct chan *program_chan(struct daemon *d, enum program_id id)
{
	struct program *p = &d->program[id];

	return p->pid && chan_up(&p->chan) ? &p->chan : NULL;
}

static int source_fd(struct daemon *d, enum source s, int channel)
{
	switch (s) {
	case S_CHANNEL: return channel;
	case S_NULL: return d->fd.null;
	case S_BROKER_DIR: return d->fd.broker;
	case S_API_DIR: return d->fd.api;
	case S_LEDGER_DIR: return d->fd.ledger;
	case S_API_SOCK: return d->fd.api_sock;
	case S_LISTEN: return d->fd.listen;
	case S_ETC: return d->fd.etc;
	case S_IMAGES: return d->fd.images;
	case S_WEB: return d->fd.web;
	case S_AGENTS: return d->fd.agents;
	case S_ROUTES: return d->fd.routes;
	case S_MODEL_LISTEN: return d->fd.model_listen;
	case S_END:
	default: return -1;
	}
}

/* Runs in the child: system calls only. The log is fd 2, as it was here. */
static _Noreturn void child_exec(struct daemon *d, const struct desc *de, const int *fds,
				 unsigned nfds, char *const *argv, char *const *envp)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	int high[CL_ARRAY_LEN(de->fds)], bin, null;
	sigset_t none;

	int oom = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (oom >= 0)
		(void)!write(oom, "0", 1);	/* ours is lower; raising it is always allowed */
	/* whoever started us may be nice; the spawner could not undo it for its agents */
	(void)setpriority(PRIO_PROCESS, 0, 0);
	(void)setsid();	/* a terminal's Ctrl-C is for cloisterd, which ends them in order */
	for (int s = 1; s < NSIG; s++)
		(void)sigaction(s, &dfl, NULL);	/* KILL and STOP refuse: fine */
	sigemptyset(&none);
	/* first above every target, so that no source is overwritten before its turn */
	bin = fcntl(d->fd.bin, F_DUPFD_CLOEXEC, 128);
	null = fcntl(d->fd.null, F_DUPFD_CLOEXEC, 128);
	if (bin < 0 || null < 0 || sigprocmask(SIG_SETMASK, &none, NULL) < 0)
		_exit(126);
	for (unsigned i = 0; i < nfds; i++)
		high[i] = fds[i] < 0 ? -1 : fcntl(fds[i], F_DUPFD_CLOEXEC, 128);
	if (dup2(null, 0) < 0 || dup2(null, 1) < 0)
		_exit(126);
	for (unsigned i = 0; i < nfds; i++) {
		if (fds[i] < 0)
			(void)close(3 + (int)i);
		else if (high[i] < 0 || dup2(high[i], 3 + (int)i) < 0)
			_exit(126);
	}
	if (close_range(3 + nfds, ~0u, CLOSE_RANGE_CLOEXEC) < 0 ||
	    (fds[1] != d->fd.null ? fchdir(PROGRAM_STATE_FD) : chdir("/")) < 0)
		_exit(126);
	(void)execveat(bin, de->binary, argv, envp, 0);
	_exit(127);
}

struct words {
	char text[4][48];
	char *argv[8 + PASS_MAX];
	char *envp[4];
};

static void words_make(struct daemon *d, enum program_id id, struct words *w)
{
	const struct desc *de = &descs[id];
	const struct user *u = (const struct user *)(const void *)
			       ((const char *)&d->opt + de->user_at);
	static char path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin", lang[] = "LANG=C.UTF-8";
	static char uid[] = "--uid", gid[] = "--gid";
	static char log[32];
	const char *level = getenv("CLOISTER_LOG");
	size_t n = 0;

	w->argv[n++] = (char *)(uintptr_t)de->binary;
	if (id != PROGRAM_SPAWNER) {	/* which stays root, narrowed */
		(void)snprintf(w->text[0], sizeof w->text[0], "%u", u->uid);
		(void)snprintf(w->text[1], sizeof w->text[1], "%u", u->gid);
		w->argv[n++] = uid;
		w->argv[n++] = w->text[0];
		w->argv[n++] = gid;
		w->argv[n++] = w->text[1];
	}
	if (id == PROGRAM_API || id == PROGRAM_SPAWNER) {
		(void)snprintf(w->text[2], sizeof w->text[2], "--uid-base=%u", d->opt.uid_base);
		w->argv[n++] = w->text[2];
	}
	if (id == PROGRAM_API) {
		(void)snprintf(w->text[3], sizeof w->text[3], "--listen=%s", d->opt.listen_text);
		w->argv[n++] = w->text[3];
	}
	for (size_t i = 0; i < d->opt.npass; i++)
		if (span_eq_str(d->opt.pass[i].program, de->name))
			w->argv[n++] = (char *)(uintptr_t)d->opt.pass[i].arg;
	w->argv[n] = NULL;

	n = 0;
	w->envp[n++] = path;
	w->envp[n++] = lang;
	if (level && snprintf(log, sizeof log, "CLOISTER_LOG=%s", level) < (int)sizeof log)
		w->envp[n++] = log;
	w->envp[n] = NULL;
}

/* Both ends of each link of @p get a fresh socketpair, where the other runs. */
static void link_up(struct program *p)
{
	struct daemon *d = p->d;

	for (size_t i = 0; i < CL_ARRAY_LEN(links); i++) {
		enum program_id ids[2] = { links[i].a, links[i].b };
		int pair[2];

		if (ids[0] != p->id && ids[1] != p->id)
			continue;
		struct chan *c[2] = { program_chan(d, ids[0]), program_chan(d, ids[1]) };

		if (!c[0] || !c[1])
			continue;	/* made when the other starts */
		int r = chan_pair(pair);

		if (r == 0) {
			for (int k = 0; k < 2 && r == 0; k++) {
				struct msg_link m = { .role = (uint32_t)descs[ids[1 - k]].role };

				r = chan_send(c[k], MSG_LINK, 0, &m, &pair[k], 1);
			}
			(void)cl_close(pair[0]);
			(void)cl_close(pair[1]);
		}
		/* one of them has just died: its next start makes the link */
		if (r)
			cl_log(CL_WARNING, "link", "a=%s b=%s error=%s", descs[ids[0]].name,
			       descs[ids[1]].name, cl_kvs(strerror(-r)));
	}
}

/* so that the next cloisterd can tell who is left of this one's programs */
static void record_write(struct daemon *d)
{
	struct record_program rec[PROGRAM_COUNT];
	struct cl_err err;

	memset(rec, 0, sizeof rec);
	for (int i = 0; i < PROGRAM_COUNT; i++) {
		rec[i].magic = RECORD_MAGIC;
		rec[i].pid = (uint64_t)d->program[i].pid;
		rec[i].ticks = d->program[i].start_ticks;
	}
	if (cl_write_file(d->fd.run, RECORD_NAME, 0600, (struct span){ (char *)rec, sizeof rec },
			  &err))
		cl_log(CL_WARNING, "programs-record", "error=%s", cl_kvs(cl_err_str(&err)));
}

void programs_forget(struct daemon *d)
{
	(void)unlinkat(d->fd.run, RECORD_NAME, 0);	/* absence is fine */
}

void programs_end_leftovers(struct daemon *d, int wait_ms)
{
	struct record_program rec[PROGRAM_COUNT];
	int64_t until = cl_mono_us() + (int64_t)wait_ms * 1000;
	CL_BUF struct buf b;

	buf_init(&b, sizeof rec);
	if (cl_read_file(d->fd.run, RECORD_NAME, &b, NULL) || b.n != sizeof rec)
		return;		/* a first start, or nothing to go by */
	memcpy(rec, b.p, sizeof rec);
	for (int i = 0; i < PROGRAM_COUNT; i++) {
		if (rec[i].magic != RECORD_MAGIC || rec[i].pid == 0 || rec[i].pid > INT32_MAX)
			continue;
		CL_CLOSE int fd = proc_hold((pid_t)rec[i].pid, rec[i].ticks);

		if (fd < 0)
			continue;
		int64_t left_ms = (until - cl_mono_us()) / 1000;

		if (proc_gone(fd, left_ms > 0 ? (int)left_ms : 0))
			continue;
		cl_log(CL_WARNING, "leftover-killed", "name=%s pid=%d", descs[i].name,
		       (int)rec[i].pid);
		(void)proc_signal(fd, SIGKILL);	/* it may have gone just now */
		(void)proc_gone(fd, 5000);
	}
}

static void on_kill_timer(struct loop_timer *t)
{
	struct program *p = t->ctx;

	if (p->pid) {
		cl_log(CL_WARNING, "program-killed", "name=%s pid=%d reason=\"did not exit\"",
		       descs[p->id].name, (int)p->pid);
		(void)proc_signal(p->pidfd, SIGKILL);
	}
}

/* The channel is gone: the program sees its end of file and has a moment to exit. */
static void end_it(struct program *p)
{
	chan_done(&p->chan);
	if (!p->pid)
		return;
	p->state = PROG_ENDING;
	if (loop_timer_set(p->d->loop, &p->timer, END_GRACE_MS * 1000, on_kill_timer, p))
		(void)proc_signal(p->pidfd, SIGKILL);
}

static void on_closed(struct chan *c)
{
	struct program *p = c->ctx;

	links_program_down(p->d, p->id);
	end_it(p);
}

static int start_one(struct daemon *d, enum program_id id, struct cl_err *err)
{
	struct program *p = &d->program[id];
	const struct desc *de = &descs[id];
	int fds[CL_ARRAY_LEN(de->fds)], pair[2], r;
	const struct chan_rule *rules;
	struct words w;
	size_t nrules;
	unsigned nfds = 0;

	if ((r = chan_pair(pair)))
		return cl_fail(err, -r, "%s: channel", de->name);
	for (; nfds < CL_ARRAY_LEN(de->fds) && de->fds[nfds] != S_END; nfds++)
		fds[nfds] = source_fd(d, de->fds[nfds], pair[1]);
	words_make(d, id, &w);

	pid_t pid = fork();

	if (pid == 0)
		child_exec(d, de, fds, nfds, w.argv, w.envp);
	r = errno;
	(void)cl_close(pair[1]);
	if (pid < 0) {
		(void)cl_close(pair[0]);
		return cl_fail(err, r, "%s: fork", de->name);
	}
	p->pid = pid;
	p->state = PROG_STARTED;
	p->started_us = cl_mono_us();
	p->pidfd = proc_pidfd_open(pid);	/* our unreaped child: the number is its own */
	if (p->pidfd < 0 || proc_start_ticks(pid, &p->start_ticks) ||
	    links_rules(id, &rules, &nrules) ||
	    chan_init(&p->chan, d->loop, pair[0], de->role, rules, nrules, on_closed, p)) {
		(void)cl_close(pair[0]);
		(void)kill(pid, SIGKILL);	/* not reaped yet: still ours */
		return cl_fail(err, EMFILE, "%s: cannot watch it", de->name);
	}
	cl_log(CL_INFO, "program-started", "name=%s pid=%d", de->name, (int)pid);
	tell_program(d, de->name, "start", pid, -1);
	record_write(d);
	link_up(p);
	return 0;
}

int programs_start(struct daemon *d, struct cl_err *err)
{
	for (int i = 0; i < PROGRAM_COUNT; i++) {
		struct program *p = &d->program[i];

		*p = (struct program){ .id = (enum program_id)i, .d = d, .pidfd = -1 };
		p->chan.fd = -1;
	}
	for (int i = 0; i < PROGRAM_COUNT; i++) {
		if (i == PROGRAM_MODEL && d->fd.model_listen < 0)
			continue;
		if (start_one(d, (enum program_id)i, err))
			return -err->code;
	}
	return 0;
}

int programs_ready(struct chan *c)
{
	struct program *p = c->ctx;
	struct daemon *d = p->d;

	if (p->state != PROG_STARTED)
		return -EPROTO;		/* once each start */
	p->state = PROG_UP;
	cl_log(CL_INFO, "program-ready", "name=%s after_ms=%lld", descs[p->id].name,
	       (long long)((cl_mono_us() - p->started_us) / 1000));
	links_program_up(d, p->id);
	if (d->ready)
		return 0;
	for (int i = 0; i < PROGRAM_COUNT; i++)
		if (d->program[i].state != PROG_UP && d->program[i].state != PROG_OFF)
			return 0;
	daemon_programs_ready(d);
	return 0;
}

static void on_start_timer(struct loop_timer *t)
{
	struct program *p = t->ctx;
	struct cl_err err;

	if (p->d->stopping || p->pid)
		return;
	if (start_one(p->d, p->id, &err)) {
		cl_log(CL_ERROR, "program-start", "name=%s error=%s", descs[p->id].name,
		       cl_kvs(cl_err_str(&err)));
		if (!p->pid)
			start_later(p);	/* else its reaping comes */
	}
}

static void start_later(struct program *p)
{
	static const int wait_ms[] = { 100, 200, 500, 1000, 2000, 5000, 10000 };
	size_t i = p->quick_deaths < CL_ARRAY_LEN(wait_ms) ? p->quick_deaths :
		   CL_ARRAY_LEN(wait_ms) - 1;

	p->state = PROG_WAITING;
	if (loop_timer_set(p->d->loop, &p->timer, wait_ms[i] * 1000LL, on_start_timer, p))
		daemon_refuse(p->d, "no memory for a timer");
}

/* how it ended, in words; 126 and 127 are child_exec()'s own */
static void say_end(struct program *p, int status)
{
	const char *name = descs[p->id].name;

	if (WIFSIGNALED(status))
		cl_log(CL_ERROR, "program-died", "name=%s pid=%d signal=%d", name, (int)p->pid,
		       WTERMSIG(status));
	else if (WEXITSTATUS(status) == 127)
		cl_log(CL_ERROR, "program-died", "name=%s reason=\"%s cannot be executed\"", name,
		       descs[p->id].binary);
	else
		cl_log(CL_ERROR, "program-died", "name=%s pid=%d exit=%d", name, (int)p->pid,
		       WEXITSTATUS(status));
	if (p->quick_deaths == QUICK_LOOP)
		cl_log(CL_ERROR, "program-loop",
		       "name=%s text=\"it died %d times within seconds of its start; it is tried on every 10 s, but what it does stands still: its own last lines above say why\"",
		       name, QUICK_LOOP);
}

static void stop_on(struct daemon *d);

bool programs_exited(struct daemon *d, pid_t pid, int status)
{
	struct program *p = NULL;

	for (int i = 0; i < PROGRAM_COUNT && !p; i++)
		if (d->program[i].pid == pid)
			p = &d->program[i];
	if (!p)
		return false;

	bool was_ready = p->state == PROG_UP;

	loop_timer_del(&p->timer);
	if (chan_up(&p->chan)) {
		chan_done(&p->chan);
		links_program_down(d, p->id);
	}
	if (cl_mono_us() - p->started_us < QUICK_US)
		p->quick_deaths++;
	else
		p->quick_deaths = 0;
	tell_program(d, descs[p->id].name, d->stopping ? "stop" : "died", pid, status);
	if (!d->stopping)
		say_end(p, status);
	p->pid = 0;
	p->pidfd = cl_close(p->pidfd);
	p->state = PROG_OFF;
	record_write(d);
	if (d->stopping) {
		stop_on(d);
		return true;
	}
	p->restarts++;
	if (!d->ready && !was_ready && p->quick_deaths >= START_TRIES)
		daemon_refuse(d, "%s does not start: %s", descs[p->id].binary,
			      WIFEXITED(status) && WEXITSTATUS(status) == 127 ?
			      "it cannot be executed" : "see its lines in the log");
	else
		start_later(p);
	return true;
}

/* End the first round that still has a live program; once each. */
static void stop_on(struct daemon *d)
{
	for (int round = 0; round < STOP_ROUNDS; round++) {
		bool left = false;

		for (int i = 0; i < PROGRAM_COUNT; i++) {
			struct program *p = &d->program[i];

			if (descs[i].stop_round != round || !p->pid)
				continue;
			left = true;
			if (p->state != PROG_ENDING)
				end_it(p);
		}
		if (left)
			return;
	}
	daemon_programs_gone(d);
}

void programs_stop(struct daemon *d)
{
	for (int i = 0; i < PROGRAM_COUNT; i++)
		if (!d->program[i].pid)
			loop_timer_del(&d->program[i].timer);	/* no more restarts */

	stop_on(d);
}

void programs_kill(struct daemon *d)
{
	for (int i = 0; i < PROGRAM_COUNT; i++)
		if (d->program[i].pid)
			(void)proc_signal(d->program[i].pidfd, SIGKILL);
}

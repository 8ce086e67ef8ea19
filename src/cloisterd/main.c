/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cloisterd - makes, limits, freezes, resets sandboxes; starts the other
 * programs and starts them again when they die.
 *
 * It runs as root, narrowed (narrow.c), parses no text, opens nothing by
 * path after its start and keeps no store. Its order of life is main().
 */
#include "cloisterd/daemon.h"

#include "cloisterd/dirs.h"
#include "cloisterd/links.h"
#include "cloisterd/narrow.h"
#include "cloisterd/tell.h"
#include "cloisterd/tenant.h"
#include "sandbox/doctor.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sodium.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXIT_REFUSED 1
#define EXIT_USAGE 2
#define EXIT_LOCKED 3

#define READY_MS 60000		/* all programs serve, or the start is refused */
#define STOP_MS 45000		/* the whole stop; then everything is killed */
#define LEFTOVER_MS 6000

static struct daemon daemon_;	/* large, one a process */

/* One line to who started us; once. */
static void say(struct daemon *d, const char *text)
{
	char line[512];
	int n = snprintf(line, sizeof line, "%s\n", text);

	if (d->opt.ready_fd < 0)
		return;
	if ((size_t)n >= sizeof line) {
		n = (int)sizeof line - 1;
		line[n - 1] = '\n';
	}
	(void)cl_write_full(d->opt.ready_fd, line, (size_t)n);	/* nobody reads: fine */
	d->opt.ready_fd = cl_close(d->opt.ready_fd);
}

/* Before the loop runs: say why and end. */
static int refuse_start(struct daemon *d, int code, const struct cl_err *err)
{
	char line[CL_ERR_TEXT_MAX + 100];

	cl_log(CL_ERROR, "start-refused", "error=%s", cl_kvs(cl_err_str(err)));
	(void)snprintf(line, sizeof line, "E %s", cl_err_str(err));
	say(d, line);
	return code;
}

static void on_stop_too_slow(struct loop_timer *t)
{
	struct daemon *d = t->ctx;

	cl_log(CL_ERROR, "stop", "text=\"it took too long: killing what is left\"");
	tenants_kill_all(d);
	programs_kill(d);
	(void)loop_timer_set(d->loop, &d->stop_timer, 5000000, on_stop_too_slow, d);
}

static void begin_stop(struct daemon *d)
{
	if (d->stopping)
		return;
	d->stopping = true;
	cl_log(CL_INFO, "stopping", "tenants=first");
	(void)loop_timer_set(d->loop, &d->stop_timer, STOP_MS * 1000LL, on_stop_too_slow, d);
	tenants_stop_all(d);
}

void daemon_refuse(struct daemon *d, const char *fmt, ...)
{
	char text[400], line[420];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);	/* cut is fine */
	va_end(ap);
	cl_log(CL_ERROR, "start-refused", "error=%s", cl_kvs(text));
	(void)snprintf(line, sizeof line, "E %s", text);
	say(d, line);
	d->exit_code = EXIT_REFUSED;
	begin_stop(d);
}

void daemon_programs_ready(struct daemon *d)
{
	d->ready = true;
	if (!d->stopping)
		loop_timer_del(&d->stop_timer);
	cl_log(CL_INFO, "ready", "pid=%d", (int)getpid());
	say(d, "R");
}

void daemon_tenants_gone(struct daemon *d)
{
	programs_stop(d);
}

void daemon_programs_gone(struct daemon *d)
{
	loop_stop(d->loop);
}

static void on_not_ready(struct loop_timer *t)
{
	struct daemon *d = t->ctx;

	for (int i = 0; i < PROGRAM_COUNT; i++)
		if (d->program[i].state != PROG_UP && d->program[i].state != PROG_OFF) {
			daemon_refuse(d, "cloister-%s did not get ready within %d s",
				      program_name((enum program_id)i), READY_MS / 1000);
			return;
		}
}

static void reap(struct daemon *d)
{
	for (;;) {
		int status;
		pid_t pid = waitpid(-1, &status, WNOHANG);

		if (pid <= 0)
			return;
		/* anything else is the first process of a sandbox whose starter
		 * died: its pidfd tells its tenant */
		if (!programs_exited(d, pid, status))
			(void)tenants_exited(d, pid, status);
	}
}

static void on_signal(struct loop *l, int signo, void *ctx)
{
	struct daemon *d = ctx;

	(void)l;
	if (signo == SIGCHLD)
		reap(d);
	else if (signo == SIGTERM || signo == SIGINT)
		begin_stop(d);
}

/* Two cloisterd on one host never share a group: its name comes from the run directory. */
static int open_cgroups(struct daemon *d, struct cl_err *err)
{
	char base[40];
	struct stat st;

	if (fstat(d->fd.run, &st) < 0)
		return cl_fail(err, errno, "run directory");
	(void)snprintf(base, sizeof base, "cloister-%x-%llx", (unsigned)st.st_dev,
		       (unsigned long long)st.st_ino);
	return cgroup_host_open(&d->cgroups, base, err);
}

/* A host on which a wall cannot stand starts nothing (I9). */
static int host_can(struct cl_err *err)
{
	struct doctor_item items[DOCTOR_MAX];
	size_t n = doctor_run(items);

	for (size_t i = 0; i < n; i++)
		if (items[i].state == DOCTOR_WEAK)
			cl_log(CL_WARNING, "host", "feature=%s found=%s means=%s", items[i].name,
			       cl_kvs(items[i].found), cl_kvs(items[i].means));
	for (size_t i = 0; i < n; i++)
		if (items[i].state == DOCTOR_MISSING)
			return cl_fail(err, ENOSYS, "this host lacks %s (%s): %s", items[i].name,
				       items[i].found, items[i].fix ? items[i].fix : items[i].means);
	return 0;
}

static int set_up(struct daemon *d, struct cl_err *err)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGCHLD, SIGHUP, SIGPIPE, 0 };
	int r;

	if ((r = host_can(err)) || (r = narrow_self(err)) || (r = dirs_open(d, err)))
		return r;
	programs_end_leftovers(d, LEFTOVER_MS);
	if ((r = dirs_listen(d, err)) || (r = open_cgroups(d, err)) ||
	    (r = loop_new(&d->loop, err)))
		return r;
	if ((r = loop_signals(d->loop, signals, on_signal, d)))
		return cl_fail(err, -r, "signals");
	record_client_init(&d->records);
	return 0;
}

static void fds_closed(struct dirs *f)
{
	int *all = (int *)f;

	for (size_t i = 0; i < sizeof *f / sizeof(int); i++)
		all[i] = -1;
}

int main(int argc, char **argv)
{
	struct daemon *d = &daemon_;
	struct cl_err err = { 0 };

	cl_log_init("cloisterd");
	fds_closed(&d->fd);
	d->opt.ready_fd = -1;
	if (options_parse(argc, argv, &d->opt, &err)) {
		(void)fprintf(stderr, "cloisterd: %s\n", err.text);
		return EXIT_USAGE;
	}
	if (d->opt.ready_fd >= 0)
		(void)cl_set_cloexec(d->opt.ready_fd, true);
	if (geteuid() != 0) {
		(void)cl_fail(&err, EPERM, "cloisterd must be started as root");
		return refuse_start(d, EXIT_REFUSED, &err);
	}
	if (sodium_init() < 0) {
		(void)cl_fail(&err, EIO, "libsodium");
		return refuse_start(d, EXIT_REFUSED, &err);
	}
	int r = set_up(d, &err);

	if (r)
		return refuse_start(d, r == -EBUSY ? EXIT_LOCKED : EXIT_REFUSED, &err);
	(void)loop_timer_set(d->loop, &d->stop_timer, READY_MS * 1000LL, on_not_ready, d);
	runtime_adopt(d);
	if (programs_start(d, &err))
		daemon_refuse(d, "%s", cl_err_str(&err));
	r = loop_run(d->loop);
	if (r)
		cl_log(CL_ERROR, "loop", "error=%s", cl_kvs(strerror(-r)));
	record_client_done(&d->records);
	(void)cgroup_host_remove(&d->cgroups);	/* not empty only when something was left, and that was logged */
	cgroup_host_done(&d->cgroups);
	programs_forget(d);
	dirs_close(d);
	loop_free(d->loop);
	cl_log(CL_INFO, "stopped", "exit=%d", d->exit_code);
	return d->exit_code;
}

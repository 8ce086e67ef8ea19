/* SPDX-License-Identifier: Apache-2.0 */
/* cloister-api: narrow itself, open the registry, read the files, serve. */
#include "api/api.h"
#include "base/drop.h"
#include "base/programs.h"

#include <signal.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

struct arguments {
	uint32_t uid, gid, uid_base;
	const char *listen, *model_listen;
};

static int arguments(int argc, char **argv, struct arguments *out, struct cl_err *err)
{
	struct arguments g = { .listen = "off" };

	for (int i = 1; i < argc; i++) {
		struct span a = span_str(argv[i]), name;
		const char *value;

		if ((strcmp(argv[i], "--uid") == 0 || strcmp(argv[i], "--gid") == 0) && i + 1 < argc) {
			uint32_t *to = argv[i][2] == 'u' ? &g.uid : &g.gid;

			if (num_parse_u32(span_str(argv[++i]), UINT32_MAX - 1, to))
				return cl_fail(err, EINVAL, "%s: not a number", argv[i - 1]);
			continue;
		}
		if (!span_cut(&a, '=', &name))
			return cl_fail(err, EINVAL, "%s: unknown option", argv[i]);
		value = a.p;
		if (span_eq_str(name, "--uid-base")) {
			if (num_parse_u32(span_str(value), UINT32_MAX, &g.uid_base))
				return cl_fail(err, EINVAL, "--uid-base: not a number");
		} else if (span_eq_str(name, "--listen")) {
			g.listen = value;
		} else if (span_eq_str(name, "--model-listen")) {
			g.model_listen = value;
		} else {
			return cl_fail(err, EINVAL, "%.*s: unknown option", SPAN_FMT(name));
		}
	}
	*out = g;
	return 0;
}

/*
 * What it calls from now on, by strace over every command of the tool and the
 * pages; a socket, a process or executable memory cannot be made any more.
 */
static const int calls[] = {
	/* the loop and its channels */
	SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait, SYS_signalfd4, SYS_accept4,
	SYS_recvmsg, SYS_sendmsg, SYS_recvfrom, SYS_sendto, SYS_shutdown, SYS_getsockopt, SYS_setsockopt,
	SYS_getsockname, SYS_getpeername, SYS_fcntl,
	/* files: the store (SQLite), and what is read of the others */
	SYS_openat, SYS_openat2, SYS_close, SYS_read, SYS_readv, SYS_write, SYS_writev, SYS_pread64,
	SYS_pwrite64, SYS_lseek, SYS_fstat, SYS_newfstatat, SYS_statx, SYS_fstatfs,
	SYS_statfs, SYS_getdents64, SYS_getcwd, SYS_chdir, SYS_fchdir, SYS_readlinkat,
	SYS_faccessat, SYS_faccessat2, SYS_fsync, SYS_fdatasync, SYS_ftruncate, SYS_fallocate,
	SYS_unlinkat, SYS_renameat, SYS_renameat2, SYS_fchmod, SYS_fchown, SYS_umask, SYS_flock,
	SYS_memfd_create,
	/* memory, time, itself */
	SYS_brk, SYS_munmap, SYS_mremap, SYS_madvise, SYS_mlock, SYS_mlock2, SYS_munlock, SYS_futex,
	SYS_rt_sigprocmask, SYS_rt_sigaction, SYS_rt_sigreturn, SYS_restart_syscall, SYS_sigaltstack,
	SYS_getrandom, SYS_clock_gettime, SYS_clock_nanosleep, SYS_nanosleep, SYS_gettimeofday,
	SYS_getpid, SYS_gettid, SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid, SYS_sysinfo, SYS_uname,
	SYS_sched_yield, SYS_tgkill, SYS_exit, SYS_exit_group,
#ifdef SYS_open	/* older forms, not on every architecture */
	SYS_open, SYS_stat, SYS_lstat, SYS_readlink, SYS_access, SYS_unlink, SYS_rename, SYS_epoll_wait, SYS_time,
#endif
};

/* what can be opened from now on: the own store to write, the rest to read */
static int narrow(const struct arguments *g, struct cl_err *err)
{
	static const int readable[] = { API_ETC_FD, API_IMAGES_FD, API_LEDGER_FD, API_WEB_FD, API_AGENTS_FD,
					API_ROUTES_FD };
	static const int writable[] = { PROGRAM_STATE_FD };
	int r = drop_to_user(g->uid, g->gid, err);

	if (r)
		return r;
	r = landlock_only(readable, CL_ARRAY_LEN(readable), writable, CL_ARRAY_LEN(writable), true, NULL, err);
	return r ? r : seccomp_only(calls, CL_ARRAY_LEN(calls), err);
}

static bool is_listener(int fd)
{
	int on = 0;
	socklen_t n = sizeof on;

	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &n) == 0 && on;
}

static int serve(struct api *a, const struct arguments *g, struct cl_err *err)
{
	const struct httpd_limits unix_limits = { .body_max = API_BODY_MAX, .take_fds = true, .conns_max = 256 };
	const struct httpd_limits tcp_limits = { .body_max = 256 * 1024, .head_max = 16384, .conns_max = 1024 };
	int r;

	a->unix_listener = (struct listener){ .api = a, .operator = true };
	a->tcp_listener = (struct listener){ .api = a, .operator = false };
	r = httpd_new(&a->unix_httpd, a->loop, &rest_ops, &unix_limits, err);
	if (r)
		return r;
	r = httpd_listen(a->unix_httpd, API_UNIX_FD, &a->unix_listener, NULL);
	if (r)
		return cl_fail(err, -r, "listen on the socket");
	if (strcmp(g->listen, "off") == 0)
		return 0;
	if (!is_listener(API_TCP_FD) || span_copy(span_str(g->listen), a->listen, sizeof a->listen))
		return cl_fail(err, EINVAL, "descriptor %d is no listening socket", API_TCP_FD);
	r = httpd_new(&a->tcp_httpd, a->loop, &web_ops, &tcp_limits, err);
	if (r)
		return r;
	r = httpd_listen(a->tcp_httpd, API_TCP_FD, &a->tcp_listener, NULL);
	return r ? cl_fail(err, -r, "listen on %s", a->listen) : 0;
}

static void on_signal(struct loop *l, int signo, void *ctx)
{
	(void)ctx;
	cl_log(CL_INFO, "stop", "signal=%d", signo);
	loop_stop(l);
}

static int start(struct api *a, const struct arguments *g, struct cl_err *err)
{
	int r = narrow(g, err);

	if (r == 0 && sodium_init() < 0)
		r = cl_fail(err, EIO, "libsodium does not start");
	if (r == 0 && fchdir(PROGRAM_STATE_FD) < 0)
		r = cl_fail(err, errno, "state directory");
	if (r == 0)
		r = loop_new(&a->loop, err);
	if (r == 0)
		r = loop_signals(a->loop, (const int[]){ SIGTERM, SIGINT, 0 }, on_signal, a);
	if (r == 0)
		r = registry_open("registry.db", &a->reg, err);
	if (r == 0)
		r = files_config(a, err);
	if (r == 0)
		r = files_routes(a, err);
	if (r == 0)
		r = files_agents(a, err);
	if (r == 0)
		r = tenants_load(a, err);
	if (r == 0)
		r = serve(a, g, err);
	if (r == 0)
		r = links_start(a, err);
	return r;
}

int main(int argc, char **argv)
{
	static struct api a;
	struct arguments g = { 0 };
	struct cl_err err = { 0 };
	int r;

	cl_log_init("cloister-api");
	(void)signal(SIGPIPE, SIG_IGN);
	r = arguments(argc, argv, &g, &err);
	if (r == 0) {
		a.uid_base = g.uid_base;
		a.model_listen = g.model_listen && strcmp(g.model_listen, "off") != 0 ? g.model_listen : NULL;
		a.started_us = cl_now_us();
		a.control.fd = a.broker.fd = a.ledger.fd = -1;
		record_client_init(&a.records);
		r = start(&a, &g, &err);
	}
	if (r) {
		cl_log(CL_ERROR, "start", "error=%s", cl_kvs(cl_err_str(&err)));
		return 1;
	}
	cl_log(CL_INFO, "ready", "listen=%s", *a.listen ? a.listen : "off");
	r = loop_run(a.loop);
	/* the order: no new requests, then the channels, then what they stood on */
	events_free(&a);
	httpd_free(a.tcp_httpd);
	httpd_free(a.unix_httpd);
	record_client_done(&a.records);
	chan_done(&a.broker);
	chan_done(&a.ledger);
	chan_done(&a.control);
	registry_close(a.reg);
	for (size_t i = 0; i < CL_ARRAY_LEN(a.tenant); i++)
		free(a.tenant[i]);
	json_decref(a.routes);
	json_decref(a.agents);
	config_done(&a.cfg);
	loop_free(a.loop);
	return r ? 1 : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cloister-broker - holds the credentials, serves routes and conversations.
 *
 * How this works: start as root with what cloisterd hands over (base/programs.h),
 * read the CA certificates, become the broker's user, then Landlock (own
 * state, /etc for names) and seccomp; only after that is the first key opened
 * and the first message read. One thread and one loop, beside the resolver's.
 */
#include "broker/broker.h"

#include "base/drop.h"
#include "base/programs.h"
#include "broker/conv/conv.h"
#include "broker/route/info.h"
#include "broker/route/route.h"
#include "broker/route/up.h"
#include "broker/token.h"
#include "broker/vault.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CA_FILE "/etc/ssl/certs/ca-certificates.crt"
#define NOFILE_WANTED 65536
#define MEMLOCK_WANTED (64u << 20)

struct options { uint32_t uid, gid; const char *ca_file; };

/* ---- requests: the conversation's, ours, or a route's ----------------------------- */

static int on_head(struct httpd_req *r, uint64_t *body_max)
{
	struct broker_tenant *t = r->listener_ctx;

	if (conv_path_ok(r->path))
		return conv_head(t->b->conv, r, t->no, body_max);
	if (info_path(r->path) && span_eq_str(r->method, "GET")) {
		*body_max = 0;
		return HTTPD_BUFFER;
	}
	return route_head(t, r, body_max);
}

static void on_request(struct httpd_req *r)
{
	struct broker_tenant *t = r->listener_ctx;

	if (conv_path_ok(r->path))
		conv_request(t->b->conv, r, t->no);
	else if (info_path(r->path))
		info_request(t, r);
	else
		route_request(t, r);
}

static void on_gone(struct httpd_req *r)
{
	struct broker_tenant *t = r->listener_ctx;

	if (conv_path_ok(r->path))
		conv_gone(t->b->conv, r);
	else if (!info_path(r->path))
		route_gone(r);
}

static void on_drain(struct httpd_req *r)
{
	struct broker_tenant *t = r->listener_ctx;

	if (conv_path_ok(r->path))
		conv_drain(t->b->conv, r);
	else if (!info_path(r->path))
		route_drain(r);
}

static void on_bad(void *listener_ctx, int status, const char *why)
{
	struct broker_tenant *t = listener_ctx;

	t->b->stats.bad_requests++;
	cl_log(CL_DEBUG, "bad-request", "tenant=%s status=%d why=%s", t->id, status, cl_kvs(why));
}

static const struct httpd_ops http_ops = { on_head, on_request, NULL, on_gone, on_drain, on_bad };
static const struct httpd_limits http_limits = { .conns_max = 128, .out_high = 64u << 10,
						 .buffered_max = 96u << 20 };

/* ---- narrowing ------------------------------------------------------------------------ */

static const int allowed_calls[] = {
	SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_pread64, SYS_pwrite64, SYS_openat, SYS_openat2,
	SYS_close, SYS_fstat, SYS_newfstatat, SYS_statx, SYS_lseek, SYS_munmap, SYS_mremap, SYS_brk,
	SYS_madvise, SYS_mlock, SYS_mlock2, SYS_munlock, SYS_epoll_pwait, SYS_epoll_ctl, SYS_epoll_create1,
	SYS_accept4, SYS_socket, SYS_connect, SYS_bind, SYS_getsockname, SYS_getpeername, SYS_getsockopt,
	SYS_setsockopt, SYS_sendmsg, SYS_recvmsg, SYS_sendto, SYS_recvfrom, SYS_sendmmsg, SYS_recvmmsg,
	SYS_shutdown, SYS_fcntl, SYS_ioctl, SYS_ppoll, SYS_futex, SYS_clone3, SYS_clone,
	SYS_set_robust_list, SYS_rseq, SYS_rt_sigprocmask, SYS_rt_sigaction, SYS_rt_sigreturn, SYS_exit,
	SYS_exit_group, SYS_gettid, SYS_getpid, SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid,
	SYS_getrandom, SYS_clock_gettime, SYS_clock_nanosleep, SYS_nanosleep, SYS_gettimeofday,
	SYS_clock_getres, SYS_uname, SYS_sysinfo, SYS_getcwd, SYS_readlinkat, SYS_faccessat,
	SYS_faccessat2, SYS_unlinkat, SYS_renameat, SYS_renameat2, SYS_fsync, SYS_fdatasync, SYS_ftruncate,
	SYS_fallocate, SYS_fchmod, SYS_fchown, SYS_mkdirat, SYS_getdents64, SYS_eventfd2, SYS_signalfd4,
	SYS_tgkill, SYS_sched_getaffinity, SYS_sched_yield, SYS_prlimit64, SYS_flock, SYS_fstatfs, SYS_statfs,
	SYS_memfd_create, SYS_restart_syscall, SYS_sigaltstack, SYS_getppid,
#ifdef __x86_64__
	SYS_epoll_wait, SYS_poll, SYS_stat, SYS_lstat, SYS_access, SYS_readlink, SYS_unlink, SYS_rename,
	SYS_mkdir, SYS_open, SYS_time, SYS_rmdir,
#endif
};

static int narrow(const struct options *o, struct cl_err *err)
{
	/* names: resolv.conf, hosts, nsswitch.conf; resolv.conf is often a link into /run */
	CL_CLOSE int etc_fd = open("/etc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	CL_CLOSE int run_fd = open("/run/systemd/resolve", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int ro[2], rw[1] = { PROGRAM_STATE_FD }, r;
	size_t nro = 0;

	if (etc_fd >= 0)
		ro[nro++] = etc_fd;
	if (run_fd >= 0)
		ro[nro++] = run_fd;
	r = drop_to_user(o->uid, o->gid, err);
	if (r == 0)
		r = landlock_only(ro, nro, rw, 1, true, NULL, err);
	return r ? r : seccomp_only(allowed_calls, CL_ARRAY_LEN(allowed_calls), err);
}

static void raise_limit(__rlimit_resource_t which, rlim_t want)
{
	struct rlimit l;

	if (getrlimit(which, &l) < 0 || (l.rlim_cur != RLIM_INFINITY && l.rlim_cur >= want))
		return;
	struct rlimit full = { want, l.rlim_max == RLIM_INFINITY || l.rlim_max > want ? l.rlim_max : want };

	if (setrlimit(which, &full) < 0) {	/* the hard limit cannot be raised: up to it, then */
		l.rlim_cur = l.rlim_max;
		(void)setrlimit(which, &l);	/* the old one holds */
	}
}

static int read_options(int argc, char **argv, struct options *o)
{
	static const struct option names[] = {
		{ "uid", required_argument, NULL, 'u' }, { "gid", required_argument, NULL, 'g' },
		{ "ca-file", required_argument, NULL, 'c' }, { NULL, 0, NULL, 0 },
	};
	int k;

	o->ca_file = CA_FILE;
	while ((k = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (k) {
		case 'u':
			if (num_parse_u32(span_str(optarg), UINT32_MAX - 1, &o->uid))
				return -EINVAL;
			break;
		case 'g':
			if (num_parse_u32(span_str(optarg), UINT32_MAX - 1, &o->gid))
				return -EINVAL;
			break;
		case 'c':
			o->ca_file = optarg;
			break;
		default:
			return -EINVAL;
		}
	}
	return optind == argc && o->uid && o->gid ? 0 : -EINVAL;
}

/* ---- start and end ------------------------------------------------------------------------ */

static void on_signal(struct loop *l, int signo, void *ctx)
{
	(void)ctx;
	cl_log(CL_INFO, "signal", "number=%d", signo);
	loop_stop(l);
}

static int start(struct broker *b, struct up_tls *tls, struct cl_err *err)
{
	static const int signals[] = { SIGTERM, SIGINT, 0 };
	int r = loop_new(&b->loop, err);

	if (r == 0 && (r = loop_signals(b->loop, signals, on_signal, b)))
		return cl_fail(err, -r, "signals");
	if (r == 0)
		r = vault_new(&b->vault, b->state_fd, err);
	if (r == 0)
		r = token_key_new(&b->tokens, b->state_fd, err);
	if (r == 0)
		r = up_new(&b->up, b->loop, tls, err);
	if (r == 0)
		r = routes_new(&b->routes, b, err);
	if (r == 0)
		r = host_init(b, err);
	if (r == 0)
		r = httpd_new(&b->httpd, b->loop, &http_ops, &http_limits, err);
	if (r == 0)	/* last: it says READY */
		r = links_init(b, PROGRAM_CONTROL_FD, err);
	return r;
}

static void end(struct broker *b)
{
	tenants_free(b);
	httpd_free(b->httpd);
	conv_free(b->conv);
	routes_free(b->routes);
	links_done(b);
	up_free(b->up);
	token_key_free(b->tokens);
	vault_free(b->vault);
	loop_free(b->loop);
}

int main(int argc, char **argv)
{
	static struct broker b;
	struct options o = { 0 };
	struct up_tls *tls = NULL;
	struct cl_err err = { 0 };
	int r;

	cl_log_init("broker");
	b.state_fd = PROGRAM_STATE_FD;
	b.api.fd = b.ledger.fd = -1;
	record_client_init(&b.records);
	if (read_options(argc, argv, &o)) {
		cl_log(CL_ERROR, "usage", "text=\"cloister-broker --uid N --gid N [--ca-file=FILE]; "
					  "started by cloisterd\"");
		return 2;
	}
	(void)signal(SIGPIPE, SIG_IGN);		/* writes say EPIPE */
	raise_limit(RLIMIT_NOFILE, NOFILE_WANTED);
	raise_limit(RLIMIT_MEMLOCK, MEMLOCK_WANTED);
	r = up_tls_new(&tls, o.ca_file, &err);
	if (r == 0)
		r = narrow(&o, &err);
	if (r == 0)
		r = start(&b, tls, &err);
	if (r) {
		cl_log(CL_ERROR, "start", "error=%s", cl_kvs(cl_err_str(&err)));
		return 1;
	}
	r = loop_run(b.loop);
	cl_log(CL_INFO, "stop", "result=%d", r);
	end(&b);
	return r ? 1 : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* See filter.h for how this works. */
#include "sandbox/filter.h"

#include <assert.h>
#include <linux/audit.h>
#include <linux/netlink.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>

#if defined(__x86_64__)
#define FILTER_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define FILTER_ARCH AUDIT_ARCH_AARCH64
#else
#error "no seccomp filter for this architecture"
#endif

#define NR_MAX 1024	/* numbers above are ENOSYS */
#define X32_BIT 0x40000000u

#ifndef MSG_FASTOPEN
#define MSG_FASTOPEN 0x20000000
#endif
#ifndef TCP_ULP
#define TCP_ULP 31
#endif
#ifndef TCP_FASTOPEN_KEY
#define TCP_FASTOPEN_KEY 33
#endif
#define NR(name) __NR_##name

/* What a number gets. Rules beyond R_EPERM have a section of code of their own. */
enum rule {
	R_ENOSYS, R_ALLOW, R_EPERM,
	R_CLONE, R_SOCKET, R_SOCKETPAIR, R_SENDTO, R_SENDMSG, R_SENDMMSG, R_SETSOCKOPT,
	R_IOCTL, R_PRCTL, R_PERSONALITY, R_PRLIMIT, R_MKNOD, R_MKNODAT,
	R_COUNT
};

/* Allowed whatever the arguments. The first part was seen with a real agent; the
 * second in tools (git, python, ffmpeg) or is the newer form of one of those. */
static const int allowed[] = {
	NR(accept4), NR(bind), NR(brk), NR(capget), NR(chdir), NR(clock_nanosleep), NR(close),
	NR(connect), NR(epoll_create1), NR(epoll_ctl), NR(epoll_pwait), NR(eventfd2), NR(execve),
	NR(exit), NR(exit_group), NR(fchmod), NR(fcntl), NR(fstat), NR(fsync), NR(ftruncate),
	NR(futex), NR(getcwd), NR(getdents64), NR(getegid), NR(geteuid), NR(getgid), NR(getgroups),
	NR(getpeername), NR(getpid), NR(getppid), NR(getrandom), NR(getrusage), NR(getsockname),
	NR(getsockopt), NR(gettid), NR(getuid), NR(inotify_add_watch), NR(inotify_init1), NR(kill),
	NR(listen), NR(lseek), NR(madvise), NR(mkdirat), NR(mmap), NR(mprotect), NR(mremap),
	NR(munmap), NR(newfstatat), NR(openat), NR(openat2), NR(pipe2), NR(pread64), NR(pwrite64),
	NR(pwritev), NR(read), NR(recvmsg), NR(renameat2), NR(rseq), NR(rt_sigaction),
	NR(rt_sigprocmask), NR(rt_sigreturn), NR(sched_getaffinity), NR(sched_getparam),
	NR(sched_getscheduler), NR(sched_yield), NR(set_robust_list), NR(set_tid_address),
	NR(setsid), NR(shutdown), NR(statfs), NR(statx), NR(sysinfo), NR(uname), NR(unlinkat),
	NR(wait4), NR(write), NR(writev),

	NR(accept), NR(capset), NR(clock_getres), NR(clock_gettime), NR(close_range),
	NR(copy_file_range), NR(dup), NR(dup3), NR(epoll_pwait2), NR(execveat), NR(faccessat),
	NR(faccessat2), NR(fadvise64), NR(fallocate), NR(fchdir), NR(fchmodat), NR(fchown),
	NR(fchownat), NR(fdatasync), NR(fgetxattr), NR(flistxattr), NR(flock), NR(fremovexattr),
	NR(fsetxattr), NR(fstatfs), NR(get_robust_list), NR(getcpu), NR(getitimer), NR(getpgid),
	NR(getpriority), NR(getresgid), NR(getresuid), NR(getsid), NR(gettimeofday), NR(getxattr),
	NR(inotify_rm_watch), NR(landlock_add_rule), NR(landlock_create_ruleset),
	NR(landlock_restrict_self), NR(lgetxattr), NR(linkat), NR(listxattr), NR(llistxattr),
	NR(lremovexattr), NR(lsetxattr), NR(membarrier), NR(memfd_create), NR(mincore), NR(mlock),
	NR(mlock2), NR(mlockall), NR(msync), NR(munlock), NR(munlockall), NR(nanosleep),
	NR(pidfd_open), NR(pidfd_send_signal), NR(pkey_alloc), NR(pkey_free), NR(pkey_mprotect),
	NR(ppoll), NR(preadv), NR(preadv2), NR(pselect6), NR(pwritev2), NR(readahead),
	NR(readlinkat), NR(readv), NR(recvfrom), NR(recvmmsg), NR(removexattr), NR(renameat),
	NR(restart_syscall), NR(rt_sigpending), NR(rt_sigqueueinfo), NR(rt_sigsuspend),
	NR(rt_sigtimedwait), NR(rt_tgsigqueueinfo), NR(sched_get_priority_max),
	NR(sched_get_priority_min), NR(sched_rr_get_interval), NR(sched_setaffinity), NR(seccomp),
	NR(sendfile), NR(setfsgid), NR(setfsuid), NR(setgid), NR(setgroups), NR(setitimer),
	NR(setpgid), NR(setpriority), NR(setregid), NR(setresgid), NR(setresuid), NR(setreuid),
	NR(setuid), NR(setxattr), NR(shmat), NR(shmctl), NR(shmdt), NR(shmget), NR(sigaltstack),
	NR(signalfd4), NR(splice), NR(symlinkat), NR(sync_file_range), NR(tee), NR(tgkill),
	NR(timer_create), NR(timer_delete), NR(timer_getoverrun), NR(timer_gettime),
	NR(timer_settime), NR(timerfd_create), NR(timerfd_gettime), NR(timerfd_settime), NR(times),
	NR(tkill), NR(truncate), NR(umask), NR(utimensat), NR(waitid),
	449 /* futex_waitv */, 452 /* fchmodat2 */,
#ifdef __x86_64__
	NR(access), NR(alarm), NR(arch_prctl), NR(chmod), NR(chown), NR(creat), NR(dup2),
	NR(epoll_create), NR(epoll_wait), NR(eventfd), NR(fork), NR(futimesat), NR(getdents),
	NR(getpgrp), NR(getrlimit), NR(inotify_init), NR(lchown), NR(link), NR(lstat), NR(mkdir),
	NR(open), NR(pause), NR(pipe), NR(poll), NR(readlink), NR(rename), NR(rmdir), NR(select),
	NR(setrlimit), NR(signalfd), NR(stat), NR(symlink), NR(time), NR(unlink), NR(utime),
	NR(utimes), NR(vfork),
#endif
};

/* Asking for privilege: EPERM says it in every language. */
static const int refused[] = {
	NR(acct), NR(add_key), NR(adjtimex), NR(bpf), NR(chroot), NR(clock_adjtime),
	NR(clock_settime), NR(delete_module), NR(fanotify_init), NR(fanotify_mark),
	NR(finit_module), NR(fsconfig), NR(fsmount), NR(fsopen), NR(fspick), NR(init_module),
	NR(ioprio_set), NR(kcmp), NR(kexec_load), NR(keyctl), NR(mbind), NR(migrate_pages),
	NR(mount), NR(mount_setattr), NR(move_mount), NR(move_pages), NR(name_to_handle_at),
	NR(open_by_handle_at), NR(open_tree), NR(perf_event_open), NR(pidfd_getfd),
	NR(pivot_root), NR(process_madvise), NR(process_vm_readv), NR(process_vm_writev),
	NR(ptrace), NR(quotactl), NR(reboot), NR(request_key), NR(sched_setattr),
	NR(sched_setparam), NR(sched_setscheduler), NR(set_mempolicy), NR(setdomainname),
	NR(sethostname), NR(setns), NR(settimeofday), NR(swapoff), NR(swapon), NR(syslog),
	NR(umount2), NR(unshare), NR(userfaultfd), NR(vhangup),
#ifdef __x86_64__
	NR(ioperm), NR(iopl), NR(modify_ldt),
#endif
};

static const struct { int nr; enum rule rule; } ruled[] = {
	{ NR(clone), R_CLONE }, { NR(socket), R_SOCKET }, { NR(socketpair), R_SOCKETPAIR },
	{ NR(sendto), R_SENDTO }, { NR(sendmsg), R_SENDMSG }, { NR(sendmmsg), R_SENDMMSG },
	{ NR(setsockopt), R_SETSOCKOPT }, { NR(ioctl), R_IOCTL }, { NR(prctl), R_PRCTL },
	{ NR(personality), R_PERSONALITY }, { NR(prlimit64), R_PRLIMIT },
	{ NR(mknodat), R_MKNODAT },
#ifdef __x86_64__
	{ NR(mknod), R_MKNOD },
#endif
};

/* ---- writing instructions --------------------------------------------------- */

static void emit(struct filter *f, struct sock_filter i)
{
	if (f->len < FILTER_MAX)
		f->insn[f->len] = i;
	if (f->len < UINT16_MAX)
		f->len++;	/* beyond FILTER_MAX: judged once, in filter_build() */
}

static void ret(struct filter *f, uint32_t action)
{
	emit(f, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action));
}

static uint32_t fail_with(int errno_value)
{
	return SECCOMP_RET_ERRNO | (uint32_t)errno_value;
}

#define ARG_LOW(n) ((uint32_t)offsetof(struct seccomp_data, args) + 8u * (n))

static void load(struct filter *f, uint32_t at)
{
	emit(f, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at));
}

static void mask(struct filter *f, uint32_t m)
{
	emit(f, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, m));
}

/* if A == k return action; else go on */
static void eq_ret(struct filter *f, uint32_t k, uint32_t action)
{
	emit(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, k, 0, 1));
	ret(f, action);
}

/* if A & k return action; else go on */
static void any_ret(struct filter *f, uint32_t k, uint32_t action)
{
	emit(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, k, 0, 1));
	ret(f, action);
}

static void ne_ret(struct filter *f, uint32_t k, uint32_t action)
{
	emit(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, k, 1, 0));
	ret(f, action);
}

/* if A == k jump to where land() is called with what this returns */
static size_t eq_forward(struct filter *f, uint32_t k)
{
	emit(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, k, 0, 0));
	return f->len - 1u;
}

static void land(struct filter *f, size_t from)
{
	size_t over = f->len - from - 1;

	assert(over <= UINT8_MAX);
	if (from < FILTER_MAX)
		f->insn[from].jt = (uint8_t)over;
}

/* ---- argument rules: each ends in a return on every way ----------------------- */

static const uint32_t allow = SECCOMP_RET_ALLOW;

static void rule_clone(struct filter *f)
{
	/* NEWTIME overlaps the exit signal in clone() and means nothing there */
	load(f, ARG_LOW(0));
	any_ret(f, CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |
		CLONE_NEWPID | CLONE_NEWNET, fail_with(EPERM));
	ret(f, allow);
}

static void rule_socket(struct filter *f)
{
	size_t netlink, inet, inet6;

	/*
	 * INET and INET6: stream, protocol 0 or 6. No datagram, no raw, no MPTCP
	 * (262), no SCTP. Netlink: route only (reading the interfaces). No named unix sockets.
	 */
	load(f, ARG_LOW(0));
	netlink = eq_forward(f, AF_NETLINK);
	inet = eq_forward(f, AF_INET);
	inet6 = eq_forward(f, AF_INET6);
	ret(f, fail_with(EPERM));
	land(f, inet);
	land(f, inet6);
	load(f, ARG_LOW(1));
	mask(f, 0xf);	/* without SOCK_CLOEXEC and SOCK_NONBLOCK */
	ne_ret(f, SOCK_STREAM, fail_with(EPERM));
	load(f, ARG_LOW(2));
	eq_ret(f, 0, allow);
	eq_ret(f, IPPROTO_TCP, allow);
	ret(f, fail_with(EPERM));
	land(f, netlink);
	load(f, ARG_LOW(2));
	eq_ret(f, NETLINK_ROUTE, allow);
	ret(f, fail_with(EPERM));
}

static void rule_socketpair(struct filter *f)
{
	load(f, ARG_LOW(0));
	eq_ret(f, AF_UNIX, allow);
	ret(f, fail_with(EPERM));
}

/* sendto, sendmsg, sendmmsg: data in the SYN would pass Landlock's connect rule */
static void rule_fastopen(struct filter *f, unsigned arg)
{
	load(f, ARG_LOW(arg));
	any_ret(f, MSG_FASTOPEN, fail_with(EPERM));
	ret(f, allow);
}

static void rule_setsockopt(struct filter *f)
{
	static const uint32_t bad_tcp[] = { TCP_FASTOPEN, TCP_FASTOPEN_CONNECT, TCP_FASTOPEN_KEY,
					    TCP_ULP, TCP_REPAIR, TCP_MD5SIG, TCP_CONGESTION };

	load(f, ARG_LOW(1));
	eq_ret(f, SOL_SOCKET, allow);
	eq_ret(f, IPPROTO_IP, allow);
	eq_ret(f, IPPROTO_IPV6, allow);
	ne_ret(f, IPPROTO_TCP, fail_with(EPERM));
	load(f, ARG_LOW(2));
	for (size_t i = 0; i < CL_ARRAY_LEN(bad_tcp); i++)
		eq_ret(f, bad_tcp[i], fail_with(EPERM));
	ret(f, allow);
}

static void rule_ioctl(struct filter *f)
{
	static const uint32_t good[] = {
		TCGETS, TCSETS, TCSETSW, TCSETSF, TCGETA, TCSBRK, TCXONC, TCFLSH, TCSBRKP,
		0x802c542au /* TCGETS2 */, 0x402c542bu, 0x402c542cu, 0x402c542du,
		TIOCGWINSZ, TIOCSWINSZ, TIOCGPGRP, TIOCSPGRP, TIOCGSID, TIOCSCTTY, TIOCNOTTY,
		TIOCGPTN, TIOCSPTLCK, TIOCGPTPEER, TIOCGPTLCK, TIOCOUTQ, TIOCEXCL, TIOCNXCL,
		TIOCPKT, FIONREAD, FIONBIO, FIOASYNC, FIOCLEX, FIONCLEX,
		SIOCGIFCONF, SIOCGIFFLAGS, SIOCGIFADDR, SIOCGIFNETMASK, SIOCGIFBRDADDR,
		SIOCGIFMTU, SIOCGIFHWADDR, SIOCGIFINDEX, SIOCGIFNAME,
		0x40049409u /* FICLONE */, 0x4020940du /* FICLONERANGE */,
		0x80086601u /* FS_IOC_GETFLAGS */, 0x801c581fu /* FS_IOC_FSGETXATTR */,
	};
	static const uint32_t bad[] = { TIOCSTI, TIOCLINUX, TIOCSETD, TIOCCONS };

	load(f, ARG_LOW(1));	/* the kernel takes an unsigned int */
	for (size_t i = 0; i < CL_ARRAY_LEN(bad); i++)
		eq_ret(f, bad[i], fail_with(EPERM));
	for (size_t i = 0; i < CL_ARRAY_LEN(good); i++)
		eq_ret(f, good[i], allow);
	ret(f, fail_with(ENOTTY));
}

static void rule_prctl(struct filter *f)
{
	static const uint32_t good[] = {
		PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE,
		PR_GET_KEEPCAPS, PR_SET_NAME, PR_GET_NAME, PR_GET_SECCOMP, PR_SET_SECCOMP,
		PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_GET_SECUREBITS, PR_SET_TIMERSLACK,
		PR_GET_TIMERSLACK, PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER,
		PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS, PR_GET_TID_ADDRESS, PR_SET_THP_DISABLE,
		PR_GET_THP_DISABLE, PR_CAP_AMBIENT, PR_GET_SPECULATION_CTRL,
		PR_SET_SPECULATION_CTRL, 0x53564d41u /* PR_SET_VMA: names of mappings */,
		0x41555856u /* PR_GET_AUXV */,
	};

	load(f, ARG_LOW(0));	/* int */
	for (size_t i = 0; i < CL_ARRAY_LEN(good); i++)
		eq_ret(f, good[i], allow);
	ret(f, fail_with(EINVAL));
}

static void rule_personality(struct filter *f)
{
	load(f, ARG_LOW(0));	/* unsigned int */
	eq_ret(f, 0, allow);
	eq_ret(f, 0xffffffffu, allow);	/* asks only */
	ret(f, fail_with(EPERM));
}

/* Only one's own limits: init has the same uid. */
static void rule_prlimit(struct filter *f)
{
	load(f, ARG_LOW(0));	/* pid_t */
	eq_ret(f, 0, allow);
	ret(f, fail_with(EPERM));
}

/* Regular files and fifos; no device, no socket. */
static void rule_mknod(struct filter *f, unsigned arg)
{
	load(f, ARG_LOW(arg));
	mask(f, S_IFMT);
	eq_ret(f, S_IFIFO, allow);
	eq_ret(f, S_IFREG, allow);
	eq_ret(f, 0, allow);
	ret(f, fail_with(EPERM));
}

static void rule_code(struct filter *f, enum rule r)
{
	switch (r) {
	case R_ENOSYS: ret(f, fail_with(ENOSYS)); break;
	case R_ALLOW: ret(f, allow); break;
	case R_EPERM: ret(f, fail_with(EPERM)); break;
	case R_CLONE: rule_clone(f); break;
	case R_SOCKET: rule_socket(f); break;
	case R_SOCKETPAIR: rule_socketpair(f); break;
	case R_SENDTO: rule_fastopen(f, 3); break;
	case R_SENDMSG: rule_fastopen(f, 2); break;
	case R_SENDMMSG: rule_fastopen(f, 3); break;
	case R_SETSOCKOPT: rule_setsockopt(f); break;
	case R_IOCTL: rule_ioctl(f); break;
	case R_PRCTL: rule_prctl(f); break;
	case R_PERSONALITY: rule_personality(f); break;
	case R_PRLIMIT: rule_prlimit(f); break;
	case R_MKNOD: rule_mknod(f, 1); break;
	case R_MKNODAT: rule_mknod(f, 2); break;
	case R_COUNT: assert(!"no such rule"); break;
	}
}

/* ---- the tree over runs of numbers --------------------------------------------- */

struct run {
	uint32_t from;
	enum rule rule;
};

/* A leaf is one unconditional jump to the rule's code; `site` remembers which. */
struct tree {
	struct filter *f;
	const struct run *runs;
	uint16_t site_at[2 * NR_MAX];
	enum rule site_rule[2 * NR_MAX];
	size_t nsites;
};

static void tree_emit(struct tree *t, size_t lo, size_t hi)
{
	if (hi - lo == 1) {
		assert(t->nsites < CL_ARRAY_LEN(t->site_at));
		t->site_at[t->nsites] = t->f->len;
		t->site_rule[t->nsites++] = t->runs[lo].rule;
		emit(t->f, (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, 0));
		return;
	}

	size_t mid = lo + (hi - lo) / 2;
	/* A >= runs[mid].from: jump over the left half (a JA, as it may be far) */
	emit(t->f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, t->runs[mid].from, 0, 1));
	uint16_t ja = t->f->len;

	emit(t->f, (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, 0));
	tree_emit(t, lo, mid);
	if (ja < FILTER_MAX)
		t->f->insn[ja].k = t->f->len - ja - 1u;
	tree_emit(t, mid, hi);
}

static size_t make_runs(struct run *runs)
{
	static enum rule by_nr[NR_MAX];
	size_t n = 0;

	memset(by_nr, 0, sizeof by_nr);
	for (size_t i = 0; i < CL_ARRAY_LEN(allowed); i++)
		by_nr[allowed[i]] = R_ALLOW;
	for (size_t i = 0; i < CL_ARRAY_LEN(refused); i++)
		by_nr[refused[i]] = R_EPERM;
	for (size_t i = 0; i < CL_ARRAY_LEN(ruled); i++)
		by_nr[ruled[i].nr] = ruled[i].rule;
	for (uint32_t nr = 0; nr < NR_MAX; nr++)
		if (n == 0 || runs[n - 1].rule != by_nr[nr])
			runs[n++] = (struct run){ nr, by_nr[nr] };
	if (runs[n - 1].rule != R_ENOSYS)
		runs[n++] = (struct run){ NR_MAX, R_ENOSYS };
	return n;
}

int filter_build(struct filter *out)
{
	static struct run runs[NR_MAX + 1];
	static struct tree t;
	uint16_t code_at[R_COUNT];
	size_t n = make_runs(runs);

	memset(out, 0, sizeof *out);
	memset(&t, 0, sizeof t);
	t.f = out;
	t.runs = runs;
	load(out, offsetof(struct seccomp_data, arch));
	ne_ret(out, FILTER_ARCH, SECCOMP_RET_KILL_PROCESS);
	load(out, offsetof(struct seccomp_data, nr));
#ifdef __x86_64__
	/* x32: another table of calls under the same architecture */
	emit(out, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1));
	ret(out, fail_with(ENOSYS));
#endif
	tree_emit(&t, 0, n);
	for (int r = 0; r < R_COUNT; r++) {
		code_at[r] = out->len;
		rule_code(out, (enum rule)r);
	}
	if (out->len > FILTER_MAX)
		return -E2BIG;
	for (size_t i = 0; i < t.nsites; i++)
		out->insn[t.site_at[i]].k = (uint32_t)code_at[t.site_rule[i]] - t.site_at[i] - 1u;
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* See filter.h for how this works. */
#include "sandbox/filter.h"

#include <linux/audit.h>
#include <linux/netlink.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
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
#define ARG_HIGH(n) (ARG_LOW(n) + 4u)

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
	/*
	 * INET and INET6: stream, protocol 0 or 6. No datagram, no raw, no MPTCP
	 * (262), no SCTP. Netlink: route only (reading the interfaces). No named unix sockets.
	 */
	load(f, ARG_LOW(0));
	/* netlink: skip to its own part, 9 instructions on */
	emit(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_NETLINK, 10, 0));
	emit(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET, 2, 0));
	emit(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 1, 0));
	ret(f, fail_with(EPERM));
	load(f, ARG_LOW(1));
	mask(f, 0xf);
	emit(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SOCK_STREAM, 1, 0));
	ret(f, fail_with(EPERM));
	load(f, ARG_LOW(2));
	emit(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 4, 0));
	emit(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_TCP, 3, 2));
	/* netlink */
	load(f, ARG_LOW(2));
	emit(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NETLINK_ROUTE, 1, 0));
	ret(f, fail_with(EPERM));
	ret(f, allow);
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
	emit(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_TCP, 4, 0));
	eq_ret(f, IPPROTO_IP, allow);
	/* IPV6: only V6ONLY and the like; the multicast and routing options are not needed */
	emit(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_IPV6, 0, 1));
	ret(f, allow);
	/* reached by TCP, and by anything else: told apart by loading the level again */
	load(f, ARG_LOW(1));
	emit(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_TCP, 1, 0));
	ret(f, fail_with(EPERM));
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
		0x5451u /* FIOCLEX by another name on old headers */,
		SIOCGIFCONF_NR, SIOCGIFFLAGS_NR, SIOCGIFADDR_NR, SIOCGIFNETMASK_NR,
		SIOCGIFBRDADDR_NR, SIOCGIFMTU_NR, SIOCGIFHWADDR_NR, SIOCGIFINDEX_NR,
		SIOCGIFNAME_NR,
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

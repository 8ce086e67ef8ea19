/* SPDX-License-Identifier: Apache-2.0 */
/*
 * filter: the seccomp program is run here by an interpreter of our own, so
 * that every answer can be asked for without being given to a process.
 */
#include "sandbox/filter.h"

#include <linux/audit.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>

#include <cmocka.h>

#ifdef __x86_64__
#define ARCH AUDIT_ARCH_X86_64
#else
#define ARCH AUDIT_ARCH_AARCH64
#endif
#define ERR(e) (SECCOMP_RET_ERRNO | (e))

static struct filter filter;

/* Classic BPF as seccomp knows it; fails the test on anything the kernel would refuse. */
static uint32_t run(const struct seccomp_data *d)
{
	uint32_t a = 0;

	for (size_t pc = 0, steps = 0; pc < filter.len; pc++, steps++) {
		const struct sock_filter *i = &filter.insn[pc];

		assert_true(steps < filter.len);	/* jumps only go forward */
		switch (i->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			assert_true(i->k + 4 <= sizeof *d && i->k % 4 == 0);
			memcpy(&a, (const char *)d + i->k, 4);
			break;
		case BPF_ALU | BPF_AND | BPF_K: a &= i->k; break;
		case BPF_JMP | BPF_JA: pc += i->k; break;
		case BPF_JMP | BPF_JEQ | BPF_K: pc += a == i->k ? i->jt : i->jf; break;
		case BPF_JMP | BPF_JGE | BPF_K: pc += a >= i->k ? i->jt : i->jf; break;
		case BPF_JMP | BPF_JSET | BPF_K: pc += (a & i->k) ? i->jt : i->jf; break;
		case BPF_RET | BPF_K: return i->k;
		default: fail_msg("instruction %zu has code %x", pc, i->code);
		}
	}
	fail_msg("ran off the end");
	return 0;
}

static uint32_t ask(long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	struct seccomp_data s = { .nr = (int)nr, .arch = ARCH, .args = { a, b, c, d, 0, 0 } };

	return run(&s);
}

static int build(void **state)
{
	(void)state;
	return filter_build(&filter);
}

static void another_architecture_is_killed_and_x32_is_unknown(void **state)
{
	struct seccomp_data s = { .nr = 20 /* getpid there */, .arch = AUDIT_ARCH_I386 };

	(void)state;
	assert_int_equal(run(&s), SECCOMP_RET_KILL_PROCESS);
	s.arch = AUDIT_ARCH_ARM;
	assert_int_equal(run(&s), SECCOMP_RET_KILL_PROCESS);
#ifdef __x86_64__
	for (uint32_t nr = 0; nr < 600; nr++)
		assert_int_equal(ask((long)(nr | 0x40000000u), 0, 0, 0, 0), ERR(ENOSYS));
	assert_int_equal(ask(-1, 0, 0, 0, 0), ERR(ENOSYS));
#endif
}

static void every_number_has_an_answer_and_unknown_ones_are_enosys(void **state)
{
	(void)state;
	for (long nr = 0; nr < 2000; nr++) {
		uint32_t r = ask(nr, 0, 0, 0, 0);

		assert_true(r == SECCOMP_RET_ALLOW || r == ERR(ENOSYS) || r == ERR(EPERM) ||
			    r == ERR(ENOTTY) || r == ERR(EINVAL));
		if (nr > 470)
			assert_int_equal(r, ERR(ENOSYS));
	}
}

static void what_asks_for_privilege_is_refused(void **state)
{
	static const int bad[] = {
		SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_ptrace, SYS_process_vm_readv,
		SYS_process_vm_writev, SYS_bpf, SYS_perf_event_open, SYS_userfaultfd, SYS_keyctl,
		SYS_add_key, SYS_request_key, SYS_setns, SYS_unshare, SYS_open_by_handle_at,
		SYS_name_to_handle_at, SYS_init_module, SYS_finit_module, SYS_delete_module,
		SYS_kexec_load, SYS_reboot, SYS_swapon, SYS_sethostname, SYS_syslog, SYS_kcmp,
		SYS_pidfd_getfd, SYS_open_tree, SYS_move_mount, SYS_fsopen, SYS_fsmount, SYS_fsconfig,
		SYS_mount_setattr, SYS_fanotify_init, SYS_quotactl, SYS_settimeofday, SYS_acct,
	};

	(void)state;
	for (size_t i = 0; i < CL_ARRAY_LEN(bad); i++)
		assert_int_equal(ask(bad[i], 0, 0, 0, 0), ERR(EPERM));
	assert_int_equal(ask(425, 0, 0, 0, 0), ERR(ENOSYS));	/* io_uring_setup, enter, register */
	assert_int_equal(ask(426, 0, 0, 0, 0), ERR(ENOSYS));
	assert_int_equal(ask(427, 0, 0, 0, 0), ERR(ENOSYS));
	assert_int_equal(ask(SYS_clone3, 0, 0, 0, 0), ERR(ENOSYS));
}

static void clone_may_make_threads_but_no_namespace(void **state)
{
	(void)state;
	assert_int_equal(ask(SYS_clone, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
			     CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID |
			     CLONE_CHILD_CLEARTID, 0, 0, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(ask(SYS_clone, 17, 0, 0, 0), SECCOMP_RET_ALLOW);
	for (uint64_t f = CLONE_NEWNS; f; f = f == CLONE_NEWNS ? CLONE_NEWCGROUP : f == CLONE_NEWNET ? 0 : f << 1)
		if (f & (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |
			 CLONE_NEWPID | CLONE_NEWNET))
			assert_int_equal(ask(SYS_clone, f | 17, 0, 0, 0), ERR(EPERM));
}

static void sockets_are_tcp_or_route_netlink(void **state)
{
	(void)state;
	for (uint64_t family = 0; family < 64; family++)
		for (uint64_t type = 0; type < 16; type++)
			for (uint64_t proto = 0; proto < 300; proto++) {
				bool ok = ((family == AF_INET || family == AF_INET6) && type == SOCK_STREAM &&
					   (proto == 0 || proto == 6)) || (family == AF_NETLINK && proto == 0);

				if (ask(SYS_socket, family, type | SOCK_CLOEXEC, proto, 0) !=
				    (ok ? SECCOMP_RET_ALLOW : ERR(EPERM)))
					fail_msg("socket(%d, %d, %d)", (int)family, (int)type, (int)proto);
			}
	/* the kernel looks at 32 bits: what is above them changes nothing */
	assert_int_equal(ask(SYS_socket, AF_INET | 1ull << 32, SOCK_DGRAM | 1ull << 40, 0, 0), ERR(EPERM));
	assert_int_equal(ask(SYS_socket, AF_UNIX | 1ull << 32, SOCK_STREAM, 0, 0), ERR(EPERM));
	assert_int_equal(ask(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(ask(SYS_socketpair, AF_INET, SOCK_STREAM, 0, 0), ERR(EPERM));
	assert_int_equal(ask(SYS_sendto, 3, 0, 0, 0x20000000), ERR(EPERM));
	assert_int_equal(ask(SYS_sendto, 3, 0, 0, 0x4000), SECCOMP_RET_ALLOW);
	assert_int_equal(ask(SYS_sendmsg, 3, 0, 0x20000000, 0), ERR(EPERM));
	assert_int_equal(ask(SYS_sendmmsg, 3, 0, 0, 0x20000000ull | 1ull << 33), ERR(EPERM));
	assert_int_equal(ask(SYS_setsockopt, 3, 6, 1 /* NODELAY */, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(ask(SYS_setsockopt, 3, 6, 30 /* FASTOPEN_CONNECT */, 0), ERR(EPERM));
	assert_int_equal(ask(SYS_setsockopt, 3, 6, 31 /* ULP */, 0), ERR(EPERM));
	assert_int_equal(ask(SYS_setsockopt, 3, 1, 2 /* REUSEADDR */, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(ask(SYS_setsockopt, 3, 279 /* ALG */, 1, 0), ERR(EPERM));
}

static void terminal_injection_is_refused_whatever_the_high_bits_say(void **state)
{
	(void)state;
	for (int bit = 32; bit < 64; bit++) {
		assert_int_equal(ask(SYS_ioctl, 0, TIOCSTI | 1ull << bit, 0, 0), ERR(EPERM));
		assert_int_equal(ask(SYS_ioctl, 0, TIOCLINUX | 1ull << bit, 0, 0), ERR(EPERM));
	}
	assert_int_equal(ask(SYS_ioctl, 0, TIOCSTI, 0, 0), ERR(EPERM));
	assert_int_equal(ask(SYS_ioctl, 0, TIOCSETD, 0, 0), ERR(EPERM));
	assert_int_equal(ask(SYS_ioctl, 0, TCGETS, 0, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(ask(SYS_ioctl, 0, FIONBIO, 0, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(ask(SYS_ioctl, 0, 0x1234, 0, 0), ERR(ENOTTY));
}

static void arguments_that_matter_are_judged(void **state)
{
	(void)state;
	assert_int_equal(ask(SYS_personality, 0xffffffff, 0, 0, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(ask(SYS_personality, 0x0040000, 0, 0, 0), ERR(EPERM));
	assert_int_equal(ask(SYS_prlimit64, 0, 7, 0, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(ask(SYS_prlimit64, 1, 7, 0, 0), ERR(EPERM));
	assert_int_equal(ask(SYS_mknodat, 3, 0, S_IFIFO | 0600, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(ask(SYS_mknodat, 3, 0, S_IFCHR | 0600, 0), ERR(EPERM));
	assert_int_equal(ask(SYS_mknodat, 3, 0, S_IFBLK | 0600, 0), ERR(EPERM));
	assert_int_equal(ask(SYS_mknodat, 3, 0, S_IFSOCK | 0600, 0), ERR(EPERM));
	assert_int_equal(ask(SYS_prctl, 15, 0, 0, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(ask(SYS_prctl, 35 /* SET_MM */, 0, 0, 0), ERR(EINVAL));
	assert_int_equal(ask(SYS_prctl, 28 /* SET_SECUREBITS */, 0, 0, 0), ERR(EINVAL));
}

static void what_an_agent_was_seen_to_use_is_allowed(void **state)
{
	static const int good[] = {
		SYS_read, SYS_write, SYS_openat, SYS_openat2, SYS_close, SYS_statx, SYS_mmap,
		SYS_execve, SYS_exit_group, SYS_futex, SYS_epoll_pwait, SYS_getrandom, SYS_wait4,
		SYS_inotify_init1, SYS_renameat2, SYS_pwritev, SYS_getdents64, SYS_rseq, SYS_kill,
		SYS_accept4, SYS_bind, SYS_listen, SYS_connect, SYS_memfd_create, SYS_flock,
		SYS_copy_file_range, SYS_sched_getaffinity, SYS_set_robust_list, SYS_fsync,
	};

	(void)state;
	for (size_t i = 0; i < CL_ARRAY_LEN(good); i++)
		assert_int_equal(ask(good[i], 0, 0, 0, 0), SECCOMP_RET_ALLOW);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(another_architecture_is_killed_and_x32_is_unknown),
		cmocka_unit_test(every_number_has_an_answer_and_unknown_ones_are_enosys),
		cmocka_unit_test(what_asks_for_privilege_is_refused),
		cmocka_unit_test(clone_may_make_threads_but_no_namespace),
		cmocka_unit_test(sockets_are_tcp_or_route_netlink),
		cmocka_unit_test(terminal_injection_is_refused_whatever_the_high_bits_say),
		cmocka_unit_test(arguments_that_matter_are_judged),
		cmocka_unit_test(what_an_agent_was_seen_to_use_is_allowed),
	};

	return cmocka_run_group_tests(tests, build, NULL);
}

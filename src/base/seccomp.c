/* SPDX-License-Identifier: Apache-2.0 */
/* An allow list of system calls for our own programs, as plain BPF. */
#include "base/drop.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define CALLS_MAX 200

#ifdef __SANITIZE_ADDRESS__
/* The leak check at exit stops the program with ptrace, which no filter of ours
 * allows. Only programs that call seccomp_only() have this file linked in. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}
#endif

#if defined(__x86_64__)
#define OUR_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OUR_ARCH AUDIT_ARCH_AARCH64
#else
#error "seccomp_only knows x86_64 and aarch64"
#endif

#define LOAD(field) \
	(struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(what) (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, what)
#define JUMP(op, k, jt, jf) (struct sock_filter)BPF_JUMP(BPF_JMP | (op) | BPF_K, k, jt, jf)

int seccomp_only(const int *calls, size_t n, struct cl_err *err)
{
	struct sock_filter f[2 * CALLS_MAX + 24];
	size_t k = 0;

	if (n > CALLS_MAX)
		return cl_fail(err, EINVAL, "seccomp: more than %d system calls", CALLS_MAX);
	/* numbers mean something only together with the architecture */
	f[k++] = LOAD(arch);
	f[k++] = JUMP(BPF_JEQ, OUR_ARCH, 1, 0);
	f[k++] = RETURN(SECCOMP_RET_KILL_PROCESS);
	f[k++] = LOAD(nr);
#if defined(__x86_64__)
	f[k++] = JUMP(BPF_JGE, 0x40000000u, 0, 1);	/* x32 */
	f[k++] = RETURN(SECCOMP_RET_KILL_PROCESS);
#endif
	/* memory is never executable: these two are not in anybody's list */
	f[k++] = JUMP(BPF_JEQ, (uint32_t)SYS_mmap, 1, 0);
	f[k++] = JUMP(BPF_JEQ, (uint32_t)SYS_mprotect, 0, 4);
	f[k++] = LOAD(args[2]);				/* low half: little endian */
	f[k++] = JUMP(BPF_JSET, (uint32_t)PROT_EXEC, 0, 1);
	f[k++] = RETURN(SECCOMP_RET_KILL_PROCESS);
	f[k++] = RETURN(SECCOMP_RET_ALLOW);
	for (size_t i = 0; i < n; i++) {
		f[k++] = JUMP(BPF_JEQ, (uint32_t)calls[i], 0, 1);
		f[k++] = RETURN(SECCOMP_RET_ALLOW);
	}
	f[k++] = RETURN(SECCOMP_RET_KILL_PROCESS);

	struct sock_fprog prog = { .len = (unsigned short)k, .filter = f };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return cl_fail(err, errno, "seccomp: no_new_privs");
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog, 0, 0) < 0)
		return cl_fail(err, errno, "seccomp: the kernel refuses the filter");
	/* PR_GET_SECCOMP would need prctl in the list: the kernel's 0 is the proof */
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* drop - give up root for good, and prove it. */
#ifndef CL_BASE_DROP_H
#define CL_BASE_DROP_H

#include "base/base.h"

/*
 * drop_to_user - supplementary groups, gid, uid, every capability (all five
 * sets), no new privileges, not dumpable, RLIMIT_CORE 0, umask 077; then read
 * all of it back and try to become root again.
 * @uid, @gid: not 0. When the program is not root already (tests run as an
 * ordinary user), the ids must be the current ones.
 *
 * Return: 0; -EPERM something is still there (said in @err); else -errno.
 * Runs in: every program but cloisterd and spawner, before its first message.
 */
int drop_to_user(uid_t uid, gid_t gid, struct cl_err *err);

/*
 * landlock_only - from now on only @ro_fds and @rw_fds (directory
 * descriptors) can be opened below, and, when @no_tcp, no TCP bind; signals
 * and abstract sockets stay inside. @have_abi is filled when not NULL.
 * Return: 0; -ENOSYS no Landlock (the caller refuses to start, I9)
 */
int landlock_only(const int *ro_fds, size_t nro, const int *rw_fds, size_t nrw, bool no_bind_tcp,
		  int *have_abi, struct cl_err *err);

/*
 * seccomp_only - from now on only @calls (SYS_ numbers, at most 200) and mmap and
 * mprotect without PROT_EXEC; any other system call, another architecture or
 * x32 ends the process. The last step of a program's narrowing.
 *
 * Return: 0; -EINVAL too many; else -errno. Syscalls: prctl.
 */
int seccomp_only(const int *calls, size_t n, struct cl_err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* userns - a tenant's user namespace, made before anything runs in it. */
#ifndef CL_SANDBOX_USERNS_H
#define CL_SANDBOX_USERNS_H

#include "base/base.h"

/*
 * userns_make - one uid and one gid mapped, setgroups denied, and no further
 * user namespace possible inside (user.max_user_namespaces = 0)
 * @proc_fd: the host's /proc
 * @uid, @gid: outside; both are @inside within
 * The namespace's owner is the caller (root), not the tenant.
 * Return: descriptor for setns(); -errno.
 * Runs in: spawner. Syscalls: pipe2 clone3 openat write read waitid pidfd_send_signal.
 */
int userns_make(int proc_fd, uid_t uid, gid_t gid, unsigned inside, struct cl_err *err);

#endif

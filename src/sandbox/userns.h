/* SPDX-License-Identifier: Apache-2.0 */
/* userns - a tenant's user namespace, made before anything runs in it. */
#ifndef CL_SANDBOX_USERNS_H
#define CL_SANDBOX_USERNS_H

#include "base/base.h"

/*
 * userns_make - one uid and one gid mapped, setgroups denied
 * @proc_fd: the host's /proc
 * @uid, @gid: outside; both are @inside within
 * The namespace's owner is the caller (root), not the tenant.
 * @out_helper: a child that has been killed and is to be reaped with userns_reap(),
 * later, when that costs no waiting; 0 when there is none
 * Return: descriptor for setns(); -errno.
 * Runs in: spawner. Syscalls: clone openat write kill.
 */
int userns_make(int proc_fd, uid_t uid, gid_t gid, unsigned inside, pid_t *out_helper,
		struct cl_err *err);
void userns_reap(pid_t *helper);

#endif

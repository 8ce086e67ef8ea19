/* SPDX-License-Identifier: Apache-2.0 */
/*
 * filter - the seccomp program of every sandbox.
 *
 * How this works: a const table says for each system call number: allow, or
 * one of a few argument rules; a second table names what is refused with
 * EPERM because it asks for privilege. All else is ENOSYS, so that libc falls
 * back. From the tables one classic BPF program is built once per engine: the
 * architecture is judged first (anything foreign kills), then x32, then a
 * binary tree over runs of numbers with the same answer. Argument rules look
 * at the low word only where the kernel does (SANDBOX.md: a 64-bit compare of
 * an ioctl command can be walked around).
 */
#ifndef CL_SANDBOX_FILTER_H
#define CL_SANDBOX_FILTER_H

#include "base/base.h"

#include <linux/filter.h>

#define FILTER_MAX 1024	/* instructions; the kernel's own limit is 4096 */

struct filter {
	unsigned short len;
	struct sock_filter insn[FILTER_MAX];
};

/* filter_build - pure. Return: 0; -E2BIG (our own mistake: a test builds it) */
int filter_build(struct filter *out);

#endif

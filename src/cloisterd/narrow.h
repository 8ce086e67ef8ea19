/* SPDX-License-Identifier: Apache-2.0 */
/* narrow - cloisterd gives up what it does not need, and proves it. */
#ifndef CL_CLOISTERD_NARROW_H
#define CL_CLOISTERD_NARROW_H

#include "base/base.h"

/*
 * narrow_self - capabilities, no new privileges, own mount namespace that
 * nothing leaves, not dumpable, limits, OOM score
 * The bounding set is narrowed too: what a child could get back by exec.
 * Return: 0; -EPERM something is still there or is missing; else -errno.
 */
int narrow_self(struct cl_err *err);

/*
 * narrow_helper - for a forked child that works on a tenant's own files: the
 * tenant's uid, no capability, no descriptor but @keep (moved to 3…)
 * Never returns on failure (exit 125).
 */
void narrow_helper(uid_t uid, int *keep, size_t nkeep);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree - copy and delete what a tenant left behind, however it looks.
 *
 * Runs in a child that has the tenant's uid and nothing else (narrow.h): what
 * a name, a mode, a depth or a number can do, it does to the tenant's own.
 * No path is built: everything goes from a directory descriptor, one name
 * at a time, and no symbolic link is followed.
 */
#ifndef CL_CLOISTERD_TREE_H
#define CL_CLOISTERD_TREE_H

#include "base/base.h"

#define TREE_DEPTH_MAX 256	/* of a copy; deletion has no limit */

/*
 * tree_sweep - delete all that is in @dirfd, for @budget_ms
 * A directory inside a directory is first moved up to the top, so that depth
 * costs neither descriptors nor stack.
 * Return: 0 it is empty; 1 time is over, go on later; -errno something stays.
 */
int tree_sweep(int dirfd, int budget_ms);

/*
 * tree_copy - contents of directory @from into the empty directory @to
 * Files (holes stay holes), directories, symbolic links, fifos; modes without
 * set-id bits, times. Sockets are left out. Hard links become files of their own.
 * Return: 0; -EDQUOT more than @max_bytes or @max_inodes; -ELOOP deeper than
 * TREE_DEPTH_MAX; else -errno.
 */
int tree_copy(int from, int to, uint64_t max_bytes, uint64_t max_inodes);

#endif

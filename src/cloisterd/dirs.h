/* SPDX-License-Identifier: Apache-2.0 */
/* dirs - directories and listening sockets that are opened once, at the start. */
#ifndef CL_CLOISTERD_DIRS_H
#define CL_CLOISTERD_DIRS_H

#include "cloisterd/daemon.h"

/*
 * dirs_ensure - the directory @name in @dirfd with exactly this owner and mode
 * Made whole (under another name, then renamed) when missing; refused with
 * words when it is there and differs: somebody else's hand was in it.
 * Return: descriptor; -EPERM owner or mode differ; else -errno
 */
int dirs_ensure(int dirfd, const char *name, uid_t uid, gid_t gid, mode_t mode,
		struct cl_err *err);

/*
 * dirs_open - all descriptors of d->fd but the sockets, and the lock
 * Return: 0; -EBUSY another cloisterd has the lock; else -errno
 */
int dirs_open(struct daemon *d, struct cl_err *err);
/* dirs_listen - api.sock and the TCP sockets */
int dirs_listen(struct daemon *d, struct cl_err *err);
/* dirs_close - all of it; api.sock is removed */
void dirs_close(struct daemon *d);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * work - reset, snapshots, removal.
 *
 * What was there is never deleted in place: it is renamed, by descriptor,
 * which takes no time however much it is. Below tenants/<no>/ (root, 0700):
 *   workspace/                 the agent's own
 *   snapshots/<name>/workspace or snapshots/<name>/state    root's directory, the tenant's contents
 *   trash/                     emptied in the background by a child of the tenant's uid
 *   log/
 * Copies (snapshot create, restore) are made by such a child as well.
 */
#ifndef CL_CLOISTERD_WORK_H
#define CL_CLOISTERD_WORK_H

#define STATE_NAME ".openclaw"		/* the agent's own state, below its workspace */
#define INCOMING_NAME "incoming"	/* a copy that is being made */
#define KEPT_NAME "kept-state"		/* the last state with which the agent came up */
#define KEPT_NEW_NAME "kept-state-new"	/* the one it is being started with */
#define KEPT_MAX (256u << 20)		/* bytes; of a larger state no copy is kept */
#define SNAPSHOTS_MAX 20		/* a tenant; the oldest goes when one more comes */

#include "base/base.h"

struct tenant;

/* a tenant's directories, opened for one piece of work */
struct places {
	int top, snapshots, trash;
};
int places_open(struct tenant *t, struct places *p, struct cl_err *err);
void places_done(struct places *p);
/* to_trash - move @name of @from into the trash; what is not there is no failure */
int to_trash(struct places *p, int from, const char *name);
/* copy_start - a child of the tenant's uid copies directory @from into @to; its pid or -1 */
pid_t copy_start(struct tenant *t, int from, int to, uint64_t max_bytes);
/* status_errno - what tree_copy() in such a child returned, as a positive errno */
int status_errno(int status);
/* set_aside - workspace, or the state in it, becomes snapshot @name */
int set_aside(struct tenant *t, struct places *p, const char *name, bool state, struct cl_err *err);
void fresh_name(const char *prefix, char *buf, size_t n);

#endif

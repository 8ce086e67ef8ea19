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
#define SNAPSHOTS_MAX 20		/* a tenant; the oldest goes when one more comes */

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The root: the image, read-only, and the last move, pivot. Every place that
 * something is mounted on is opened beneath the image without following any
 * link: an image with a link in the way is refused, never followed.
 */
#include "sandbox/step.h"
#include "sandbox/sys.h"

#include <string.h>

#define RO_ROOT (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)

int step_rootfs(struct step_ctx *c)
{
	CL_CLOSE int at = open(ZYGOTE_ROOT, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (at < 0)
		return -errno;
	/* said again here: the flags are a wall, whoever made the tree */
	r = sys_mount_attr(c->rootfs_fd, RO_ROOT, 0);
	if (r == 0)
		r = sys_move_mount(c->rootfs_fd, at);
	return r;
}

int step_workspace(struct step_ctx *c)
{
	CL_CLOSE int at = sys_place(c->rootfs_fd, "workspace", O_DIRECTORY);
	int r;

	if (at < 0)
		return at;
	r = sys_mount_attr(c->workspace_fd, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, MOUNT_ATTR_RDONLY);
	if (r == 0)
		r = sys_move_mount(c->workspace_fd, at);
	return r;
}

int step_pivot(struct step_ctx *c)
{
	char cwd[64];

	if (fchdir(c->rootfs_fd) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
		return -errno;
	/* the zygote's root now lies over ours, at ".": take it away with all below it */
	if (syscall(SYS_umount2, ".", 2 /* MNT_DETACH */) < 0)
		return -errno;
	/* prove it: an absolute path again, and not "(unreachable)" (CVE-2024-21626) */
	if (chdir("/workspace") < 0 || !getcwd(cwd, sizeof cwd))
		return -errno;
	return strcmp(cwd, "/workspace") == 0 ? 0 : -EXDEV;
}

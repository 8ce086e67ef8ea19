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

/*
 * The image is shared by all tenants, and so would be its inodes: a lock or a
 * watch on one of its files would be seen by every other tenant (a covert
 * channel, and a nuisance). An overlay without an upper layer gives each
 * sandbox inodes of its own; data and page cache stay shared. The kernel wants two layers:
 * the second is our own empty directory. From here on rootfs_fd is the overlay.
 */
int step_inodes(struct step_ctx *c)
{
	CL_CLOSE int fs = sys_fsopen("overlay");
	CL_CLOSE int at = -1, mnt = -1;
	int r = fs < 0 ? fs : sys_fsconfig_str(fs, "lowerdir", ZYGOTE_ROOT ":" ZYGOTE_TMP "/nothing");

	if (r == 0)
		r = sys_fsconfig_create(fs);
	if (r)
		return r;
	mnt = sys_fsmount(fs, RO_ROOT);
	/* over the image, which the overlay has taken a private copy of */
	at = open(ZYGOTE_ROOT, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (mnt < 0 || at < 0)
		return mnt < 0 ? mnt : -errno;
	r = sys_move_mount(mnt, at);
	if (r)
		return r;
	c->rootfs_fd = cl_take_fd(&mnt);
	return 0;
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

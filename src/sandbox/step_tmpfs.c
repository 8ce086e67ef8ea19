/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One tmpfs a sandbox (each superblock costs memory in every memory cgroup):
 * it holds /tmp, /dev/shm, /dev, the sealed configuration, and the empty file
 * and directory that mask parts of /proc. Each part is bound with flags of
 * its own. Its pages and inodes are the tenant's, bounded by the plan.
 */
#include "sandbox/step.h"
#include "sandbox/sys.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define CONFIG_MAX (1u << 20)
#define RW_ATTR (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
#define RO_ATTR (RW_ATTR | MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC)

static const struct { const char *name; unsigned minor, major; } nodes[] = {
	{ "null", 3, 1 }, { "zero", 5, 1 }, { "full", 7, 1 }, { "random", 8, 1 },
	{ "urandom", 9, 1 }, { "tty", 0, 5 },
};

static const struct { const char *name, *to; } links[] = {
	{ "fd", "/proc/self/fd" }, { "stdin", "/proc/self/fd/0" }, { "stdout", "/proc/self/fd/1" },
	{ "stderr", "/proc/self/fd/2" }, { "ptmx", "pts/ptmx" },
};

static int copy_config(struct step_ctx *c, int tmp_fd)
{
	CL_CLOSE int fd = openat(tmp_fd, "config", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
	static char buf[65536];		/* the child is one thread */
	off_t at = 0;

	if (fd < 0)
		return -errno;
	for (;;) {
		ssize_t k = pread(c->config_fd, buf, sizeof buf, at);

		if (k < 0)
			return -errno;
		if (k == 0)
			return at ? 0 : -ENODATA;
		at += k;
		if (at > CONFIG_MAX)
			return -EFBIG;
		if (write(fd, buf, (size_t)k) != k)
			return errno ? -errno : -EIO;
	}
}

/* umask is 0 here (step_tmpfs), so that modes are what they say */
static int make_parts(struct step_ctx *c, int fd)
{
	int e;

	if (mkdirat(fd, "tmp", 01777) < 0 || mkdirat(fd, "shm", 01777) < 0 ||
	    mkdirat(fd, "dev", 0755) < 0 || mkdirat(fd, "dev/pts", 0755) < 0 ||
	    mkdirat(fd, "dev/shm", 0755) < 0 || mkdirat(fd, "nothing", 0555) < 0)
		return -errno;
	e = openat(fd, "empty", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
	if (e < 0)
		return -errno;
	(void)close(e);		/* nothing was written */
	for (size_t i = 0; i < CL_ARRAY_LEN(nodes); i++) {
		char path[32] = "dev/";

		strncat(path, nodes[i].name, sizeof path - 5);
		if (mknodat(fd, path, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)) < 0)
			return -errno;
	}
	for (size_t i = 0; i < CL_ARRAY_LEN(links); i++) {
		char path[32] = "dev/";

		strncat(path, links[i].name, sizeof path - 5);
		if (symlinkat(links[i].to, fd, path) < 0)
			return -errno;
	}
	return c->config_fd >= 0 ? copy_config(c, fd) : 0;
}

static void decimal(uint64_t v, char *buf, size_t n)
{
	size_t at = n - 1;

	buf[at] = '\0';
	do {
		buf[--at] = (char)('0' + v % 10);
		v /= 10;
	} while (v && at);
	memmove(buf, buf + at, n - at);
}

static int mount_tmpfs(struct step_ctx *c)
{
	const struct plan_limits *l = &c->plan->limits;
	CL_CLOSE int fs = sys_fsopen("tmpfs");
	char size[24], inodes[24];
	int r;

	if (fs < 0)
		return fs;
	decimal(l->tmp_bytes + CONFIG_MAX, size, sizeof size);
	decimal(l->tmp_inodes + 32, inodes, sizeof inodes);
	r = sys_fsconfig_str(fs, "size", size);
	if (r == 0)
		r = sys_fsconfig_str(fs, "nr_inodes", inodes);
	if (r == 0)
		r = sys_fsconfig_str(fs, "mode", "0755");
	if (r == 0)
		r = sys_fsconfig_create(fs);
	return r ? r : sys_fsmount(fs, RW_ATTR | MOUNT_ATTR_NOEXEC);
}

/* Bind part @name of the tmpfs over @place of the root, with flags of its own. */
static int put(struct step_ctx *c, const char *name, int base_fd, const char *place, uint64_t attr)
{
	CL_CLOSE int at = sys_place(base_fd, place, 0);
	CL_CLOSE int tree = -1;
	uint64_t all = RO_ATTR;
	int r;

	if (at < 0)
		return at;
	tree = sys_tree_clone(c->tmp_fd, name);
	if (tree < 0)
		return tree;
	r = sys_mount_attr(tree, attr, all & ~attr);
	return r ? r : sys_move_mount(tree, at);
}

int step_tmpfs(struct step_ctx *c)
{
	CL_CLOSE int at = open(ZYGOTE_TMP, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (at < 0)
		return -errno;
	(void)umask(0);
	c->tmp_fd = mount_tmpfs(c);
	if (c->tmp_fd < 0)
		return c->tmp_fd;
	/* in place before its parts are cloned: kernels before 6.15 refuse to clone from a detached mount */
	r = sys_move_mount(c->tmp_fd, at);
	if (r == 0)
		r = make_parts(c, c->tmp_fd);
	(void)umask(022);
	/* masks are clones of this mount and inherit what it says: read-only */
	return r ? r : sys_mount_attr(c->tmp_fd, RO_ATTR, 0);
}

int step_tmp(struct step_ctx *c)
{
	int r = put(c, "tmp", c->rootfs_fd, "tmp", RW_ATTR);

	if (r == 0)
		r = put(c, "dev", c->rootfs_fd, "dev", RO_ATTR & ~(uint64_t)MOUNT_ATTR_NODEV);
	if (r)
		return r;

	CL_CLOSE int dev = openat(c->rootfs_fd, "dev", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (dev < 0)
		return -errno;
	return put(c, "shm", dev, "shm", RW_ATTR | MOUNT_ATTR_NOEXEC);
}

int step_devpts(struct step_ctx *c)
{
	CL_CLOSE int fs = sys_fsopen("devpts");
	CL_CLOSE int dev = openat(c->rootfs_fd, "dev", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int r;

	if (fs < 0 || dev < 0)
		return fs < 0 ? fs : -errno;
	r = sys_fsconfig_str(fs, "ptmxmode", "0666");
	if (r == 0)
		r = sys_fsconfig_str(fs, "mode", "0620");
	if (r == 0)
		r = sys_fsconfig_str(fs, "max", "64");
	if (r == 0)
		r = sys_fsconfig_create(fs);
	if (r)
		return r;
	CL_CLOSE int mnt = sys_fsmount(fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
	CL_CLOSE int at = sys_place(dev, "pts", O_DIRECTORY);

	if (mnt < 0 || at < 0)
		return mnt < 0 ? mnt : at;
	return sys_move_mount(mnt, at);
}

int step_config(struct step_ctx *c)
{
	char path[PLAN_PATH_MAX + 1];
	int r;

	/* no name server is ever there: an image that brings one gets an empty file */
	r = put(c, "empty", c->rootfs_fd, "etc/resolv.conf", RO_ATTR);
	if (r && r != -ENOENT && r != -ELOOP)
		return r;
	if (c->config_fd < 0)
		return 0;
	r = span_copy(c->plan->config_path, path, sizeof path);
	return r ? r : put(c, "config", c->rootfs_fd, path + 1, RO_ATTR);
}

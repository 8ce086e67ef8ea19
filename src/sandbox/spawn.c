/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/spawn.h"

#include "sandbox/sys.h"

#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

int spawn_tree(int dirfd, bool readonly, struct cl_err *err)
{
	CL_CLOSE int fd = sys_tree_clone(dirfd, "");
	uint64_t set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (readonly ? MOUNT_ATTR_RDONLY : 0);
	int r;

	if (fd < 0)
		return cl_fail(err, -fd, "spawn: open_tree");
	r = sys_mount_attr(fd, set, 0);
	if (r)
		return cl_fail(err, -r, "spawn: mount_setattr");
	return cl_take_fd(&fd);
}

static int want_dir(int fd, const char *what, struct cl_err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return cl_fail(err, EINVAL, "spawn: %s: no descriptor", what);
	if (!S_ISDIR(st.st_mode))
		return cl_fail(err, EINVAL, "spawn: %s is not a directory", what);
	return 0;
}

int spawn_check_fds(const struct plan *p, const int *fds, size_t nfds, size_t *out_ncgroups,
		    struct cl_err *err)
{
	size_t fixed = p->config_path.n ? 3 : 2;
	int r;

	if (nfds < fixed || nfds - fixed > SPAWN_CGROUPS_MAX)
		return cl_fail(err, EINVAL, "spawn: %zu descriptors do not fit the plan", nfds);
	r = want_dir(fds[SPAWN_FD_ROOTFS], "rootfs", err);
	if (r == 0)
		r = want_dir(fds[SPAWN_FD_WORKSPACE], "workspace", err);
	if (r)
		return r;
	if (p->config_path.n) {
		int seals = fcntl(fds[SPAWN_FD_CONFIG], F_GET_SEALS);
		int want = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK;

		if (seals < 0 || (seals & want) != want)
			return cl_fail(err, EINVAL, "spawn: the configuration is not a sealed memfd");
	}
	for (size_t i = fixed; i < nfds; i++) {
		struct statfs fs;

		if (fstatfs(fds[i], &fs) < 0 ||
		    (fs.f_type != CGROUP_SUPER_MAGIC && fs.f_type != CGROUP2_SUPER_MAGIC))
			return cl_fail(err, EINVAL, "spawn: descriptor %zu is not of a cgroup", i);
	}
	*out_ncgroups = nfds - fixed;
	return 0;
}

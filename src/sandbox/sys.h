/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sys - system calls and constants that Debian 12's headers lack or libc does
 * not wrap. Each returns what the kernel says: >= 0, or -errno.
 */
#ifndef CL_SANDBOX_SYS_H
#define CL_SANDBOX_SYS_H

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

static inline int sys_ret(long r)
{
	return r < 0 ? -errno : (int)r;
}

static inline int sys_fsopen(const char *type)
{
	return sys_ret(syscall(SYS_fsopen, type, FSOPEN_CLOEXEC));
}

static inline int sys_fsconfig_str(int fd, const char *key, const char *value)
{
	return sys_ret(syscall(SYS_fsconfig, fd, FSCONFIG_SET_STRING, key, value, 0));
}

static inline int sys_fsconfig_create(int fd)
{
	return sys_ret(syscall(SYS_fsconfig, fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0));
}

static inline int sys_fsmount(int fd, unsigned attrs)
{
	return sys_ret(syscall(SYS_fsmount, fd, FSMOUNT_CLOEXEC, attrs));
}

/* A copy of the one mount at @path below @dirfd, symlinks not followed. "" is @dirfd itself. */
static inline int sys_tree_clone(int dirfd, const char *path)
{
	return sys_ret(syscall(SYS_open_tree, dirfd, path, (unsigned)(OPEN_TREE_CLONE |
			       OPEN_TREE_CLOEXEC) | (*path ? AT_SYMLINK_NOFOLLOW : AT_EMPTY_PATH)));
}

static inline int sys_mount_attr(int fd, uint64_t set, uint64_t clear)
{
	struct mount_attr a = { .attr_set = set, .attr_clr = clear, .propagation = 1u << 18 /* MS_PRIVATE */ };

	return sys_ret(syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &a, sizeof a));
}

/* Put the detached mount @fd over what @onto_fd is. */
static inline int sys_move_mount(int fd, int onto_fd)
{
	return sys_ret(syscall(SYS_move_mount, fd, "", onto_fd, "",
			       MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH));
}

/*
 * sys_place - an O_PATH descriptor of a mount point: beneath, no symlink, no
 * magic link, and on the very mount of @dirfd.
 */
static inline int sys_place(int dirfd, const char *path, int flags)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned)(O_PATH | O_NOFOLLOW | O_CLOEXEC | flags),
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS |
			   RESOLVE_NO_XDEV,
	};

	return sys_ret(syscall(SYS_openat2, dirfd, path, &how, sizeof how));
}

/* ---- Landlock up to ABI 6 (6.12) ------------------------------------------- */

struct sys_landlock_attr {
	uint64_t fs, net, scoped;
};
#define SYS_LL_FS_EXECUTE (1ull << 0)
#define SYS_LL_FS_WRITE_FILE (1ull << 1)
#define SYS_LL_FS_READ_FILE (1ull << 2)
#define SYS_LL_FS_READ_DIR (1ull << 3)
#define SYS_LL_FS_REMOVE_DIR (1ull << 4)
#define SYS_LL_FS_REMOVE_FILE (1ull << 5)
#define SYS_LL_FS_MAKE_CHAR (1ull << 6)
#define SYS_LL_FS_MAKE_DIR (1ull << 7)
#define SYS_LL_FS_MAKE_REG (1ull << 8)
#define SYS_LL_FS_MAKE_SOCK (1ull << 9)
#define SYS_LL_FS_MAKE_FIFO (1ull << 10)
#define SYS_LL_FS_MAKE_BLOCK (1ull << 11)
#define SYS_LL_FS_MAKE_SYM (1ull << 12)
#define SYS_LL_FS_REFER (1ull << 13)		/* ABI 2 */
#define SYS_LL_FS_TRUNCATE (1ull << 14)		/* ABI 3 */
#define SYS_LL_FS_IOCTL_DEV (1ull << 15)	/* ABI 5 */
#define SYS_LL_NET_BIND_TCP 1ull		/* ABI 4 */
#define SYS_LL_NET_CONNECT_TCP 2ull
#define SYS_LL_SCOPE_ALL 3ull			/* ABI 6: abstract sockets, signals */
#define SYS_LL_RULE_NET_PORT 2
struct sys_landlock_port {
	uint64_t access, port;
};

/* The kernel's Landlock ABI, or -ENOSYS, -EOPNOTSUPP when it is not there. */
static inline int sys_landlock_abi(void)
{
	return sys_ret(syscall(SYS_landlock_create_ruleset, NULL, 0, 1u));
}

#endif

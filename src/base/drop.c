/* SPDX-License-Identifier: Apache-2.0 */
#include "base/drop.h"

#include <grp.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int caps_clear(struct cl_err *err)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = { { 0, 0, 0 }, { 0, 0, 0 } };

	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return cl_fail(err, errno, "drop: ambient capabilities");
	if (syscall(SYS_capset, &h, d) < 0)
		return cl_fail(err, errno, "drop: capset");
	if (syscall(SYS_capget, &h, d) < 0)
		return cl_fail(err, errno, "drop: capget");
	for (int i = 0; i < 2; i++)
		if (d[i].effective || d[i].permitted || d[i].inheritable)
			return cl_fail(err, EPERM, "drop: capabilities are still there");
	return 0;
}

int drop_to_user(uid_t uid, gid_t gid, struct cl_err *err)
{
	struct rlimit none = { 0, 0 };
	uid_t r, e, s;
	gid_t gr, ge, gs;

	if (uid == 0 || gid == 0)
		return cl_fail(err, EINVAL, "drop: uid and gid must not be 0");
	umask(077);
	if (setrlimit(RLIMIT_CORE, &none) < 0)
		return cl_fail(err, errno, "drop: RLIMIT_CORE");
	if (geteuid() == 0) {
		/* the bounding set can only be emptied while CAP_SETPCAP is there */
		for (unsigned long c = 0; c < 64; c++)
			if (prctl(PR_CAPBSET_DROP, c, 0, 0, 0) < 0 && errno != EINVAL)
				return cl_fail(err, errno, "drop: bounding set");
		if (setgroups(0, NULL) < 0)
			return cl_fail(err, errno, "drop: setgroups");
		if (setresgid(gid, gid, gid) < 0)
			return cl_fail(err, errno, "drop: setresgid");
		if (setresuid(uid, uid, uid) < 0)
			return cl_fail(err, errno, "drop: setresuid");
		if (getgroups(0, NULL) != 0)
			return cl_fail(err, EPERM, "drop: groups are still there");
	}
	if (caps_clear(err) < 0)
		return -err->code;
	if (getresuid(&r, &e, &s) < 0 || r != uid || e != uid || s != uid)
		return cl_fail(err, EPERM, "drop: uid is not %u", uid);
	if (getresgid(&gr, &ge, &gs) < 0 || gr != gid || ge != gid || gs != gid)
		return cl_fail(err, EPERM, "drop: gid is not %u", gid);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		return cl_fail(err, EPERM, "drop: no_new_privs");
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return cl_fail(err, errno, "drop: dumpable");
	if (setuid(0) == 0 || seteuid(0) == 0)
		return cl_fail(err, EPERM, "drop: root could be regained");
	return 0;
}

/* What Landlock ABI @abi can restrict in the file system. */
static uint64_t fs_mask(int abi)
{
	uint64_t m = (1ULL << 13) - 1;	/* ABI 1: execute .. make_sym */

	if (abi >= 2)
		m |= LANDLOCK_ACCESS_FS_REFER;
	if (abi >= 3)
		m |= 1ULL << 14;	/* truncate */
	if (abi >= 5)
		m |= 1ULL << 15;	/* ioctl on devices */
	return m;
}

#define FS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)

struct ll_ruleset {	/* ABI 6; the kernel's header here may be older */
	uint64_t fs, net, scoped;
};

static int add_rule(int rs, int dirfd, uint64_t access)
{
	struct landlock_path_beneath_attr a = { .allowed_access = access, .parent_fd = dirfd };

	return syscall(SYS_landlock_add_rule, rs, LANDLOCK_RULE_PATH_BENEATH, &a, 0) < 0 ? -errno : 0;
}

int landlock_only(const int *ro_fds, size_t nro, const int *rw_fds, size_t nrw, bool no_bind_tcp,
		  int *have_abi, struct cl_err *err)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, 1 /* version */);
	struct ll_ruleset a = { 0 };
	size_t size = 8;
	int r = 0;

	if (abi < 1)
		return cl_fail(err, ENOSYS,
			       "Landlock is missing: boot with lsm=landlock,… or a kernel of 5.13 or later");
	a.fs = fs_mask((int)abi);
	if (abi >= 4) {
		a.net = no_bind_tcp ? 1 : 0;	/* bind */
		size = 16;
	}
	if (abi >= 6) {
		a.scoped = 3;		/* abstract sockets, signals */
		size = 24;
	}
	CL_CLOSE int rs = (int)syscall(SYS_landlock_create_ruleset, &a, size, 0);

	if (rs < 0)
		return cl_fail(err, errno, "landlock: ruleset");
	for (size_t i = 0; i < nro && r == 0; i++)
		r = add_rule(rs, ro_fds[i], FS_READ);
	for (size_t i = 0; i < nrw && r == 0; i++)
		r = add_rule(rs, rw_fds[i], a.fs & ~(uint64_t)LANDLOCK_ACCESS_FS_EXECUTE);
	if (r)
		return cl_fail(err, -r, "landlock: rule");
	if (syscall(SYS_landlock_restrict_self, rs, 0) < 0)
		return cl_fail(err, errno, "landlock: restrict");
	if (have_abi)
		*have_abi = (int)abi;
	return 0;
}

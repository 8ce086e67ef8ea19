/* SPDX-License-Identifier: Apache-2.0 */
/* One function a feature; the table says what each means and what to do. */
#include "sandbox/doctor.h"

#include "sandbox/cgroup.h"
#include "sandbox/sys.h"

#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#define SAY(i, ...) ((void)snprintf((i)->found, sizeof (i)->found, __VA_ARGS__))	/* cut: only words */

/* A number from /proc/sys; -1 when it is not there. */
static long sysctl_long(const char *path)
{
	CL_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	char buf[32];
	ssize_t k = fd < 0 ? -1 : read(fd, buf, sizeof buf - 1);
	uint32_t v;

	if (k <= 0)
		return -1;
	buf[k] = '\0';
	buf[strcspn(buf, "\n\t ")] = '\0';
	return num_parse_u32(span_str(buf), UINT32_MAX, &v) < 0 ? -1 : (long)v;
}

/* Is the system call there at all? Asked with arguments that can do nothing. */
static bool has_call(long nr)
{
	return !(syscall(nr, -1L, 0L, ~0ul, ~0ul, 0L, 0L) < 0 && errno == ENOSYS);
}

static enum doctor_state check_root(struct doctor_item *i)
{
	SAY(i, "uid %u", geteuid());
	return geteuid() == 0 ? DOCTOR_FOUND : DOCTOR_MISSING;
}

static enum doctor_state check_kernel(struct doctor_item *i)
{
	struct utsname u;
	unsigned major = 0, minor = 0;
	struct span s, a, b;

	if (uname(&u) < 0)
		return DOCTOR_MISSING;
	SAY(i, "%.60s %.20s", u.release, u.machine);
	s = span_str(u.release);
	if (span_cut(&s, '.', &a)) {
		b.p = s.p;
		b.n = strspn(s.p, "0123456789");
		(void)num_parse_u32(a, 1000, &major);	/* else 0: too old */
		(void)num_parse_u32(b, 1000, &minor);
	}
	return major > 5 || (major == 5 && minor >= 14) ? DOCTOR_FOUND : DOCTOR_MISSING;
}

static enum doctor_state check_namespaces(struct doctor_item *i)
{
	static const char *const names[] = { "mnt", "pid", "net", "ipc", "uts", "cgroup", "user", "time" };
	struct stat st;

	for (size_t k = 0; k < CL_ARRAY_LEN(names); k++) {
		char path[40];

		(void)snprintf(path, sizeof path, "/proc/self/ns/%s", names[k]);	/* fits */
		if (stat(path, &st) < 0) {
			SAY(i, "no %s namespace", names[k]);
			return DOCTOR_MISSING;
		}
	}
	SAY(i, "mnt pid net ipc uts cgroup user time");
	return DOCTOR_FOUND;
}

static enum doctor_state check_userns(struct doctor_item *i)
{
	long max = sysctl_long("/proc/sys/user/max_user_namespaces");

	SAY(i, "user.max_user_namespaces = %ld", max);
	return max > 0 ? DOCTOR_FOUND : DOCTOR_MISSING;
}

static enum doctor_state check_mount_api(struct doctor_item *i)
{
	const struct { long nr; const char *name; } calls[] = {
		{ SYS_open_tree, "open_tree" }, { SYS_move_mount, "move_mount" },
		{ SYS_fsopen, "fsopen" }, { SYS_fsmount, "fsmount" },
		{ SYS_mount_setattr, "mount_setattr" }, { SYS_openat2, "openat2" },
	};

	for (size_t k = 0; k < CL_ARRAY_LEN(calls); k++)
		if (!has_call(calls[k].nr)) {
			SAY(i, "no %s", calls[k].name);
			return DOCTOR_MISSING;
		}
	SAY(i, "mounts by descriptor, openat2");
	return DOCTOR_FOUND;
}

static enum doctor_state check_pidfd(struct doctor_item *i)
{
	const struct { long nr; const char *name; } calls[] = {
		{ SYS_clone3, "clone3" }, { SYS_pidfd_open, "pidfd_open" },
		{ SYS_pidfd_getfd, "pidfd_getfd" }, { SYS_close_range, "close_range" },
	};

	for (size_t k = 0; k < CL_ARRAY_LEN(calls); k++)
		/* clone3 and close_range with these arguments are refused before they act */
		if (calls[k].nr != SYS_close_range && !has_call(calls[k].nr)) {
			SAY(i, "no %s", calls[k].name);
			return DOCTOR_MISSING;
		}
	SAY(i, "clone3, pidfd_open, pidfd_getfd");
	return DOCTOR_FOUND;
}

static enum doctor_state check_seccomp(struct doctor_item *i)
{
	uint32_t action = SECCOMP_RET_KILL_PROCESS;
	bool ok = syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;

	SAY(i, "%s", ok ? "filter mode, kill-process" : "no filter mode");
	return ok ? DOCTOR_FOUND : DOCTOR_MISSING;
}

static enum doctor_state check_landlock(struct doctor_item *i)
{
	int abi = sys_landlock_abi();

	if (abi < 1) {
		SAY(i, "%s", abi == -EOPNOTSUPP ? "built in, but not enabled at boot" : "not in this kernel");
		return DOCTOR_MISSING;
	}
	SAY(i, "ABI %d: paths%s%s", abi, abi >= 4 ? ", TCP ports" : "; no TCP ports (ABI 4, Linux 6.7)",
	    abi >= 6 ? ", scopes" : "; no scopes (ABI 6, Linux 6.12)");
	return abi >= 6 ? DOCTOR_FOUND : DOCTOR_WEAK;
}

static enum doctor_state check_cgroup(struct doctor_item *i)
{
	struct cgroup_probe p;

	cgroup_probe(&p);
	SAY(i, "%s:%s%s%s%s", p.v2 ? "v2" : p.hybrid ? "v1 beside v2" : "v1",
	    p.have[CG_MEMORY] ? " memory" : " NO-MEMORY", p.have[CG_PIDS] ? " pids" : " NO-PIDS",
	    p.have[CG_CPU] ? " cpu" : " NO-CPU", p.have[CG_DEVICES] ? " devices" : "");
	return p.have[CG_MEMORY] && p.have[CG_PIDS] && p.have[CG_CPU] ? DOCTOR_FOUND : DOCTOR_MISSING;
}

static enum doctor_state check_freeze(struct doctor_item *i)
{
	struct cgroup_probe p;

	cgroup_probe(&p);
	SAY(i, "%s", p.kill_file ? "cgroup.freeze, cgroup.kill" : p.have[CG_FREEZER] ?
	    "v1 freezer; processes are killed one by one" : "neither v2 nor the v1 freezer");
	return p.kill_file ? DOCTOR_FOUND : p.have[CG_FREEZER] ? DOCTOR_WEAK : DOCTOR_MISSING;
}

static enum doctor_state check_swap(struct doctor_item *i)
{
	struct cgroup_probe p;
	struct stat st;

	cgroup_probe(&p);
	bool ok = p.v2 || stat(CGROUP_ROOT "/memory/memory.memsw.limit_in_bytes", &st) == 0;

	SAY(i, "%s", ok ? "counted" : "not counted");
	return ok ? DOCTOR_FOUND : DOCTOR_WEAK;
}

static enum doctor_state check_filesystems(struct doctor_item *i)
{
	static const char *const types[] = { "tmpfs", "proc", "devpts", "overlay" };

	if (geteuid() != 0) {
		SAY(i, "needs root to look");
		return DOCTOR_WEAK;
	}
	for (size_t k = 0; k < CL_ARRAY_LEN(types); k++) {
		CL_CLOSE int fd = sys_fsopen(types[k]);

		if (fd < 0) {
			SAY(i, "no %s", types[k]);
			return DOCTOR_MISSING;
		}
	}
	SAY(i, "tmpfs proc devpts overlay");
	return DOCTOR_FOUND;
}

static enum doctor_state check_memfd(struct doctor_item *i)
{
	long v = sysctl_long("/proc/sys/vm/memfd_noexec");

	SAY(i, v < 0 ? "no vm.memfd_noexec (Linux before 6.3)" : "vm.memfd_noexec = %ld", v);
	return v < 2 ? DOCTOR_FOUND : DOCTOR_MISSING;
}

/* The sandbox has no io_uring (seccomp); a second stop is the host's own switch. */
static enum doctor_state check_io_uring(struct doctor_item *i)
{
	long v = sysctl_long("/proc/sys/kernel/io_uring_disabled");

	SAY(i, v < 0 ? "no switch in this kernel" : "kernel.io_uring_disabled = %ld", v);
	return v == 2 || v < 0 ? DOCTOR_FOUND : DOCTOR_WEAK;
}

static enum doctor_state check_bpf(struct doctor_item *i)
{
	long v = sysctl_long("/proc/sys/kernel/unprivileged_bpf_disabled");

	SAY(i, v < 0 ? "no bpf in this kernel" : "kernel.unprivileged_bpf_disabled = %ld", v);
	return v == 0 ? DOCTOR_WEAK : DOCTOR_FOUND;
}

static enum doctor_state check_pointers(struct doctor_item *i)
{
	long kptr = sysctl_long("/proc/sys/kernel/kptr_restrict");
	long dmesg = sysctl_long("/proc/sys/kernel/dmesg_restrict");

	SAY(i, "kernel.kptr_restrict = %ld, kernel.dmesg_restrict = %ld", kptr, dmesg);
	return kptr != 0 && dmesg != 0 ? DOCTOR_FOUND : DOCTOR_WEAK;
}

static enum doctor_state check_links(struct doctor_item *i)
{
	long h = sysctl_long("/proc/sys/fs/protected_hardlinks");
	long s = sysctl_long("/proc/sys/fs/protected_symlinks");

	SAY(i, "fs.protected_hardlinks = %ld, fs.protected_symlinks = %ld", h, s);
	return h == 1 && s == 1 ? DOCTOR_FOUND : DOCTOR_WEAK;
}

static const struct {
	const char *name;
	unsigned layer;
	enum doctor_state (*fn)(struct doctor_item *);
	const char *means, *fix;
} checks[] = {
	{ "root", 0, check_root, "sandboxes are made by root", "run it as root: sudo cloister up" },
	{ "kernel", 0, check_kernel, "Linux 5.14 or later has all that the walls need",
	  "install a newer kernel" },
	{ "namespaces", 1, check_namespaces, "each sandbox sees only itself",
	  "use a kernel with all eight kinds of namespace (CONFIG_*_NS=y)" },
	{ "user-namespaces", 1, check_userns, "each tenant has a uid of its own that is nobody on the host",
	  "sysctl -w user.max_user_namespaces=15000" },
	{ "mount-api", 2, check_mount_api, "mounts are made by descriptor, never by a path that a tenant could change",
	  "install Linux 5.14 or later" },
	{ "process-descriptors", 1, check_pidfd, "processes are held by descriptor, never by a number that can be reused",
	  "install Linux 5.14 or later" },
	{ "seccomp", 1, check_seccomp, "system calls are limited to a list",
	  "use a kernel with CONFIG_SECCOMP_FILTER=y" },
	{ "landlock", 2, check_landlock, "a second wall over files and ports, independent of the first",
	  "boot with landlock in lsm=…; ports need Linux 6.7, scopes 6.12" },
	{ "control-groups", 3, check_cgroup, "memory, processes and cpu of each sandbox are bounded",
	  "mount cgroup v2 at /sys/fs/cgroup and enable memory, pids, cpu; for v1 boot with cgroup_enable=memory" },
	{ "freeze-and-kill", 3, check_freeze, "a sandbox can be frozen and ended as a whole, at once",
	  "mount cgroup v2 (for v1: at /sys/fs/cgroup/unified beside the others)" },
	{ "swap-accounting", 3, check_swap, "swap counts against a sandbox's limit", "boot with swapaccount=1" },
	{ "file-systems", 2, check_filesystems, "a sandbox's /tmp, /proc, terminals, and inodes of its own over the shared image",
	  "load or build in tmpfs, proc, devpts, overlay: modprobe overlay" },
	{ "memfd-exec", 1, check_memfd, "pid 1 of a sandbox runs from sealed memory",
	  "sysctl -w vm.memfd_noexec=1" },
	{ "io-uring-off", 1, check_io_uring, "a second stop behind seccomp",
	  "sysctl -w kernel.io_uring_disabled=2" },
	{ "bpf-off", 1, check_bpf, "a second stop behind seccomp",
	  "sysctl -w kernel.unprivileged_bpf_disabled=2" },
	{ "kernel-pointers", 1, check_pointers, "the kernel's addresses and log are hidden from users",
	  "sysctl -w kernel.kptr_restrict=2 kernel.dmesg_restrict=1" },
	{ "protected-links", 2, check_links, "links planted in shared directories are not followed",
	  "sysctl -w fs.protected_hardlinks=1 fs.protected_symlinks=1" },
};

size_t doctor_run(struct doctor_item *out)
{
	_Static_assert(CL_ARRAY_LEN(checks) <= DOCTOR_MAX, "room for all");
	for (size_t i = 0; i < CL_ARRAY_LEN(checks); i++) {
		out[i] = (struct doctor_item){ .name = checks[i].name, .layer = checks[i].layer,
					       .means = checks[i].means, .fix = checks[i].fix };
		out[i].state = checks[i].fn(&out[i]);
	}
	return CL_ARRAY_LEN(checks);
}

enum doctor_state doctor_verdict(const struct doctor_item *items, size_t n)
{
	enum doctor_state worst = DOCTOR_FOUND;

	for (size_t i = 0; i < n; i++)
		if (items[i].state > worst)
			worst = items[i].state;
	return worst;
}

const char *doctor_state_name(enum doctor_state s)
{
	return s == DOCTOR_FOUND ? "found" : s == DOCTOR_WEAK ? "weak" : "missing";
}

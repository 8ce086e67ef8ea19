/* SPDX-License-Identifier: Apache-2.0 */
#include "cloisterd/narrow.h"

#include "base/drop.h"

#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FILES_MAX 65536		/* four descriptors a tenant and room */

/* What stays, and what for. The spawner, started from here, needs no other. */
static const struct { unsigned cap; const char *why; } keep[] = {
	{ CAP_CHOWN, "state directories, workspaces" },
	{ CAP_DAC_OVERRIDE, "directories of other users: to rename workspaces, open stores" },
	{ CAP_DAC_READ_SEARCH, "the same, for reading" },
	{ CAP_FOWNER, "mode of a workspace that its agent changed" },
	{ CAP_FSETID, "the set-gid bit of the ledger's directory" },
	{ CAP_KILL, "ending programs and sandboxes" },
	{ CAP_SETGID, "programs and helpers become their own users" },
	{ CAP_SETUID, "the same" },
	{ CAP_SETPCAP, "programs empty their bounding sets" },
	{ CAP_NET_BIND_SERVICE, "a page on a port below 1024" },
	{ CAP_NET_ADMIN, "loopback of a sandbox (spawner), large channel buffers" },
	{ CAP_SYS_ADMIN, "mounts, namespaces, cgroups" },
	{ CAP_SYS_CHROOT, "pivot into an image (spawner)" },
	{ CAP_SYS_PTRACE, "pidfd_getfd of an init that is adopted" },
	{ CAP_SYS_NICE, "pushing out the memory of a frozen agent" },
	{ CAP_SYS_RESOURCE, "rlimits of a sandbox above ours; absent in some containers" },
	{ CAP_MKNOD, "six device nodes (spawner)" },
};

static bool wanted(unsigned cap)
{
	for (size_t i = 0; i < CL_ARRAY_LEN(keep); i++)
		if (keep[i].cap == cap)
			return true;
	return false;
}

static int narrow_caps(struct cl_err *err)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct have[2], set[2];

	for (unsigned c = 0; c < 64; c++)
		if (!wanted(c) && prctl(PR_CAPBSET_DROP, c, 0, 0, 0) < 0 && errno != EINVAL)
			return cl_fail(err, errno, "bounding set");
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return cl_fail(err, errno, "ambient capabilities");
	if (syscall(SYS_capget, &h, have) < 0)
		return cl_fail(err, errno, "capget");
	for (unsigned i = 0; i < 2; i++) {
		uint32_t mask = 0;

		for (unsigned b = 0; b < 32; b++)
			if (wanted(i * 32 + b))
				mask |= 1u << b;
		set[i].effective = set[i].permitted = have[i].permitted & mask;
		set[i].inheritable = 0;
	}
	if (syscall(SYS_capset, &h, set) < 0)
		return cl_fail(err, errno, "capset");
	if (syscall(SYS_capget, &h, have) < 0)
		return cl_fail(err, errno, "capget");
	for (unsigned i = 0; i < 2; i++)
		if (have[i].permitted != set[i].permitted || have[i].inheritable)
			return cl_fail(err, EPERM, "capabilities are not what was asked for");
	for (unsigned c = 0; c < 64; c++)
		if (!wanted(c) && prctl(PR_CAPBSET_READ, c, 0, 0, 0) == 1)
			return cl_fail(err, EPERM, "capability %u is still in the bounding set", c);
	return 0;
}

int narrow_self(struct cl_err *err)
{
	struct rlimit none = { 0, 0 }, files;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return cl_fail(err, errno, "no_new_privs");
	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
		return cl_fail(err, errno, "subreaper");
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return cl_fail(err, errno, "dumpable");
	/* what is mounted on the host still comes in; nothing of ours goes out */
	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return cl_fail(err, errno, "own mount namespace");
	if (setrlimit(RLIMIT_CORE, &none) < 0 || getrlimit(RLIMIT_NOFILE, &files) < 0)
		return cl_fail(err, errno, "limits");
	if (files.rlim_max == RLIM_INFINITY || files.rlim_max > FILES_MAX)
		files.rlim_max = FILES_MAX;
	files.rlim_cur = files.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &files) < 0)
		return cl_fail(err, errno, "RLIMIT_NOFILE");
	/* if memory is short the agents go first; needs CAP_SYS_RESOURCE, which a
	 * container may not have: then all stand alike and the cgroups decide */
	CL_CLOSE int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd >= 0)
		(void)cl_write_full(fd, "-800", 4);
	return narrow_caps(err);
}

void narrow_helper(uid_t uid, int *keep_fds, size_t nkeep)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	struct cl_err err;
	sigset_t none;

	for (size_t i = 0; i < nkeep; i++)
		if ((keep_fds[i] = fcntl(keep_fds[i], F_DUPFD_CLOEXEC, 128)) < 0)
			_exit(125);
	for (size_t i = 0; i < nkeep; i++)
		if (dup2(keep_fds[i], 3 + (int)i) < 0)
			_exit(125);
	for (size_t i = 0; i < nkeep; i++)
		keep_fds[i] = 3 + (int)i;
	sigemptyset(&none);
	for (int s = 1; s < NSIG; s++)
		(void)sigaction(s, &dfl, NULL);
	if (close_range(3 + (unsigned)nkeep, ~0u, 0) < 0 || setsid() < 0 ||
	    setpriority(PRIO_PROCESS, 0, 19) < 0 || sigprocmask(SIG_SETMASK, &none, NULL) < 0 ||
	    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || drop_to_user(uid, uid, &err))
		_exit(125);
	/* the change of uid has cleared it */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		_exit(125);
}

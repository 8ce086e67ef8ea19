/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Limits, then identity: into the tenant's user namespace, its one uid and
 * gid, and no capability in any set. Each is read back.
 */
#include "sandbox/step.h"

#include <grp.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/securebits.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int limit(unsigned what, uint64_t value)
{
	struct rlimit l = { value, value }, back;

	if (prlimit(0, what, &l, NULL) < 0 || prlimit(0, what, NULL, &back) < 0)
		return -errno;
	return back.rlim_cur == value && back.rlim_max == value ? 0 : -EPERM;
}

int step_rlimits(struct step_ctx *c)
{
	const struct plan_limits *l = &c->plan->limits;
	const struct { unsigned what; uint64_t value; } rows[] = {
		{ RLIMIT_CORE, 0 },
		{ RLIMIT_NOFILE, l->nofile },
		{ RLIMIT_NPROC, l->pids + STEP_NPROC_ROOM },	/* per kernel uid: the second wall behind pids.max */
		{ RLIMIT_FSIZE, l->workspace_bytes > l->tmp_bytes ? l->workspace_bytes : l->tmp_bytes },
		/* private writable address space of one process: V8 reserves half a GiB of
		 * it for each of a gateway's dozen isolates and dies without (seen: 3.9 GB idle) */
		{ RLIMIT_DATA, 2 * (l->memory_bytes + l->swap_bytes) + (16ull << 30) },
		{ RLIMIT_MEMLOCK, 8u << 20 },
		{ RLIMIT_STACK, 8u << 20 },
		{ RLIMIT_SIGPENDING, 4096 },
		{ RLIMIT_MSGQUEUE, 0 },
		{ RLIMIT_NICE, 0 },
		{ RLIMIT_RTPRIO, 0 },
		{ RLIMIT_RTTIME, 0 },
	};

	for (size_t i = 0; i < CL_ARRAY_LEN(rows); i++) {
		int r = limit(rows[i].what, rows[i].value);

		if (r)
			return r;
	}
	return setpriority(PRIO_PROCESS, 0, 0) < 0 ? -errno : 0;
}

int step_session(struct step_ctx *c)
{
	(void)c;
	(void)umask(022);	/* cannot fail */
	return setsid() < 0 ? -errno : 0;
}

int step_ids(struct step_ctx *c)
{
	uid_t r, e, s;
	gid_t gr, ge, gs;
	int rc;

	/* groups first: the user namespace denies setgroups for good */
	if (setgroups(0, NULL) < 0)
		return -errno;
	if (setns(c->userns_fd, CLONE_NEWUSER) < 0)
		return -errno;
	/* with the capabilities that entering gives, for the last time: no user
	 * namespace can be made inside this one, whatever seccomp says */
	rc = step_text(c->engine->proc_fd, "sys/user/max_user_namespaces", "0\n");
	if (rc)
		return rc;
	if (setresgid(SANDBOX_UID, SANDBOX_UID, SANDBOX_UID) < 0 ||
	    setresuid(SANDBOX_UID, SANDBOX_UID, SANDBOX_UID) < 0)
		return -errno;
	if (getresuid(&r, &e, &s) < 0 || getresgid(&gr, &ge, &gs) < 0)
		return -errno;
	if (r != SANDBOX_UID || e != SANDBOX_UID || s != SANDBOX_UID || gr != SANDBOX_UID ||
	    ge != SANDBOX_UID || gs != SANDBOX_UID || getgroups(0, NULL) != 0)
		return -EPERM;
	return 0;
}

int step_capabilities(struct step_ctx *c)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = { { 0, 0, 0 }, { 0, 0, 0 } };
	const unsigned long bits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
				   SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
				   SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;

	(void)c;
	if (prctl(PR_SET_SECUREBITS, bits, 0, 0, 0) < 0)
		return -errno;
	for (unsigned long cap = 0; cap < 64; cap++)
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
			if (errno != EINVAL)
				return -errno;
			break;		/* beyond the kernel's last capability */
		}
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 ||
	    syscall(SYS_capset, &h, d) < 0 || syscall(SYS_capget, &h, d) < 0)
		return -errno;
	for (int i = 0; i < 2; i++)
		if (d[i].effective || d[i].permitted || d[i].inheritable)
			return -EPERM;
	/* that the bounding set is empty, the self-test reads from outside of this table */
	return 0;
}

int step_keyring(struct step_ctx *c)
{
	(void)c;
	if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) >= 0)
		return 0;
	return errno == ENOSYS ? 0 : -errno;	/* a kernel without key rings has none to share */
}

int step_no_new_privs(struct step_ctx *c)
{
	(void)c;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? 0 : -EPERM;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of steps: its order is the security design. Each row says why it
 * stands where it does.
 */
#include "sandbox/step.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct step {
	const char *name;
	step_fn *fn;
} steps[] = {
	/* First: all that follows is charged to the tenant, and nothing can outrun its limits. */
	{ "cgroup", step_cgroup },
	/* After cgroup: the cgroup namespace takes our group as its root. */
	{ "namespaces", step_namespaces },
	{ "host-name", step_host_name },
	/* Needs CAP_SYS_ADMIN over the network namespace: before ids. */
	{ "network", step_network },
	/* Mounts need CAP_SYS_ADMIN over the mount namespace: before ids. The
	 * root first, as all others stand on places in it; all before pivot,
	 * while the zygote's own tmpfs can still be reached. */
	{ "rootfs", step_rootfs },
	{ "tmpfs", step_tmpfs },
	{ "inodes", step_inodes },
	{ "tmp", step_tmp },
	{ "proc", step_proc },
	{ "devpts", step_devpts },
	{ "workspace", step_workspace },
	{ "config", step_config },
	/* After the last mount: from here on nothing else is reachable by path. */
	{ "pivot", step_pivot },
	/* Hard limits need CAP_SYS_RESOURCE in the initial user namespace. */
	{ "rlimits", step_rlimits },
	{ "session", step_session },
	/* Gives up every power over the namespaces above. */
	{ "ids", step_ids },
	/* After ids: entering a user namespace fills the capability sets again. */
	{ "capabilities", step_capabilities },
	/* After ids: the key ring belongs to the tenant's uid and quota. */
	{ "keyring", step_keyring },
	/* Landlock and seccomp require it. */
	{ "no-new-privs", step_no_new_privs },
	/* After pivot: its rules hold the directories that the tenant will see. */
	{ "landlock", step_landlock },
	/* Late: the steps above use descriptors; before seccomp, which does not care. */
	{ "descriptors", step_descriptors },
	/* Last: it forbids most of what is above. */
	{ "seccomp", step_seccomp },
	{ "exec", step_exec },
};

unsigned engine_steps(void)
{
	return CL_ARRAY_LEN(steps);
}

const char *engine_step_name(unsigned i)
{
	return i >= 1 && i <= CL_ARRAY_LEN(steps) ? steps[i - 1].name : "unknown";
}

int step_text(int dirfd, const char *path, const char *text)
{
	int fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC);
	size_t n = strlen(text);
	ssize_t k;
	int r;

	if (fd < 0)
		return -errno;
	k = write(fd, text, n);
	r = k < 0 ? -errno : (size_t)k == n ? 0 : -EIO;
	(void)close(fd);	/* a pseudo file: the write has judged */
	return r;
}

void steps_run(struct step_ctx *c, unsigned fail_at)
{
	for (unsigned i = 0; i < CL_ARRAY_LEN(steps); i++) {
		int r = i + 1 == fail_at ? -EIO : steps[i].fn(c);

		if (r == 0)
			continue;
		struct step_report rep = { .step = i + 1, .error = -r };

		/* after "descriptors" it is at its fixed place; step_descriptors updates it.
		 * Nobody to tell when this fails: the parent sees end of file and no exec. */
		(void)send(c->report_fd, &rep, sizeof rep, MSG_NOSIGNAL);
		break;
	}
	_exit(126);
}

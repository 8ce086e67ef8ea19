/* SPDX-License-Identifier: Apache-2.0 */
/* Into the tenant's control groups; on v2 the clone itself did it (CLONE_INTO_CGROUP). */
#include "sandbox/step.h"

#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

int step_cgroup(struct step_ctx *c)
{
	for (size_t i = 0; i < c->ncgroups; i++) {
		struct stat st;

		if (fstat(c->cgroup_fds[i], &st) < 0)
			return -errno;
		if (S_ISDIR(st.st_mode))
			continue;	/* the v2 group: we were born in it */
		/* "0" is whoever writes: one thread, alone in its process */
		if (write(c->cgroup_fds[i], "0\n", 2) != 2)
			return errno ? -errno : -EIO;
	}
	/* When the host itself runs out of memory, a tenant goes before the system does. */
	return step_text(c->engine->proc_fd, "self/oom_score_adj", "300\n");
}

/* The cgroup namespace takes where we stand as its root; the others were made by the clone. */
int step_namespaces(struct step_ctx *c)
{
	return unshare(CLONE_NEWCGROUP) < 0 ? -errno : 0;
}

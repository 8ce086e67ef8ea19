/* SPDX-License-Identifier: Apache-2.0 */
/* Into the network namespace that was made for this sandbox (netns.h); its host name. */
#include "sandbox/step.h"

#include <sched.h>
#include <unistd.h>

int step_host_name(struct step_ctx *c)
{
	return sethostname(c->plan->hostname.p, c->plan->hostname.n) < 0 ? -errno : 0;
}

int step_network(struct step_ctx *c)
{
	return setns(c->net_fd, CLONE_NEWNET) < 0 ? -errno : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Words that travel on the wire: states of a tenant and levels of a reset. */
#ifndef CL_WIRE_TENANT_H
#define CL_WIRE_TENANT_H

enum tenant_state {
	TENANT_CREATED, TENANT_STARTING, TENANT_RUNNING, TENANT_DORMANT, TENANT_RESETTING,
	TENANT_STOPPED, TENANT_FAILED, TENANT_DELETED, TENANT_STATE_COUNT
};

enum reset_level { RESET_AGENT, RESET_STATE, RESET_WORKSPACE, RESET_LEVEL_COUNT };

static inline const char *tenant_state_name(unsigned s)
{
	static const char *const n[] = { "created", "starting", "running", "dormant",
					 "resetting", "stopped", "failed", "deleted" };

	return s < TENANT_STATE_COUNT ? n[s] : "unknown";
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The legal order in half a minute: state 1 is "started, not READY yet",
 * state 2 is "serves". A message that is not in its sender's table, or in
 * the wrong state, or too often, ends the connection (wire/), and with it
 * the program, which is started again.
 */
#include "cloisterd/links.h"

#include "cloisterd/tenant.h"

#define NEW 1u
#define SERVES 2u

static int on_ready(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds)
{
	(void)seq;
	(void)msg;
	(void)fds;
	if (nfds)
		return -EBADMSG;
	c->state = SERVES;
	return programs_ready(c);
}

static const struct chan_rule api_rules[] = {
	{ MSG_READY, NEW, 1, on_ready },
	/* 4096 tenants are put and started at once after a restart of the api */
	{ MSG_TENANT_PUT, SERVES, 5000, on_tenant_put },
	{ MSG_TENANT_START, SERVES, 5000, on_tenant_start },
	{ MSG_TENANT_STOP, SERVES, 5000, on_tenant_stop },
	{ MSG_TENANT_FREEZE, SERVES, 5000, on_tenant_freeze },
	{ MSG_TENANT_WAKE, SERVES, 5000, on_tenant_wake },
	{ MSG_TENANT_RM, SERVES, 500, on_tenant_rm },
	{ MSG_TENANT_RESET, SERVES, 500, on_tenant_reset },
	{ MSG_SNAPSHOT, SERVES, 500, on_snapshot },
	{ MSG_TENANT_STATS, SERVES, 1000, on_tenant_stats },
	{ MSG_TENANT_EXEC, SERVES, 200, on_tenant_exec },
	{ MSG_EXEC_SIGNAL, SERVES, 1000, on_exec_signal },
	{ MSG_TENANT_LOGS, SERVES, 1000, on_tenant_logs },
	{ MSG_TENANTS_LIST, SERVES, 50, on_tenants_list },
};

static const struct chan_rule broker_rules[] = {
	{ MSG_READY, NEW, 1, on_ready },
	{ MSG_TENANT_READY, SERVES, 5000, on_tenant_ready },
	{ MSG_TENANT_WAKE, SERVES, 5000, on_tenant_wake },
};

/* ledger, spawner and model ask nothing; what they answer is matched by wire/ */
static const struct chan_rule quiet_rules[] = {
	{ MSG_READY, NEW, 1, on_ready },
};

int links_rules(enum program_id id, const struct chan_rule **out_rules, size_t *out_n)
{
	switch (id) {
	case PROGRAM_API:
		*out_rules = api_rules;
		*out_n = CL_ARRAY_LEN(api_rules);
		return 0;
	case PROGRAM_BROKER:
		*out_rules = broker_rules;
		*out_n = CL_ARRAY_LEN(broker_rules);
		return 0;
	case PROGRAM_LEDGER:
	case PROGRAM_SPAWNER:
	case PROGRAM_MODEL:
		*out_rules = quiet_rules;
		*out_n = CL_ARRAY_LEN(quiet_rules);
		return 0;
	case PROGRAM_COUNT:
	default:
		return -EINVAL;
	}
}

struct chan *links_chan(struct daemon *d, enum program_id id)
{
	return d->program[id].state == PROG_UP ? program_chan(d, id) : NULL;
}

struct program *links_program(struct chan *c)
{
	return c->ctx;
}

void links_program_up(struct daemon *d, enum program_id id)
{
	if (id == PROGRAM_LEDGER)
		record_client_link(&d->records, program_chan(d, id));
	if (id == PROGRAM_SPAWNER)
		tenants_spawner_up(d);
	if (id == PROGRAM_BROKER)
		tenants_listen_again(d);
	if (id == PROGRAM_BROKER || id == PROGRAM_API)
		tenants_tell(d, id);
}

void links_program_down(struct daemon *d, enum program_id id)
{
	if (id == PROGRAM_LEDGER)
		record_client_link(&d->records, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon - all that cloisterd holds: options, directory descriptors opened
 * once at the start, the programs it runs and the tenants it keeps.
 */
#ifndef CL_CLOISTERD_DAEMON_H
#define CL_CLOISTERD_DAEMON_H

#include "cloisterd/options.h"
#include "cloisterd/programs.h"
#include "loop/loop.h"
#include "record/record.h"
#include "sandbox/cgroup.h"
#include "wire/wire.h"

#define TENANTS_MAX 4096u	/* tenant numbers go from 1 to this */

struct tenant;

struct daemon {
	struct options opt;
	struct loop *loop;
	struct dirs {
		int etc, state, run, images, bin, web, agents, routes;	/* as given */
		int tenants;		/* state/tenants: root 0700 */
		int run_tenants;	/* run/tenants: runtime records, root 0700 */
		int broker, api, ledger;	/* stores */
		int null;		/* /dev/null */
		int lock;
		int api_sock, listen, model_listen;	/* listening sockets; -1 off */
	} fd;
	struct program program[PROGRAM_COUNT];
	struct tenant *tenant[TENANTS_MAX + 1];	/* by number */
	struct cgroup_host cgroups;	/* base group, one for each --run directory */
	struct record_client records;	/* to the ledger */
	bool ready;		/* said so to who started us */
	bool stopping;
	int exit_code;
	char boot_id[40];	/* this boot's, from the kernel: records of another are void */
	struct loop_timer stop_timer;
};

/* daemon_refuse - the start cannot go on: say why to the log and the ready fd, then stop */
void daemon_refuse(struct daemon *d, const char *fmt, ...) CL_PRINTF(2, 3);
/* daemon_programs_ready - programs.c: every program said READY (for the first time) */
void daemon_programs_ready(struct daemon *d);
/* daemon_programs_gone - programs.c: after programs_stop(), all have ended */
void daemon_programs_gone(struct daemon *d);
/* daemon_tenants_gone - tenant.c: after tenants_stop_all(), none is left */
void daemon_tenants_gone(struct daemon *d);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options - what `cloister up` says on cloisterd's command line.
 *
 * Each option is two words, `--name value`. Numbers only where a number
 * stands: names of users and hosts were resolved by the command line tool,
 * so that this program parses no text.
 *
 *   --etc DIR            configuration (handed to the api, never read here)
 *   --state DIR          the stores and the tenants' directories; made if missing
 *   --run DIR            lock, api.sock, runtime records; made if missing
 *   --images DIR         agent images
 *   --bin DIR            the programs
 *   --share DIR          has web/, agents/, routes/
 *   --web, --agents, --routes DIR    each instead of the one below --share
 *   --uid-base N         tenant n has the host uid and gid N + n
 *   --user-broker UID:GID, -api, -ledger, -spawner, -model
 *   --api-gid GID        group of api.sock
 *   --listen A.B.C.D:PORT | off          the page
 *   --model-listen A.B.C.D:PORT | off    the simulated model; off: not started
 *   --ready-fd N         "R\n" is written when all programs serve,
 *                        "E words\n" when the start is refused
 *   --pass PROGRAM:ARG   one more argument for a program (ledger, spawner,
 *                        broker, api, model-sim); at most 32
 *
 * Exit: 0 stopped on SIGTERM or SIGINT; 1 refused to start; 2 usage;
 * 3 another cloisterd has the lock of --run.
 */
#ifndef CL_CLOISTERD_OPTIONS_H
#define CL_CLOISTERD_OPTIONS_H

#include "base/base.h"

#include <netinet/in.h>

#define PASS_MAX 32

struct user {
	uid_t uid;
	gid_t gid;
};

struct options {
	const char *etc, *state, *run, *images, *bin, *share, *web, *agents, *routes;
	uint32_t uid_base;
	struct user broker, api, ledger, spawner, model;
	gid_t api_gid;
	struct sockaddr_in listen, model_listen;	/* sin_port 0 = off */
	const char *listen_text, *model_listen_text;
	int ready_fd;				/* -1: nobody waits */
	struct { struct span program; const char *arg; } pass[PASS_MAX];
	size_t npass;
};

/*
 * options_parse - @argv lives as long as @out, whose strings point into it
 * Return: 0; -EINVAL unknown, twice, missing or malformed (said in @err)
 */
int options_parse(int argc, char **argv, struct options *out, struct cl_err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* doctor - what the walls need of this machine, found or missing. */
#include "cli/up.h"

#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int up_machine(struct cli *c, bool show)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, 1 /* version */);

	(void)c;
	if (show)
		printf("landlock: %s\n", abi > 0 ? "found" : "missing");
	if (abi < 1)
		return cli_fail(-1, "Landlock is missing: boot with lsm=landlock,...");
	return 0;
}

int cmd_doctor(struct cli *c)
{
	return up_machine(c, true) ? EXIT_FAILED : EXIT_OK;
}

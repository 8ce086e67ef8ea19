/* SPDX-License-Identifier: Apache-2.0 */
/* up - what `up` shares with `doctor` and `version`. */
#ifndef CL_CLI_UP_H
#define CL_CLI_UP_H

#include "cli/cli.h"
#include "policy/config.h"

/* up_layout - where the programs, shared files and (in the tree) images lie; 0, or -1 told */
int up_layout(char *bin, char *share, char *images, size_t n);
/* up_config - cloister.yaml; @write_default: make it when missing, demand that only root can change it */
int up_config(struct cli *c, struct config *out, bool write_default);
/* up_machine - does the kernel have what the walls need (I9)? 0, or -1 told */
int up_machine(void);

#endif

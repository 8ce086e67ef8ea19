/* SPDX-License-Identifier: Apache-2.0 */
/* tell - what cloisterd writes into the ledger. */
#ifndef CL_CLOISTERD_TELL_H
#define CL_CLOISTERD_TELL_H

#include "cloisterd/tenant.h"

void tell_state(struct tenant *t, enum tenant_state before);
/* @act: killed, refused */
void tell_limit(struct tenant *t, const char *limit, uint64_t max, const char *act);
/* @detail: the walls that do not stand, else init's evidence */
void tell_walls(struct tenant *t, bool ok, struct span detail);
/* an image or configuration that is not what the plan says */
void tell_attest(struct tenant *t, const struct cl_err *why);
/* @act: create, restore, rm; or a reset's level */
void tell_job(struct tenant *t, bool reset, const char *act, const char *name, int code);
/* @status: of wait(), or -1 */
void tell_program(struct daemon *d, const char *name, const char *event, pid_t pid, int status);

#endif

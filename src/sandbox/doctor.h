/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doctor - what this host offers for the walls: each feature named, found or
 * missing, what it means, and the fix. For `cloister doctor` and for cloisterd
 * before it starts. Looks only; changes nothing.
 */
#ifndef CL_SANDBOX_DOCTOR_H
#define CL_SANDBOX_DOCTOR_H

#include "base/base.h"

enum doctor_state {
	DOCTOR_FOUND,
	DOCTOR_WEAK,	/* a wall stands without its second; sandboxes start */
	DOCTOR_MISSING,	/* a wall cannot be put up: no sandbox starts (I9) */
};

struct doctor_item {
	const char *name;	/* "landlock" */
	unsigned layer;		/* 1 to 7 of the design; 0: for all */
	enum doctor_state state;
	char found[128];	/* what was seen: "ABI 7" */
	const char *means;	/* what the feature is for */
	const char *fix;	/* what to do when it is not FOUND */
};

#define DOCTOR_MAX 32

/*
 * doctor_run - examine the host
 * @out: DOCTOR_MAX items
 * Return: how many were filled. Never fails: what cannot be read is said so.
 */
size_t doctor_run(struct doctor_item *out);
/* doctor_verdict - the worst state of @n items */
enum doctor_state doctor_verdict(const struct doctor_item *items, size_t n);
const char *doctor_state_name(enum doctor_state s);	/* "found", "weak", "missing" */

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seal - the configuration that an agent runs with, from a template.
 *
 * How this works: the template is JSON. In its strings (never in its keys)
 * @{name} stands for a value; a string that is exactly @{name:number} becomes
 * a number. Values are put in after the JSON was read, so that no value can
 * become markup. Then each leaf of the safety document is forced over what
 * is there, and read back.
 */
#ifndef CL_POLICY_SEAL_H
#define CL_POLICY_SEAL_H

#include "base/base.h"

struct seal_value {
	const char *name, *value;
};

#define SEAL_MAX (512u * 1024)

/*
 * seal_render - template and safety document to the bytes of the configuration
 * @out: buf_init(&b, SEAL_MAX); hold secrets of one sandbox: buf_wipe_done
 * Return: 0; -EINVAL not JSON, a key that stands twice, an unknown or
 * malformed placeholder, a value not a number where one must be, a safety
 * key that did not hold (said in @err); -ENOMEM; -E2BIG
 */
int seal_render(struct span template, struct span safety, const struct seal_value *values, size_t n,
		struct buf *out, struct cl_err *err);

#endif

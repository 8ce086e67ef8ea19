/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seal - the configuration that an agent runs with, from a template.
 *
 * How this works: the template is JSON. In its strings (never in its keys)
 * @{name} stands for a value; a string that is exactly @{name:number} becomes
 * a number. Values are put in after the JSON was read, so that no value can
 * become markup. Then the safety document rules, whatever the template said:
 *   set             [{path, value}]   these values stand there
 *   contain         [{path, values}]  these stand in that list (added when not)
 *   only            [{path, keys}]    that object has no other key: else refused
 *   absent          [path]            nothing stands there: else refused
 *   forbidden_keys  [key]             no object anywhere has it: else refused
 * A path is a JSON pointer without escapes. What was written is read back and
 * checked once more.
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

/* seal_text - one text with its placeholders filled in; 0, -EINVAL, -E2BIG (as said by @out's bound) */
int seal_text(struct span text, const struct seal_value *values, size_t n, struct buf *out,
	      struct cl_err *err);

#endif

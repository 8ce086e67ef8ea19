/* SPDX-License-Identifier: Apache-2.0 */
/* near - which known word was probably meant. */
#ifndef CL_POLICY_NEAR_H
#define CL_POLICY_NEAR_H

#include "base/base.h"

/* near_distance - edits (insert, delete, replace, swap of two neighbours); words above 63 bytes are far (99) */
unsigned near_distance(struct span a, struct span b);
/*
 * near_word - the nearest of @n words at @first, each @stride bytes after the
 * one before (each place holds a const char *; NULL is skipped)
 * Return: the word, or NULL when none is near enough to be a slip of the hand
 */
const char *near_word(struct span said, const char *const *first, size_t n, size_t stride);

#endif

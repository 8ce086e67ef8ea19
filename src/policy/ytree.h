/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ytree - a strict reader of the YAML that operators write.
 *
 * How this works: libyaml's events become a small tree of maps, lists and
 * scalars, each with its line and column. Nothing is guessed: a scalar is
 * text, and the schema (schema.h) says what it must be. Refused: anchors,
 * aliases, tags, merge keys, several documents, keys that are not scalars,
 * a key that stands twice, depth above YAML_DEPTH_MAX, more than
 * YAML_NODES_MAX nodes, more than YAML_BYTES_MAX bytes, bytes that are not
 * UTF-8, control characters.
 */
#ifndef CL_POLICY_YTREE_H
#define CL_POLICY_YTREE_H

#include "base/base.h"

#define YAML_DEPTH_MAX 12
#define YAML_NODES_MAX 20000
#define YAML_BYTES_MAX (256u * 1024)

enum yaml_kind { YAML_TEXT, YAML_MAP, YAML_LIST };

struct yaml_node {
	enum yaml_kind kind;
	unsigned line, column;		/* from 1 */
	char *text;			/* YAML_TEXT: NUL-terminated, no NUL inside */
	size_t text_len;
	bool plain;			/* not quoted: may be empty, "~" or "null" = no value */
	char *key;			/* when the parent is a map */
	unsigned key_line, key_column;
	struct yaml_node *first, *next;	/* children in order; next sibling */
	size_t count;			/* children */
};

/*
 * yaml_read - @text into a tree
 * @file: its name, for messages ("file:line:column: what")
 * @out:  the root, to be given to ytree_free; an empty document gives an empty map
 * Return: 0; -EINVAL not what is accepted (said with file and line);
 * -EFBIG a bound; -ENOMEM
 */
int yaml_read(struct span text, const char *file, struct yaml_node **out, struct cl_err *err);
void ytree_free(struct yaml_node *root);
/* yaml_get - child of a map, or NULL */
const struct yaml_node *yaml_get(const struct yaml_node *map, const char *key);
/* yaml_absent - a plain scalar that stands for "nothing" (empty, ~, null) */
bool yaml_absent(const struct yaml_node *n);

#endif

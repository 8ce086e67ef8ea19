/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schema - what a file of ours may say, as const tables; from a YAML tree to
 * typed JSON.
 *
 * How this works: a struct schema lists the keys of one map. schema_read
 * walks the tree along it: an unknown key, a missing one, or a value that is
 * not of its row's type is refused with file, line and column (an unknown key
 * with the nearest known one). What comes out has the types of the table:
 * numbers, sizes (bytes), durations (seconds) and cores (thousandths) are
 * integers, yes and no are booleans, all else is text. schema_json checks a
 * JSON document that has this form already (from the API) by the same tables.
 */
#ifndef CL_POLICY_SCHEMA_H
#define CL_POLICY_SCHEMA_H

#include "policy/ytree.h"

#include <jansson.h>

enum schema_type {
	S_TEXT,		/* 0..max bytes, default 1024 */
	S_BOOL,		/* true or false */
	S_NUMBER,	/* digits, min..max */
	S_SIZE,		/* 512MiB, 2GiB, 64KiB, bytes: becomes bytes */
	S_SECONDS,	/* 90s, 15m, 24h, 7d: becomes seconds */
	S_MILLI,	/* 1, 0.5, 1.25: becomes thousandths */
	S_NAME,		/* name_ok */
	S_TENANT,	/* tenant_id_ok */
	S_CHOICE,	/* one of choices */
	S_ADDRESS,	/* A.B.C.D:PORT, [v6]:PORT, or off */
	S_URL,		/* http:// or https://, host, no user, no query */
	S_PATH,		/* absolute, no ".." */
	S_MAP,		/* by sub */
	S_DICT,		/* any name_ok key: each value by item */
	S_ENV,		/* any NAME key: each value by item */
	S_LIST,		/* each by item, at most max (default 256) */
};

struct schema;

struct schema_field {
	const char *key;
	enum schema_type type;
	bool required;
	uint64_t min, max;		/* of S_NUMBER, S_SIZE, S_SECONDS, S_MILLI (as they come out); S_TEXT, S_LIST: max */
	const char *def;		/* what stands there when nothing is said; as in the file */
	bool fill;			/* S_MAP: absent means a map of its own defaults */
	const char *const *choices;	/* NULL-terminated */
	const struct schema *sub;
	const struct schema_field *item;
};

struct schema {
	const struct schema_field *fields;
	size_t n;
};

/* schema_read - Return: 0 and a new reference in *out; -EINVAL with the words; -ENOMEM */
int schema_read(const struct schema *s, const struct yaml_node *root, const char *file,
		json_t **out, struct cl_err *err);
/* schema_json - check @doc (typed as schema_read makes it); @what names it in messages */
int schema_json(const struct schema *s, const json_t *doc, const char *what, struct cl_err *err);
/* schema_load - yaml_read, then schema_read */
int schema_load(const struct schema *s, struct span text, const char *file, json_t **out,
		struct cl_err *err);
/* schema_keys - the keys of the table as "a, b, c" for messages */
void schema_keys(const struct schema *s, char *buf, size_t n);

/* the single readers, for command lines: 0 or -EINVAL, -ERANGE */
int schema_size(struct span s, uint64_t *out);
int schema_seconds(struct span s, uint64_t *out);

#define SCHEMA(f) { (f), CL_ARRAY_LEN(f) }

#endif

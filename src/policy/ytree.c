/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/ytree.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

struct reader {
	const char *file;
	struct cl_err *err;
	yaml_parser_t parser;
	size_t nodes;
};

static int bad(struct reader *r, const yaml_mark_t *at, const char *what)
{
	return cl_fail(r->err, EINVAL, "%s:%zu:%zu: %s", r->file, at->line + 1, at->column + 1, what);
}

void ytree_free(struct yaml_node *root)
{
	/* depth is bounded by YAML_DEPTH_MAX, so is this recursion */
	while (root) {
		struct yaml_node *next = root->next;

		ytree_free(root->first);
		free(root->text);
		free(root->key);
		free(root);
		root = next;
	}
}

static void free_node_p(struct yaml_node **n)
{
	ytree_free(*n);
}
#define YAML_FREE __attribute__((cleanup(free_node_p)))

static void event_done(yaml_event_t *e)
{
	yaml_event_delete(e);
}
#define EVENT __attribute__((cleanup(event_done)))

/* libyaml's own complaints, with the line they belong to */
static int parser_failed(struct reader *r)
{
	const yaml_parser_t *p = &r->parser;

	if (p->error == YAML_MEMORY_ERROR)
		return cl_fail(r->err, ENOMEM, "%s: no memory", r->file);
	if (p->error == YAML_READER_ERROR)
		return cl_fail(r->err, EINVAL, "%s: byte %zu: %s", r->file, p->problem_offset,
			       p->problem ? p->problem : "cannot be read");
	return bad(r, &p->problem_mark, p->problem ? p->problem : "is not YAML");
}

static int next_event(struct reader *r, yaml_event_t *e)
{
	if (!yaml_parser_parse(&r->parser, e)) {
		memset(e, 0, sizeof *e);
		return parser_failed(r);
	}
	return 0;
}

static int new_node(struct reader *r, enum yaml_kind kind, const yaml_mark_t *at,
		    struct yaml_node **out)
{
	if (++r->nodes > YAML_NODES_MAX)
		return cl_fail(r->err, EFBIG, "%s: more than %d values", r->file, YAML_NODES_MAX);
	struct yaml_node *n = calloc(1, sizeof *n);

	if (!n)
		return cl_fail(r->err, ENOMEM, "%s: no memory", r->file);
	n->kind = kind;
	n->line = (unsigned)at->line + 1;
	n->column = (unsigned)at->column + 1;
	*out = n;
	return 0;
}

static bool text_ok(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)p[i];

		if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f)
			return false;
	}
	return utf8_ok((struct span){ p, n });
}

static int copy_text(struct reader *r, const yaml_event_t *e, char **out)
{
	const char *p = (const char *)e->data.scalar.value;
	size_t n = e->data.scalar.length;

	if (!text_ok(p, n))
		return bad(r, &e->start_mark, "control characters are not accepted");
	char *c = malloc(n + 1);

	if (!c)
		return cl_fail(r->err, ENOMEM, "%s: no memory", r->file);
	memcpy(c, p, n);
	c[n] = '\0';
	*out = c;
	return 0;
}

/* What no file of ours needs and what hides what a file says. */
static int plain_features_only(struct reader *r, const yaml_event_t *e)
{
	const char *anchor = NULL, *tag = NULL;

	if (e->type == YAML_ALIAS_EVENT)
		return bad(r, &e->start_mark, "aliases (*name) are not accepted: write the value out");
	if (e->type == YAML_SCALAR_EVENT) {
		anchor = (const char *)e->data.scalar.anchor;
		tag = (const char *)e->data.scalar.tag;
	} else if (e->type == YAML_MAPPING_START_EVENT) {
		anchor = (const char *)e->data.mapping_start.anchor;
		tag = (const char *)e->data.mapping_start.tag;
	} else if (e->type == YAML_SEQUENCE_START_EVENT) {
		anchor = (const char *)e->data.sequence_start.anchor;
		tag = (const char *)e->data.sequence_start.tag;
	}
	if (anchor)
		return bad(r, &e->start_mark, "anchors (&name) are not accepted: write the value out");
	if (tag)
		return bad(r, &e->start_mark, "tags (!name) are not accepted");
	return 0;
}

static int read_value(struct reader *r, const yaml_event_t *e, unsigned depth,
		      struct yaml_node **out);

static void append(struct yaml_node *parent, struct yaml_node **tail, struct yaml_node *n)
{
	if (*tail)
		(*tail)->next = n;
	else
		parent->first = n;
	*tail = n;
	parent->count++;
}

static int read_list(struct reader *r, struct yaml_node *list, unsigned depth)
{
	struct yaml_node *tail = NULL, *n;

	for (;;) {
		EVENT yaml_event_t e = { 0 };
		int rc = next_event(r, &e);

		if (rc)
			return rc;
		if (e.type == YAML_SEQUENCE_END_EVENT)
			return 0;
		rc = read_value(r, &e, depth + 1, &n);
		if (rc)
			return rc;
		append(list, &tail, n);
	}
}

static int read_map(struct reader *r, struct yaml_node *map, unsigned depth)
{
	struct yaml_node *tail = NULL;

	for (;;) {
		EVENT yaml_event_t k = { 0 };
		EVENT yaml_event_t v = { 0 };
		YAML_FREE struct yaml_node *n = NULL;
		CL_FREE char *key = NULL;
		int rc = next_event(r, &k);

		if (rc)
			return rc;
		if (k.type == YAML_MAPPING_END_EVENT)
			return 0;
		rc = plain_features_only(r, &k);
		if (rc)
			return rc;
		if (k.type != YAML_SCALAR_EVENT)
			return bad(r, &k.start_mark, "a key must be a plain word");
		rc = copy_text(r, &k, &key);
		if (rc)
			return rc;
		if (strcmp(key, "<<") == 0)
			return bad(r, &k.start_mark, "merge keys (<<) are not accepted");
		const struct yaml_node *twin = yaml_get(map, key);

		if (twin)
			return cl_fail(r->err, EINVAL, "%s:%zu:%zu: '%.60s' stands twice (first in line %u)",
				       r->file, k.start_mark.line + 1, k.start_mark.column + 1, key,
				       twin->key_line);
		rc = next_event(r, &v);
		if (rc == 0)
			rc = read_value(r, &v, depth + 1, &n);
		if (rc)
			return rc;
		n->key = key;
		key = NULL;
		n->key_line = (unsigned)k.start_mark.line + 1;
		n->key_column = (unsigned)k.start_mark.column + 1;
		append(map, &tail, n);
		n = NULL;
	}
}

static int read_value(struct reader *r, const yaml_event_t *e, unsigned depth,
		      struct yaml_node **out)
{
	YAML_FREE struct yaml_node *n = NULL;
	int rc = plain_features_only(r, e);

	if (rc)
		return rc;
	if (depth > YAML_DEPTH_MAX)
		return bad(r, &e->start_mark, "nested too deeply");
	if (e->type == YAML_SCALAR_EVENT) {
		rc = new_node(r, YAML_TEXT, &e->start_mark, &n);
		if (rc == 0)
			rc = copy_text(r, e, &n->text);
		if (rc)
			return rc;
		n->text_len = strlen(n->text);
		n->plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	} else if (e->type == YAML_MAPPING_START_EVENT) {
		rc = new_node(r, YAML_MAP, &e->start_mark, &n);
		if (rc == 0)
			rc = read_map(r, n, depth);
	} else if (e->type == YAML_SEQUENCE_START_EVENT) {
		rc = new_node(r, YAML_LIST, &e->start_mark, &n);
		if (rc == 0)
			rc = read_list(r, n, depth);
	} else {
		rc = bad(r, &e->start_mark, "a value is missing");
	}
	if (rc)
		return rc;
	*out = n;
	n = NULL;
	return 0;
}

/* stream start, at most one document, stream end */
static int read_stream(struct reader *r, struct yaml_node **out)
{
	YAML_FREE struct yaml_node *root = NULL;
	bool begun = false;

	for (;;) {
		EVENT yaml_event_t e = { 0 };
		int rc = next_event(r, &e);

		if (rc)
			return rc;
		if (e.type == YAML_STREAM_END_EVENT)
			break;
		if (e.type == YAML_STREAM_START_EVENT || e.type == YAML_DOCUMENT_END_EVENT)
			continue;
		if (e.type == YAML_DOCUMENT_START_EVENT) {
			if (begun)
				return bad(r, &e.start_mark, "only one document a file");
			if (e.data.document_start.version_directive ||
			    e.data.document_start.tag_directives.start !=
			    e.data.document_start.tag_directives.end)
				return bad(r, &e.start_mark, "directives (%) are not accepted");
			begun = true;
			continue;
		}
		rc = read_value(r, &e, 0, &root);
		if (rc)
			return rc;
	}
	if (!root || yaml_absent(root)) {
		yaml_mark_t top = { 0 };

		ytree_free(root);
		root = NULL;
		int rc = new_node(r, YAML_MAP, &top, &root);

		if (rc)
			return rc;
	}
	*out = root;
	root = NULL;
	return 0;
}

int yaml_read(struct span text, const char *file, struct yaml_node **out, struct cl_err *err)
{
	struct reader r = { .file = file, .err = err };

	if (text.n > YAML_BYTES_MAX)
		return cl_fail(err, EFBIG, "%s: larger than %u bytes", file, YAML_BYTES_MAX);
	if (text.n && memchr(text.p, '\0', text.n))
		return cl_fail(err, EINVAL, "%s: has a NUL byte", file);
	if (!utf8_ok(text))
		return cl_fail(err, EINVAL, "%s: is not UTF-8 text", file);
	if (!yaml_parser_initialize(&r.parser))
		return cl_fail(err, ENOMEM, "%s: no memory", file);
	yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&r.parser, (const unsigned char *)(text.n ? text.p : ""), text.n);
	int rc = read_stream(&r, out);

	yaml_parser_delete(&r.parser);
	return rc;
}

const struct yaml_node *yaml_get(const struct yaml_node *map, const char *key)
{
	if (map->kind != YAML_MAP)
		return NULL;
	for (const struct yaml_node *n = map->first; n; n = n->next)
		if (strcmp(n->key, key) == 0)
			return n;
	return NULL;
}

bool yaml_absent(const struct yaml_node *n)
{
	return n->kind == YAML_TEXT && n->plain &&
	       (n->text_len == 0 || strcmp(n->text, "~") == 0 || strcmp(n->text, "null") == 0);
}

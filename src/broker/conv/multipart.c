/* SPDX-License-Identifier: Apache-2.0 */
/*
 * multipart/form-data (RFC 7578), read strictly: no preamble, CRLF only, one
 * content-disposition a part, no filename*, nothing after the end. What the
 * SDKs send passes; what two parsers could read in two ways does not.
 * Runs in: broker. Pure.
 */
#include "broker/conv/params.h"

#include <stdio.h>
#include <string.h>

#define BOUNDARY_MAX 70		/* RFC 2046, 5.1.1 */
#define PART_HEAD_MAX 2048

/* boundary_of - the one boundary parameter of the content type */
static int boundary_of(struct span type, struct span *out)
{
	struct span piece, name;
	bool more = span_cut(&type, ';', &piece), have = false;

	while (more) {
		more = span_cut(&type, ';', &piece);
		if (!more)
			piece = type;
		piece = span_trim(piece);
		if (!span_cut(&piece, '=', &name) || !span_eq_nocase(name, SPAN("boundary")))
			continue;
		if (have)
			return -EINVAL;
		have = true;
		if (piece.n >= 2 && piece.p[0] == '"' && piece.p[piece.n - 1] == '"')
			piece = (struct span){ piece.p + 1, piece.n - 2 };
		*out = piece;
	}
	if (!have || out->n == 0 || out->n > BOUNDARY_MAX)
		return -EINVAL;
	for (size_t i = 0; i < out->n; i++) {
		char c = out->p[i];

		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		      memchr("'()+_,-./:=?", c, 12)))
			return -EINVAL;
	}
	return 0;
}

/* quoted - name="value" at the start of *s: cuts it off; -EINVAL for anything else */
static int quoted(struct span *s, const char *name, struct span *out)
{
	struct span want = span_str(name), v;

	if (!span_starts(*s, want))
		return -EINVAL;
	s->p += want.n;
	s->n -= want.n;
	if (!span_starts(*s, SPAN("=\"")))
		return -EINVAL;
	s->p += 2;
	s->n -= 2;
	if (!span_cut(s, '"', &v) || memchr(v.p, '\\', v.n))
		return -EINVAL;
	*out = v;
	return 0;
}

struct part {
	struct span name, filename, type;
	bool is_file;
};

/* disposition - form-data; name="…"[; filename="…" or filename=… up to the end of the line] */
static int disposition(struct span v, struct part *out)
{
	struct span kind;

	v = span_trim(v);
	if (!span_cut(&v, ';', &kind) || !span_eq_nocase(span_trim(kind), SPAN("form-data")))
		return -EINVAL;
	v = span_trim(v);
	if (quoted(&v, "name", &out->name) || out->name.n == 0)
		return -EINVAL;
	v = span_trim(v);
	if (v.n == 0)
		return 0;
	if (v.p[0] != ';')
		return -EINVAL;
	v = span_trim((struct span){ v.p + 1, v.n - 1 });
	if (!span_starts(v, SPAN("filename=")))
		return -EINVAL;	/* filename*: a second spelling of the same name */
	out->is_file = true;
	if (v.n > 9 && v.p[9] == '"') {
		if (quoted(&v, "filename", &out->filename) || span_trim(v).n)
			return -EINVAL;
		return 0;
	}
	out->filename = (struct span){ v.p + 9, v.n - 9 };	/* as grammY writes it */
	return 0;
}

static int part_head(struct span head, struct part *out)
{
	bool have = false;
	struct span line, name;

	while (head.p && head.n) {
		const char *end = memmem(head.p, head.n, "\r\n", 2);

		line = (struct span){ head.p, end ? (size_t)(end - head.p) : head.n };
		head.p += end ? line.n + 2 : line.n;
		head.n -= end ? line.n + 2 : line.n;
		if (memchr(line.p, '\n', line.n) || memchr(line.p, '\r', line.n) || memchr(line.p, 0, line.n))
			return -EINVAL;
		if (!span_cut(&line, ':', &name))
			return -EINVAL;
		if (span_eq_nocase(name, SPAN("content-disposition"))) {
			if (have || disposition(line, out))
				return -EINVAL;
			have = true;
		} else if (span_eq_nocase(name, SPAN("content-type"))) {
			if (out->type.p)
				return -EINVAL;
			out->type = span_trim(line);
		} else {
			return -EINVAL;	/* Content-Transfer-Encoding and the like */
		}
	}
	return have ? 0 : -EINVAL;
}

static int add_part(struct params *p, const struct part *h, struct span data, param_add_fn *add,
		    struct param_refusal *why)
{
	const struct method_field *field;
	struct param_file *f;

	if (!h->is_file)
		return add(p, h->name, data, why);
	field = method_field(p->method, h->name);
	if (field && field->kind != FK_FILE && field->kind != FK_IGN)
		return param_refuse(why, 400, "conversation.duplicate", h->name, "parameter %s came as a file",
				    field->name);
	if (!utf8_ok(h->filename) || !utf8_ok(h->name))
		return param_refuse(why, 400, NULL, SPAN(""), "a file name is not valid UTF-8");
	for (size_t i = 0; i < p->nfiles; i++)
		if (span_eq(p->files[i].name, h->name))
			return param_refuse(why, 400, "conversation.duplicate", h->name, "two files have one name");
	for (size_t i = 0; i < p->n; i++)
		if (span_eq_str(h->name, p->list[i].field->name))
			return param_refuse(why, 400, "conversation.duplicate", h->name,
					    "parameter %s was given twice", p->list[i].field->name);
	if (p->nfiles == PARAM_FILES_MAX)
		return param_refuse(why, 400, NULL, SPAN(""), "more than %d files", PARAM_FILES_MAX);
	f = &p->files[p->nfiles++];
	*f = (struct param_file){ .name = h->name, .filename = h->filename, .type = h->type, .data = data };
	return 0;
}

int multipart_read(struct params *p, struct span content_type, struct span body, param_add_fn *add,
		   struct param_refusal *why)
{
	char mark[BOUNDARY_MAX + 8];
	struct span boundary = { 0 };
	size_t n;
	int rc;

	if (boundary_of(content_type, &boundary))
		return param_refuse(why, 400, NULL, SPAN(""), "multipart: no usable boundary");
	n = (size_t)snprintf(mark, sizeof(mark), "\r\n--%.*s", SPAN_FMT(boundary));
	if (!body.p || !span_starts(body, (struct span){ mark + 2, n - 2 }))
		return param_refuse(why, 400, NULL, SPAN(""), "multipart: does not start with its boundary");
	body.p += n - 2;
	body.n -= n - 2;
	for (;;) {
		struct part h = { 0 };
		const char *blank, *end;
		struct span head, data;

		if (span_eq_str(body, "--") || span_eq_str(body, "--\r\n"))
			break;
		if (!span_starts(body, SPAN("\r\n")))
			return param_refuse(why, 400, NULL, SPAN(""), "multipart: a boundary line is broken");
		body.p += 2;
		body.n -= 2;
		blank = memmem(body.p, body.n < PART_HEAD_MAX ? body.n : PART_HEAD_MAX, "\r\n\r\n", 4);
		if (!blank)
			return param_refuse(why, 400, NULL, SPAN(""), "multipart: a part without a head");
		head = (struct span){ body.p, (size_t)(blank - body.p) };
		body.p = blank + 4;
		body.n -= head.n + 4;
		end = memmem(body.p, body.n, mark, n);
		if (part_head(head, &h))
			return param_refuse(why, 400, NULL, SPAN(""), "multipart: a part's head is not understood");
		if (!end)
			return param_refuse(why, 400, NULL, SPAN(""), "multipart: the end is missing");
		data = (struct span){ body.p, (size_t)(end - body.p) };
		body.p = end + n;
		body.n -= data.n + n;
		rc = add_part(p, &h, data, add, why);
		if (rc)
			return rc;
	}
	return 0;
}

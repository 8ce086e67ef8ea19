/* SPDX-License-Identifier: Apache-2.0 */
/* Formatted text to plain text and entities; see entities.h. Runs in: broker. Pure. */
#include "broker/conv/entities.h"

#include <stdio.h>
#include <string.h>

#define ENTITIES_MAX 100	/* Telegram ignores what is above */
#define OPEN_MAX 16		/* tags within tags */
#define LINK_MAX 2048

struct entity {
	const char *type;
	size_t at, end;			/* UTF-16 units */
	struct span extra;		/* url or language; not owned */
};

struct state {
	struct buf *text;
	size_t at;			/* UTF-16 units written so far */
	struct entity list[ENTITIES_MAX];
	size_t n;
	struct { const char *tag; size_t entity; } open[OPEN_MAX];	/* entity: SIZE_MAX = none */
	size_t nopen;
	struct buf strings;		/* unescaped urls; reserved once */
	char *why;
	size_t why_size;
};

static int bad(struct state *s, const char *what)
{
	(void)snprintf(s->why, s->why_size, "can't parse entities: %s", what);
	return -EINVAL;
}

size_t utf16_len(struct span s)
{
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if ((c & 0xc0) != 0x80)
			n += c >= 0xf0 ? 2 : 1;
	}
	return n;
}

static int put(struct state *s, struct span text)
{
	s->at += utf16_len(text);
	return buf_add_span(s->text, text);
}

/* put_code - one code point */
static int put_code(struct state *s, uint32_t c)
{
	char u[4];
	size_t n;

	if (c == 0 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return bad(s, "a character reference is not a character");
	if (c < 0x80) {
		u[0] = (char)c;
		n = 1;
	} else if (c < 0x800) {
		u[0] = (char)(0xc0 | c >> 6);
		u[1] = (char)(0x80 | (c & 0x3f));
		n = 2;
	} else if (c < 0x10000) {
		u[0] = (char)(0xe0 | c >> 12);
		u[1] = (char)(0x80 | (c >> 6 & 0x3f));
		u[2] = (char)(0x80 | (c & 0x3f));
		n = 3;
	} else {
		u[0] = (char)(0xf0 | c >> 18);
		u[1] = (char)(0x80 | (c >> 12 & 0x3f));
		u[2] = (char)(0x80 | (c >> 6 & 0x3f));
		u[3] = (char)(0x80 | (c & 0x3f));
		n = 4;
	}
	return put(s, (struct span){ u, n });
}

static bool link_ok(struct span url)
{
	static const char *const schemes[] = { "http://", "https://", "mailto:", "tel:" };

	if (url.n > LINK_MAX || !utf8_ok(url))
		return false;
	for (size_t i = 0; i < url.n; i++)
		if ((unsigned char)url.p[i] <= ' ' || url.p[i] == 0x7f)
			return false;
	for (size_t i = 0; i < CL_ARRAY_LEN(schemes); i++) {
		size_t n = strlen(schemes[i]);

		if (url.n > n && span_eq_nocase((struct span){ url.p, n }, span_str(schemes[i])))
			return true;
	}
	return false;
}

/* language_ok - of a pre: c, c++, objective-c, f# … */
static bool language_ok(struct span s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      memchr("+-_.#", c, 5)))
			return false;
	}
	return s.n > 0 && s.n <= 40;
}

/* begin - an entity opens here; @type NULL: a tag that we do not keep */
static int begin(struct state *s, const char *tag, const char *type, struct span extra)
{
	size_t e = SIZE_MAX;

	if (s->nopen == OPEN_MAX)
		return bad(s, "too many tags inside each other");
	if (type && s->n < ENTITIES_MAX) {
		e = s->n++;
		s->list[e] = (struct entity){ .type = type, .at = s->at, .end = SIZE_MAX, .extra = extra };
	}
	s->open[s->nopen].tag = tag;
	s->open[s->nopen++].entity = e;
	return 0;
}

static int end(struct state *s, const char *tag)
{
	if (s->nopen == 0 || strcmp(s->open[s->nopen - 1].tag, tag) != 0)
		return bad(s, "an end tag does not match");
	s->nopen--;
	if (s->open[s->nopen].entity != SIZE_MAX)
		s->list[s->open[s->nopen].entity].end = s->at;
	return 0;
}

/* ---- HTML ---------------------------------------------------------------- */

static const struct { const char *tag, *type; } tags[] = {
	{ "b", "bold" }, { "strong", "bold" }, { "i", "italic" }, { "em", "italic" },
	{ "u", "underline" }, { "ins", "underline" }, { "s", "strikethrough" },
	{ "strike", "strikethrough" }, { "del", "strikethrough" }, { "tg-spoiler", "spoiler" },
	{ "span", "spoiler" }, { "code", "code" }, { "pre", "pre" }, { "a", "text_link" },
	{ "blockquote", "blockquote" }, { "tg-emoji", NULL }, { "tg-time", NULL },
};

/* char_ref - "&…;" at the start of *in */
static int char_ref(struct state *s, struct span *in)
{
	static const struct { const char *name; char c; } names[] = {
		{ "&lt;", '<' }, { "&gt;", '>' }, { "&amp;", '&' }, { "&quot;", '"' }, { "&apos;", '\'' },
	};
	struct span num;
	uint32_t code = 0;

	for (size_t i = 0; i < CL_ARRAY_LEN(names); i++)
		if (span_starts(*in, span_str(names[i].name))) {
			in->p += strlen(names[i].name);
			in->n -= strlen(names[i].name);
			return put(s, (struct span){ &names[i].c, 1 });
		}
	if (span_starts(*in, SPAN("&#"))) {
		struct span rest = { in->p + 2, in->n - 2 };
		bool hex = rest.n && (rest.p[0] == 'x' || rest.p[0] == 'X'), good;

		if (hex) {
			rest.p++;
			rest.n--;
		}
		if (span_cut(&rest, ';', &num) && num.n > 0 && num.n < 8) {
			good = true;
			for (size_t i = 0; i < num.n; i++) {
				char c = num.p[i];
				uint32_t d = c >= '0' && c <= '9' ? (uint32_t)(c - '0') :
					c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10) :
					c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10) : 99;

				good = good && d < (hex ? 16u : 10u);
				code = code * (hex ? 16 : 10) + d;
			}
			if (good) {
				*in = rest;
				return put_code(s, code);
			}
		}
	}
	/* Telegram leaves what is no reference as it is */
	in->p++;
	in->n--;
	return put(s, SPAN("&"));
}

/* attribute - the value of name="value" in @attrs, unescaped into s->strings; empty when absent */
static struct span attribute(struct state *s, struct span attrs, const char *name)
{
	size_t at = s->strings.n, n = strlen(name);

	while (attrs.n) {
		attrs = span_trim(attrs);
		if (attrs.n > n + 2 && span_eq_nocase((struct span){ attrs.p, n }, span_str(name)) &&
		    attrs.p[n] == '=' && (attrs.p[n + 1] == '"' || attrs.p[n + 1] == '\'')) {
			struct span rest = { attrs.p + n + 2, attrs.n - n - 2 }, v;

			if (!span_cut(&rest, attrs.p[n + 1], &v))
				return (struct span){ 0 };
			while (v.n) {
				bool amp = span_starts(v, SPAN("&amp;"));

				if (buf_add_ch(&s->strings, v.p[0]))
					return (struct span){ 0 };
				v.p += amp ? 5 : 1;
				v.n -= amp ? 5 : 1;
			}
			return (struct span){ s->strings.p + at, s->strings.n - at };
		}
		struct span skip;

		if (!span_cut(&attrs, ' ', &skip))
			break;
	}
	return (struct span){ 0 };
}

static int open_tag(struct state *s, const char *tag, const char *type, struct span attrs)
{
	struct span extra = { 0 };

	if (!strcmp(tag, "span") && !span_eq_str(attribute(s, attrs, "class"), "tg-spoiler"))
		return bad(s, "unsupported start tag \"span\"");
	if (!strcmp(tag, "a")) {
		extra = attribute(s, attrs, "href");
		if (!link_ok(extra))
			type = NULL;
	}
	if (!strcmp(tag, "code")) {
		extra = attribute(s, attrs, "class");
		/* <pre><code class="language-x">: the language belongs to the pre */
		if (span_starts(extra, SPAN("language-")) && s->nopen && !strcmp(s->open[s->nopen - 1].tag, "pre") &&
		    s->open[s->nopen - 1].entity != SIZE_MAX) {
			s->list[s->open[s->nopen - 1].entity].extra = (struct span){ extra.p + 9, extra.n - 9 };
			type = NULL;
		}
		extra = (struct span){ 0 };
	}
	return begin(s, tag, type, extra);
}

static int read_tag(struct state *s, struct span *in)
{
	struct span body, name;
	bool closing;

	if (!span_cut(in, '>', &body))
		return bad(s, "unclosed start tag");
	body.p++;	/* the '<' */
	body.n--;
	closing = body.n && body.p[0] == '/';
	if (closing) {
		body.p++;
		body.n--;
	}
	name = body;
	for (name.n = 0; name.n < body.n && !memchr(" \t\r\n", body.p[name.n], 4); name.n++)
		;
	for (size_t i = 0; i < CL_ARRAY_LEN(tags); i++) {
		if (!span_eq_nocase(name, span_str(tags[i].tag)))
			continue;
		if (closing)
			return end(s, tags[i].tag);
		return open_tag(s, tags[i].tag, tags[i].type, (struct span){ body.p + name.n, body.n - name.n });
	}
	return bad(s, closing ? "unsupported end tag" : "unsupported start tag");
}

static int read_html(struct state *s, struct span in)
{
	int rc = 0;

	while (in.n && rc == 0) {
		size_t n = 0;

		if (in.p[0] == '<') {
			rc = read_tag(s, &in);
			continue;
		}
		if (in.p[0] == '&') {
			rc = char_ref(s, &in);
			continue;
		}
		while (n < in.n && in.p[n] != '<' && in.p[n] != '&')
			n++;
		rc = put(s, (struct span){ in.p, n });
		in.p += n;
		in.n -= n;
	}
	if (rc == 0 && s->nopen)
		return bad(s, "an end tag is missing");
	return rc;
}

/* ---- Markdown --------------------------------------------------------------- */

static const struct { const char *mark, *type; bool v1; } marks[] = {
	{ "```", "pre", true }, { "||", "spoiler", false }, { "__", "underline", false },
	{ "`", "code", true }, { "*", "bold", true }, { "_", "italic", true }, { "~", "strikethrough", false },
};

/* md_link - "](url)" at the start of *in: ends the link that '[' opened */
static int md_link(struct state *s, struct span *in)
{
	struct span rest = { in->p + 1, in->n - 1 }, url;

	if (!span_starts(rest, SPAN("(")))
		return bad(s, "a link has no address");
	rest.p++;
	rest.n--;
	if (!span_cut(&rest, ')', &url))
		return bad(s, "a link does not end");
	if (s->open[s->nopen - 1].entity != SIZE_MAX) {
		struct entity *e = &s->list[s->open[s->nopen - 1].entity];

		if (link_ok(url))
			e->extra = url;
		else
			e->type = NULL;
	}
	*in = rest;
	return end(s, "[");
}

static int read_markdown(struct state *s, struct span in, bool v1)
{
	int rc = 0;

	while (in.n && rc == 0) {
		const char *inside = s->nopen ? s->open[s->nopen - 1].tag : "";
		bool code = !strcmp(inside, "```") || !strcmp(inside, "`"), hit = false;
		size_t n = 1;

		if (in.p[0] == '\\' && in.n > 1) {
			rc = put(s, (struct span){ in.p + 1, 1 });
			in.p += 2;
			in.n -= 2;
			continue;
		}
		for (size_t i = 0; i < CL_ARRAY_LEN(marks) && !hit && rc == 0; i++) {
			struct span m = span_str(marks[i].mark);

			if (!span_starts(in, m) || (v1 && !marks[i].v1) || (code && strcmp(inside, marks[i].mark) != 0))
				continue;
			hit = true;
			in.p += m.n;
			in.n -= m.n;
			rc = !strcmp(inside, marks[i].mark) ? end(s, marks[i].mark) :
				begin(s, marks[i].mark, marks[i].type, (struct span){ 0 });
		}
		if (hit || rc)
			continue;
		if (!code && in.p[0] == '[') {
			rc = begin(s, "[", "text_link", (struct span){ 0 });
			in.p++;
			in.n--;
			continue;
		}
		if (in.p[0] == ']' && !strcmp(inside, "[")) {
			rc = md_link(s, &in);
			continue;
		}
		while (n < in.n && !memchr("\\`*_~|[]", in.p[n], 8))
			n++;
		rc = put(s, (struct span){ in.p, n });
		in.p += n;
		in.n -= n;
	}
	if (rc == 0 && s->nopen)
		return bad(s, "an entity does not end");
	return rc;
}

/* ---- entities as JSON --------------------------------------------------------- */

static const char *known_type(const char *type)
{
	static const char *const types[] = {
		"bold", "italic", "underline", "strikethrough", "spoiler", "code", "pre", "text_link",
		"blockquote", "expandable_blockquote", "url", "email", "phone_number", "bot_command", "hashtag",
		"cashtag",
	};

	for (size_t i = 0; type && i < CL_ARRAY_LEN(types); i++)
		if (!strcmp(type, types[i]))
			return types[i];
	return NULL;
}

static void take_given(struct state *s, const json_t *given, size_t units)
{
	for (size_t i = 0; i < json_array_size(given) && s->n < ENTITIES_MAX; i++) {
		const json_t *e = json_array_get(given, i);
		const char *type = known_type(json_string_value(json_object_get(e, "type")));
		json_int_t at = json_integer_value(json_object_get(e, "offset"));
		json_int_t n = json_integer_value(json_object_get(e, "length"));
		bool link = type && !strcmp(type, "text_link");
		const json_t *x = json_object_get(e, link ? "url" : "language");
		struct span extra = { json_string_value(x), json_string_length(x) };

		if (!type || at < 0 || n <= 0 || (size_t)at > units || (size_t)n > units - (size_t)at)
			continue;
		if (link && !link_ok(extra))
			continue;
		s->list[s->n++] = (struct entity){ .type = type, .at = (size_t)at, .end = (size_t)(at + n),
						   .extra = extra };
	}
}

static int write_entities(const struct state *s, struct buf *out)
{
	bool any = false;

	for (size_t i = 0; i < s->n; i++) {
		const struct entity *e = &s->list[i];

		if (!e->type || e->end == SIZE_MAX || e->end <= e->at)
			continue;
		(void)buf_printf(out, "%s{\"type\":\"%s\",\"offset\":%zu,\"length\":%zu", any ? "," : "[", e->type,
				 e->at, e->end - e->at);
		any = true;
		if (e->extra.n && !strcmp(e->type, "text_link")) {
			(void)buf_add_str(out, ",\"url\":");
			(void)buf_add_json_str(out, e->extra);
		} else if (!strcmp(e->type, "pre") && language_ok(e->extra)) {
			(void)buf_add_str(out, ",\"language\":");
			(void)buf_add_json_str(out, e->extra);
		}
		(void)buf_add_ch(out, '}');
	}
	if (any)
		(void)buf_add_ch(out, ']');
	return out->failed ? -ENOMEM : 0;
}

int entities_read(struct span in, struct span mode, const json_t *given, struct buf *text,
		  struct buf *entities, char *why, size_t why_size)
{
	struct state s = { .text = text, .why = why, .why_size = why_size };
	int rc;

	buf_init(&s.strings, in.n + 1);
	rc = buf_reserve(&s.strings, in.n + 1);	/* once: spans point into it */
	if (rc)
		;
	else if (span_eq_nocase(mode, SPAN("HTML")))
		rc = read_html(&s, in);
	else if (span_eq_nocase(mode, SPAN("MarkdownV2")))
		rc = read_markdown(&s, in, false);
	else if (span_eq_nocase(mode, SPAN("Markdown")))
		rc = read_markdown(&s, in, true);
	else if (mode.n)
		rc = bad(&s, "unsupported parse_mode");
	else if ((rc = put(&s, in)) == 0)
		take_given(&s, given, s.at);
	if (rc == 0)
		rc = write_entities(&s, entities);
	buf_done(&s.strings);
	return rc;
}

int entities_filter(const json_t *given, struct span text, struct buf *entities)
{
	struct state s = { 0 };

	take_given(&s, given, utf16_len(text));
	return write_entities(&s, entities);
}

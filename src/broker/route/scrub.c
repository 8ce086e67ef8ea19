/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/route/scrub.h"

#include "broker/vault.h"

#include <ctype.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define NODES_MAX 2000000
#define PIECE_MAX (1u << 20)

struct node {
	uint32_t fail;
	uint32_t depth;
	uint32_t match;		/* longest pattern that ends here: its length; 0 none */
	uint32_t name;		/* index of its secret */
};

struct scrubber {
	unsigned refs;
	uint8_t class[256];	/* 0: in no pattern */
	uint32_t nclasses;
	struct node *nodes;
	uint32_t *next;		/* [node * nclasses + class] */
	uint32_t n, cap;
	char (*names)[65];
	uint32_t nnames;
	int failed;
};

struct scrubber *scrubber_ref(struct scrubber *s)
{
	s->refs++;
	return s;
}

void scrubber_unref(struct scrubber *s)
{
	if (!s || --s->refs)
		return;
	if (s->next)	/* it spells the secrets */
		explicit_bzero(s->next, (size_t)s->cap * s->nclasses * sizeof *s->next);
	free(s->next);
	free(s->nodes);
	free(s->names);
	free(s);
}

/* ---- patterns ------------------------------------------------------------------ */

typedef void pattern_fn(struct scrubber *s, const char *p, size_t n);

static void mark(struct scrubber *s, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (s->class[(uint8_t)p[i]] == 0)
			s->class[(uint8_t)p[i]] = (uint8_t)++s->nclasses;
}

static uint32_t node_new(struct scrubber *s)
{
	if (s->n == s->cap) {
		uint32_t cap = s->cap ? s->cap * 2 : 1024;
		size_t row = (size_t)s->nclasses * sizeof *s->next;
		struct node *nodes = cap <= NODES_MAX ? calloc(cap, sizeof *nodes) : NULL;
		uint32_t *next = nodes ? calloc(cap, row) : NULL;

		if (!next) {
			free(nodes);
			s->failed = -ENOMEM;
			return 0;
		}
		if (s->n) {
			memcpy(nodes, s->nodes, s->n * sizeof *nodes);
			memcpy(next, s->next, s->n * row);
			explicit_bzero(s->next, s->n * row);
		}
		free(s->nodes);
		free(s->next);
		s->nodes = nodes;
		s->next = next;
		s->cap = cap;
	}
	return s->n++;
}

static void add(struct scrubber *s, const char *p, size_t n)
{
	uint32_t at = 0;

	if (n < SCRUB_MIN || s->failed)
		return;
	for (size_t i = 0; i < n; i++) {
		size_t slot = (size_t)at * s->nclasses + s->class[(uint8_t)p[i]] - 1u;

		if (s->next[slot] == 0) {
			uint32_t k = node_new(s);

			if (s->failed)
				return;
			s->nodes[k].depth = s->nodes[at].depth + 1;
			s->next[slot] = k;
		}
		at = s->next[slot];
	}
	s->nodes[at].match = (uint32_t)n;
	s->nodes[at].name = s->nnames - 1;
}

/* base64 of @p as it stands inside a longer text: only characters that depend on @p alone */
static void base64_patterns(struct scrubber *s, struct span secret, int variant, char *tmp, size_t size,
			    uint8_t *raw, pattern_fn *fn)
{
	for (size_t shift = 0; shift < 3; shift++) {
		size_t n = secret.n + shift;

		memset(raw, 0, shift);
		memcpy(raw + shift, secret.p, secret.n);
		(void)sodium_bin2base64(tmp, size, raw, n, variant);
		size_t from = shift == 0 ? 0 : shift + 1;	/* 1 byte touches 2 characters, 2 touch 3 */
		size_t to = n * 8 / 6;				/* a last partial character depends on what follows */

		if (to > from)
			fn(s, tmp + from, to - from);
	}
}

static void escaped(struct scrubber *s, struct span secret, char *tmp, bool url, bool lower, pattern_fn *fn)
{
	static const char up[] = "0123456789ABCDEF", low[] = "0123456789abcdef";
	const char *hex = lower ? low : up;
	size_t k = 0;

	for (size_t i = 0; i < secret.n; i++) {
		uint8_t c = (uint8_t)secret.p[i];

		if (url && !(isalnum(c) || c == '-' || c == '.' || c == '_' || c == '~')) {
			tmp[k++] = '%';
			tmp[k++] = hex[c >> 4];
			tmp[k++] = hex[c & 15];
		} else if (!url && (c == '"' || c == '\\' || c == '/')) {
			tmp[k++] = '\\';
			tmp[k++] = (char)c;
		} else {
			tmp[k++] = (char)c;
		}
	}
	if (k != secret.n)	/* else it is the plain pattern */
		fn(s, tmp, k);
}

static void patterns(struct scrubber *s, struct span secret, pattern_fn *fn)
{
	size_t size = secret.n * 4 + 64;
	char *tmp = sodium_malloc(size);
	uint8_t *raw = sodium_malloc(secret.n + 3);

	if (!tmp || !raw) {
		s->failed = -ENOMEM;
	} else {
		fn(s, secret.p, secret.n);
		for (size_t i = 0; i < secret.n; i++)
			tmp[i] = secret.p[secret.n - 1 - i];
		fn(s, tmp, secret.n);
		(void)sodium_bin2hex(tmp, size, (const uint8_t *)secret.p, secret.n);
		fn(s, tmp, secret.n * 2);
		for (size_t i = 0; i < secret.n * 2; i++)
			tmp[i] = (char)toupper(tmp[i]);
		fn(s, tmp, secret.n * 2);
		base64_patterns(s, secret, sodium_base64_VARIANT_ORIGINAL, tmp, size, raw, fn);
		base64_patterns(s, secret, sodium_base64_VARIANT_URLSAFE, tmp, size, raw, fn);
		escaped(s, secret, tmp, true, false, fn);
		escaped(s, secret, tmp, true, true, fn);
		escaped(s, secret, tmp, false, false, fn);
	}
	sodium_free(raw);
	sodium_free(tmp);
}

static void mark_one(void *ctx, const char *name, struct span secret)
{
	struct scrubber *s = ctx;

	(void)name;
	if (secret.n >= SCRUB_MIN)
		patterns(s, secret, mark);
	s->nnames++;
}

static void add_one(void *ctx, const char *name, struct span secret)
{
	struct scrubber *s = ctx;

	(void)span_copy(span_str(name), s->names[s->nnames++], 65);	/* vault names are at most 64 */
	if (secret.n >= SCRUB_MIN)
		patterns(s, secret, add);
}

/* fail links, and the transitions filled up, breadth first */
static int link_up(struct scrubber *s)
{
	uint32_t *queue = calloc(s->n, sizeof *queue), head = 0, tail = 0;

	if (!queue)
		return -ENOMEM;
	for (uint32_t c = 0; c < s->nclasses; c++)
		if (s->next[c])
			queue[tail++] = s->next[c];
	while (head < tail) {
		uint32_t at = queue[head++];
		struct node *nd = &s->nodes[at];

		if (nd->match == 0 && s->nodes[nd->fail].match) {
			nd->match = s->nodes[nd->fail].match;
			nd->name = s->nodes[nd->fail].name;
		}
		for (uint32_t c = 0; c < s->nclasses; c++) {
			uint32_t *to = &s->next[(size_t)at * s->nclasses + c];
			uint32_t via = s->next[(size_t)nd->fail * s->nclasses + c];

			if (*to) {
				s->nodes[*to].fail = via;
				queue[tail++] = *to;
			} else {
				*to = via;
			}
		}
	}
	free(queue);
	return 0;
}

int scrubber_new(struct scrubber **out, const struct vault *v, struct cl_err *err)
{
	struct scrubber *s = calloc(1, sizeof *s);

	if (!s)
		return cl_fail(err, ENOMEM, "scrubber");
	s->refs = 1;
	vault_each(v, mark_one, s);
	if (s->nclasses == 0)
		s->nclasses = 1;
	s->names = calloc(s->nnames ? s->nnames : 1, sizeof *s->names);
	s->nnames = 0;
	(void)node_new(s);	/* the root; failure is in s->failed */
	if (!s->names || s->failed) {
		scrubber_unref(s);
		return cl_fail(err, ENOMEM, "scrubber");
	}
	vault_each(v, add_one, s);
	if (s->failed || link_up(s)) {
		scrubber_unref(s);
		return cl_fail(err, ENOMEM, "scrubber");
	}
	*out = s;
	return 0;
}

/* ---- running ---------------------------------------------------------------------- */

static inline uint32_t step(const struct scrubber *s, uint32_t at, char b)
{
	uint8_t c = s->class[(uint8_t)b];

	return c ? s->next[(size_t)at * s->nclasses + c - 1u] : 0;
}

bool scrubber_find(const struct scrubber *s, struct span bytes, char *what, size_t n)
{
	uint32_t at = 0;

	for (size_t i = 0; i < bytes.n; i++) {
		at = step(s, at, bytes.p[i]);
		if (s->nodes[at].match) {
			if (what)
				(void)span_copy(span_str(s->names[s->nodes[at].name]), what, n);
			return true;
		}
	}
	return false;
}

void scrub_init(struct scrub *x, struct scrubber *s)
{
	*x = (struct scrub){ .s = scrubber_ref(s) };
	buf_init(&x->held, PIECE_MAX + 65536);
}

void scrub_done(struct scrub *x)
{
	scrubber_unref(x->s);
	x->s = NULL;
	buf_wipe_done(&x->held);
}

/* The slow way: held bytes plus @piece are put together, found ones starred. */
static int rewrite(struct scrub *x, struct span piece, bool last, struct buf *out)
{
	const struct scrubber *s = x->s;
	size_t from = x->held.n;

	if (buf_add_span(&x->held, piece))
		return -ENOMEM;
	for (size_t i = from; i < x->held.n; i++) {
		x->state = step(s, x->state, x->held.p[i]);
		uint32_t m = s->nodes[x->state].match;

		if (m) {
			memset(x->held.p + i + 1 - m, '*', m);
			x->found++;
			/* the automaton goes on: a longer pattern may end a little later */
		}
	}
	size_t keep = last ? 0 : s->nodes[x->state].depth;

	if (buf_add(out, x->held.p, x->held.n - keep))
		return -ENOMEM;
	buf_consume(&x->held, x->held.n - keep);
	return 0;
}

int scrub_next(struct scrub *x, struct span piece, bool last, struct buf *out, struct span *pass)
{
	const struct scrubber *s = x->s;

	*pass = (struct span){ NULL, 0 };
	if (x->held.n == 0) {
		uint32_t at = x->state;
		size_t i;

		for (i = 0; i < piece.n; i++) {
			at = step(s, at, piece.p[i]);
			if (s->nodes[at].match)
				break;
		}
		if (i == piece.n) {
			size_t keep = last ? 0 : s->nodes[at].depth;

			if (keep > piece.n)
				return -EINVAL;	/* cannot be: nothing was held */
			x->state = at;
			*pass = (struct span){ piece.p, piece.n - keep };
			return buf_add(&x->held, piece.p + piece.n - keep, keep);
		}
	}
	while (piece.n) {
		struct span part = { piece.p, piece.n < PIECE_MAX ? piece.n : PIECE_MAX };

		piece.p += part.n;
		piece.n -= part.n;
		if (rewrite(x, part, last && piece.n == 0, out))
			return -ENOMEM;
	}
	if (last && x->held.n)
		return rewrite(x, (struct span){ NULL, 0 }, true, out);
	return 0;
}

int scrubber_clean(const struct scrubber *s, struct span bytes, struct buf *out)
{
	struct scrub x;
	struct span pass;
	int found;

	scrub_init(&x, (struct scrubber *)(uintptr_t)s);
	int r = scrub_next(&x, bytes, true, out, &pass);

	if (r == 0 && pass.n)
		r = buf_add_span(out, pass);
	found = x.found > INT_MAX ? INT_MAX : (int)x.found;
	scrub_done(&x);
	return r ? r : found;
}

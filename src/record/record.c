/* SPDX-License-Identifier: Apache-2.0 */
/* The table of kinds and fields, and the encoding of one record's body. */
#include "record/record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NUM RT_NUM
#define TEXT RT_TEXT
#define BYTES RT_BYTES
#define PERSON RT_PERSON
static const struct record_field_info fields[] = {
#define FIELD(NAME, number, name, type, max) { number, name, type, max },
#include "record/record.def"
#undef FIELD
};
#undef NUM
#undef TEXT
#undef BYTES
#undef PERSON

#define ROLES_C (1u << ROLE_CLOISTERD)
#define ROLES_S (1u << ROLE_SPAWNER)
#define ROLES_B (1u << ROLE_BROKER)
#define ROLES_A (1u << ROLE_API)
#define ROLES_L (1u << ROLE_LEDGER)
#define TAKE(f) RF_##f,
#define SKIP(f)
#define KIND(NAME, number, name, roles, FIELDS)					\
	static const uint8_t req_##NAME[] = { FIELDS(TAKE, SKIP) 0 };		\
	static const uint8_t opt_##NAME[] = { FIELDS(SKIP, TAKE) 0 };
#include "record/record.def"
#undef KIND

static const struct record_kind_info kinds[] = {
#define KIND(NAME, number, name, roles, FIELDS) { number, name, roles, req_##NAME, opt_##NAME },
#include "record/record.def"
#undef KIND
};

const struct record_field_info *record_field_info(uint32_t number)
{
	for (size_t i = 0; i < CL_ARRAY_LEN(fields); i++)
		if (fields[i].number == number)
			return &fields[i];
	return NULL;
}

const struct record_field_info *record_field_by_name(struct span name)
{
	for (size_t i = 0; i < CL_ARRAY_LEN(fields); i++)
		if (span_eq_str(name, fields[i].name))
			return &fields[i];
	return NULL;
}

const struct record_kind_info *record_kind_info(uint32_t number)
{
	for (size_t i = 0; i < CL_ARRAY_LEN(kinds); i++)
		if (kinds[i].number == number)
			return &kinds[i];
	return NULL;
}

const struct record_kind_info *record_kind_by_name(struct span name)
{
	for (size_t i = 0; i < CL_ARRAY_LEN(kinds); i++)
		if (span_eq_str(name, kinds[i].name))
			return &kinds[i];
	return NULL;
}

const struct record_kind_info *record_kind_at(size_t i)
{
	return i < CL_ARRAY_LEN(kinds) ? &kinds[i] : NULL;
}

static bool listed(const uint8_t *list, uint32_t f)
{
	for (; *list; list++)
		if (*list == f)
			return true;
	return false;
}

static bool of_kind(const struct record_kind_info *k, uint32_t f)
{
	return listed(k->required, f) || listed(k->optional, f);
}

/* ---- making --------------------------------------------------------------- */

void record_begin(struct record *r, enum record_kind kind, const char *tenant)
{
	size_t n = tenant ? strlen(tenant) : 0;

	r->kind = kind;
	r->n = 0;
	r->failed = 0;
	r->tenant[0] = '\0';
	if (!record_kind_info(kind) || n >= sizeof r->tenant)
		r->failed = -EINVAL;
	else if (n)
		memcpy(r->tenant, tenant, n + 1);
}

static void put(struct record *r, uint32_t f, const void *p, size_t n)
{
	const struct record_kind_info *k = record_kind_info(r->kind);
	struct record_value v;

	if (r->failed)
		return;
	if (!k || !of_kind(k, f) || n > 0xffff || sizeof r->body - r->n < n + 4 ||
	    record_find((struct span){ r->body, r->n }, (enum record_field)f, &v)) {
		r->failed = -EINVAL;
		return;
	}
	char *at = r->body + r->n;

	at[0] = (char)(f & 0xff);
	at[1] = (char)(f >> 8);
	at[2] = (char)(n & 0xff);
	at[3] = (char)(n >> 8);
	memcpy(at + 4, p, n);
	r->n += n + 4;
}

/* Length of the UTF-8 character at @p, or 0 when there is none that is valid
 * and printable. */
static size_t char_len(const char *p, size_t n)
{
	unsigned char c = (unsigned char)p[0];
	size_t want = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;

	if (want > n || (want == 1 && (c < 0x20 || c == 0x7f) && c != '\n' && c != '\t'))
		return 0;
	return utf8_ok((struct span){ p, want }) ? want : 0;
}

void record_text(struct record *r, enum record_field f, struct span s)
{
	const struct record_field_info *i = record_field_info(f);
	char text[RECORD_BODY_MAX];
	size_t n = 0;

	if (!i || (i->type != RT_TEXT && i->type != RT_PERSON)) {
		r->failed = -EINVAL;
		return;
	}
	if (!s.n)
		return;
	for (size_t at = 0; at < s.n; ) {
		size_t len = char_len(s.p + at, s.n - at);
		size_t use = len ? len : 1;

		if (n + use > i->max || n + use > sizeof text)
			break;
		if (len)
			memcpy(text + n, s.p + at, len);
		else
			text[n] = '?';
		n += use;
		at += use;
	}
	put(r, f, text, n);
}

void record_fmt(struct record *r, enum record_field f, const char *fmt, ...)
{
	char text[1100];
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (n < 0) {
		r->failed = -EINVAL;
		return;
	}
	record_text(r, f, (struct span){ text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1 });
}

void record_num(struct record *r, enum record_field f, uint64_t v)
{
	const struct record_field_info *i = record_field_info(f);
	unsigned char b[8];

	if (!i || i->type != RT_NUM) {
		r->failed = -EINVAL;
		return;
	}
	for (size_t k = 0; k < 8; k++)
		b[k] = (unsigned char)(v >> (8 * k));
	put(r, f, b, 8);
}

void record_bytes(struct record *r, enum record_field f, const void *p, size_t n)
{
	const struct record_field_info *i = record_field_info(f);

	if (!i || i->type != RT_BYTES || n > i->max) {
		r->failed = -EINVAL;
		return;
	}
	put(r, f, p, n);
}

/* ---- reading ---------------------------------------------------------------- */

int record_next(struct span *body, struct record_value *out)
{
	const unsigned char *p = (const unsigned char *)body->p;

	if (!body->n)
		return 0;
	if (body->n < 4)
		return -EBADMSG;

	uint32_t f = (uint32_t)p[0] | (uint32_t)p[1] << 8;
	size_t n = (size_t)p[2] | (size_t)p[3] << 8;
	const struct record_field_info *i = record_field_info(f & ~RECORD_SEALED);

	if (!i || n > body->n - 4 || ((f & RECORD_SEALED) && i->type != RT_PERSON) ||
	    (i->type == RT_NUM && n != 8))
		return -EBADMSG;
	*out = (struct record_value){ .info = i, .sealed = (f & RECORD_SEALED) != 0,
				      .bytes = { body->p + 4, n } };
	if (i->type == RT_NUM)
		for (size_t k = 0; k < 8; k++)
			out->num |= (uint64_t)p[4 + k] << (8 * k);
	body->p += 4 + n;
	body->n -= 4 + n;
	return 1;
}

bool record_find(struct span body, enum record_field f, struct record_value *out)
{
	struct record_value v;

	while (record_next(&body, &v) == 1)
		if (v.info->number == (uint32_t)f) {
			*out = v;
			return true;
		}
	return false;
}

/* Ciphertext adds a nonce and a tag; see record/segment.h. */
#define SEAL_BYTES 40

int record_check(uint32_t kind, struct span body, bool sealed, struct cl_err *err)
{
	const struct record_kind_info *k = record_kind_info(kind);
	bool have[256] = { false };
	struct record_value v;
	int r;

	if (!k)
		return cl_fail(err, EBADMSG, "record: no kind %u", kind);
	while ((r = record_next(&body, &v)) == 1) {
		uint32_t f = v.info->number;
		size_t max = v.info->max + (v.sealed ? (size_t)SEAL_BYTES : 0);

		if (f >= CL_ARRAY_LEN(have) || have[f])
			return cl_fail(err, EBADMSG, "record: %s: '%s' twice", k->name, v.info->name);
		have[f] = true;
		if (!of_kind(k, f))
			return cl_fail(err, EBADMSG, "record: %s has no '%s'", k->name, v.info->name);
		if (v.info->type != RT_NUM && v.bytes.n > max)
			return cl_fail(err, EBADMSG, "record: %s: '%s' is too long", k->name,
				       v.info->name);
		if (v.sealed && (!sealed || v.bytes.n < SEAL_BYTES))
			return cl_fail(err, EBADMSG, "record: %s: '%s' is sealed", k->name,
				       v.info->name);
		if (!v.sealed && (v.info->type == RT_TEXT || v.info->type == RT_PERSON) &&
		    !utf8_ok(v.bytes))
			return cl_fail(err, EBADMSG, "record: %s: '%s' is not UTF-8", k->name,
				       v.info->name);
	}
	if (r < 0)
		return cl_fail(err, EBADMSG, "record: %s: fields do not decode", k->name);
	for (const uint8_t *q = k->required; *q; q++)
		if (!have[*q])
			return cl_fail(err, EBADMSG, "record: %s lacks '%s'", k->name,
				       record_field_info(*q)->name);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Encoder and decoder, both driven by msg.def. */
#include "wire/wire.h"

#include <string.h>

enum { KIND_U32, KIND_U64, KIND_BYTES };

struct field {
	uint8_t kind;
	uint16_t at;	/* offset in the struct */
	uint32_t max;	/* bytes */
};

#define F_U32(f) { KIND_U32, (uint16_t)offsetof(MSG_STRUCT, f), 0 },
#define F_U64(f) { KIND_U64, (uint16_t)offsetof(MSG_STRUCT, f), 0 },
#define F_BYTES(f, max) { KIND_BYTES, (uint16_t)offsetof(MSG_STRUCT, f), max },
#define END { 0xff, 0, 0 }

/* offsetof needs the struct's name inside the field macros: one enum a row */
#define MSG(NAME, name, FIELDS) \
	typedef struct msg_##name wire_t_##name; \
	static const struct field *fields_##name(void);
#include "wire/msg.def"
#undef MSG
#define MSG(NAME, name, FIELDS) \
	static const struct field *fields_##name(void) \
	{ \
		typedef CL_UNUSED wire_t_##name MSG_STRUCT; \
		static const struct field f[] = { FIELDS(F_U32, F_U64, F_BYTES) END }; \
		return f; \
	}
#include "wire/msg.def"
#undef MSG

static const struct field *fields_of(uint32_t type)
{
	switch (type) {
#define MSG(NAME, name, FIELDS) case MSG_##NAME: return fields_##name();
#include "wire/msg.def"
#undef MSG
	default:
		return NULL;
	}
}

const char *wire_type_name(uint32_t type)
{
	switch (type) {
#define MSG(NAME, name, FIELDS) case MSG_##NAME: return #name;
#include "wire/msg.def"
#undef MSG
	default:
		return "?";
	}
}

const char *wire_role_name(enum wire_role r)
{
	static const char *const n[] = { "none", "cloisterd", "cloister-spawner", "cloister-broker",
					 "cloister-api", "cloister-ledger", "cloister-model-sim" };

	return (unsigned)r < CL_ARRAY_LEN(n) ? n[r] : "?";
}

static void put(struct buf *b, uint64_t v, size_t n)
{
	unsigned char c[8];

	for (size_t i = 0; i < n; i++)
		c[i] = (unsigned char)(v >> (8 * i));
	(void)buf_add(b, c, n);	/* sticky */
}

static uint64_t get(const char *p, size_t n)
{
	uint64_t v = 0;

	for (size_t i = 0; i < n; i++)
		v |= (uint64_t)(unsigned char)p[i] << (8 * i);
	return v;
}

int wire_encode(uint32_t type, uint32_t seq, uint32_t nfds, const void *msg, struct buf *out,
		struct cl_err *err)
{
	const struct field *f = fields_of(type);

	if (!f || nfds > WIRE_FDS_MAX)
		return cl_fail(err, EINVAL, "wire: type %u with %u descriptors", type, nfds);
	put(out, type, 2);
	put(out, nfds, 2);
	put(out, seq, 4);
	for (; f->kind != 0xff; f++) {
		const char *at = (const char *)msg + f->at;

		if (f->kind == KIND_U32) {
			uint32_t v;

			memcpy(&v, at, sizeof v);
			put(out, v, 4);
		} else if (f->kind == KIND_U64) {
			uint64_t v;

			memcpy(&v, at, sizeof v);
			put(out, v, 8);
		} else {
			struct span s;

			memcpy(&s, at, sizeof s);
			if (s.n > f->max)
				return cl_fail(err, EINVAL, "wire: %s: field of %zu bytes, at most %u",
					       wire_type_name(type), s.n, f->max);
			put(out, s.n, 4);
			(void)buf_add(out, s.p, s.n);	/* sticky */
		}
	}
	return out->failed ? cl_fail(err, ENOMEM, "wire: no memory") : 0;
}

int wire_decode(struct span in, uint32_t *out_type, uint32_t *out_seq, uint32_t *out_nfds,
		union wire_any *out, struct cl_err *err)
{
	const struct field *f;
	uint32_t type;

	if (in.n < 8)
		return cl_fail(err, EBADMSG, "wire: %zu bytes are no message", in.n);
	type = (uint32_t)get(in.p, 2);
	f = fields_of(type);
	if (!f)
		return cl_fail(err, EBADMSG, "wire: unknown type %u", type);
	*out_type = type;
	*out_nfds = (uint32_t)get(in.p + 2, 2);
	*out_seq = (uint32_t)get(in.p + 4, 4);
	if (*out_nfds > WIRE_FDS_MAX)
		return cl_fail(err, EBADMSG, "wire: %u descriptors", *out_nfds);
	memset(out, 0, sizeof *out);
	in.p += 8;
	in.n -= 8;
	for (; f->kind != 0xff; f++) {
		char *at = (char *)out + f->at;
		size_t w = f->kind == KIND_U64 ? 8 : 4;

		if (in.n < w)
			return cl_fail(err, EBADMSG, "wire: %s: cut", wire_type_name(type));
		uint64_t v = get(in.p, w);

		in.p += w;
		in.n -= w;
		if (f->kind == KIND_U32) {
			uint32_t v32 = (uint32_t)v;

			memcpy(at, &v32, sizeof v32);
		} else if (f->kind == KIND_U64) {
			memcpy(at, &v, sizeof v);
		} else {
			if (v > f->max || v > in.n)
				return cl_fail(err, EBADMSG, "wire: %s: length %llu",
					       wire_type_name(type), (unsigned long long)v);
			struct span s = { in.p, (size_t)v };

			memcpy(at, &s, sizeof s);
			in.p += s.n;
			in.n -= s.n;
		}
	}
	if (in.n)
		return cl_fail(err, EBADMSG, "wire: %s: %zu bytes left over", wire_type_name(type),
			       in.n);
	return 0;
}

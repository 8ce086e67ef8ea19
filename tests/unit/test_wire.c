/* SPDX-License-Identifier: Apache-2.0 */
/* Every message of msg.def: there and back, every prefix, every field too long. */
#include "test.h"

#include "wire/wire.h"

#include <stdlib.h>

/* One message with each number set and each field filled with @n bytes of its name's
 * letter (at most its maximum). The macros make a list of all messages. */
struct sample {
	uint32_t type;
	const char *name;
	void (*fill)(union wire_any *m, size_t n);
	bool (*same)(const union wire_any *a, const union wire_any *b);
	size_t nbytes;			/* how many byte fields */
	void (*over)(union wire_any *m, size_t which);	/* that one: one byte too long */
};

static char room[256 * 1024];

#define LIMIT(n, max) ((n) < (max) ? (n) : (size_t)(max))
#define FILL_U(f) x->f = 0x80000001u + (uint32_t)offsetof(MSG_STRUCT, f);
#define FILL_Q(f) x->f = 0x8000000000000001ull + offsetof(MSG_STRUCT, f);
#define FILL_B(f, max) x->f = (struct span){ room + offsetof(MSG_STRUCT, f), LIMIT(n, max) };
#define SAME_U(f) && x->f == y->f
#define SAME_Q(f) && x->f == y->f
#define SAME_B(f, max) && span_eq(x->f, y->f)
#define COUNT_0(f)
#define COUNT_B(f, max) + 1
#define OVER_0(f)
#define OVER_B(f, max) \
	if (which-- == 0) \
		x->f = (struct span){ room, (size_t)(max) + 1 };
#define MSG(NAME, name, FIELDS)							\
	static void fill_##name(union wire_any *m, size_t n)			\
	{									\
		typedef CL_UNUSED struct msg_##name MSG_STRUCT;			\
		CL_UNUSED MSG_STRUCT *x = &m->name;				\
		(void)n;							\
		FIELDS(FILL_U, FILL_Q, FILL_B)					\
	}									\
	static bool same_##name(const union wire_any *a, const union wire_any *b) \
	{									\
		CL_UNUSED const struct msg_##name *x = &a->name, *y = &b->name;	\
		return true FIELDS(SAME_U, SAME_Q, SAME_B);			\
	}									\
	static void over_##name(union wire_any *m, size_t which)		\
	{									\
		CL_UNUSED struct msg_##name *x = &m->name;			\
		(void)which;							\
		FIELDS(OVER_0, OVER_0, OVER_B)					\
	}
#include "wire/msg.def"
#undef MSG

static const struct sample samples[] = {
#define MSG(NAME, name, FIELDS)							\
	{ MSG_##NAME, #name, fill_##name, same_##name,				\
	  (size_t)(0 FIELDS(COUNT_0, COUNT_0, COUNT_B)), over_##name },
#include "wire/msg.def"
#undef MSG
};

static void every_message_comes_back_as_it_was_sent(void **state)
{
	static const size_t sizes[] = { 0, 1, 39, 200, SIZE_MAX };

	(void)state;
	for (size_t i = 0; i < sizeof room; i++)
		room[i] = (char)(i * 7);
	for (size_t i = 0; i < CL_ARRAY_LEN(samples); i++) {
		for (size_t k = 0; k < CL_ARRAY_LEN(sizes); k++) {
			union wire_any in, out;
			uint32_t type, seq, nfds;
			CL_BUF struct buf b;

			memset(&in, 0, sizeof in);
			samples[i].fill(&in, sizes[k]);
			buf_init(&b, 2 * sizeof room);
			assert_int_equal(wire_encode(samples[i].type, 77, 3, &in, &b, NULL), 0);
			assert_true(b.n <= WIRE_MAX);	/* the largest fits one datagram */
			assert_int_equal(wire_decode(buf_span(&b), &type, &seq, &nfds, &out, NULL), 0);
			assert_int_equal(type, samples[i].type);
			assert_int_equal(seq, 77);
			assert_int_equal(nfds, 3);
			assert_true(samples[i].same(&in, &out));
			assert_string_equal(wire_type_name(type), samples[i].name);
		}
	}
}

static void every_prefix_and_every_tail_is_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < CL_ARRAY_LEN(samples); i++) {
		union wire_any in, out;
		uint32_t type, seq, nfds;
		CL_BUF struct buf b;

		memset(&in, 0, sizeof in);
		samples[i].fill(&in, 20);
		buf_init(&b, 4096);
		assert_int_equal(wire_encode(samples[i].type, 1, 0, &in, &b, NULL), 0);
		for (size_t n = 0; n < b.n; n++) {
			char *p = test_at_edge(b.p, n);

			assert_int_equal(wire_decode((struct span){ p, n }, &type, &seq, &nfds, &out,
						     NULL), -EBADMSG);
			test_edge_free(p, n);
		}
		assert_int_equal(buf_add_ch(&b, '\0'), 0);
		assert_int_equal(wire_decode(buf_span(&b), &type, &seq, &nfds, &out, NULL), -EBADMSG);
	}
}

static void a_field_above_its_maximum_is_refused_on_both_sides(void **state)
{
	size_t tried = 0;

	(void)state;
	for (size_t i = 0; i < CL_ARRAY_LEN(samples); i++) {
		for (size_t k = 0; k < samples[i].nbytes; k++) {
			union wire_any in;
			CL_BUF struct buf b;

			memset(&in, 0, sizeof in);
			samples[i].fill(&in, 2);
			samples[i].over(&in, k);
			buf_init(&b, sizeof room);
			assert_int_equal(wire_encode(samples[i].type, 1, 0, &in, &b, NULL), -EINVAL);
			tried++;
		}
	}
	assert_true(tried > 20);

	/* the decoder: REPLY's text is said to have 1025 bytes, and has them */
	char m[8 + 4 + 4 + 1025] = { MSG_REPLY, 0 };
	union wire_any out;
	uint32_t type, seq, nfds;

	m[12] = 1;
	m[13] = 4;
	assert_int_equal(wire_decode((struct span){ m, sizeof m }, &type, &seq, &nfds, &out, NULL), -EBADMSG);
	m[12] = 0;
	assert_int_equal(wire_decode((struct span){ m, sizeof m - 1 }, &type, &seq, &nfds, &out, NULL), 0);
	/* a length that would go round the address space */
	m[12] = m[13] = m[14] = m[15] = (char)0xff;
	assert_int_equal(wire_decode((struct span){ m, sizeof m - 1 }, &type, &seq, &nfds, &out, NULL),
			 -EBADMSG);
}

static void unknown_types_and_too_many_descriptors_are_refused(void **state)
{
	union wire_any out;
	uint32_t type, seq, nfds;
	CL_BUF struct buf b;

	(void)state;
	for (uint32_t t = 0; t < 65536; t++) {
		char m[8] = { (char)(t & 0xff), (char)(t >> 8) };
		int r = wire_decode((struct span){ m, sizeof m }, &type, &seq, &nfds, &out, NULL);

		if (t == MSG_NONE || t >= MSG_COUNT)
			assert_int_equal(r, -EBADMSG);
	}
	char ready[8] = { MSG_READY, 0, WIRE_FDS_MAX + 1 };

	assert_int_equal(wire_decode((struct span){ ready, 8 }, &type, &seq, &nfds, &out, NULL), -EBADMSG);
	buf_init(&b, 100);
	assert_int_equal(wire_encode(MSG_READY, 1, WIRE_FDS_MAX + 1, &out, &b, NULL), -EINVAL);
	assert_int_equal(wire_encode(MSG_COUNT, 1, 0, &out, &b, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_message_comes_back_as_it_was_sent),
		cmocka_unit_test(every_prefix_and_every_tail_is_refused),
		cmocka_unit_test(a_field_above_its_maximum_is_refused_on_both_sides),
		cmocka_unit_test(unknown_types_and_too_many_descriptors_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

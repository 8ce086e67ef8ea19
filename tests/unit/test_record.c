/* SPDX-License-Identifier: Apache-2.0 */
/* The record format, and that no change of a ledger goes unseen. */
#include "ledger_world.h"

#include <sodium.h>

static const struct journal_options small = { .segment_bytes = 1600, .check_every = 8 };

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof *w);

	assert_non_null(w);
	world_make(w);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	world_end(*state);
	free(*state);
	return 0;
}

static void build(struct world *w, int n)
{
	world_open(w, &small);
	world_write(w, 0, n);
	world_close(w);
}

/* Expect a finding; its words are returned for closer looks. */
static const char *found(struct world *w)
{
	static struct cl_err err;
	struct audit_report rep;

	assert_int_equal(world_verify(w, NULL, &rep, &err), -EBADMSG);
	assert_true(err.text[0] != '\0');
	return err.text;
}

/* ---- format ------------------------------------------------------------------ */

static void every_kind_has_fields_that_exist_and_numbers_of_its_own(void **state)
{
	const struct record_kind_info *k;
	bool seen[256] = { false };

	(void)state;
	for (size_t i = 0; (k = record_kind_at(i)); i++) {
		assert_true(k->number < 256 && !seen[k->number]);
		seen[k->number] = true;
		assert_true(k->roles != 0);
		assert_ptr_equal(record_kind_by_name(span_str(k->name)), k);
		for (const uint8_t *f = k->required; *f; f++)
			assert_non_null(record_field_info(*f));
		for (const uint8_t *f = k->optional; *f; f++)
			assert_non_null(record_field_info(*f));
	}
	for (uint32_t f = 1; f < 256; f++)
		if (record_field_info(f))
			assert_int_equal(record_field_info(f)->number, f);
}

static void a_body_comes_back_as_it_was_written(void **state)
{
	struct record r;
	struct record_value v;

	(void)state;
	record_begin(&r, RECORD_REQUEST_DONE, "alice");
	record_str(&r, RF_ID, "r-1");
	record_str(&r, RF_ROUTE, "openai");
	record_num(&r, RF_STATUS, 200);
	record_num(&r, RF_IN_TOKENS, UINT64_MAX);
	assert_int_equal(r.failed, 0);
	struct span body = { r.body, r.n };

	assert_true(record_find(body, RF_ROUTE, &v));
	assert_true(span_eq_str(v.bytes, "openai"));
	assert_true(record_find(body, RF_IN_TOKENS, &v));
	assert_true(v.num == UINT64_MAX);
	assert_false(record_find(body, RF_MODEL, &v));
}

static void text_is_made_valid_and_cut_at_a_character(void **state)
{
	struct record r;
	struct record_value v;
	char big[200];

	(void)state;
	memset(big, 'a', sizeof big);
	memcpy(big + 63, "\xc3\xa4", 2);	/* does not fit into the 64 of `id` */
	record_begin(&r, RECORD_REQUEST_DENIED, "alice");
	record_text(&r, RF_ID, (struct span){ big, sizeof big });
	record_text(&r, RF_RULE, (struct span){ "a\xff\x1b" "b\xc3", 5 });
	record_text(&r, RF_REASON, SPAN("x"));
	struct span body = { r.body, r.n };

	assert_int_equal(record_check(r.kind, body, false, NULL), 0);
	assert_true(record_find(body, RF_ID, &v));
	assert_int_equal(v.bytes.n, 63);
	assert_true(record_find(body, RF_RULE, &v));
	assert_true(span_eq_str(v.bytes, "a??b?"));
}

static void the_callers_mistakes_are_kept_and_refused(void **state)
{
	struct record_client rc;
	struct record r;

	(void)state;
	record_client_init(&rc);
	record_begin(&r, RECORD_TENANT_STATE, "alice");
	record_str(&r, RF_STATE, "running");
	record_str(&r, RF_STATE, "stopped");	/* twice */
	assert_int_equal(record_send(&rc, &r), -EINVAL);
	record_begin(&r, RECORD_TENANT_STATE, "alice");
	record_num(&r, RF_STATE, 1);		/* another type */
	assert_int_equal(record_send(&rc, &r), -EINVAL);
	record_begin(&r, RECORD_TENANT_STATE, "alice");
	record_str(&r, RF_ROUTE, "x");		/* of another kind */
	assert_int_equal(record_send(&rc, &r), -EINVAL);
	record_begin(&r, RECORD_TENANT_STATE, "alice");	/* a required field lacks */
	assert_int_equal(record_send(&rc, &r), -EINVAL);
	assert_int_equal(rc.dropped, 4);
	assert_int_equal(rc.n, 0);
	record_client_done(&rc);
}

static void the_queue_without_a_link_has_an_end(void **state)
{
	struct record_client rc;
	struct record r;

	(void)state;
	record_client_init(&rc);
	record_begin(&r, RECORD_TENANT_STATE, "alice");
	record_str(&r, RF_STATE, "running");
	for (int i = 0; i < RECORD_QUEUE_MAX; i++)
		assert_int_equal(record_send(&rc, &r), 0);
	assert_int_equal(record_send(&rc, &r), -ENOBUFS);
	record_client_done(&rc);
}

static void every_prefix_of_a_frame_is_unfinished_and_read_within_its_bytes(void **state)
{
	unsigned char chain[CHAIN_SIZE] = { 1 };
	CL_BUF struct buf b;
	struct record r;
	struct frame f = { .kind = RECORD_TENANT_STATE, .number = 7, .tenant = SPAN("alice") }, g;

	(void)state;
	record_begin(&r, RECORD_TENANT_STATE, "alice");
	record_str(&r, RF_STATE, "running");
	f.body = (struct span){ r.body, r.n };
	buf_init(&b, 4096);
	assert_int_equal(frame_encode(&f, chain, &b), 0);
	for (size_t n = 0; n <= b.n; n++) {
		char *p = test_at_edge(b.p, n);

		assert_int_equal(frame_decode((struct span){ p, n }, &g), n == b.n);
		test_edge_free(p, n);
	}
}

static void every_prefix_of_a_body_is_refused_or_whole_fields(void **state)
{
	struct record r;

	(void)state;
	record_begin(&r, RECORD_TENANT_STATE, "alice");
	record_str(&r, RF_STATE, "running");
	record_num(&r, RF_PID, 77);
	for (size_t n = 0; n < r.n; n++) {
		char *p = test_at_edge(r.body, n);
		int want = n == 11 ? 0 : -EBADMSG;	/* `state` alone is a whole record */

		assert_int_equal(record_check(r.kind, (struct span){ p, n }, false, NULL), want);
		test_edge_free(p, n);
	}
}

static void a_sealed_field_is_not_taken_from_the_wire(void **state)
{
	unsigned char key[SEAL_KEY_SIZE] = { 3 };
	CL_BUF struct buf b;
	struct record r;

	(void)state;
	assert_int_equal(ledger_crypto_init(NULL), 0);
	record_begin(&r, RECORD_BINDING, "alice");
	record_str(&r, RF_ACT, "bound");
	record_str(&r, RF_CHANNEL, "telegram");
	record_str(&r, RF_ADDRESS, "4711");
	buf_init(&b, 4096);
	assert_int_equal(seal_fields((struct span){ r.body, r.n }, key, &b), 0);
	assert_int_equal(record_check(r.kind, buf_span(&b), true, NULL), 0);
	assert_int_equal(record_check(r.kind, buf_span(&b), false, NULL), -EBADMSG);
}

/* ---- tampering ------------------------------------------------------------------- */

static void an_untouched_ledger_verifies(void **state)
{
	struct world *w = *state;

	build(w, 60);
	struct audit_report rep = world_verified(w);

	assert_true(rep.segments >= 3);
	assert_true(rep.checkpoints >= 6);
	assert_int_equal(rep.first, 1);
	assert_int_equal(rep.last, rep.records);
	assert_int_equal(rep.signed_to, rep.last);
}

static void each_flipped_byte_is_found(void **state)
{
	struct world *w = *state;
	size_t n;

	build(w, 16);
	assert_true(world_verified(w).segments >= 2);
	for (uint64_t s = 1; s <= 2; s++) {
		char name[SEGMENT_NAME_MAX];

		segment_name(s, name, sizeof name);
		char *p = world_read(w, name, &n);

		for (size_t i = 0; i < n; i++) {
			p[i] ^= (char)(1 << (i % 8));
			world_put(w, name, p, n);
			assert_non_null(strstr(found(w), "segment-"));
			p[i] ^= (char)(1 << (i % 8));
		}
		world_put(w, name, p, n);
		free(p);
	}
	(void)world_verified(w);
}

static void each_flipped_byte_of_the_head_is_found(void **state)
{
	struct world *w = *state;
	size_t n;

	build(w, 10);
	char *p = world_read(w, "head", &n);

	for (size_t i = 0; i < n; i++) {
		p[i] ^= 1;
		world_put(w, "head", p, n);
		(void)found(w);
		p[i] ^= 1;
	}
	assert_int_equal(unlinkat(w->dirfd, "head", 0), 0);
	assert_non_null(strstr(found(w), "head"));
	free(p);
}

/* Offsets of the frames of segment 1; [count] is the end. */
static size_t offsets(const char *p, size_t n, size_t *at, size_t max)
{
	size_t count = 0, pos = SEGMENT_HEADER_SIZE;
	struct frame f;

	while (pos < n && count + 1 < max) {
		assert_int_equal(frame_decode((struct span){ p + pos, n - pos }, &f), 1);
		at[count++] = pos;
		pos += f.size;
	}
	at[count] = n;
	return count;
}

/* header, frames in the order of @order, back to the file */
static void rebuild(struct world *w, const char *p, const size_t *at, const size_t *order, size_t n)
{
	CL_BUF struct buf b;

	buf_init(&b, 1u << 20);
	assert_int_equal(buf_add(&b, p, SEGMENT_HEADER_SIZE), 0);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(buf_add(&b, p + at[order[i]], at[order[i] + 1] - at[order[i]]), 0);
	world_put(w, "segment-00000001.cl", b.p, b.n);
}

static void a_record_cut_out_moved_or_put_in_twice_is_found_at_its_place(void **state)
{
	struct world *w = *state;
	size_t at[128], order[128], n;
	char place[40];

	build(w, 40);
	char *p = world_read(w, "segment-00000001.cl", &n);
	size_t count = offsets(p, n, at, CL_ARRAY_LEN(at));

	assert_true(count >= 8);
	for (size_t k = 0; k < count; k++) {		/* cut out */
		size_t m = 0;

		for (size_t i = 0; i < count; i++)
			if (i != k)
				order[m++] = i;
		rebuild(w, p, at, order, m);
		(void)snprintf(place, sizeof place, "record %zu", k + 1);
		/* the last one of a segment is missed where the next goes on */
		assert_non_null(strstr(found(w), k + 1 < count ? place : "segment-00000002.cl"));
	}
	for (size_t k = 0; k + 1 < count; k++) {	/* swapped with the next */
		for (size_t i = 0; i < count; i++)
			order[i] = i == k ? k + 1 : i == k + 1 ? k : i;
		rebuild(w, p, at, order, count);
		(void)snprintf(place, sizeof place, "record %zu", k + 1);
		assert_non_null(strstr(found(w), place));
	}
	for (size_t k = 0; k < count; k++) {		/* twice */
		for (size_t i = 0; i <= count; i++)
			order[i] = i <= k ? i : i - 1;
		rebuild(w, p, at, order, count + 1);
		(void)snprintf(place, sizeof place, "record %zu", k + 2);
		assert_non_null(strstr(found(w), place));
	}
	free(p);
}

static void every_truncation_of_the_end_is_found(void **state)
{
	struct world *w = *state;
	uint64_t last;
	char name[SEGMENT_NAME_MAX];
	size_t n;

	build(w, 30);
	last = world_verified(w).segments;
	segment_name(last, name, sizeof name);
	char *p = world_read(w, name, &n);

	for (size_t cut = 0; cut < n; cut++) {
		world_put(w, name, p, cut);
		(void)found(w);
	}
	free(p);
}

static void a_missing_or_replaced_segment_is_found(void **state)
{
	struct world *w = *state;
	size_t n1, n2, nold;

	build(w, 18);
	uint64_t last = world_verified(w).segments;
	char name[SEGMENT_NAME_MAX];

	segment_name(last, name, sizeof name);
	char *old = world_read(w, name, &nold);		/* as it was earlier */

	build(w, 30);
	char *one = world_read(w, "segment-00000001.cl", &n1);
	char *two = world_read(w, "segment-00000002.cl", &n2);

	char *grown;
	size_t ngrown;

	grown = world_read(w, name, &ngrown);
	assert_true(ngrown > nold);
	world_put(w, name, old, nold);			/* replay of an old copy */
	(void)found(w);
	world_put(w, name, grown, ngrown);
	world_put(w, "segment-00000002.cl", one, n1);	/* a copy under another name */
	assert_non_null(strstr(found(w), "another name"));
	assert_int_equal(unlinkat(w->dirfd, "segment-00000002.cl", 0), 0);
	assert_non_null(strstr(found(w), "segment-00000002.cl"));
	world_put(w, "segment-00000002.cl", two, n2);
	(void)world_verified(w);
	assert_int_equal(unlinkat(w->dirfd, "segment-00000001.cl", 0), 0);
	assert_non_null(strstr(found(w), "no record says that it was deleted"));
	free(old);
	free(one);
	free(two);
	free(grown);
}

/* Somebody who can write everything but has no key: all chain values anew. */
static void a_rewritten_chain_without_the_key_fails_at_the_next_signature(void **state)
{
	struct world *w = *state;
	unsigned char chain[CHAIN_SIZE];
	struct segment_header h;
	CL_BUF struct buf b;
	size_t at[128], n;

	world_open(w, NULL);
	world_write(w, 0, 12);
	world_close(w);
	char *p = world_read(w, "segment-00000001.cl", &n);
	size_t count = offsets(p, n, at, CL_ARRAY_LEN(at));

	buf_init(&b, 1u << 20);
	assert_int_equal(segment_header_decode((struct span){ p, n }, &h, NULL), 0);
	assert_int_equal(segment_header_encode(&h, &b), 0);
	memcpy(chain, h.hash, CHAIN_SIZE);
	for (size_t i = 0; i < count; i++) {
		struct frame f;

		assert_int_equal(frame_decode((struct span){ p + at[i], n - at[i] }, &f), 1);
		if (f.kind == RECORD_TENANT_STATE)
			f.tenant = SPAN("mallory");
		assert_int_equal(frame_encode(&f, chain, &b), 0);
	}
	world_put(w, "segment-00000001.cl", b.p, b.n);
	assert_non_null(strstr(found(w), "checkpoint"));
	free(p);
}

static void a_ledger_of_another_key_is_not_ours(void **state)
{
	struct world *w = *state;
	struct audit_report rep;
	struct cl_err err = { 0 };
	unsigned char other[32], sk[SIGN_KEY_SIZE];

	build(w, 10);
	crypto_sign_keypair(other, sk);
	assert_int_equal(audit_verify(w->dirfd, other, false, NULL, &rep, &err), -EBADMSG);
}

static void an_old_copy_of_everything_is_found_by_an_anchor_only(void **state)
{
	struct world *w = *state, copy = *w;
	struct audit_anchor anchor;
	struct audit_report rep;
	struct cl_err err;
	char text[100], hex[65];

	world_open(w, NULL);
	world_write(w, 0, 10);
	world_close(w);
	world_make(&copy);
	for (const char *const *f = (const char *const[]){ "segment-00000001.cl", "head", "ledger.pub", NULL };
	     *f; f++) {
		size_t n;
		char *p = world_read(w, *f, &n);

		world_put(&copy, *f, p, n);
		free(p);
	}
	world_open(w, NULL);
	world_write(w, 0, 10);
	world_close(w);
	rep = world_verified(w);
	cl_hex(rep.chain, 32, hex);
	(void)snprintf(text, sizeof text, "%llu:%s", (unsigned long long)rep.last, hex);
	assert_int_equal(audit_anchor_parse(span_str(text), &anchor), 0);
	assert_int_equal(world_verify(w, &anchor, &rep, &err), 0);
	(void)world_verified(&copy);			/* whole in itself */
	assert_int_equal(world_verify(&copy, &anchor, &rep, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "anchor"));
	anchor.chain[0] ^= 1;
	assert_int_equal(world_verify(w, &anchor, &rep, &err), -EBADMSG);
	world_end(&copy);
}

/* ---- reading ------------------------------------------------------------------------ */

struct seen {
	struct world *w;
	int n;
	uint64_t first, last;
	struct buf text;
};

static int see(void *ctx, const struct audit_record *r)
{
	struct seen *s = ctx;

	if (!s->n++)
		s->first = r->number;
	s->last = r->number;
	if (s->text.max) {
		assert_int_equal(audit_json(s->w->dirfd, r, &s->text), 0);
		assert_int_equal(buf_add_ch(&s->text, '\n'), 0);
		assert_int_equal(audit_ocsf(s->w->dirfd, r, &s->text), 0);
		assert_int_equal(buf_add_ch(&s->text, '\n'), 0);
		assert_int_equal(audit_text(s->w->dirfd, r, &s->text), 0);
		assert_int_equal(buf_add_ch(&s->text, '\n'), 0);
	}
	return 0;
}

static struct seen ask(struct world *w, const struct audit_query *q)
{
	struct seen s = { .w = w };
	struct cl_err err = { 0 };

	assert_int_equal(audit_read(w->dirfd, q, see, &s, NULL, &err), 0);
	return s;
}

static void a_search_finds_by_tenant_kind_number_text_and_from_the_end(void **state)
{
	struct world *w = *state;

	build(w, 60);
	uint64_t last = world_verified(w).last;

	assert_int_equal(ask(w, &(struct audit_query){ 0 }).n, last);
	assert_int_equal(ask(w, &(struct audit_query){ .tenant = "bob" }).n, 20);
	assert_int_equal(ask(w, &(struct audit_query){ .kind = "message" }).n, 20);
	assert_int_equal(ask(w, &(struct audit_query){ .kind = "request." }).n, 20);
	assert_int_equal(ask(w, &(struct audit_query){ .kind = "message", .tenant = "bob" }).n, 0);
	assert_int_equal(ask(w, &(struct audit_query){ .text = "D-31" }).n, 1);
	assert_int_equal(ask(w, &(struct audit_query){ .from_number = last - 4 }).n, 5);
	assert_int_equal(ask(w, &(struct audit_query){ .limit = 7 }).first, 1);
	assert_int_equal(ask(w, &(struct audit_query){ .limit = 7 }).n, 7);
	struct seen s = ask(w, &(struct audit_query){ .limit = 7, .last = true });

	assert_int_equal(s.n, 7);
	assert_int_equal(s.last, last);
	s = ask(w, &(struct audit_query){ .limit = 15, .last = true, .tenant = "bob" });
	assert_int_equal(s.n, 15);
	assert_int_equal(ask(w, &(struct audit_query){ .to_us = 1 }).n, 0);
	assert_int_equal(audit_read(w->dirfd, &(struct audit_query){ .kind = "nothing" }, see, &s, NULL,
				    NULL), -EINVAL);
}

static void erasing_a_tenants_key_hides_the_person_and_keeps_the_chain(void **state)
{
	struct world *w = *state;
	struct seen s = { .w = w };

	build(w, 12);
	buf_init(&s.text, 1u << 20);
	assert_int_equal(audit_read(w->dirfd, &(struct audit_query){ .kind = "message" }, see, &s, NULL,
				    NULL), 0);
	assert_int_equal(buf_add_ch(&s.text, '\0'), 0);
	assert_non_null(strstr(s.text.p, "telegram:4711"));
	size_t n;
	char *raw = world_read(w, "segment-00000001.cl", &n);

	assert_null(memmem(raw, n, "telegram:4711", 13));	/* never lay there in clear */
	free(raw);
	world_open(w, &small);
	assert_int_equal(journal_erase(&w->j, SPAN("alice"), NULL), 0);
	world_close(w);
	buf_clear(&s.text);
	assert_int_equal(audit_read(w->dirfd, &(struct audit_query){ .kind = "message" }, see, &s, NULL,
				    NULL), 0);
	assert_int_equal(buf_add_ch(&s.text, '\0'), 0);
	assert_null(strstr(s.text.p, "telegram:4711"));
	assert_non_null(strstr(s.text.p, "[erased]"));
	buf_done(&s.text);
	(void)world_verified(w);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_kind_has_fields_that_exist_and_numbers_of_its_own),
		cmocka_unit_test(a_body_comes_back_as_it_was_written),
		cmocka_unit_test(text_is_made_valid_and_cut_at_a_character),
		cmocka_unit_test(the_callers_mistakes_are_kept_and_refused),
		cmocka_unit_test(the_queue_without_a_link_has_an_end),
		cmocka_unit_test(every_prefix_of_a_frame_is_unfinished_and_read_within_its_bytes),
		cmocka_unit_test(every_prefix_of_a_body_is_refused_or_whole_fields),
		cmocka_unit_test(a_sealed_field_is_not_taken_from_the_wire),
		T(an_untouched_ledger_verifies),
		T(each_flipped_byte_is_found),
		T(each_flipped_byte_of_the_head_is_found),
		T(a_record_cut_out_moved_or_put_in_twice_is_found_at_its_place),
		T(every_truncation_of_the_end_is_found),
		T(a_missing_or_replaced_segment_is_found),
		T(a_rewritten_chain_without_the_key_fails_at_the_next_signature),
		T(a_ledger_of_another_key_is_not_ours),
		T(an_old_copy_of_everything_is_found_by_an_anchor_only),
		T(a_search_finds_by_tenant_kind_number_text_and_from_the_end),
		T(erasing_a_tenants_key_hides_the_person_and_keeps_the_chain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "record/segment.h"

#include <assert.h>
#include <dirent.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAGIC "CLEDGER1"
#define HEAD_MAGIC "CLHEAD01"
#define VERSION 1

_Static_assert(SEAL_EXTRA == crypto_secretbox_NONCEBYTES + crypto_secretbox_MACBYTES, "seal");
_Static_assert(SIGN_KEY_SIZE == crypto_sign_SECRETKEYBYTES, "key");

static void put_u32(unsigned char *p, uint32_t v)
{
	for (size_t i = 0; i < 4; i++)
		p[i] = (unsigned char)(v >> (8 * i));
}

static void put_u64(unsigned char *p, uint64_t v)
{
	for (size_t i = 0; i < 8; i++)
		p[i] = (unsigned char)(v >> (8 * i));
}

static uint32_t get_u32(const unsigned char *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t get_u64(const unsigned char *p)
{
	return (uint64_t)get_u32(p) | (uint64_t)get_u32(p + 4) << 32;
}

int ledger_crypto_init(struct cl_err *err)
{
	return sodium_init() < 0 ? cl_fail(err, ENOSYS, "libsodium does not start") : 0;
}

/* ---- names ---------------------------------------------------------------- */

void segment_name(uint64_t segment, char *buf, size_t n)
{
	(void)snprintf(buf, n, "segment-%08llu.cl", (unsigned long long)segment);
}

uint64_t segment_number(struct span name)
{
	struct span prefix = SPAN("segment-"), suffix = SPAN(".cl");
	uint64_t v = 0;

	if (name.n < prefix.n + 8 + suffix.n || name.n > prefix.n + 19 + suffix.n ||
	    !span_starts(name, prefix) ||
	    memcmp(name.p + name.n - suffix.n, suffix.p, suffix.n) != 0)
		return 0;
	for (size_t i = prefix.n; i < name.n - suffix.n; i++) {
		if (name.p[i] < '0' || name.p[i] > '9')
			return 0;
		v = v * 10 + (uint64_t)(name.p[i] - '0');
	}
	/* one name per number: "segment-0000000001.cl" is not ours */
	char canonical[SEGMENT_NAME_MAX];

	segment_name(v, canonical, sizeof canonical);
	return span_eq_str(name, canonical) ? v : 0;
}

static int by_number(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

int segment_list(int dirfd, uint64_t **out, size_t *out_n, struct cl_err *err)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint64_t *list = NULL;
	size_t n = 0, cap = 0;
	struct dirent *e;

	if (fd < 0)
		return cl_fail(err, errno, "ledger: directory");
	DIR *d = fdopendir(fd);

	if (!d) {
		int code = errno;

		(void)cl_close(fd);
		return cl_fail(err, code, "ledger: directory");
	}
	while ((e = readdir(d))) {
		uint64_t v = segment_number(span_str(e->d_name));

		if (!v)
			continue;
		if (n == cap) {
			cap = cap ? cap * 2 : 64;
			uint64_t *more = realloc(list, cap * sizeof *list);

			if (!more) {
				free(list);
				closedir(d);
				return cl_fail(err, ENOMEM, "ledger: list");
			}
			list = more;
		}
		list[n++] = v;
	}
	closedir(d);
	if (n)
		qsort(list, n, sizeof *list, by_number);
	*out = list;
	*out_n = n;
	return 0;
}

/* ---- headers and frames ------------------------------------------------------ */

static void hash2(const void *a, size_t an, const void *b, size_t bn, unsigned char out[CHAIN_SIZE])
{
	crypto_generichash_state st;

	crypto_generichash_init(&st, NULL, 0, CHAIN_SIZE);
	crypto_generichash_update(&st, a, an);
	if (bn)
		crypto_generichash_update(&st, b, bn);
	crypto_generichash_final(&st, out, CHAIN_SIZE);
}

int segment_header_encode(struct segment_header *h, struct buf *out)
{
	unsigned char b[SEGMENT_HEADER_SIZE];

	memcpy(b, MAGIC, 8);
	put_u32(b + 8, VERSION);
	put_u32(b + 12, SEGMENT_HEADER_SIZE);
	put_u64(b + 16, h->segment);
	put_u64(b + 24, h->first);
	put_u64(b + 32, h->created_us);
	memcpy(b + 40, h->prev, CHAIN_SIZE);
	memcpy(b + 72, h->pubkey, SIGN_PUB_SIZE);
	hash2(b, 104, NULL, 0, h->hash);
	memcpy(b + 104, h->hash, CHAIN_SIZE);
	return buf_add(out, b, sizeof b);
}

int segment_header_decode(struct span in, struct segment_header *out, struct cl_err *err)
{
	const unsigned char *b = (const unsigned char *)in.p;
	unsigned char hash[CHAIN_SIZE];

	if (in.n < SEGMENT_HEADER_SIZE)
		return cl_fail(err, EBADMSG, "the header is cut short");
	if (memcmp(b, MAGIC, 8) != 0)
		return cl_fail(err, EBADMSG, "this is no ledger segment");
	if (get_u32(b + 8) != VERSION || get_u32(b + 12) != SEGMENT_HEADER_SIZE)
		return cl_fail(err, EBADMSG, "the header's version is not known");
	hash2(b, 104, NULL, 0, hash);
	if (memcmp(hash, b + 104, CHAIN_SIZE) != 0)
		return cl_fail(err, EBADMSG, "the header was changed: its hash does not fit");
	*out = (struct segment_header){ .segment = get_u64(b + 16), .first = get_u64(b + 24),
					.created_us = get_u64(b + 32) };
	memcpy(out->prev, b + 40, CHAIN_SIZE);
	memcpy(out->pubkey, b + 72, SIGN_PUB_SIZE);
	memcpy(out->hash, hash, CHAIN_SIZE);
	return 0;
}

int frame_encode(struct frame *f, unsigned char chain[CHAIN_SIZE], struct buf *out)
{
	unsigned char b[FRAME_HEAD];
	size_t start = out->n;

	if (f->tenant.n > TENANT_ID_MAX ||
	    f->body.n > FRAME_MAX - FRAME_HEAD - TENANT_ID_MAX - CHAIN_SIZE)
		return -EINVAL;
	f->size = (uint32_t)(FRAME_HEAD + f->tenant.n + f->body.n + CHAIN_SIZE);
	put_u32(b, f->size);
	put_u32(b + 4, f->kind);
	put_u64(b + 8, f->number);
	put_u64(b + 16, f->at_us);
	b[24] = f->sender;
	b[25] = f->flags;
	b[26] = (unsigned char)f->tenant.n;
	b[27] = 0;
	put_u32(b + 28, (uint32_t)f->body.n);

	int r = buf_reserve(out, f->size);

	if (r)
		return r;
	(void)buf_add(out, b, sizeof b);	/* room is reserved: cannot fail */
	(void)buf_add_span(out, f->tenant);
	(void)buf_add_span(out, f->body);
	hash2(chain, CHAIN_SIZE, out->p + start, out->n - start, f->chain);
	(void)buf_add(out, f->chain, CHAIN_SIZE);
	memcpy(chain, f->chain, CHAIN_SIZE);
	return 0;
}

int frame_decode(struct span in, struct frame *out)
{
	const unsigned char *b = (const unsigned char *)in.p;

	if (in.n < 4)
		return 0;
	uint32_t size = get_u32(b);

	if (size < FRAME_HEAD + CHAIN_SIZE || size > FRAME_MAX)
		return -EBADMSG;
	if (in.n < FRAME_HEAD)
		return 0;
	uint32_t tenant = b[26], body = get_u32(b + 28);

	if (tenant > TENANT_ID_MAX || body > FRAME_MAX || b[27] != 0 ||
	    size != FRAME_HEAD + tenant + body + CHAIN_SIZE)
		return -EBADMSG;
	if (in.n < size)
		return 0;
	*out = (struct frame){
		.size = size, .kind = get_u32(b + 4), .number = get_u64(b + 8),
		.at_us = get_u64(b + 16), .sender = b[24], .flags = b[25],
		.tenant = { in.p + FRAME_HEAD, tenant },
		.body = { in.p + FRAME_HEAD + tenant, body },
	};
	memcpy(out->chain, b + size - CHAIN_SIZE, CHAIN_SIZE);
	return 1;
}

void frame_chain(const unsigned char before[CHAIN_SIZE], struct span raw,
		 unsigned char out[CHAIN_SIZE])
{
	assert(raw.n > CHAIN_SIZE);
	hash2(before, CHAIN_SIZE, raw.p, raw.n - CHAIN_SIZE, out);
}

/* ---- signatures ---------------------------------------------------------------- */

/* What is signed: a word for the purpose, so that one signature never serves
 * as another, then the fields in fixed size. */
#define CHECK_WORD "cloister ledger checkpoint 1\n"
#define HEAD_WORD "cloister ledger head 1\n"

static size_t signed_bytes(unsigned char *b, const char *word, const uint64_t *nums, size_t nnums,
			   const unsigned char chain[CHAIN_SIZE])
{
	size_t n = strlen(word);

	memcpy(b, word, n);
	for (size_t i = 0; i < nnums; i++, n += 8)
		put_u64(b + n, nums[i]);
	memcpy(b + n, chain, CHAIN_SIZE);
	return n + CHAIN_SIZE;
}

void checkpoint_sign(const unsigned char key[SIGN_KEY_SIZE], uint64_t number, uint64_t at_us,
		     const unsigned char chain[CHAIN_SIZE], unsigned char sig[SIGNATURE_SIZE])
{
	unsigned char b[128];
	size_t n = signed_bytes(b, CHECK_WORD, (const uint64_t[]){ number, at_us }, 2, chain);

	crypto_sign_detached(sig, NULL, b, n, key);
}

bool checkpoint_ok(const unsigned char pub[SIGN_PUB_SIZE], uint64_t number, uint64_t at_us,
		   const unsigned char chain[CHAIN_SIZE], const unsigned char sig[SIGNATURE_SIZE])
{
	unsigned char b[128];
	size_t n = signed_bytes(b, CHECK_WORD, (const uint64_t[]){ number, at_us }, 2, chain);

	return crypto_sign_verify_detached(sig, b, n, pub) == 0;
}

static size_t head_bytes(const struct ledger_head *h, unsigned char *b)
{
	return signed_bytes(b, HEAD_WORD, (const uint64_t[]){ h->number, h->segment, h->at_us }, 3,
			    h->chain);
}

void head_sign(struct ledger_head *h, const unsigned char key[SIGN_KEY_SIZE])
{
	unsigned char b[128];
	size_t n = head_bytes(h, b);

	crypto_sign_detached(h->signature, NULL, b, n, key);
}

bool head_ok(const struct ledger_head *h, const unsigned char pub[SIGN_PUB_SIZE])
{
	unsigned char b[128];
	size_t n = head_bytes(h, b);

	return crypto_sign_verify_detached(h->signature, b, n, pub) == 0;
}

void head_encode(const struct ledger_head *h, unsigned char out[HEAD_SIZE])
{
	memset(out, 0, HEAD_SIZE);
	memcpy(out, HEAD_MAGIC, 8);
	put_u64(out + 8, h->number);
	put_u64(out + 16, h->segment);
	put_u64(out + 24, h->at_us);
	memcpy(out + 32, h->chain, CHAIN_SIZE);
	memcpy(out + 64, h->signature, SIGNATURE_SIZE);
}

int head_decode(struct span in, struct ledger_head *out)
{
	const unsigned char *b = (const unsigned char *)in.p;

	if (in.n != HEAD_SIZE || memcmp(b, HEAD_MAGIC, 8) != 0)
		return -EBADMSG;
	*out = (struct ledger_head){ .number = get_u64(b + 8), .segment = get_u64(b + 16),
				     .at_us = get_u64(b + 24) };
	memcpy(out->chain, b + 32, CHAIN_SIZE);
	memcpy(out->signature, b + 64, SIGNATURE_SIZE);
	return 0;
}

int head_read(int dirfd, struct ledger_head *out, struct cl_err *err)
{
	CL_BUF struct buf b;

	buf_init(&b, 4096);
	int r = cl_read_file(dirfd, "head", &b, err);

	if (r == -ENOENT)
		return 0;
	if (r)
		return r;
	if (head_decode(buf_span(&b), out))
		return cl_fail(err, EBADMSG, "ledger: the file 'head' is damaged");
	return 1;
}

/* ---- personal fields -------------------------------------------------------------- */

bool seal_has_person(struct span body)
{
	struct record_value v;

	while (record_next(&body, &v) == 1)
		if (v.info->type == RT_PERSON)
			return true;
	return false;
}

int seal_fields(struct span body, const unsigned char key[SEAL_KEY_SIZE], struct buf *out)
{
	struct record_value v;
	int r;

	while ((r = record_next(&body, &v)) == 1) {
		bool person = v.info->type == RT_PERSON && !v.sealed;
		size_t n = v.bytes.n + (person ? (size_t)SEAL_EXTRA : 0);
		uint32_t f = v.info->number | (person || v.sealed ? RECORD_SEALED : 0);
		unsigned char h[4] = { (unsigned char)f, (unsigned char)(f >> 8), (unsigned char)n,
				       (unsigned char)(n >> 8) };

		if (n > 0xffff || buf_reserve(out, n + 4))
			return -E2BIG;
		(void)buf_add(out, h, sizeof h);	/* reserved */
		if (!person) {
			(void)buf_add_span(out, v.bytes);
			continue;
		}
		unsigned char *at = (unsigned char *)out->p + out->n;

		randombytes_buf(at, crypto_secretbox_NONCEBYTES);
		crypto_secretbox_easy(at + crypto_secretbox_NONCEBYTES,
				      (const unsigned char *)v.bytes.p, v.bytes.n, at, key);
		out->n += n;
	}
	return r;
}

int seal_open(struct span sealed, const unsigned char key[SEAL_KEY_SIZE], struct buf *out)
{
	const unsigned char *p = (const unsigned char *)sealed.p;

	if (sealed.n < SEAL_EXTRA)
		return -EBADMSG;
	int r = buf_reserve(out, sealed.n - SEAL_EXTRA + 1);

	if (r)
		return r;
	if (crypto_secretbox_open_easy((unsigned char *)out->p + out->n,
				       p + crypto_secretbox_NONCEBYTES,
				       sealed.n - crypto_secretbox_NONCEBYTES, p, key) != 0)
		return -EBADMSG;
	out->n += sealed.n - SEAL_EXTRA;
	return 0;
}

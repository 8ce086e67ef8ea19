/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/vault.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/stat.h>

#define KEY_FILE "vault.key"
#define SECRETS_LIMIT 4096

struct secret {
	struct secret *next;
	char name[65];
	size_t n;
	char *bytes;		/* sodium_malloc: guarded, locked, not dumped */
};

struct vault {
	uint8_t *sk;		/* sodium_malloc, crypto_box_SECRETKEYBYTES */
	uint8_t pk[VAULT_PUBKEY];
	struct secret *first;
	size_t count;
	uint64_t changes;
};

_Static_assert(crypto_box_PUBLICKEYBYTES == VAULT_PUBKEY, "X25519");

static int key_read(struct vault *v, int dirfd, struct cl_err *err)
{
	CL_CLOSE int fd = cl_open_beneath(dirfd, KEY_FILE, O_RDONLY, 0);
	struct stat st;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return cl_fail(err, errno, "vault key: stat");
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_nlink != 1 || (st.st_mode & 077))
		return cl_fail(err, EPERM, "vault key: not private");
	if (st.st_size != crypto_box_SECRETKEYBYTES)
		return cl_fail(err, EBADMSG, "vault key: wrong size");
	int r = cl_read_full(fd, v->sk, crypto_box_SECRETKEYBYTES);

	return r ? cl_fail(err, -r, "vault key: read") : 0;
}

int vault_new(struct vault **out, int dirfd, struct cl_err *err)
{
	struct vault *v = calloc(1, sizeof *v);
	int r;

	if (!v || sodium_init() < 0 || !(v->sk = sodium_malloc(crypto_box_SECRETKEYBYTES))) {
		free(v);
		return cl_fail(err, ENOMEM, "vault: locked memory");
	}
	r = key_read(v, dirfd, err);
	if (r == -ENOENT) {
		randombytes_buf(v->sk, crypto_box_SECRETKEYBYTES);
		r = cl_write_file(dirfd, KEY_FILE, 0600,
				  (struct span){ (char *)v->sk, crypto_box_SECRETKEYBYTES }, err);
	} else if (r && err && err->code == 0) {
		(void)cl_fail(err, -r, "vault key: open");
	}
	if (r || crypto_scalarmult_base(v->pk, v->sk) != 0) {
		vault_free(v);
		return r ? r : cl_fail(err, EINVAL, "vault key");
	}
	*out = v;
	return 0;
}

static void secret_free(struct secret *s)
{
	sodium_free(s->bytes);	/* wipes */
	free(s);
}

void vault_free(struct vault *v)
{
	if (!v)
		return;
	while (v->first) {
		struct secret *s = v->first;

		v->first = s->next;
		secret_free(s);
	}
	sodium_free(v->sk);
	free(v);
}

const uint8_t *vault_pubkey(const struct vault *v)
{
	return v->pk;
}

static void fingerprint(struct span s, char out[FINGERPRINT_SIZE])
{
	uint8_t h[8 + 8];

	/* of 8 bytes shown: enough to tell two keys apart, useless to find one */
	crypto_generichash(h, sizeof h, (const uint8_t *)s.p, s.n, (const uint8_t *)"cloister secret fingerprint", 27);
	cl_hex(h, 8, out);
}

int vault_put(struct vault *v, struct span name, struct span sealed, char out_fingerprint[FINGERPRINT_SIZE],
	      struct cl_err *err)
{
	if (!name_ok(name))
		return cl_fail(err, EINVAL, "secret: name not allowed");
	if (sealed.n <= crypto_box_SEALBYTES || sealed.n > SECRET_MAX + crypto_box_SEALBYTES)
		return cl_fail(err, EBADMSG, "secret: empty or larger than %d bytes", SECRET_MAX);
	struct secret *s = calloc(1, sizeof *s);
	size_t n = sealed.n - crypto_box_SEALBYTES;

	if (!s || !(s->bytes = sodium_malloc(n))) {
		free(s);
		return cl_fail(err, ENOMEM, "secret: locked memory");
	}
	s->n = n;
	memcpy(s->name, name.p, name.n);
	if (crypto_box_seal_open((uint8_t *)s->bytes, (const uint8_t *)sealed.p, sealed.n, v->pk, v->sk)) {
		secret_free(s);
		return cl_fail(err, EBADMSG, "secret: not sealed to this broker's key");
	}
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s->bytes[i];

		if (c < 0x20 || c == 0x7f) {
			secret_free(s);
			return cl_fail(err, EBADMSG, "secret: holds a line break or another control character");
		}
	}
	(void)vault_rm(v, name);	/* replacing: absent is fine */
	if (v->count >= SECRETS_LIMIT) {
		secret_free(s);
		return cl_fail(err, ENOSPC, "secret: more than %d of them", SECRETS_LIMIT);
	}
	fingerprint((struct span){ s->bytes, n }, out_fingerprint);
	s->next = v->first;
	v->first = s;
	v->count++;
	v->changes++;
	return 0;
}

int vault_rm(struct vault *v, struct span name)
{
	for (struct secret **pp = &v->first; *pp; pp = &(*pp)->next) {
		struct secret *s = *pp;

		if (!span_eq_str(name, s->name))
			continue;
		*pp = s->next;
		secret_free(s);
		v->count--;
		v->changes++;
		return 0;
	}
	return -ENOENT;
}

struct span vault_get(const struct vault *v, const char *name)
{
	for (const struct secret *s = v->first; s; s = s->next)
		if (strcmp(s->name, name) == 0)
			return (struct span){ s->bytes, s->n };
	return (struct span){ NULL, 0 };
}

void vault_each(const struct vault *v, vault_fn *fn, void *ctx)
{
	for (const struct secret *s = v->first; s; s = s->next)
		fn(ctx, s->name, (struct span){ s->bytes, s->n });
}

uint64_t vault_changes(const struct vault *v)
{
	return v->changes;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/token.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/stat.h>

#define KEY_FILE "token.key"
#define MAC_TEXT 43		/* 32 bytes as unpadded base64url */

struct token_key { uint8_t k[crypto_generichash_KEYBYTES]; };

static const char *const prefix[] = { "sk-cloister-", "8377:" };

int token_key_new(struct token_key **out, int dirfd, struct cl_err *err)
{
	struct token_key *k = sodium_init() < 0 ? NULL : sodium_malloc(sizeof *k);
	int r;

	if (!k)
		return cl_fail(err, ENOMEM, "token key: locked memory");
	CL_CLOSE int fd = cl_open_beneath(dirfd, KEY_FILE, O_RDONLY, 0);
	struct stat st;

	if (fd == -ENOENT) {
		randombytes_buf(k->k, sizeof k->k);
		r = cl_write_file(dirfd, KEY_FILE, 0600, (struct span){ (char *)k->k, sizeof k->k }, err);
	} else if (fd < 0) {
		r = cl_fail(err, -fd, "token key: open");
	} else if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() ||
		   st.st_nlink != 1 || (st.st_mode & 077) || st.st_size != sizeof k->k) {
		r = cl_fail(err, EPERM, "token key: not a private file of ours");
	} else {
		r = cl_read_full(fd, k->k, sizeof k->k);
		if (r)
			(void)cl_fail(err, -r, "token key: read");
	}
	if (r) {
		sodium_free(k);
		return r;
	}
	*out = k;
	return 0;
}

void token_key_free(struct token_key *k)
{
	sodium_free(k);
}

void token_make(const struct token_key *k, enum token_kind kind, uint32_t no, uint32_t generation,
		char out[TOKEN_SIZE])
{
	uint8_t msg[13] = { (uint8_t)kind }, mac[32];
	size_t n = strlen(prefix[kind]);

	for (int i = 0; i < 4; i++) {
		msg[1 + i] = (uint8_t)(no >> (8 * i));
		msg[5 + i] = (uint8_t)(generation >> (8 * i));
	}
	crypto_generichash(mac, sizeof mac, msg, sizeof msg, k->k, sizeof k->k);
	memcpy(out, prefix[kind], n);
	(void)sodium_bin2base64(out + n, TOKEN_SIZE - n, mac, sizeof mac,
				sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

bool token_like(enum token_kind kind, struct span token)
{
	return token.n == strlen(prefix[kind]) + MAC_TEXT && span_starts(token, span_str(prefix[kind]));
}

bool token_ok(const struct token_key *k, enum token_kind kind, uint32_t no, uint32_t generation,
	      struct span token)
{
	char want[TOKEN_SIZE];

	if (!token_like(kind, token))
		return false;
	token_make(k, kind, no, generation, want);
	return cl_ct_eq(want, token.p, token.n);
}

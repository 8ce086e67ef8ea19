/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vault - the credentials, open only here, in locked memory.
 *
 * The operator's CLI seals each secret to vault_pubkey() before it leaves the
 * terminal; the api stores what it cannot open and sends it again after each
 * start. The key pair lies in the broker's state directory (0600).
 */
#ifndef CL_BROKER_VAULT_H
#define CL_BROKER_VAULT_H

#include "base/base.h"

#define SECRET_MAX 8192		/* bytes of one secret */
#define VAULT_PUBKEY 32
#define FINGERPRINT_SIZE 17	/* 16 hex digits and NUL */

struct vault;

/* vault_new - key pair from @dirfd, made when there is none. -EPERM: not private */
int vault_new(struct vault **out, int dirfd, struct cl_err *err);
void vault_free(struct vault *v);
const uint8_t *vault_pubkey(const struct vault *v);

/*
 * vault_put - open @sealed and keep it under @name (replacing).
 * Return: 0; -EINVAL bad name; -EBADMSG sealed to another key, damaged, empty,
 * too long, or with CR, LF, NUL or another control character inside; -ENOMEM
 */
int vault_put(struct vault *v, struct span name, struct span sealed, char out_fingerprint[FINGERPRINT_SIZE],
	      struct cl_err *err);
int vault_rm(struct vault *v, struct span name);	/* 0 or -ENOENT */
/* vault_get - bytes in locked memory, borrowed until the next put or rm; p NULL: not there */
struct span vault_get(const struct vault *v, const char *name);
/* vault_each - all names and secrets, for the scrubber */
typedef void vault_fn(void *ctx, const char *name, struct span secret);
void vault_each(const struct vault *v, vault_fn *fn, void *ctx);
/* vault_changes - counts puts and removals */
uint64_t vault_changes(const struct vault *v);

#endif

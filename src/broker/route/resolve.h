/* SPDX-License-Identifier: Apache-2.0 */
/* resolve - names to checked addresses: a cache on the loop, one helper thread behind it. */
#ifndef CL_BROKER_RESOLVE_H
#define CL_BROKER_RESOLVE_H

#include "base/base.h"
#include "loop/loop.h"

#include <netinet/in.h>

#define RESOLVE_ADDRS 8

union addr {
	struct sockaddr sa;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

enum addr_class {
	ADDR_PUBLIC,
	ADDR_PRIVATE,	/* loopback, RFC 1918, unique local, shared 100.64/10 */
	ADDR_FORBIDDEN	/* link-local (metadata services), multicast, unspecified, reserved, 6to4, Teredo */
};
enum addr_class addr_class(const union addr *a);
/* addr_literal - "127.0.0.1", "::1" (no brackets); false: not a literal address */
bool addr_literal(const char *host, uint16_t port, union addr *out);
socklen_t addr_len(const union addr *a);

struct resolver;
struct resolve_wait;
/* @n 0: the name has no address, @words says why */
typedef void resolve_fn(void *ctx, const union addr *addrs, size_t n, const char *words);

int resolver_new(struct resolver **out, struct loop *l, struct cl_err *err);
void resolver_free(struct resolver *r);
/*
 * resolve - @fn is called from the loop, later, once. Literals are not asked for.
 * @out_wait is for resolve_cancel. Return 0 or -errno (@fn not called).
 */
int resolve(struct resolver *r, const char *host, resolve_fn *fn, void *ctx,
	    struct resolve_wait **out_wait);
void resolve_cancel(struct resolve_wait *w);

#endif

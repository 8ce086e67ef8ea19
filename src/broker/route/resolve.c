/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How this works: the thread takes names from a list under a mutex, asks
 * getaddrinfo and puts the answer on another list; an eventfd wakes the loop.
 * Only the loop's thread touches the cache and the waiters. Answers are kept
 * for a minute, failures for some seconds. A caller connects to an address it
 * was given here, after checking its class: the name is not asked again
 * between check and use.
 */
#include "broker/route/resolve.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define KEEP_US 60000000
#define KEEP_FAILED_US 5000000
#define HOSTS_MAX 1024

struct host {
	struct host *next, *job_next;
	char name[256];
	bool asking;
	int64_t until_us;
	union addr addrs[RESOLVE_ADDRS];
	size_t n;
	char words[128];
	struct resolve_wait *waits;
};

struct resolve_wait {
	struct resolve_wait *next, **pprev;
	resolve_fn *fn;
	void *ctx;
};

struct resolver {
	struct loop *loop;
	struct host *hosts;
	size_t nhosts;
	int event_fd;
	struct loop_io io;
	struct loop_timer soon;		/* answers that were in the cache */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stop;			/* with the lists below: under the lock */
	struct host *jobs, *done;
};

/* ---- classes ---------------------------------------------------------------- */

static enum addr_class class_v4(uint32_t a)
{
	static const struct { uint32_t net, mask; enum addr_class c; } t[] = {
		{ 0x00000000, 0xff000000, ADDR_FORBIDDEN },	/* 0/8 */
		{ 0x7f000000, 0xff000000, ADDR_PRIVATE },	/* 127/8 */
		{ 0x0a000000, 0xff000000, ADDR_PRIVATE },	/* 10/8 */
		{ 0xac100000, 0xfff00000, ADDR_PRIVATE },	/* 172.16/12 */
		{ 0xc0a80000, 0xffff0000, ADDR_PRIVATE },	/* 192.168/16 */
		{ 0x64400000, 0xffc00000, ADDR_PRIVATE },	/* 100.64/10 */
		{ 0xa9fe0000, 0xffff0000, ADDR_FORBIDDEN },	/* 169.254/16 */
		{ 0xc0000000, 0xffffff00, ADDR_FORBIDDEN },	/* 192.0.0/24 */
		{ 0xc0000200, 0xffffff00, ADDR_FORBIDDEN },	/* 192.0.2/24 */
		{ 0xc0586300, 0xffffff00, ADDR_FORBIDDEN },	/* 192.88.99/24 */
		{ 0xc6120000, 0xfffe0000, ADDR_FORBIDDEN },	/* 198.18/15 */
		{ 0xc6336400, 0xffffff00, ADDR_FORBIDDEN },	/* 198.51.100/24 */
		{ 0xcb007100, 0xffffff00, ADDR_FORBIDDEN },	/* 203.0.113/24 */
		{ 0xe0000000, 0xe0000000, ADDR_FORBIDDEN },	/* 224/3: multicast, reserved, broadcast */
	};

	for (size_t i = 0; i < CL_ARRAY_LEN(t); i++)
		if ((a & t[i].mask) == t[i].net)
			return t[i].c;
	return ADDR_PUBLIC;
}

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

enum addr_class addr_class(const union addr *a)
{
	static const uint8_t zero[16], mapped[12] = { [10] = 0xff, [11] = 0xff };
	static const uint8_t nat64[12] = { 0, 0x64, 0xff, 0x9b };
	static const uint8_t ec2[4] = { 0xfd, 0x00, 0x0e, 0xc2 };
	const uint8_t *p = a->v6.sin6_addr.s6_addr;

	if (a->sa.sa_family == AF_INET)
		return class_v4(ntohl(a->v4.sin_addr.s_addr));
	if (a->sa.sa_family != AF_INET6)
		return ADDR_FORBIDDEN;
	if (memcmp(p, mapped, 12) == 0 || memcmp(p, nat64, 12) == 0)
		return class_v4(be32(p + 12));
	if (memcmp(p, zero, 15) == 0)
		return p[15] == 1 ? ADDR_PRIVATE : ADDR_FORBIDDEN;
	if (memcmp(p, ec2, 4) == 0)
		return ADDR_FORBIDDEN;	/* a cloud's metadata service inside of unique local */
	if ((p[0] & 0xfe) == 0xfc)
		return ADDR_PRIVATE;
	/* what is left of global unicast (2000::/3), but not 2001::/23 (Teredo …), documentation, 6to4 */
	if ((p[0] & 0xe0) != 0x20 || (p[0] == 0x20 && p[1] == 0x02) ||
	    (p[0] == 0x20 && p[1] == 0x01 && (p[2] & 0xfe) == 0) ||
	    (p[0] == 0x20 && p[1] == 0x01 && p[2] == 0x0d && p[3] == 0xb8))
		return ADDR_FORBIDDEN;
	return ADDR_PUBLIC;
}

socklen_t addr_len(const union addr *a)
{
	return a->sa.sa_family == AF_INET6 ? sizeof a->v6 : sizeof a->v4;
}

bool addr_literal(const char *host, uint16_t port, union addr *out)
{
	memset(out, 0, sizeof *out);
	if (inet_pton(AF_INET, host, &out->v4.sin_addr) == 1) {
		out->v4.sin_family = AF_INET;
		out->v4.sin_port = htons(port);
		return true;
	}
	if (inet_pton(AF_INET6, host, &out->v6.sin6_addr) == 1) {
		out->v6.sin6_family = AF_INET6;
		out->v6.sin6_port = htons(port);
		return true;
	}
	return false;
}

/* ---- the thread ----------------------------------------------------------------- */

static void ask(struct host *h)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM,
				  .ai_flags = AI_ADDRCONFIG };
	struct addrinfo *list = NULL;
	int r = getaddrinfo(h->name, NULL, &hints, &list);

	h->n = 0;
	if (r) {
		(void)snprintf(h->words, sizeof h->words, "%s", gai_strerror(r));
		return;
	}
	for (struct addrinfo *a = list; a && h->n < RESOLVE_ADDRS; a = a->ai_next) {
		if (a->ai_addrlen > sizeof h->addrs[0] ||
		    (a->ai_family != AF_INET && a->ai_family != AF_INET6))
			continue;
		memset(&h->addrs[h->n], 0, sizeof h->addrs[0]);
		memcpy(&h->addrs[h->n], a->ai_addr, a->ai_addrlen);
		h->n++;
	}
	freeaddrinfo(list);
	(void)snprintf(h->words, sizeof h->words, "the name has no address");
}

static void *thread_main(void *ctx)
{
	struct resolver *r = ctx;
	uint64_t one = 1;

	(void)pthread_mutex_lock(&r->lock);
	for (;;) {
		while (!r->jobs && !r->stop)
			(void)pthread_cond_wait(&r->wake, &r->lock);
		if (r->stop)
			break;
		struct host *h = r->jobs;

		r->jobs = h->job_next;
		(void)pthread_mutex_unlock(&r->lock);
		ask(h);
		(void)pthread_mutex_lock(&r->lock);
		h->job_next = r->done;
		r->done = h;
		/* cannot fail: the counter would have to reach 2^64-1 */
		if (write(r->event_fd, &one, sizeof one) < 0)
			break;
	}
	(void)pthread_mutex_unlock(&r->lock);
	return NULL;
}

/* ---- the loop's side --------------------------------------------------------------- */

static void wait_end(struct resolve_wait *w)
{
	*w->pprev = w->next;
	if (w->next)
		w->next->pprev = w->pprev;
	w->next = NULL;
}

static void wait_link(struct resolve_wait **list, struct resolve_wait *w)
{
	w->next = *list;
	w->pprev = list;
	if (w->next)
		w->next->pprev = &w->next;
	*list = w;
}

static void tell(struct host *h)
{
	struct resolve_wait *w;

	while ((w = h->waits)) {
		wait_end(w);
		w->fn(w->ctx, h->addrs, h->n, h->words);
		free(w);
	}
}

static void on_done(struct loop_io *io, uint32_t events)
{
	struct resolver *r = io->ctx;
	uint64_t n;

	(void)events;
	if (read(r->event_fd, &n, sizeof n) < 0)
		return;
	(void)pthread_mutex_lock(&r->lock);
	struct host *list = r->done, *h;

	r->done = NULL;
	(void)pthread_mutex_unlock(&r->lock);
	while ((h = list)) {
		list = h->job_next;
		h->asking = false;
		h->until_us = loop_now_us(r->loop) + (h->n ? KEEP_US : KEEP_FAILED_US);
		tell(h);
	}
}

static void on_soon(struct loop_timer *t)
{
	struct resolver *r = t->ctx;

	for (struct host *h = r->hosts; h; h = h->next)
		if (!h->asking)
			tell(h);
}

int resolver_new(struct resolver **out, struct loop *l, struct cl_err *err)
{
	struct resolver *r = calloc(1, sizeof *r);
	sigset_t all, before;
	int e = ENOMEM;

	if (!r)
		return cl_fail(err, ENOMEM, "resolver");
	r->loop = l;
	r->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->event_fd < 0 || loop_io_add(l, &r->io, r->event_fd, EPOLLIN, on_done, r))
		goto fail;
	if (pthread_mutex_init(&r->lock, NULL) || pthread_cond_init(&r->wake, NULL))
		goto fail;
	/* signals are for the loop */
	sigfillset(&all);
	(void)pthread_sigmask(SIG_BLOCK, &all, &before);
	e = pthread_create(&r->thread, NULL, thread_main, r);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (e)
		goto fail;
	*out = r;
	return 0;
fail:
	loop_io_del(&r->io);
	(void)cl_close(r->event_fd);
	free(r);
	return cl_fail(err, e, "resolver: start");
}

void resolver_free(struct resolver *r)
{
	if (!r)
		return;
	(void)pthread_mutex_lock(&r->lock);
	r->stop = true;
	bool busy = r->jobs != NULL;

	(void)pthread_cond_signal(&r->wake);
	(void)pthread_mutex_unlock(&r->lock);
	for (struct host *h = r->hosts; h; h = h->next)
		busy = busy || h->asking;
	loop_io_del(&r->io);
	loop_timer_del(&r->soon);
	if (busy) {	/* inside getaddrinfo, for seconds perhaps: the process is ending */
		(void)pthread_detach(r->thread);
		return;
	}
	(void)pthread_join(r->thread, NULL);
	while (r->hosts) {
		struct host *h = r->hosts;

		r->hosts = h->next;
		while (h->waits) {
			struct resolve_wait *w = h->waits;

			wait_end(w);
			free(w);
		}
		free(h);
	}
	(void)pthread_mutex_destroy(&r->lock);
	(void)pthread_cond_destroy(&r->wake);
	(void)cl_close(r->event_fd);
	free(r);
}

/* forget what is stale and wanted by nobody */
static void tidy(struct resolver *r)
{
	int64_t now = loop_now_us(r->loop);

	for (struct host **pp = &r->hosts; *pp;) {
		struct host *h = *pp;

		if (h->asking || h->waits || h->until_us > now) {
			pp = &h->next;
			continue;
		}
		*pp = h->next;
		r->nhosts--;
		free(h);
	}
}

int resolve(struct resolver *r, const char *name, resolve_fn *fn, void *ctx,
	    struct resolve_wait **out_wait)
{
	struct host *h;
	struct resolve_wait *w = calloc(1, sizeof *w);

	if (!w)
		return -ENOMEM;
	for (h = r->hosts; h; h = h->next)
		if (strcmp(h->name, name) == 0)
			break;
	if (!h) {
		if (r->nhosts >= HOSTS_MAX)
			tidy(r);
		h = r->nhosts < HOSTS_MAX ? calloc(1, sizeof *h) : NULL;
		if (!h || span_copy(span_str(name), h->name, sizeof h->name)) {
			free(h);
			free(w);
			return -ENOBUFS;
		}
		h->next = r->hosts;
		r->hosts = h;
		r->nhosts++;
	}
	w->fn = fn;
	w->ctx = ctx;
	wait_link(&h->waits, w);
	*out_wait = w;
	if (h->asking)
		return 0;
	if (h->until_us > loop_now_us(r->loop)) {
		int e = loop_timer_set(r->loop, &r->soon, 0, on_soon, r);

		if (e) {
			wait_end(w);
			free(w);
		}
		return e;
	}
	h->asking = true;
	(void)pthread_mutex_lock(&r->lock);
	h->job_next = r->jobs;
	r->jobs = h;
	(void)pthread_cond_signal(&r->wake);
	(void)pthread_mutex_unlock(&r->lock);
	return 0;
}

void resolve_cancel(struct resolve_wait *w)
{
	if (!w)
		return;
	wait_end(w);
	free(w);
}

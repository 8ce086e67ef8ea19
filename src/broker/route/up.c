/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/route/up_conn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define POOLS_MAX 1024


int up_new(struct up **out, struct loop *l, struct up_tls *tls, struct cl_err *err)
{
	struct up *u = calloc(1, sizeof *u);

	if (!u || !(u->io_buf = malloc((size_t)2 * UP_READ))) {
		free(u);
		return cl_fail(err, ENOMEM, "upstream client");
	}
	u->loop = l;
	int r = resolver_new(&u->resolver, l, err);

	if (r) {
		free(u->io_buf);
		free(u);
		return r;
	}
	u->tls = tls;
	*out = u;
	return 0;
}

void up_free(struct up *u)
{
	if (!u)
		return;
	while (u->calls)
		up_cancel(u->calls);
	up_conns_free(u);
	while (u->pools) {
		struct pool *p = u->pools;

		u->pools = p->next;
		free(p);
	}
	resolver_free(u->resolver);
	if (u->tls) {
		SSL_CTX_free(u->tls->ctx);
		free(u->tls);
	}
	free(u->io_buf);
	free(u);
}

/* ---- targets ------------------------------------------------------------------ */

static bool host_ok(const char *h)
{
	size_t n = strlen(h);

	if (n == 0 || h[0] == '.' || h[0] == '-' || h[n - 1] == '.')
		return false;
	for (size_t i = 0; i < n; i++) {
		char c = h[i];

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_'))
			return false;
		if (c == '.' && h[i + 1] == '.')
			return false;
	}
	return true;
}

/* a name whose last label is all digits would be read as an address by some and not by us */
static bool looks_numeric(const char *h)
{
	const char *last = strrchr(h, '.');

	last = last ? last + 1 : h;
	return (*last >= '0' && *last <= '9') && strspn(last, "0123456789abcdefx") == strlen(last);
}

int up_target_parse(struct span url, bool allow_private, struct up_target *out,
		    struct span *out_prefix, struct cl_err *err)
{
	struct up_target t = { .allow_private = allow_private };
	struct span rest = url, host, port = { NULL, 0 };
	union addr a;

	if (span_starts(url, SPAN("https://")))
		t.tls = true;
	else if (!span_starts(url, SPAN("http://")))
		return cl_fail(err, EINVAL, "upstream: neither https:// nor http://");
	rest.p += t.tls ? 8 : 7;
	rest.n -= t.tls ? 8 : 7;
	t.port = t.tls ? 443 : 80;
	host = rest;
	for (size_t i = 0; i < rest.n; i++)
		if (rest.p[i] == '/') {
			host.n = i;
			break;
		}
	*out_prefix = (struct span){ rest.p + host.n, rest.n - host.n };
	while (out_prefix->n && out_prefix->p[out_prefix->n - 1] == '/')
		out_prefix->n--;
	if (out_prefix->n && http_path_strict(*out_prefix))
		return cl_fail(err, EINVAL, "upstream: path not allowed");
	if (host.n && host.p[0] == '[') {
		const char *end = memchr(host.p, ']', host.n);
		size_t n = end ? (size_t)(end - host.p) : 0;

		if (!end || (n + 1 < host.n && host.p[n + 1] != ':'))
			return cl_fail(err, EINVAL, "upstream: address not allowed");
		if (n + 1 < host.n)
			port = (struct span){ host.p + n + 2, host.n - n - 2 };
		if (span_copy((struct span){ host.p + 1, n - 1 }, t.host, sizeof t.host) ||
		    !addr_literal(t.host, 0, &a))
			return cl_fail(err, EINVAL, "upstream: address not allowed");
	} else {
		struct span before;

		if (span_cut(&host, ':', &before)) {
			port = host;
			host = before;
		}
		if (span_copy(host, t.host, sizeof t.host) || !host_ok(t.host) ||
		    (!addr_literal(t.host, 0, &a) && looks_numeric(t.host)))
			return cl_fail(err, EINVAL, "upstream: host not allowed");
	}
	if (port.p) {
		uint32_t n;

		if (num_parse_u32(port, 65535, &n) || n == 0)
			return cl_fail(err, EINVAL, "upstream: bad port");
		t.port = (uint16_t)n;
	}
	bool loopback = addr_literal(t.host, 0, &a) && addr_class(&a) == ADDR_PRIVATE &&
			(a.sa.sa_family == AF_INET6 ? strcmp(t.host, "::1") == 0
						    : strncmp(t.host, "127.", 4) == 0);

	if (loopback)	/* the operator wrote this very address */
		t.allow_private = true;
	if (!t.tls && !t.allow_private)
		return cl_fail(err, EPERM, "upstream: http is for loopback, or for routes with `private: true`");
	*out = t;
	return 0;
}

/* ---- calls ---------------------------------------------------------------------- */

static struct pool *pool_for(struct up *u, const struct up_target *t)
{
	struct pool *p;
	char key[sizeof p->key];
	size_t n = 0;

	(void)snprintf(key, sizeof key, "%d %s %u %s %p", t->tls, t->host, t->port, t->pool,
		       (const void *)t->trust);
	for (p = u->pools; p; p = p->next, n++)
		if (strcmp(p->key, key) == 0)
			return p;
	if (n >= POOLS_MAX || !(p = calloc(1, sizeof *p)))
		return NULL;
	memcpy(p->key, key, sizeof key);
	p->next = u->pools;
	u->pools = p;
	return p;
}

void up_call_free(struct up_call *c)
{
	*c->pprev = c->next;
	if (c->next)
		c->next->pprev = c->pprev;
	loop_timer_del(&c->timer);
	resolve_cancel(c->wait);
	if (c->conn)
		up_conn_kill(c->conn);
	buf_wipe_done(&c->head);
	buf_done(&c->in);
	free(c);
}

void up_call_fail(struct up_call *c, const char *step, const char *words, bool reached)
{
	struct up_failure f = { step, words, reached && c->sent > 0 };
	struct up_ops ops = c->ops;
	void *ctx = c->ctx;

	c->u->st.failed++;
	up_call_free(c);
	ops.on_fail(ctx, &f);
}

void up_cancel(struct up_call *c)
{
	if (c)
		up_call_free(c);
}

static const char *addr_refused(const struct up_call *c, const union addr *a)
{
	switch (addr_class(a)) {
	case ADDR_PUBLIC:
		/* plain http is for the own machine or network only */
		return c->t.tls ? NULL : "plain http to a public address";
	case ADDR_PRIVATE:
		return c->t.allow_private ? NULL : "the name points to a private address";
	case ADDR_FORBIDDEN:
	default:
		return "the name points to a link-local or reserved address";
	}
}

/* Connect to the next address; @step and @words: what became of the one before */
void up_call_next_addr(struct up_call *c, const char *step, const char *words)
{
	char last[200];

	(void)snprintf(last, sizeof last, "%s", words);
	while (c->at_addr < c->naddrs) {
		union addr *a = &c->addrs[c->at_addr++];
		const char *no = addr_refused(c, a);

		if (no) {
			step = "address";
			(void)snprintf(last, sizeof last, "%s", no);
			continue;
		}
		int r = up_conn_open(c, a);

		if (r == 0)
			return;
		step = "connect";
		(void)snprintf(last, sizeof last, "%s", strerror(-r));
	}
	up_call_fail(c, step, last, false);
}

static void on_addrs(void *ctx, const union addr *addrs, size_t n, const char *words)
{
	struct up_call *c = ctx;

	c->wait = NULL;
	c->naddrs = n;
	memcpy(c->addrs, addrs, n * sizeof *addrs);
	for (size_t i = 0; i < n; i++) {
		if (addrs[i].sa.sa_family == AF_INET6)
			c->addrs[i].v6.sin6_port = htons(c->t.port);
		else
			c->addrs[i].v4.sin_port = htons(c->t.port);
	}
	up_call_next_addr(c, "resolve", words);
}

void up_call_start(struct up_call *c)
{
	struct up_conn *k;

	c->started = true;
	c->at_addr = 0;
	while (!c->retried && (k = c->pool->idle)) {
		if (up_conn_silent(k)) {
			up_conn_use(k, c);
			return;
		}
		up_conn_kill(k);
	}
	if (c->u->st.open >= UP_CONNS_MAX) {
		up_call_fail(c, "busy", "too many connections", false);
		return;
	}
	if (addr_literal(c->t.host, c->t.port, &c->addrs[0])) {
		c->naddrs = 1;
		up_call_next_addr(c, "connect", "");
		return;
	}
	if (resolve(c->u->resolver, c->t.host, on_addrs, c, &c->wait))
		up_call_fail(c, "resolve", "the resolver is busy", false);
}

static void on_timer(struct loop_timer *t)
{
	struct up_call *c = t->ctx;

	if (!c->started) {
		if (loop_timer_set(c->u->loop, t, (int64_t)c->total_ms * 1000, on_timer, c) == 0)
			up_call_start(c);
		else
			up_call_fail(c, "busy", "out of memory", false);
		return;
	}
	up_call_fail(c, "timeout", "the call took too long", true);
}

int up_call(struct up *u, const struct up_target *t, const struct up_request *rq,
	    const struct up_ops *ops, void *ctx, struct up_call **out, struct cl_err *err)
{
	struct pool *pool = pool_for(u, t);
	struct up_call *c = pool ? calloc(1, sizeof *c) : NULL;

	if (!c)
		return cl_fail(err, ENOMEM, "upstream call");
	c->u = u;
	c->t = *t;
	c->pool = pool;
	c->ops = *ops;
	c->ctx = ctx;
	c->body = rq->body;
	c->is_head = rq->is_head;
	c->connect_ms = rq->connect_ms;
	c->idle_ms = rq->idle_ms;
	c->total_ms = rq->total_ms;
	buf_init(&c->in, UP_HEAD_MAX + UP_READ);
	buf_init(&c->head, UP_HEAD_MAX);
	c->next = u->calls;
	c->pprev = &u->calls;
	if (c->next)
		c->next->pprev = &c->next;
	u->calls = c;
	/* nothing is called back from inside here: it begins in this round's timers */
	if (buf_reserve(&c->head, rq->head.n) || buf_add_span(&c->head, rq->head) ||
	    loop_timer_set(u->loop, &c->timer, 0, on_timer, c)) {
		up_call_free(c);
		return cl_fail(err, ENOMEM, "upstream call");
	}
	u->st.calls++;
	*out = c;
	return 0;
}

void up_pause(struct up_call *c)
{
	c->paused = true;
}

void up_resume(struct up_call *c)
{
	if (!c->paused)
		return;
	c->paused = false;
	if (c->conn)
		up_conn_ready(c->conn);
}

void up_drop_pool(struct up *u, const char *pool)
{
	for (struct up_conn *k = u->conns, *next; k; k = next) {
		char word[74];

		next = k->next;
		(void)snprintf(word, sizeof word, " %s ", pool);
		if (k->state == UPC_IDLE && strstr(k->pool->key, word))
			up_conn_kill(k);
	}
}

void up_stats(const struct up *u, struct up_stats *out)
{
	*out = u->st;
}

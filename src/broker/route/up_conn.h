/* SPDX-License-Identifier: Apache-2.0 */
/* What up.c, up_conn.c and up_tls.c share. */
#ifndef CL_BROKER_UP_CONN_H
#define CL_BROKER_UP_CONN_H

#include "broker/route/resolve.h"
#include "broker/route/up.h"

#include <openssl/ssl.h>

#define UP_READ 65536
#define UP_READS_A_TURN 16
#define UP_HEAD_MAX 65536
#define UP_INTERIM_MAX 4	/* 1xx answers before the real one */
#define UP_IDLE_US 30000000
#define UP_CONNS_MAX 16384

struct pool {
	struct pool *next;
	char key[400];		/* tls, host, port, credential, trust */
	struct up_conn *idle;
};

enum up_conn_state { UPC_CONNECT, UPC_TLS, UPC_BUSY, UPC_IDLE };

struct up_conn {
	struct up_conn *next_idle, **pprev_idle;
	struct up_conn *ready_next;
	struct up_conn *next, **pprev;	/* of all */
	struct up *u;
	struct pool *pool;
	struct up_call *call;
	int fd;
	SSL *ssl;
	struct loop_io io;
	struct loop_timer timer;
	int64_t deadline_us;
	enum up_conn_state state;
	bool can_read, can_write, ended, dead, running, ready, reused;
	bool tls_want_write;	/* TLS wants to write before it can read */
	int keep_s;		/* what the peer said about idle time, 0 = nothing */
};

struct up_call {
	struct up_call *next, **pprev;
	struct up *u;
	struct up_target t;
	struct up_ops ops;
	void *ctx;
	struct up_conn *conn;
	struct resolve_wait *wait;
	struct loop_timer timer;	/* total; also starts calls from the loop */
	struct pool *pool;
	struct buf head;	/* wiped when the call ends */
	struct span body;
	size_t sent;		/* of head and body together */
	union addr addrs[RESOLVE_ADDRS];
	size_t naddrs, at_addr;
	int connect_ms, idle_ms, total_ms;
	int64_t began_us;
	bool is_head, started, retried;
	/* the answer */
	struct buf in;		/* an unfinished head */
	size_t looked;
	bool have_head, paused, close_after;
	int interim;
	enum http_body framing;
	uint64_t left;
	struct http_chunked chunked;
};

struct up {
	struct loop *loop;
	struct up_tls *tls;
	struct resolver *resolver;
	struct pool *pools;
	struct up_call *calls;
	struct up_conn *conns, *ready;
	struct loop_timer ready_timer;
	struct up_stats st;
	char *io_buf;		/* UP_READ for reading, UP_READ for putting TLS records together */
};

struct up_tls { SSL_CTX *ctx; };
struct up_trust { SSL_CTX *ctx; };

/* up_conn.c */
int up_conn_open(struct up_call *c, const union addr *a);	/* 0 or -errno */
void up_conn_use(struct up_conn *k, struct up_call *c);	/* an idle one goes to work */
/* up_conn_silent - open, and not a byte came: an idle one may be used */
bool up_conn_silent(struct up_conn *k);
void up_conn_kill(struct up_conn *k);	/* closes; the call is not told */
void up_conn_ready(struct up_conn *k);
void up_conns_free(struct up *u);
/* up.c */
void up_call_fail(struct up_call *c, const char *step, const char *words, bool reached);
void up_call_next_addr(struct up_call *c, const char *step, const char *words);
void up_call_free(struct up_call *c);
/* up_call_start - an idle connection, or (also for the second try) a new one */
void up_call_start(struct up_call *c);
/* up_tls.c */
/* Return: 1 done, 0 wants more, -EPROTO with words */
int up_tls_step(struct up_conn *k, char *words, size_t n);
int up_tls_start(struct up_conn *k);
/* both: bytes, 0 end of stream, -EAGAIN, -EPIPE broken */
ssize_t up_tls_read(struct up_conn *k, void *p, size_t n);
ssize_t up_tls_write(struct up_conn *k, const void *p, size_t n);

#endif

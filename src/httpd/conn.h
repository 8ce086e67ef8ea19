/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of httpd/ share; nobody else includes this. */
#ifndef CL_HTTPD_CONN_H
#define CL_HTTPD_CONN_H

#include "httpd/httpd.h"

#define READ_MAX 65536		/* bytes of one read */
#define READS_A_TURN 16		/* then others have their turn */
#define OUT_MAX (64u << 20)	/* a handler that ignores "pause" ends here */
#define LINGER_MAX (4u << 20)	/* bytes thrown away after a refusal … */
#define LINGER_US 3000000	/* … or this long */
#define WRITE_STALL_US 60000000	/* a client that takes nothing for so long is cut */

struct conn;

struct req {
	struct httpd_req pub;	/* first: the handler's pointer */
	struct conn *c;		/* NULL: the connection is gone, on_gone is due */
	struct buf body;
	uint64_t body_max;
	uint64_t left;		/* HTTP_LENGTH: bytes still to come */
	struct http_chunked chunked;
	enum http_body framing;
	int mode;		/* HTTPD_BUFFER, HTTPD_STREAM, HTTPD_DONE */
	bool body_done, paused;
	bool is_head;		/* HEAD: no body goes out */
	bool is_connect;
	bool started, out_chunked, no_out_body;
	bool want_drain;
	uint64_t out_left;	/* with a length: what the handler still owes */
	char store[];		/* headers, then the bytes of the head */
};

struct listener {
	struct listener *next;
	struct httpd *h;
	int fd;
	uint32_t id;
	void *ctx;
	struct loop_io io;
	struct loop_timer pause;	/* out of descriptors: try again soon */
	uint32_t nconns;
	uint64_t buffered;	/* bytes of bodies, see buffered_max */
	bool held;
	struct conn *conns;
};

enum conn_state {
	CONN_HEAD,	/* a request may begin */
	CONN_REQ,	/* one is being received or answered */
	CONN_FLUSH,	/* the last answer is on its way, then close */
	CONN_LINGER	/* answered; what still comes is thrown away */
};

struct conn {
	struct conn *next, **pprev;	/* of its listener */
	struct conn *ready_next;
	struct listener *l;
	struct httpd *h;
	int fd;
	struct loop_io io;
	struct loop_timer timer;
	int64_t deadline_us;	/* 0 = none; the timer may fire earlier and looks here */
	enum conn_state state;
	struct req *req;
	uint64_t serial;	/* counts requests: is it still the one I meant? */
	struct buf in;		/* what was read and not yet taken */
	struct span rest;	/* while a callback runs: what followed the head at work */
	struct buf out;
	size_t out_at, looked;
	uint64_t lingered;
	int fds[HTTPD_FDS_MAX];
	uint8_t nfds;
	bool can_read, can_write, peer_done, dead, close_after, running, ready, head_began;
};

struct httpd {
	struct loop *loop;
	struct httpd_ops ops;
	struct httpd_limits lim;
	struct listener *listeners;
	uint32_t next_id;
	struct conn *ready;	/* to be looked at at the end of the round */
	struct conn *batch;	/* those being looked at now */
	struct loop_timer ready_timer;
	int64_t date_second;
	char date[48];
	char *io_buf;		/* READ_MAX, shared: nothing stays in it between events */
};

void conn_new(struct listener *l, int fd);
/* conn_kill - close now; on_gone for a live request when @tell. Memory goes later. */
void conn_kill(struct conn *c, bool tell);
/* conn_kill_keep - as conn_kill, but @fd stays open and nobody is told: httpd_take */
void conn_kill_keep(struct conn *c, int fd);
/* requests of dead connections of listener context @ctx: on_gone now */
void conns_tell(struct httpd *h, void *ctx);
/* free all dead connections; the ready timer is off */
void conns_sweep(struct httpd *h);
/* conn_ready - look at @c at the end of this round */
void conn_ready(struct conn *c);
void conn_deadline(struct conn *c, int64_t in_us);
/* conn_run - go on wherever it stands */
void conn_run(struct conn *c);
/* conn_send - @v in order, after what waits. Return 0 or -EPIPE */
int conn_send(struct conn *c, const struct span *v, size_t n);
size_t conn_waiting(const struct conn *c);
/* conn_bad - refuse what was read, in words, and close */
void conn_bad(struct conn *c, int status, const char *why);
void listener_unhold(struct listener *l);
/* end of the current request: frees it and lets the connection go on */
void req_end(struct conn *c);
void req_free(struct req *q);

#endif

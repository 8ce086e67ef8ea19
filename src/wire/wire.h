/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire - messages between our own processes.
 *
 * How this works: each message is a row of msg.def: a name and its fields.
 * From it come the struct, the encoder and the decoder, so that the two can
 * never disagree. One message is one SOCK_SEQPACKET datagram:
 *   u16 type, u16 number of descriptors, u32 seq, then the fields in order
 *   (u32 and u64 little endian; bytes as u32 length + bytes).
 * Decoding is strict: exact length, every length within its row's maximum.
 * The peer is known from the socketpair that cloisterd made, never from
 * what is said. Descriptors travel as SCM_RIGHTS beside the message.
 */
#ifndef CL_WIRE_H
#define CL_WIRE_H

#include "base/base.h"
#include "loop/loop.h"

#define WIRE_MAX (160u * 1024)	/* bytes of one message; larger things go as memfd */
#define WIRE_FDS_MAX 16

/* Who is at the other end. */
enum wire_role {
	ROLE_NONE, ROLE_CLOISTERD, ROLE_SPAWNER, ROLE_BROKER, ROLE_API, ROLE_LEDGER,
	ROLE_MODEL,	/* the simulated model of the keyless demo */
	ROLE_COUNT
};
const char *wire_role_name(enum wire_role r);

enum wire_type {
	MSG_NONE,
#define MSG(NAME, name, FIELDS) MSG_##NAME,
#include "wire/msg.def"
#undef MSG
	MSG_COUNT
};

/* struct msg_reply { uint32_t code; struct span text; ... }: one per row */
#define F_U32(f) uint32_t f;
#define F_U64(f) uint64_t f;
#define F_BYTES(f, max) struct span f;
#define MSG(NAME, name, FIELDS) struct msg_##name { FIELDS(F_U32, F_U64, F_BYTES) char unused_; };
#include "wire/msg.def"
#undef MSG
#undef F_U32
#undef F_U64
#undef F_BYTES

/* Room for any decoded message. */
union wire_any {
#define MSG(NAME, name, FIELDS) struct msg_##name name;
#include "wire/msg.def"
#undef MSG
};

const char *wire_type_name(uint32_t type);
/* wire_encode - @msg is the struct of @type; appends to @out. -EINVAL: a field
 * above its maximum (our own mistake, said in @err) */
int wire_encode(uint32_t type, uint32_t seq, uint32_t nfds, const void *msg, struct buf *out,
		struct cl_err *err);
/* wire_decode - spans in @out point into @in. -EBADMSG for anything not exact */
int wire_decode(struct span in, uint32_t *out_type, uint32_t *out_seq, uint32_t *out_nfds,
		union wire_any *out, struct cl_err *err);

/* ---- channels ------------------------------------------------------------ */

struct chan;

/*
 * A handler owns every fd of @fds that it sets to -1; what is left is closed
 * after it returns. Return 0, or -errno to kill the connection (a protocol
 * breach); ordinary failures are answered with chan_reply().
 */
typedef int chan_fn(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds,
		    size_t nfds);
typedef void chan_closed_fn(struct chan *c);

/* One row: what the peer may send, in which states (bit mask of chan->state), how often. */
struct chan_rule {
	uint32_t type;
	uint32_t states;	/* bit mask, CHAN_ANY for all */
	uint32_t per_second;	/* 0 = unlimited */
	chan_fn *fn;
};
#define CHAN_ANY 0xffffffffu

struct chan {
	enum wire_role peer;
	int fd;				/* owned; -1 when closed */
	uint32_t state;			/* one bit of the table's states; starts as 1 */
	void *ctx;
	/* private below */
	struct loop *loop;
	struct loop_io io;
	const struct chan_rule *rules;
	size_t nrules;
	chan_closed_fn *closed;
	struct chan_out *out_first, *out_last;	/* waiting to be sent */
	size_t out_bytes;
	uint32_t next_seq;
	struct { int64_t second; uint32_t n; } rate[MSG_COUNT];
	struct chan_pending *pending;
	bool dead;
};

/* chan_init - take over @fd (SEQPACKET); handlers run from the loop */
int chan_init(struct chan *c, struct loop *l, int fd, enum wire_role peer,
	      const struct chan_rule *rules, size_t nrules, chan_closed_fn *closed, void *ctx);
void chan_done(struct chan *c);	/* closes; does not call closed() */
static inline bool chan_up(const struct chan *c) { return c->fd >= 0; }

/*
 * chan_send - queue one message; @fds are duplicated (borrowed).
 * Return: 0; -EPIPE not connected; -ENOBUFS more than 64 MiB queued.
 */
int chan_send(struct chan *c, uint32_t type, uint32_t seq, const void *msg, const int *fds,
	      size_t nfds);
/* chan_reply - MSG_REPLY to request @seq; code 0 or a positive errno */
int chan_reply(struct chan *c, uint32_t seq, int code, const char *fmt, ...) CL_PRINTF(4, 5);
/*
 * chan_call - send a request; @fn gets the answering message (same seq, any
 * type), or msg NULL when the channel closed before. Return 0 or -errno.
 */
typedef void chan_answer_fn(void *ctx, uint32_t type, const union wire_any *msg, int *fds,
			    size_t nfds);
int chan_call(struct chan *c, uint32_t type, const void *msg, const int *fds, size_t nfds,
	      chan_answer_fn *fn, void *ctx);
/* chan_pair - a SEQPACKET socketpair, close-on-exec, nonblocking, large buffers */
int chan_pair(int out[2]);

#endif

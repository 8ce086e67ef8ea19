/* SPDX-License-Identifier: Apache-2.0 */
/*
 * initproto - what cloisterd and cloister-init say to each other, over a
 * SOCK_SEQPACKET socketpair that the spawner makes. Init needs only libc for it.
 *
 * One datagram: struct init_msg, then `len` bytes. Host byte order: both ends
 * are on one machine. Who speaks as init is a process of the tenant's uid:
 * cloisterd checks each datagram with init_msg_ok(), expects nothing to be
 * true, and closes the sandbox on a breach.
 *
 *   spawner   -> init       SETUP     once, before anything else
 *   init      -> cloisterd  SELFTEST  a: bits that hold, b: bits that failed, bytes: evidence
 *   cloisterd -> init       START     once, when b was 0: the agent may run
 *   init      -> cloisterd  STARTED   a: pid of the agent (inside)
 *   init      -> cloisterd  EXITED    a: status of the agent; init then kills the rest and exits
 *   cloisterd -> init       STOP      SIGTERM to the agent. The grace is cloisterd's: then cgroup kill
 *   cloisterd -> init       SIGNAL    id: exec id, 0 the agent; a: signal number
 *   cloisterd -> init       EXEC      id: not 0; a: 1 with terminal; b: bytes of argv, the rest is env,
 *                                     each string NUL-ended; + 3 descriptors: 0, 1, 2 of the program.
 *                                     With a terminal all three are the slave of one pty made outside
 *   init      -> cloisterd  DONE      id; a: status (exit code, 128 + signal; 127 could not be started)
 *   init      -> cloisterd  REFUSED   id; a: errno: EXEC or SIGNAL was not possible
 */
#ifndef CL_SANDBOX_INITPROTO_H
#define CL_SANDBOX_INITPROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Descriptors of cloister-init. A restarted cloisterd fetches 4, 5 and 6 by
 * pidfd_getfd(); no other process inside can reach them (init is not dumpable). */
enum {
	INIT_FD_CONTROL = 3,		/* init's end */
	INIT_FD_CONTROL_PEER = 4,	/* cloisterd's end: held for adoption */
	INIT_FD_LOG = 5,		/* read end of the agent's output: held for adoption */
	INIT_FD_LISTENER = 6,		/* 127.0.0.1:8377: held for adoption */
	INIT_FD_END = 7,
};

#define INIT_MAGIC 0x31494c43u	/* "CLI1" */
#define INIT_BYTES_MAX 53248	/* argv 32768 + env 16384 and room */
#define INIT_EVIDENCE_MAX 4096
#define INIT_EXECS_MAX 32	/* at once */

enum init_type {
	INIT_NONE,
	INIT_SETUP, INIT_START, INIT_STOP, INIT_SIGNAL, INIT_EXEC,		/* to init */
	INIT_SELFTEST, INIT_STARTED, INIT_EXITED, INIT_DONE, INIT_REFUSED,	/* from init */
	INIT_TYPE_COUNT
};

struct init_msg {
	uint32_t magic, type;
	uint32_t id;
	uint32_t len;		/* bytes that follow */
	uint64_t a, b;
};

/* init_msg_ok - @n bytes of one datagram are one well-formed message of that direction */
static inline bool init_msg_ok(const struct init_msg *m, size_t n, bool from_init)
{
	return n >= sizeof *m && m->magic == INIT_MAGIC && m->type > INIT_NONE &&
	       m->type < INIT_TYPE_COUNT && (m->type >= INIT_SELFTEST) == from_init &&
	       m->len == n - sizeof *m && m->len <= (from_init ? INIT_EVIDENCE_MAX : INIT_BYTES_MAX);
}

#endif

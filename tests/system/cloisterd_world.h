/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A scratch world for cloisterd: directories, an image with one static
 * program, cloisterd itself, and the test's way to speak as the api.
 * Everything fails the running test by itself.
 */
#ifndef CL_TEST_CLOISTERD_WORLD_H
#define CL_TEST_CLOISTERD_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "wire/tenant.h"
#include "wire/wire.h"

extern const char *cloisterd, *spawner, *init, *standin, *agent;	/* binaries */
extern char dir[64];
extern pid_t daemon_pid;
extern int ready_fd;

void path_of(char *buf, size_t n, const char *rest);	/* dir/rest */
int make_world(void **state);
int clean_world(void **state);	/* fails when anything is left; KEEP=1 keeps the directory */
int leftovers(void);		/* processes, mounts, groups of ours; said, and counted */

void daemon_start(const char *extra1, const char *extra2);	/* two more words, or NULL */
void daemon_said(char *buf, size_t n);		/* on its ready descriptor */
void daemon_up(void);
int daemon_ended(void);		/* status of wait(), or -1 */
void daemon_killed_and_up_again(void);
void reap_orphans(void);
pid_t program_pid(const char *binary);
pid_t program_other(const char *binary, pid_t not);	/* waits for it */

/* one message of cloisterd to the api */
struct got {
	uint32_t type, seq, nfds;
	union wire_any m;
	int fds[WIRE_FDS_MAX];
	char bytes[WIRE_MAX];
};
extern struct got last;

void api_connect(void);
uint32_t api_send(uint32_t type, const void *msg, const int *fds, size_t nfds);
bool api_read(struct got *g, int ms);
struct got *api_answer(uint32_t seq);
struct got *api_ask(uint32_t type, const void *msg, const int *fds, size_t nfds);
int api_do(uint32_t type, const void *msg);	/* 0, or the errno of the answer */
uint32_t wait_state(uint32_t no, enum tenant_state want);	/* its pid */
uint32_t send_plan(uint32_t no, const char *id, const char *arg, uint64_t memory, uint32_t flags);
int put_plan(uint32_t no, const char *id, const char *arg, uint64_t memory);
void tenant_up(uint32_t no, const char *id, const char *arg);
int exec_in(uint32_t no, const char *what, const char *arg, char *out, size_t n);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * logs - what an agent writes to its standard output and error.
 *
 * A pipe that the agent fills and cloisterd empties into log/agent.log, two
 * files, both bounded. Reading never waits. An agent that writes faster than
 * LOG_BYTES_PER_SECOND waits itself: its pipe stays full until the next
 * second. What the disk does not take is dropped and counted.
 */
#ifndef CL_CLOISTERD_LOGS_H
#define CL_CLOISTERD_LOGS_H

#include "base/base.h"
#include "loop/loop.h"

#define LOG_BYTES_PER_SECOND (2u << 20)
#define LOG_NAME "agent.log"
#define LOG_OLD_NAME "agent.log.1"

struct logs {
	int pipe_fd;		/* -1: nothing comes */
	int dirfd, file_fd;
	uint64_t size, file_max;
	uint64_t dropped;	/* bytes that the disk did not take */
	int64_t second;
	uint64_t in_second;
	struct loop *loop;
	struct loop_io io;
	struct loop_timer timer;
};

void logs_init(struct logs *g);		/* all closed */
/*
 * logs_start - take over @pipe_fd; files go to @tenant_dirfd/log
 * @keep_bytes: both files together
 */
int logs_start(struct logs *g, struct loop *l, int tenant_dirfd, int pipe_fd,
	       uint64_t keep_bytes, struct cl_err *err);
/* logs_stop - what is still in the pipe is taken (bounded), then all is closed */
void logs_stop(struct logs *g);
/* logs_open - read-only descriptors: current, older (-1 none); Return 0 or -errno */
int logs_open(int tenant_dirfd, int out_fds[2]);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "cloisterd/logs.h"

#include "cloisterd/dirs.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE 65536
#define LAST_PIECES 64		/* of a pipe whose writer has gone */

static void on_pipe(struct loop_io *io, uint32_t events);

void logs_init(struct logs *g)
{
	*g = (struct logs){ .pipe_fd = -1, .dirfd = -1, .file_fd = -1 };
}

static int open_file(struct logs *g)
{
	struct stat st;

	g->file_fd = cl_open_beneath(g->dirfd, LOG_NAME, O_WRONLY | O_APPEND | O_CREAT, 0600);
	if (g->file_fd < 0)
		return g->file_fd;
	if (fstat(g->file_fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		g->file_fd = cl_close(g->file_fd);
		return -EINVAL;
	}
	g->size = (uint64_t)st.st_size;
	return 0;
}

static void rotate(struct logs *g)
{
	g->file_fd = cl_close(g->file_fd);
	/* when this fails the file is opened again and goes on growing past its
	 * bound: cut it instead, a log is worth less than the disk */
	if (renameat(g->dirfd, LOG_NAME, g->dirfd, LOG_OLD_NAME) < 0)
		(void)unlinkat(g->dirfd, LOG_NAME, 0);
	if (open_file(g))
		cl_log(CL_WARNING, "agent-log", "error=%s", cl_kvs("cannot be opened"));
}

/* Whole or not at all matters to nobody: a short write is a full disk. */
static void put(struct logs *g, const char *p, size_t n)
{
	if (g->file_fd >= 0 && g->size + n > g->file_max)
		rotate(g);
	if (g->file_fd >= 0 && g->dropped) {
		char line[80];
		int m = snprintf(line, sizeof line,
				 "\n[cloister: %llu bytes of output were lost: disk]\n",
				 (unsigned long long)g->dropped);

		if (cl_write_full(g->file_fd, line, (size_t)m) == 0) {
			g->size += (size_t)m;
			g->dropped = 0;
		}
	}
	if (g->file_fd < 0 || g->dropped || cl_write_full(g->file_fd, p, n))
		g->dropped += n;
	else
		g->size += n;
}

static void on_timer(struct loop_timer *t)
{
	struct logs *g = t->ctx;

	if (loop_io_add(g->loop, &g->io, g->pipe_fd, EPOLLIN, on_pipe, g))
		cl_log(CL_ERROR, "agent-log", "error=\"cannot be watched\"");
}

static void on_pipe(struct loop_io *io, uint32_t events)
{
	static char piece[PIECE];
	struct logs *g = io->ctx;
	int64_t second = cl_mono_us() / 1000000;
	ssize_t n = read(g->pipe_fd, piece, sizeof piece);

	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		/* every writer has closed it: the rest is the end of the sandbox */
		loop_io_del(&g->io);
		return;
	}
	put(g, piece, (size_t)n);
	if (second != g->second) {
		g->second = second;
		g->in_second = 0;
	}
	g->in_second += (uint64_t)n;
	if (g->in_second >= LOG_BYTES_PER_SECOND) {
		loop_io_del(&g->io);
		if (loop_timer_set(g->loop, &g->timer, 1000000, on_timer, g))
			on_timer(&(struct loop_timer){ .ctx = g });
	}
}

int logs_start(struct logs *g, struct loop *l, int tenant_dirfd, int pipe_fd,
	       uint64_t keep_bytes, struct cl_err *err)
{
	int r;

	logs_init(g);
	g->loop = l;
	g->file_max = keep_bytes / 2;
	g->dirfd = dirs_ensure(tenant_dirfd, "log", 0, 0, 0700, err);
	if (g->dirfd < 0)
		return g->dirfd;
	if ((r = open_file(g))) {
		logs_stop(g);
		return cl_fail(err, -r, LOG_NAME);
	}
	if ((r = cl_set_nonblock(pipe_fd)) ||
	    (r = loop_io_add(l, &g->io, pipe_fd, EPOLLIN, on_pipe, g))) {
		logs_stop(g);
		return cl_fail(err, -r, "the agent's output");
	}
	g->pipe_fd = pipe_fd;
	return 0;
}

void logs_stop(struct logs *g)
{
	static char piece[PIECE];

	loop_io_del(&g->io);
	loop_timer_del(&g->timer);
	for (int i = 0; i < LAST_PIECES && g->pipe_fd >= 0; i++) {
		ssize_t n = read(g->pipe_fd, piece, sizeof piece);

		if (n <= 0)
			break;
		put(g, piece, (size_t)n);
	}
	cl_close(g->pipe_fd);
	cl_close(g->file_fd);
	cl_close(g->dirfd);
	logs_init(g);
}

int logs_open(int tenant_dirfd, int out_fds[2])
{
	CL_CLOSE int dir = cl_open_beneath(tenant_dirfd, "log", O_RDONLY | O_DIRECTORY, 0);

	out_fds[0] = out_fds[1] = -1;
	if (dir < 0)
		return dir;
	out_fds[0] = cl_open_beneath(dir, LOG_NAME, O_RDONLY | O_NONBLOCK, 0);
	if (out_fds[0] < 0)
		return out_fds[0];
	out_fds[1] = cl_open_beneath(dir, LOG_OLD_NAME, O_RDONLY | O_NONBLOCK, 0);
	return 0;
}

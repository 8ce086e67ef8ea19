/* SPDX-License-Identifier: Apache-2.0 */
#include "record/reader.h"

#include <string.h>
#include <unistd.h>

#define PIECE (256u * 1024)

int reader_open(struct reader *rd, int dirfd, uint64_t segment, struct cl_err *err)
{
	char b[SEGMENT_HEADER_SIZE];
	int r;

	*rd = (struct reader){ .fd = -1, .at = SEGMENT_HEADER_SIZE };
	buf_init(&rd->b, 4 * PIECE);
	segment_name(segment, rd->name, sizeof rd->name);
	rd->fd = cl_open_beneath(dirfd, rd->name, O_RDONLY | O_NONBLOCK, 0);
	if (rd->fd < 0)
		return cl_fail(err, -rd->fd, "%s", rd->name);
	r = cl_read_full(rd->fd, b, sizeof b);
	if (r == -EPIPE)
		r = cl_fail(err, EBADMSG, "%s: the header is cut short", rd->name);
	else if (r)
		r = cl_fail(err, -r, "%s", rd->name);
	else if (segment_header_decode((struct span){ b, sizeof b }, &rd->header, err))
		r = cl_wrap(err, "%s", rd->name);
	if (r)
		reader_done(rd);
	return r;
}

int reader_next(struct reader *rd, struct frame *out, struct span *out_raw)
{
	for (;;) {
		struct span in = { rd->b.p + rd->used, rd->b.n - rd->used };
		int r = rd->b.n ? frame_decode(in, out) : 0;

		if (r == 1) {
			*out_raw = (struct span){ in.p, out->size };
			rd->used += out->size;
			rd->at += out->size;
			return 1;
		}
		if (r < 0)
			return r;
		if (rd->end)
			return in.n ? -ENODATA : 0;
		buf_consume(&rd->b, rd->used);
		rd->used = 0;
		if (buf_reserve(&rd->b, PIECE))
			return -ENOMEM;

		ssize_t k = read(rd->fd, rd->b.p + rd->b.n, PIECE);

		if (k < 0 && errno != EINTR)
			return -errno;
		if (k == 0)
			rd->end = true;
		if (k > 0)
			rd->b.n += (size_t)k;
	}
}

void reader_done(struct reader *rd)
{
	rd->fd = cl_close(rd->fd);
	buf_done(&rd->b);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* reader - frames of one segment file, one after the other. */
#ifndef CL_RECORD_READER_H
#define CL_RECORD_READER_H

#include "record/segment.h"

struct reader {
	int fd;
	char name[SEGMENT_NAME_MAX];
	uint64_t at;		/* offset of the next frame */
	struct segment_header header;
	struct buf b;
	size_t used;
	bool end;
};

/* reader_open - and check the header (not against its neighbours); -EBADMSG with words */
int reader_open(struct reader *rd, int dirfd, uint64_t segment, struct cl_err *err);
/*
 * reader_next - the next frame; @out_raw is all of it, valid until the next call
 * Return: 1; 0 at the end; -ENODATA an unfinished frame is at the end;
 * -EBADMSG these bytes are no frame; else -errno
 */
int reader_next(struct reader *rd, struct frame *out, struct span *out_raw);
void reader_done(struct reader *rd);

#endif

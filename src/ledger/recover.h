/* SPDX-License-Identifier: Apache-2.0 */
/* recover - find the place where a ledger goes on, after a stop or a crash. */
#ifndef CL_LEDGER_RECOVER_H
#define CL_LEDGER_RECOVER_H

#include "record/segment.h"

struct recovered {
	int fd;				/* the last segment, -1: start a new one */
	uint64_t segment, offset, number, checked;
	unsigned char chain[CHAIN_SIZE];
	uint64_t torn_segment, torn_offset, torn_bytes;	/* torn_bytes 0: nothing was cut */
	char torn_file[64];
};

/*
 * recover - read the last segment through; cut its end where it is no longer
 * whole, if that end is newer than the signed `head`, and keep the cut bytes.
 * Return: 0; -EBADMSG the damage is older than `head`, or is not at the end:
 * then nothing is touched; else -errno. The caller owns out->fd.
 */
int recover(int dirfd, const unsigned char pub[SIGN_PUB_SIZE], struct recovered *out,
	    struct cl_err *err);
/* recover_header - read and check one segment's header */
int recover_header(int dirfd, uint64_t segment, struct segment_header *out, struct cl_err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal - the writing half of a ledger (record/segment.h has the layout).
 *
 * How this works: journal_append() puts a frame into a batch in memory;
 * journal_commit() writes the batch at once and waits for the disk. A batch
 * that does not fit on the disk is taken back whole: numbers and chain are as
 * before, nothing of it stays in the file. After each `check_every` records
 * or `check_us`, and at the end, a signed checkpoint is written, then `head`.
 */
#ifndef CL_LEDGER_JOURNAL_H
#define CL_LEDGER_JOURNAL_H

#include "record/segment.h"

#define BATCH_MAX (1u << 20)	/* bytes; journal_append says -E2BIG: commit first */

struct journal_options {
	uint64_t segment_bytes;		/* a new segment above this; default 16 MiB */
	uint64_t check_every;		/* records; default 1000 */
	uint64_t reserve_bytes;		/* given up when the disk is full; default 1 MiB */
	uint64_t keep_segments;		/* older ones are deleted; 0 = keep all */
};

struct journal {
	int dirfd;			/* borrowed */
	int fd;				/* the segment that is written; -1: none */
	struct journal_options opt;
	unsigned char key[SIGN_KEY_SIZE], pub[SIGN_PUB_SIZE];
	uint64_t segment, offset;	/* offset: end of what is on the disk */
	uint64_t number;		/* last record on the disk, 0 = none */
	uint64_t checked;		/* last record under a checkpoint */
	unsigned char chain[CHAIN_SIZE];	/* after `number` */
	/* the batch */
	struct buf batch;
	uint64_t batch_number;
	unsigned char batch_chain[CHAIN_SIZE];
	/* full disk */
	bool full;
	uint64_t full_since_us, refused;
	/* personal fields: the key used last */
	char tenant[TENANT_ID_MAX + 1];
	unsigned char tenant_key[SEAL_KEY_SIZE];
};

/*
 * journal_open - make or go on with the ledger in @dirfd (borrowed). Cuts what
 * a crash left unfinished, keeps it as torn-*, and records that.
 * Return: 0; -EBADMSG damage that is no unfinished end (tampering, a bad
 * disk): nothing is changed, the words name the place; else -errno.
 */
int journal_open(struct journal *j, int dirfd, const struct journal_options *opt,
		 struct cl_err *err);
void journal_done(struct journal *j);	/* no write; wipes keys */

/*
 * journal_append - @body has passed record_check()
 * Return: 0 and *out_number (final once committed); -E2BIG commit first;
 * -ENOSPC the disk is full (see journal_retry); else -errno.
 */
int journal_append(struct journal *j, uint32_t kind, uint8_t sender, bool must, struct span tenant,
		   struct span body, uint64_t *out_number, struct cl_err *err);
/*
 * journal_commit - the batch to the disk
 * Return: 0; -ENOSPC the batch was taken back; other: the disk's state is not
 * known, the program has to end and open again.
 */
int journal_commit(struct journal *j, struct cl_err *err);
/* journal_checkpoint - sign what is there, unless nothing is new */
int journal_checkpoint(struct journal *j, struct cl_err *err);
/* journal_due - is it time for a checkpoint by number of records? */
bool journal_due(const struct journal *j);
/* journal_retry - after a full disk: 0 it works again (and is recorded), -ENOSPC not yet */
int journal_retry(struct journal *j, struct cl_err *err);
/* journal_erase - the key of a tenant's personal fields; 0 also when there is none */
int journal_erase(struct journal *j, struct span tenant, struct cl_err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment - how records lie on the disk, chained and signed.
 *
 * How this works. A ledger is a directory:
 *
 *	segment-00000001.cl ...	append-only files of records
 *	head			the last signed place: nothing after it can be cut unseen
 *	ledger.pub		public key (64 hex digits): all that verifying needs
 *	key			the signing key (0600)
 *	keys/<tenant>		key of the personal fields of a tenant
 *	reserve			space that is given up when the disk is full
 *	torn-*			what a crash left unfinished, cut from a segment
 *
 * A segment is a header and frames. All numbers are little endian.
 *
 *	header: "CLEDGER1" u32 version u32 size u64 segment u64 first u64 created_us
 *		prev[32] pubkey[32] hash[32]
 *	frame:	u32 size u32 kind u64 number u64 at_us u8 sender u8 flags
 *		u8 tenant_size u8 0 u32 body_size  tenant body  chain[32]
 *
 * hash = BLAKE2b-256 of the header before it; prev is the chain value of the
 * last frame of the segment before. chain = BLAKE2b-256 of the chain value
 * before (the header's hash for the first frame) and the frame up to it. So
 * any change reaches every later value. A checkpoint is a record whose field
 * `chain` repeats the value before it and whose `signature` is Ed25519 over
 * that, the number and the time.
 */
#ifndef CL_RECORD_SEGMENT_H
#define CL_RECORD_SEGMENT_H

#include "record/record.h"

#define CHAIN_SIZE 32
#define SEGMENT_HEADER_SIZE 136
#define FRAME_HEAD 32
#define FRAME_MAX (FRAME_HEAD + TENANT_ID_MAX + 16384 + CHAIN_SIZE)
#define FRAME_MUST 1u		/* flag: the sender waited for the disk */
#define HEAD_SIZE 128
#define SEGMENT_NAME_MAX 32
#define SEAL_EXTRA 40		/* nonce and tag */
#define SEAL_KEY_SIZE 32
#define SIGN_PUB_SIZE 32
#define SIGN_KEY_SIZE 64
#define SIGNATURE_SIZE 64

struct segment_header {
	uint64_t segment, first;	/* number of this segment, of its first record */
	uint64_t created_us;
	unsigned char prev[CHAIN_SIZE], pubkey[SIGN_PUB_SIZE];
	unsigned char hash[CHAIN_SIZE];	/* filled by both directions */
};

struct frame {
	uint32_t size, kind;
	uint64_t number, at_us;
	uint8_t sender, flags;
	struct span tenant, body;
	unsigned char chain[CHAIN_SIZE];
};

struct ledger_head {
	uint64_t number, segment, at_us;	/* number: last record, usually a checkpoint */
	unsigned char chain[CHAIN_SIZE];
	unsigned char signature[SIGNATURE_SIZE];
};

/* ledger_crypto_init - libsodium, once a process. Return: 0, -ENOSYS */
int ledger_crypto_init(struct cl_err *err);

void segment_name(uint64_t segment, char *buf, size_t n);	/* n >= SEGMENT_NAME_MAX */
/* segment_number - of a file's name; 0: it is no segment */
uint64_t segment_number(struct span name);
/* segment_list - numbers of all segments of @dirfd, ascending; *out malloced */
int segment_list(int dirfd, uint64_t **out, size_t *out_n, struct cl_err *err);

int segment_header_encode(struct segment_header *h, struct buf *out);
/* -EBADMSG with words */
int segment_header_decode(struct span in, struct segment_header *out, struct cl_err *err);

/*
 * frame_encode - append @f (its size is computed) to @out; @chain is the value
 * before and becomes the value after. -EINVAL a part above its maximum.
 */
int frame_encode(struct frame *f, unsigned char chain[CHAIN_SIZE], struct buf *out);
/*
 * frame_decode - one frame at the start of @in; the chain is not checked
 * Return: 1; 0 @in ends before the frame does; -EBADMSG no frame
 */
int frame_decode(struct span in, struct frame *out);
/* frame_chain - what the chain value after @raw (a whole frame) has to be */
void frame_chain(const unsigned char before[CHAIN_SIZE], struct span raw,
		 unsigned char out[CHAIN_SIZE]);

void checkpoint_sign(const unsigned char key[SIGN_KEY_SIZE], uint64_t number, uint64_t at_us,
		     const unsigned char chain[CHAIN_SIZE], unsigned char sig[SIGNATURE_SIZE]);
bool checkpoint_ok(const unsigned char pub[SIGN_PUB_SIZE], uint64_t number, uint64_t at_us,
		   const unsigned char chain[CHAIN_SIZE], const unsigned char sig[SIGNATURE_SIZE]);
void head_sign(struct ledger_head *h, const unsigned char key[SIGN_KEY_SIZE]);
bool head_ok(const struct ledger_head *h, const unsigned char pub[SIGN_PUB_SIZE]);
void head_encode(const struct ledger_head *h, unsigned char out[HEAD_SIZE]);
int head_decode(struct span in, struct ledger_head *out);	/* -EBADMSG */
/* head_read - 1 and *out, 0 there is none, -EBADMSG or -errno with words */
int head_read(int dirfd, struct ledger_head *out, struct cl_err *err);

/* seal_fields - copy @body to @out, PERSON fields sealed with @key */
int seal_fields(struct span body, const unsigned char key[SEAL_KEY_SIZE], struct buf *out);
/* seal_has_person - is there anything to seal? */
bool seal_has_person(struct span body);
/* seal_open - one sealed value to text; -EBADMSG the key does not fit */
int seal_open(struct span sealed, const unsigned char key[SEAL_KEY_SIZE], struct buf *out);

#endif

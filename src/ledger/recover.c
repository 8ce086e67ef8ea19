/* SPDX-License-Identifier: Apache-2.0 */
#include "ledger/recover.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static ssize_t pread_some(int fd, void *p, size_t n, uint64_t at)
{
	ssize_t k;

	do
		k = pread(fd, p, n, (off_t)at);
	while (k < 0 && errno == EINTR);
	return k < 0 ? -errno : k;
}

static int header_of(int fd, uint64_t segment, struct segment_header *out, struct cl_err *err)
{
	char b[SEGMENT_HEADER_SIZE];
	ssize_t k = pread_some(fd, b, sizeof b, 0);

	if (k < 0)
		return cl_fail(err, (int)-k, "segment %llu", (unsigned long long)segment);
	if (segment_header_decode((struct span){ b, (size_t)k }, out, err) || out->segment != segment)
		return cl_fail(err, EBADMSG, "segment %llu: the header was changed",
			       (unsigned long long)segment);
	return 0;
}

int recover_header(int dirfd, uint64_t segment, struct segment_header *out, struct cl_err *err)
{
	char name[SEGMENT_NAME_MAX];

	segment_name(segment, name, sizeof name);

	CL_CLOSE int fd = cl_open_beneath(dirfd, name, O_RDONLY, 0);

	if (fd < 0)
		return cl_fail(err, -fd, "%s", name);
	return header_of(fd, segment, out, err);
}

/* Frames from the header on, as long as they are whole and chained. */
static int walk(int fd, const unsigned char pub[SIGN_PUB_SIZE], struct recovered *o,
		struct cl_err *err)
{
	CL_BUF struct buf b;
	struct frame f;

	buf_init(&b, 1u << 20);
	for (;;) {
		ssize_t k;
		size_t used = 0;
		int r;

		if (buf_reserve(&b, 256 * 1024))
			return cl_fail(err, ENOMEM, "ledger: read");
		k = pread_some(fd, b.p + b.n, 256 * 1024, o->offset + b.n);
		if (k < 0)
			return cl_fail(err, (int)-k, "ledger: read");
		b.n += (size_t)k;
		while ((r = frame_decode((struct span){ b.p + used, b.n - used }, &f)) == 1) {
			unsigned char chain[CHAIN_SIZE];
			struct record_value v;

			frame_chain(o->chain, (struct span){ b.p + used, f.size }, chain);
			if (memcmp(chain, f.chain, CHAIN_SIZE) != 0 || f.number != o->number + 1)
				return 0;
			if (f.kind == RECORD_CHECKPOINT && record_find(f.body, RF_SIGNATURE, &v) &&
			    v.bytes.n == SIGNATURE_SIZE &&
			    checkpoint_ok(pub, f.number - 1, f.at_us, o->chain,
					  (const unsigned char *)v.bytes.p))
				o->checked = f.number;
			memcpy(o->chain, chain, CHAIN_SIZE);
			o->number = f.number;
			used += f.size;
			o->offset += f.size;
		}
		if (r < 0 || k == 0)
			return 0;
		buf_consume(&b, used);
	}
}

/* Move [offset, end) of the segment into a file of its own, then cut it. */
static int cut(int dirfd, int fd, struct recovered *o, uint64_t end, struct cl_err *err)
{
	char b[65536];
	uint64_t at = o->offset;
	int r = 0;

	(void)snprintf(o->torn_file, sizeof o->torn_file, "torn-%08llu-%llu",
		       (unsigned long long)o->segment, (unsigned long long)o->offset);

	CL_CLOSE int out = cl_open_beneath(dirfd, o->torn_file, O_WRONLY | O_CREAT | O_TRUNC, 0640);

	if (out < 0)
		return cl_fail(err, -out, "ledger: %s", o->torn_file);
	while (at < end && r == 0) {
		ssize_t k = pread_some(fd, b, sizeof b, at);

		if (k == 0)
			break;
		r = k < 0 ? (int)k : cl_write_full(out, b, (size_t)k);
		if (k > 0)
			at += (uint64_t)k;
	}
	/* A full disk must not keep the ledger down: then the bytes, which
	 * nobody was told are durable, are lost, and the record says how many. */
	if (r == -ENOSPC || r == -EDQUOT) {
		(void)unlinkat(dirfd, o->torn_file, 0);
		(void)snprintf(o->torn_file, sizeof o->torn_file, "not kept: disk full");
		r = 0;
	} else if (r == 0 && (fsync(out) < 0 || fsync(dirfd) < 0)) {
		r = -errno;
	}
	if (r == 0 && (ftruncate(fd, (off_t)o->offset) < 0 || fdatasync(fd) < 0))
		r = -errno;
	if (r)
		return cl_fail(err, -r, "ledger: the unfinished end cannot be cut");
	o->torn_segment = o->segment;
	o->torn_offset = o->offset;
	o->torn_bytes = end - o->offset;
	return 0;
}

static int open_last(int dirfd, const unsigned char pub[SIGN_PUB_SIZE],
		     const struct ledger_head *head, struct recovered *o, struct cl_err *err)
{
	struct segment_header h;
	struct stat st;
	char name[SEGMENT_NAME_MAX];
	int r;

	segment_name(o->segment, name, sizeof name);

	CL_CLOSE int fd = cl_open_beneath(dirfd, name, O_RDWR, 0);

	if (fd < 0)
		return cl_fail(err, -fd, "%s", name);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return cl_fail(err, EBADMSG, "%s is no file of ours", name);
	r = header_of(fd, o->segment, &h, err);
	if (r)
		return r;
	if (memcmp(h.pubkey, pub, SIGN_PUB_SIZE) != 0)
		return cl_fail(err, EBADMSG, "%s was written with another key", name);
	o->number = h.first - 1;
	o->offset = SEGMENT_HEADER_SIZE;
	memcpy(o->chain, h.hash, CHAIN_SIZE);
	r = walk(fd, pub, o, err);
	if (r)
		return r;
	if (head->number > o->number)
		return cl_fail(err, EBADMSG, "%s: damaged at byte %llu after record %llu, but up to %llu was "
			       "signed: run 'cloister audit verify'", name,
			       (unsigned long long)o->offset, (unsigned long long)o->number,
			       (unsigned long long)head->number);
	if ((uint64_t)st.st_size > o->offset) {
		r = cut(dirfd, fd, o, (uint64_t)st.st_size, err);
		if (r)
			return r;
	}
	o->fd = cl_take_fd(&fd);
	return 0;
}

int recover(int dirfd, const unsigned char pub[SIGN_PUB_SIZE], struct recovered *out,
	    struct cl_err *err)
{
	struct ledger_head head = { 0 };
	struct recovered o = { .fd = -1 };
	uint64_t *list = NULL;
	size_t n = 0;
	int r = head_read(dirfd, &head, err);

	if (r < 0)
		return r;
	if (r == 1 && !head_ok(&head, pub))
		return cl_fail(err, EBADMSG, "ledger: the signature of 'head' does not fit the key");
	r = segment_list(dirfd, &list, &n, err);
	if (r)
		return r;
	if (n)
		o.segment = list[n - 1];
	free(list);
	if (head.segment > o.segment)
		return cl_fail(err, EBADMSG, "ledger: segment %llu is missing",
			       (unsigned long long)head.segment);
	if (n) {
		r = open_last(dirfd, pub, &head, &o, err);
		if (r)
			return r;
	}
	*out = o;
	return 0;
}

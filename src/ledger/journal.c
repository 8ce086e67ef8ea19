/* SPDX-License-Identifier: Apache-2.0 */
#include "ledger/journal.h"

#include "ledger/recover.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* Out of space in any of its forms, as one. */
static int space(int r)
{
	return r == -EDQUOT || r == -EFBIG ? -ENOSPC : r;
}

static uint64_t now_us(void)
{
	int64_t t = cl_now_us();

	return t < 0 ? 0 : (uint64_t)t;
}

static void take_back(struct journal *j)
{
	buf_clear(&j->batch);
	j->batch_number = j->number;
	memcpy(j->batch_chain, j->chain, CHAIN_SIZE);
}

/* ---- personal fields -------------------------------------------------------- */

static int tenant_key(struct journal *j, struct span tenant, struct cl_err *err)
{
	char path[8 + TENANT_ID_MAX] = "keys/";
	CL_BUF struct buf b;
	int r;

	if (span_eq_str(tenant, j->tenant) && tenant.n)
		return 0;
	if (!tenant_id_ok(tenant))
		return cl_fail(err, EINVAL, "ledger: tenant id");
	memcpy(path + 5, tenant.p, tenant.n);
	path[5 + tenant.n] = '\0';
	buf_init(&b, 4096);
	r = cl_read_file(j->dirfd, path, &b, err);
	if (r == -ENOENT) {
		char fresh[SEAL_KEY_SIZE];

		cl_random(fresh, sizeof fresh);
		r = cl_write_file(j->dirfd, path, 0640, (struct span){ fresh, sizeof fresh }, err);
		if (r == 0)
			r = buf_add(&b, fresh, sizeof fresh);
		explicit_bzero(fresh, sizeof fresh);
	}
	if (r)
		return space(r);
	if (b.n != SEAL_KEY_SIZE)
		return cl_fail(err, EBADMSG, "ledger: '%s' is no key", path);
	(void)span_copy(tenant, j->tenant, sizeof j->tenant);	/* fits: tenant_id_ok */
	memcpy(j->tenant_key, b.p, SEAL_KEY_SIZE);
	explicit_bzero(b.p, b.n);
	return 0;
}

int journal_erase(struct journal *j, struct span tenant, struct cl_err *err)
{
	char path[8 + TENANT_ID_MAX] = "keys/";

	if (!tenant_id_ok(tenant))
		return cl_fail(err, EINVAL, "ledger: tenant id");
	memcpy(path + 5, tenant.p, tenant.n);
	path[5 + tenant.n] = '\0';
	explicit_bzero(j->tenant_key, sizeof j->tenant_key);
	j->tenant[0] = '\0';
	if (unlinkat(j->dirfd, path, 0) < 0 && errno != ENOENT)
		return cl_fail(err, errno, "ledger: '%s'", path);

	CL_CLOSE int dir = cl_open_beneath(j->dirfd, "keys", O_RDONLY | O_DIRECTORY, 0);

	if (dir < 0 || fsync(dir) < 0)
		return cl_fail(err, dir < 0 ? -dir : errno, "ledger: 'keys'");
	return 0;
}

/* ---- segments ------------------------------------------------------------------ */

/* A new segment after `number`; the batch is empty. */
static int segment_start(struct journal *j, struct cl_err *err)
{
	struct segment_header h = { .segment = j->segment + 1, .first = j->number + 1,
				    .created_us = now_us() };
	char name[SEGMENT_NAME_MAX];
	CL_BUF struct buf b;
	int r;

	memcpy(h.prev, j->chain, CHAIN_SIZE);
	memcpy(h.pubkey, j->pub, SIGN_PUB_SIZE);
	buf_init(&b, SEGMENT_HEADER_SIZE);
	r = segment_header_encode(&h, &b);
	if (r)
		return cl_fail(err, -r, "ledger: header");
	segment_name(h.segment, name, sizeof name);
	r = cl_write_file(j->dirfd, name, 0640, buf_span(&b), err);

	int fd = r ? -1 : cl_open_beneath(j->dirfd, name, O_RDWR, 0);

	if (fd < 0) {
		/* the old one goes on: an empty successor would break the chain */
		(void)unlinkat(j->dirfd, name, 0);
		return r ? space(r) : cl_fail(err, -fd, "ledger: %s", name);
	}
	j->fd = cl_close(j->fd);
	j->fd = fd;
	j->segment = h.segment;
	j->offset = SEGMENT_HEADER_SIZE;
	memcpy(j->chain, h.hash, CHAIN_SIZE);
	take_back(j);
	return 0;
}

/* Retention: what is older than the newest `keep_segments`. Recorded before it is done. */
static int prune(struct journal *j, struct cl_err *err)
{
	uint64_t *list = NULL;
	size_t n = 0;
	int r;

	if (!j->opt.keep_segments)
		return 0;
	r = segment_list(j->dirfd, &list, &n, err);
	if (r)
		return r;
	if (n > j->opt.keep_segments) {
		size_t gone = n - (size_t)j->opt.keep_segments;
		struct segment_header h = { 0 };
		struct record rec;

		r = recover_header(j->dirfd, list[gone], &h, err);
		if (r == 0) {
			record_begin(&rec, RECORD_LEDGER_PRUNED, NULL);
			record_num(&rec, RF_SEGMENT, list[gone - 1]);
			record_num(&rec, RF_COUNT, h.first - 1);
			record_bytes(&rec, RF_CHAIN, h.prev, CHAIN_SIZE);
			r = journal_append(j, rec.kind, ROLE_LEDGER, true, (struct span){ "", 0 },
					   (struct span){ rec.body, rec.n }, NULL, err);
		}
		if (r == 0)
			r = journal_checkpoint(j, err);
		for (size_t i = 0; i < gone && r == 0; i++) {
			char name[SEGMENT_NAME_MAX];

			segment_name(list[i], name, sizeof name);
			if (unlinkat(j->dirfd, name, 0) < 0 && errno != ENOENT)
				r = cl_fail(err, errno, "ledger: %s", name);
		}
	}
	free(list);
	return r;
}

/* ---- batch ------------------------------------------------------------------------ */

int journal_append(struct journal *j, uint32_t kind, uint8_t sender, bool must, struct span tenant,
		   struct span body, uint64_t *out_number, struct cl_err *err)
{
	struct frame f = { .kind = kind, .number = j->batch_number + 1, .at_us = now_us(),
			   .sender = sender, .flags = must ? FRAME_MUST : 0, .tenant = tenant,
			   .body = body };
	CL_BUF struct buf sealed;
	int r;

	buf_init(&sealed, 16384);
	if (j->full) {
		j->refused++;
		return cl_fail(err, ENOSPC, "ledger: the disk is full");
	}
	if (seal_has_person(body)) {
		/* a person without a tenant is a mistake of the sender: nobody could erase it */
		r = tenant_key(j, tenant, err);
		if (r == 0 && seal_fields(body, j->tenant_key, &sealed))
			r = cl_fail(err, E2BIG, "ledger: record too large");
		if (r)
			return r == -E2BIG ? -EINVAL : r;
		f.body = buf_span(&sealed);
	}
	r = frame_encode(&f, j->batch_chain, &j->batch);
	if (r) {
		j->batch.failed = false;	/* nothing of it was added */
		return cl_fail(err, -r, "ledger: batch");
	}
	j->batch_number++;
	if (out_number)
		*out_number = f.number;
	return 0;
}

/* Write @b at the end; on failure the file is as before. */
static int write_end(struct journal *j, struct span b, struct cl_err *err)
{
	size_t done = 0;
	int r = 0;

	while (done < b.n && r == 0) {
		ssize_t k = pwrite(j->fd, b.p + done, b.n - done, (off_t)(j->offset + done));

		if (k > 0)
			done += (size_t)k;
		else if (k == 0)
			r = -ENOSPC;
		else if (errno != EINTR)
			r = -errno;
	}
	r = space(r);
	if (r == 0 && fdatasync(j->fd) < 0)
		return cl_fail(err, EIO, "ledger: fdatasync failed (%d)", errno);
	if (r == 0)
		return 0;
	if (ftruncate(j->fd, (off_t)j->offset) < 0)
		return cl_fail(err, EIO, "ledger: an unfinished write cannot be cut (%d)", errno);
	return cl_fail(err, -r, "ledger: write");
}

/* Give up the reserve and say in the ledger that from here on records were refused. */
static void disk_full(struct journal *j)
{
	struct cl_err err;
	struct record rec;
	uint64_t refused = j->batch_number - j->number;

	take_back(j);
	j->refused += refused;
	j->full_since_us = now_us();
	(void)unlinkat(j->dirfd, "reserve", 0);	/* absent: an earlier full disk took it */
	record_begin(&rec, RECORD_LEDGER_FULL, NULL);
	record_str(&rec, RF_REASON, "the disk is full: records that must be kept are refused");
	record_num(&rec, RF_COUNT, refused);
	if (journal_append(j, rec.kind, ROLE_LEDGER, false, (struct span){ "", 0 },
			   (struct span){ rec.body, rec.n }, NULL, &err) == 0 &&
	    write_end(j, buf_span(&j->batch), &err) == 0) {
		j->offset += j->batch.n;
		j->number = j->batch_number;
		memcpy(j->chain, j->batch_chain, CHAIN_SIZE);
	}
	take_back(j);
	j->full = true;
}

int journal_commit(struct journal *j, struct cl_err *err)
{
	int r;

	if (!j->batch.n)
		return 0;
	r = write_end(j, buf_span(&j->batch), err);
	if (r == -ENOSPC)
		disk_full(j);
	if (r)
		return r;
	j->offset += j->batch.n;
	j->number = j->batch_number;
	memcpy(j->chain, j->batch_chain, CHAIN_SIZE);
	take_back(j);
	if (j->offset < j->opt.segment_bytes)
		return 0;
	/* The records are safe. A new segment that fails is tried again at the
	 * next commit: the old one only grows a little longer. */
	struct cl_err later = { 0 };

	if (journal_checkpoint(j, &later) == 0 && segment_start(j, &later) == 0)
		(void)prune(j, &later);
	if (later.code)
		cl_log(CL_WARNING, "ledger-rotate", "error=%s", cl_kvs(cl_err_str(&later)));
	return 0;
}

bool journal_due(const struct journal *j)
{
	return j->number - j->checked >= j->opt.check_every;
}

/* Sign what is on the disk. Then `head`; without it a cut is noticed one
 * checkpoint later, so a full disk is no reason to fail. */
int journal_checkpoint(struct journal *j, struct cl_err *err)
{
	unsigned char sig[SIGNATURE_SIZE], head[HEAD_SIZE], body[256];
	struct cl_err later = { 0 };
	struct record rec;
	struct frame f = { .kind = RECORD_CHECKPOINT, .sender = ROLE_LEDGER, .at_us = now_us() };
	int r = journal_commit(j, err);

	if (r || j->number == j->checked)
		return r;
	if (j->full)
		return cl_fail(err, ENOSPC, "ledger: the disk is full");
	checkpoint_sign(j->key, j->number, f.at_us, j->chain, sig);
	record_begin(&rec, RECORD_CHECKPOINT, NULL);
	record_num(&rec, RF_VALUE, j->number);
	record_bytes(&rec, RF_CHAIN, j->chain, CHAIN_SIZE);
	record_bytes(&rec, RF_SIGNATURE, sig, sizeof sig);
	if (rec.failed || rec.n > sizeof body)
		return cl_fail(err, EINVAL, "ledger: checkpoint");
	memcpy(body, rec.body, rec.n);
	f.number = j->batch_number + 1;
	f.body = (struct span){ (const char *)body, rec.n };
	r = frame_encode(&f, j->batch_chain, &j->batch);
	if (r)
		return cl_fail(err, -r, "ledger: checkpoint");
	j->batch_number++;
	r = write_end(j, buf_span(&j->batch), err);
	if (r == -ENOSPC)
		disk_full(j);
	if (r)
		return r;
	j->offset += j->batch.n;
	j->number = j->checked = j->batch_number;
	memcpy(j->chain, j->batch_chain, CHAIN_SIZE);
	take_back(j);

	struct ledger_head h = { .number = j->number, .segment = j->segment, .at_us = f.at_us };

	memcpy(h.chain, j->chain, CHAIN_SIZE);
	head_sign(&h, j->key);
	head_encode(&h, head);
	if (cl_write_file(j->dirfd, "head", 0640, (struct span){ (const char *)head, sizeof head },
			  &later))
		cl_log(CL_WARNING, "ledger-head", "error=%s", cl_kvs(cl_err_str(&later)));
	return 0;
}

/* ---- full disk ----------------------------------------------------------------------- */

/* Real blocks, so that deleting the file gives them back. */
static int reserve_make(struct journal *j, struct cl_err *err)
{
	CL_CLOSE int fd = cl_open_beneath(j->dirfd, "reserve", O_WRONLY | O_CREAT, 0640);
	int r;

	if (fd < 0)
		return cl_fail(err, -fd, "ledger: reserve");
	do
		r = posix_fallocate(fd, 0, (off_t)j->opt.reserve_bytes);
	while (r == EINTR);
	if (r) {
		(void)unlinkat(j->dirfd, "reserve", 0);	/* half of one is none */
		return cl_fail(err, -space(-r), "ledger: reserve");
	}
	return 0;
}

int journal_retry(struct journal *j, struct cl_err *err)
{
	struct record rec;
	struct statvfs fs;
	int r;

	if (!j->full)
		return 0;
	/* room for the reserve and as much again, or it would be full at once */
	if (fstatvfs(j->dirfd, &fs) < 0)
		return cl_fail(err, errno, "ledger: statvfs");
	if ((uint64_t)fs.f_bavail * fs.f_frsize < 2 * j->opt.reserve_bytes)
		return cl_fail(err, ENOSPC, "ledger: the disk is still full");
	r = reserve_make(j, err);
	if (r)
		return r;
	j->full = false;
	record_begin(&rec, RECORD_LEDGER_RESUMED, NULL);
	record_num(&rec, RF_COUNT, j->refused);
	record_num(&rec, RF_SINCE_US, j->full_since_us);
	r = journal_append(j, rec.kind, ROLE_LEDGER, false, (struct span){ "", 0 },
			   (struct span){ rec.body, rec.n }, NULL, err);
	if (r == 0)
		r = journal_commit(j, err);
	if (r == 0)
		j->refused = 0;
	return r;
}

/* ---- open ---------------------------------------------------------------------------------- */

static int keys_open(struct journal *j, struct cl_err *err)
{
	CL_BUF struct buf b;
	char hex[2 * SIGN_PUB_SIZE + 2];
	int r;

	buf_init(&b, 4096);
	if (mlock(j->key, sizeof j->key) < 0)
		cl_log(CL_WARNING, "ledger-mlock", "error=%d", errno);
	r = cl_read_file(j->dirfd, "key", &b, err);
	if (r == -ENOENT) {
		uint64_t *list = NULL;
		size_t n = 0;

		/* a new key for an old ledger would look like somebody else's ledger */
		r = segment_list(j->dirfd, &list, &n, err);
		free(list);
		if (r)
			return r;
		if (n)
			return cl_fail(err, EBADMSG, "ledger: there are segments, but the signing key is "
				       "gone: put back the file 'key', or move all of it away to begin anew");
		crypto_sign_keypair(j->pub, j->key);
		r = cl_write_file(j->dirfd, "key", 0600,
				  (struct span){ (const char *)j->key, SIGN_KEY_SIZE }, err);
	} else if (r == 0) {
		if (b.n != SIGN_KEY_SIZE)
			return cl_fail(err, EBADMSG, "ledger: the file 'key' is no key");
		memcpy(j->key, b.p, SIGN_KEY_SIZE);
		explicit_bzero(b.p, b.n);
		crypto_sign_ed25519_sk_to_pk(j->pub, j->key);
	}
	if (r)
		return r;
	cl_hex(j->pub, SIGN_PUB_SIZE, hex);
	hex[2 * SIGN_PUB_SIZE] = '\n';
	return cl_write_file(j->dirfd, "ledger.pub", 0640,
			     (struct span){ hex, 2 * SIGN_PUB_SIZE + 1 }, err);
}

/* The first records of this run: who writes, and what was cut. */
static int first_records(struct journal *j, const struct recovered *rv, struct cl_err *err)
{
	struct record rec;
	int r = 0;

	if (rv->torn_bytes) {
		record_begin(&rec, RECORD_LEDGER_TORN, NULL);
		record_num(&rec, RF_SEGMENT, rv->torn_segment);
		record_num(&rec, RF_OFFSET, rv->torn_offset);
		record_num(&rec, RF_BYTES_N, rv->torn_bytes);
		record_str(&rec, RF_FILE, rv->torn_file);
		r = journal_append(j, rec.kind, ROLE_LEDGER, false, (struct span){ "", 0 },
				   (struct span){ rec.body, rec.n }, NULL, err);
	}
	record_begin(&rec, RECORD_LEDGER_START, NULL);
	record_str(&rec, RF_VERSION, CLOISTER_VERSION);
	record_bytes(&rec, RF_PUBKEY, j->pub, SIGN_PUB_SIZE);
	if (r == 0)
		r = journal_append(j, rec.kind, ROLE_LEDGER, false, (struct span){ "", 0 },
				   (struct span){ rec.body, rec.n }, NULL, err);
	return r ? r : journal_checkpoint(j, err);
}

int journal_open(struct journal *j, int dirfd, const struct journal_options *opt,
		 struct cl_err *err)
{
	struct recovered rv = { 0 };
	int r;

	*j = (struct journal){ .dirfd = dirfd, .fd = -1 };
	if (opt)
		j->opt = *opt;
	if (!j->opt.segment_bytes)
		j->opt.segment_bytes = 16u << 20;
	if (!j->opt.check_every)
		j->opt.check_every = 1000;
	if (!j->opt.reserve_bytes)
		j->opt.reserve_bytes = 1u << 20;
	buf_init(&j->batch, BATCH_MAX);
	r = ledger_crypto_init(err);
	if (r == 0 && mkdirat(dirfd, "keys", 0750) < 0 && errno != EEXIST)
		r = cl_fail(err, errno, "ledger: keys");
	if (r == 0)
		r = keys_open(j, err);
	if (r == 0)
		r = recover(dirfd, j->pub, &rv, err);
	if (r == 0) {
		j->segment = rv.segment;
		j->offset = rv.offset;
		j->number = rv.number;
		memcpy(j->chain, rv.chain, CHAIN_SIZE);
		j->fd = cl_take_fd(&rv.fd);
		j->checked = rv.checked;
		take_back(j);
		if (j->fd < 0)
			r = segment_start(j, err);
	}
	if (r == 0) {
		struct cl_err none = { 0 };
		struct stat st;

		/* a disk that is nearly full: go on without, as long as it goes */
		if (fstatat(dirfd, "reserve", &st, AT_SYMLINK_NOFOLLOW) < 0 && reserve_make(j, &none))
			cl_log(CL_WARNING, "ledger-reserve", "error=%s", cl_kvs(cl_err_str(&none)));
		r = first_records(j, &rv, err);
		if (r == -ENOSPC)
			r = 0;		/* it is `full` now: serves, refuses, and tries again */
	}
	if (r)
		journal_done(j);
	return r;
}

void journal_done(struct journal *j)
{
	j->fd = cl_close(j->fd);
	buf_wipe_done(&j->batch);
	explicit_bzero(j->key, sizeof j->key);
	explicit_bzero(j->tenant_key, sizeof j->tenant_key);
}

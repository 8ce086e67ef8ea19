/* SPDX-License-Identifier: Apache-2.0 */
#include "cloisterd/attest.h"

#include <sodium.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define LIST_NAME "files.sha256"
#define LIST_MAX (256u << 20)
#define CACHE 16

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)

/* which list had which digest when it was last read */
static struct known {
	struct stat st;
	char hex[65];
} known[CACHE];
static unsigned known_next;

static bool same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
	       a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* SHA-256 of @fd from its beginning, as hex */
static int digest_fd(int fd, uint64_t max_bytes, char hex[65])
{
	unsigned char out[crypto_hash_sha256_BYTES];
	static char piece[65536];
	crypto_hash_sha256_state s;
	uint64_t at = 0;

	(void)crypto_hash_sha256_init(&s);	/* cannot fail */
	for (;;) {
		ssize_t n = pread(fd, piece, sizeof piece, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		at += (uint64_t)n;
		if (at > max_bytes)
			return -EFBIG;
		(void)crypto_hash_sha256_update(&s, (const unsigned char *)piece, (size_t)n);
	}
	(void)crypto_hash_sha256_final(&s, out);
	cl_hex(out, sizeof out, hex);
	return 0;
}

static int roots_own(int fd, const char *what, struct stat *st, struct cl_err *err)
{
	if (fstat(fd, st) < 0)
		return cl_fail(err, errno, "image: %s", what);
	if (st->st_uid != 0 || (st->st_mode & 022))
		return cl_fail(err, EPERM,
			       "image: %s does not belong to root or others may write it", what);
	return 0;
}

static int list_digest(int fd, char hex[65], struct cl_err *err)
{
	struct stat st;
	int r;

	if (roots_own(fd, LIST_NAME, &st, err))
		return -err->code;
	if (!S_ISREG(st.st_mode))
		return cl_fail(err, EINVAL, "image: " LIST_NAME " is not a file");
	for (unsigned i = 0; i < CACHE; i++)
		if (known[i].hex[0] && same(&known[i].st, &st)) {
			memcpy(hex, known[i].hex, 65);
			return 0;
		}
	if ((r = digest_fd(fd, LIST_MAX, hex)))
		return cl_fail(err, -r, "image: " LIST_NAME ": read");
	struct known *k = &known[known_next++ % CACHE];

	k->st = st;
	memcpy(k->hex, hex, 65);
	return 0;
}

int attest_image(int images_dirfd, const struct plan *p, struct cl_err *err)
{
	char name[65], hex[65];
	struct stat st;

	if (!name_ok(p->image) || span_copy(p->image, name, sizeof name))
		return cl_fail(err, EINVAL, "image: name not allowed");
	CL_CLOSE int dir = cl_open_beneath(images_dirfd, name, O_RDONLY | O_DIRECTORY, 0);

	if (dir < 0)
		return cl_fail(err, -dir, "image '%s'", name);
	CL_CLOSE int list = cl_open_beneath(dir, LIST_NAME, O_RDONLY | O_NONBLOCK, 0);
	CL_CLOSE int rootfs = cl_open_beneath(dir, "rootfs", O_RDONLY | O_DIRECTORY, 0);

	if (rootfs < 0)
		return cl_fail(err, -rootfs, "image '%s': rootfs", name);
	if (roots_own(dir, name, &st, err) || roots_own(rootfs, "rootfs", &st, err))
		return -err->code;
	if (list < 0)
		return cl_fail(err, -list, "image '%s': " LIST_NAME, name);
	if (list_digest(list, hex, err))
		return -err->code;
	if (!span_eq_str(p->image_digest, hex))
		return cl_fail(err, EBADMSG,
			       "image '%s' is not the one of the plan: it has %.12s…, the plan %.12s…",
			       name, hex, p->image_digest.n == 64 ? p->image_digest.p : "none");
	return cl_take_fd(&rootfs);
}

int attest_config(int fd, const struct plan *p, uint64_t max_bytes, struct cl_err *err)
{
	char hex[65];
	struct stat st;
	int seals;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size < 0)
		return cl_fail(err, EINVAL, "configuration: not a memfd");
	if ((uint64_t)st.st_size > max_bytes)
		return cl_fail(err, EINVAL, "configuration: larger than %llu bytes",
			       (unsigned long long)max_bytes);
	/* the sender may have sealed it already; what counts is what holds now */
	(void)fcntl(fd, F_ADD_SEALS, SEALS);
	seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || (seals & SEALS) != SEALS)
		return cl_fail(err, EINVAL, "configuration: cannot be sealed");
	int r = digest_fd(fd, max_bytes, hex);

	if (r)
		return cl_fail(err, -r, "configuration: read");
	if (!span_eq_str(p->config_digest, hex))
		return cl_fail(err, EBADMSG, "configuration is not the one of the plan");
	return 0;
}

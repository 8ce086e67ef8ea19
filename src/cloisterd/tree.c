/* SPDX-License-Identifier: Apache-2.0 */
#include "cloisterd/tree.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool dots(const char *n)
{
	return n[0] == '.' && (n[1] == '\0' || (n[1] == '.' && n[2] == '\0'));
}

/* A stream of its own on @fd, which stays the caller's. */
static DIR *dir_of(int fd)
{
	int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *d = own >= 0 ? fdopendir(own) : NULL;

	if (!d)
		(void)cl_close(own);
	return d;
}

/* ---- delete ------------------------------------------------------------------ */

struct sweep {
	int top;
	uint64_t next;		/* name of the next directory that is moved up */
	int64_t until_us;
};

static int open_dir_to_empty(int at, const char *name)
{
	/* the owner may have taken its own rights away; nobody else works here */
	(void)!fchmodat(at, name, 0700, 0);
	return openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

/* Move directory @name of @at up to the top, under a number that is free. */
static int move_up(struct sweep *s, int at, const char *name)
{
	char to[32];

	(void)!fchmodat(at, name, 0700, 0);	/* its ".." changes: it must be writable */
	for (int tries = 0; tries < 1000; tries++) {
		(void)snprintf(to, sizeof to, "up-%llu", (unsigned long long)s->next++);
		if (renameat2(at, name, s->top, to, 1 /* RENAME_NOREPLACE */) == 0)
			return 0;
		if (errno != EEXIST)
			return -errno;
	}
	return -EEXIST;
}

/* Empty directory @fd, which lies in the top. Return: 0, 1 time is over, -errno */
static int empty_one(struct sweep *s, int fd)
{
	DIR *d = dir_of(fd);
	struct dirent *e;
	int r = 0;

	if (!d)
		return -errno;
	while (r == 0 && (e = readdir(d))) {
		if (dots(e->d_name))
			continue;
		if (unlinkat(fd, e->d_name, 0) == 0)
			;
		else if (errno == EISDIR || errno == EPERM)
			r = unlinkat(fd, e->d_name, AT_REMOVEDIR) == 0 ? 0 : move_up(s, fd, e->d_name);
		else if (errno != ENOENT)
			r = -errno;
		if (r == 0 && cl_mono_us() > s->until_us)
			r = 1;
	}
	(void)closedir(d);
	return r;
}

int tree_sweep(int dirfd, int budget_ms)
{
	struct sweep s = { .top = dirfd, .next = (uint64_t)cl_mono_us(),
			   .until_us = cl_mono_us() + budget_ms * 1000LL };
	int worst = 0;

	for (;;) {
		DIR *d = dir_of(dirfd);
		struct dirent *e;
		bool any = false, progress = false;

		if (!d)
			return -errno;
		while ((e = readdir(d))) {
			if (dots(e->d_name))
				continue;
			any = true;
			if (unlinkat(dirfd, e->d_name, 0) == 0 ||
			    unlinkat(dirfd, e->d_name, AT_REMOVEDIR) == 0) {
				progress = true;
				continue;
			}
			CL_CLOSE int fd = open_dir_to_empty(dirfd, e->d_name);
			int r = fd < 0 ? -errno : empty_one(&s, fd);

			if (r == 0 && unlinkat(dirfd, e->d_name, AT_REMOVEDIR) == 0)
				progress = true;
			else if (r < 0)
				worst = r;
			if (r == 1 || cl_mono_us() > s.until_us) {
				(void)closedir(d);
				return 1;
			}
		}
		(void)closedir(d);
		if (!any)
			return 0;
		if (!progress)
			return worst ? worst : -ENOTEMPTY;
	}
}

/* ---- copy -------------------------------------------------------------------- */

struct copy {
	uint64_t bytes, inodes, max_bytes, max_inodes;
};

static int copy_range(int from, int to, off_t at, off_t end)
{
	static char piece[1 << 17];

	while (at < end) {
		size_t want = (size_t)(end - at) < sizeof piece ? (size_t)(end - at) : sizeof piece;
		ssize_t n = pread(from, piece, want, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n == 0 ? 0 : -errno;	/* it shrank: the copy ends here */
		for (ssize_t done = 0; done < n;) {
			ssize_t k = pwrite(to, piece + done, (size_t)(n - done), at + done);

			if (k < 0 && errno == EINTR)
				continue;
			if (k < 0)
				return -errno;
			done += k;
		}
		at += n;
	}
	return 0;
}

static int copy_data(struct copy *c, int from, int to, off_t size)
{
	off_t at = 0;

	if (ftruncate(to, size) < 0)
		return -errno;
	while (at < size) {
		off_t data = lseek(from, at, SEEK_DATA), hole;

		if (data < 0)
			return errno == ENXIO ? 0 : -errno;	/* only a hole is left */
		hole = lseek(from, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		if (hole > size)
			hole = size;
		c->bytes += (uint64_t)(hole - data);
		if (c->bytes > c->max_bytes)
			return -EDQUOT;
		int r = copy_range(from, to, data, hole);

		if (r)
			return r;
		at = hole;
	}
	return 0;
}

static void copy_times(int fd, const struct stat *st)
{
	struct timespec t[2] = { st->st_atim, st->st_mtim };

	(void)futimens(fd, t);	/* a wrong time is no reason to lose a file */
	(void)fchmod(fd, st->st_mode & 0777);
}

static int copy_file(struct copy *c, int from, int to, const char *name, const struct stat *st)
{
	const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
	CL_CLOSE int in = openat(from, name, flags);

	if (in < 0 && errno == EACCES) {
		/* its owner took the right to read away from itself */
		if (fchmodat(from, name, 0600, 0) < 0)
			return -errno;
		in = openat(from, name, flags);
		(void)!fchmodat(from, name, st->st_mode & 0777, 0);
	}
	if (in < 0)
		return -errno;
	CL_CLOSE int out = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
				  0600);

	if (out < 0)
		return -errno;
	int r = copy_data(c, in, out, st->st_size);

	if (r == 0)
		copy_times(out, st);
	return r;
}

static int copy_link(int from, int to, const char *name)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(from, name, target, sizeof target - 1);

	if (n < 0)
		return -errno;
	target[n] = '\0';
	return symlinkat(target, to, name) < 0 ? -errno : 0;
}

static int copy_dir(struct copy *c, int from, int to, int depth);

static int copy_sub(struct copy *c, int from, int to, const char *name, const struct stat *st,
		    int depth)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	bool shut = (st->st_mode & 0500) != 0500;

	if (mkdirat(to, name, 0700) < 0)
		return -errno;
	if (shut && fchmodat(from, name, 0700, 0) < 0)
		return -errno;
	CL_CLOSE int in = openat(from, name, flags);
	CL_CLOSE int out = openat(to, name, flags);
	int r = in < 0 || out < 0 ? -errno : copy_dir(c, in, out, depth + 1);

	if (shut)
		(void)!fchmodat(from, name, st->st_mode & 0777, 0);
	if (r == 0)
		copy_times(out, st);
	return r;
}

/* Depth is bounded, and so are the stack and the descriptors: three a level. */
static int copy_dir(struct copy *c, int from, int to, int depth)
{
	DIR *d = depth < TREE_DEPTH_MAX ? dir_of(from) : NULL;
	struct dirent *e;
	int r = 0;

	if (!d)
		return depth < TREE_DEPTH_MAX ? -errno : -ELOOP;
	while (r == 0 && (e = readdir(d))) {
		struct stat st;

		if (dots(e->d_name))
			continue;
		if (++c->inodes > c->max_inodes)
			r = -EDQUOT;
		else if (fstatat(from, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			r = -errno;
		else if (S_ISREG(st.st_mode))
			r = copy_file(c, from, to, e->d_name, &st);
		else if (S_ISDIR(st.st_mode))
			r = copy_sub(c, from, to, e->d_name, &st, depth);
		else if (S_ISLNK(st.st_mode))
			r = copy_link(from, to, e->d_name);
		else if (S_ISFIFO(st.st_mode))
			r = mkfifoat(to, e->d_name, st.st_mode & 0777) < 0 ? -errno : 0;
	}
	(void)closedir(d);
	return r;
}

int tree_copy(int from, int to, uint64_t max_bytes, uint64_t max_inodes)
{
	struct copy c = { .max_bytes = max_bytes, .max_inodes = max_inodes };

	return copy_dir(&c, from, to, 0);
}

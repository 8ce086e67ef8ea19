/* SPDX-License-Identifier: Apache-2.0 */
/* Files by descriptor: open beneath, judge what is held, write atomically. */
#include "base/base.h"

#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int cl_open_beneath(int dirfd, const char *path, int flags, mode_t mode)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
		.mode = (flags & (O_CREAT | __O_TMPFILE)) ? mode : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	long fd = syscall(SYS_openat2, dirfd, path, &how, sizeof how);

	return fd < 0 ? -errno : (int)fd;
}

int cl_open_dir(const char *path, struct cl_err *err)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return cl_fail(err, errno, "directory '%s'", path);
	return fd;
}

int cl_write_full(int fd, const void *p, size_t n)
{
	const char *c = p;

	while (n) {
		ssize_t k = write(fd, c, n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -errno;
		c += k;
		n -= (size_t)k;
	}
	return 0;
}

int cl_read_full(int fd, void *p, size_t n)
{
	char *c = p;

	while (n) {
		ssize_t k = read(fd, c, n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -errno;
		if (k == 0)
			return -EPIPE;
		c += k;
		n -= (size_t)k;
	}
	return 0;
}

int cl_read_file(int dirfd, const char *name, struct buf *out, struct cl_err *err)
{
	CL_CLOSE int fd = cl_open_beneath(dirfd, name, O_RDONLY | O_NONBLOCK, 0);
	struct stat st;

	if (fd < 0)
		return cl_fail(err, -fd, "'%s': open", name);
	if (fstat(fd, &st) < 0)
		return cl_fail(err, errno, "'%s': stat", name);
	if (!S_ISREG(st.st_mode))
		return cl_fail(err, EINVAL, "'%s': not a regular file", name);
	for (;;) {
		/* one byte more than fits tells "too big" from "just fits" */
		size_t room = out->max - out->n;
		char probe;

		if (room == 0) {
			ssize_t k = read(fd, &probe, 1);

			if (k == 0)
				return 0;
			return cl_fail(err, k < 0 ? errno : EFBIG,
				       "'%s': larger than %zu bytes", name, out->max);
		}
		if (room > 65536)
			room = 65536;
		int r = buf_reserve(out, room);

		if (r)
			return cl_fail(err, -r, "'%s': no memory", name);
		ssize_t k = read(fd, out->p + out->n, room);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return cl_fail(err, errno, "'%s': read", name);
		if (k == 0)
			return 0;
		out->n += (size_t)k;
	}
}

int cl_write_file(int dirfd, const char *name, mode_t mode, struct span data,
		  struct cl_err *err)
{
	char tmp[288];
	int r;

	if (snprintf(tmp, sizeof tmp, "%s.new", name) >= (int)sizeof tmp)
		return cl_fail(err, ENAMETOOLONG, "'%s': name too long", name);
	(void)unlinkat(dirfd, tmp, 0);	/* a leftover of a crash; absence is fine */
	CL_CLOSE int fd = cl_open_beneath(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL, mode);

	if (fd < 0)
		return cl_fail(err, -fd, "'%s': create", name);
	r = cl_write_full(fd, data.p, data.n);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r == 0 && renameat(dirfd, tmp, dirfd, name) < 0)
		r = -errno;
	if (r == 0 && fsync(dirfd) < 0)
		r = -errno;
	if (r) {
		(void)unlinkat(dirfd, tmp, 0);	/* the first error is the one to tell */
		return cl_fail(err, -r, "'%s': write", name);
	}
	return 0;
}

int cl_set_nonblock(int fd)
{
	int fl = fcntl(fd, F_GETFL);

	return fl < 0 || fcntl(fd, F_SETFL, fl | O_NONBLOCK) < 0 ? -errno : 0;
}

int cl_set_cloexec(int fd, bool on)
{
	return fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0) < 0 ? -errno : 0;
}

int cl_mkdir_path(int dirfd, const char *path, mode_t mode)
{
	CL_CLOSE int at = fcntl(dirfd, F_DUPFD_CLOEXEC, 3);
	struct span rest = span_str(path), part;
	char name[256];

	if (at < 0)
		return -errno;
	if (rest.n == 0)
		return -EINVAL;
	/* by component, by descriptor: a link put in the middle is refused */
	for (bool last = false; !last;) {
		last = !span_cut(&rest, '/', &part);
		if (last)
			part = rest;
		if (part.n == 0 || span_eq_str(part, ".") || span_eq_str(part, ".."))
			return -EINVAL;
		if (span_copy(part, name, sizeof name))
			return -ENAMETOOLONG;
		if (mkdirat(at, name, mode) < 0 && errno != EEXIST)
			return -errno;

		int fd = openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

		if (fd < 0)
			return -errno;
		(void)cl_close(at);
		at = fd;
	}
	return 0;
}

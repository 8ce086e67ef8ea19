/* SPDX-License-Identifier: Apache-2.0 */
#include "cloisterd/proc.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int proc_start_ticks(pid_t pid, uint64_t *out)
{
	char path[64], text[1024];

	(void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);	/* fits */
	CL_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	ssize_t n = read(fd, text, sizeof text);

	if (n <= 0)
		return n == 0 ? -ESRCH : -errno;
	/* the name in brackets is the process's own choice: start after the last ')' */
	const char *end = memrchr(text, ')', (size_t)n);

	if (!end || end + 2 > text + n)
		return -EINVAL;
	struct span rest = { end + 2, (size_t)(text + n - (end + 2)) }, field;

	for (int i = 3; i <= 22; i++)
		if (!span_cut(&rest, ' ', &field))
			return -EINVAL;
	return num_parse_u64(field, UINT64_MAX, out);
}

int proc_pidfd_open(pid_t pid)
{
	long fd = syscall(SYS_pidfd_open, pid, 0);	/* close-on-exec by itself */

	return fd < 0 ? -errno : (int)fd;
}

int proc_signal(int pidfd, int signo)
{
	return syscall(SYS_pidfd_send_signal, pidfd, signo, NULL, 0) < 0 ? -errno : 0;
}

int proc_hold(pid_t pid, uint64_t ticks)
{
	uint64_t now;

	if (pid <= 1)
		return -ESRCH;
	/* hold first, then compare: what is held cannot be exchanged */
	int fd = proc_pidfd_open(pid);

	if (fd < 0)
		return fd;
	if (proc_start_ticks(pid, &now) || now != ticks || proc_signal(fd, 0)) {
		(void)cl_close(fd);
		return -ESRCH;
	}
	return fd;
}

bool proc_gone(int pidfd, int wait_ms)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	int64_t until = cl_mono_us() + (int64_t)wait_ms * 1000;

	for (;;) {
		int64_t left = (until - cl_mono_us()) / 1000;
		int r = poll(&p, 1, left > 0 ? (int)left : 0);

		if (r > 0)
			return true;
		if (r == 0 || errno != EINTR)
			return false;
	}
}

int proc_boot_id(char *buf, size_t n, struct cl_err *err)
{
	CL_CLOSE int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return cl_fail(err, errno, "boot id");
	ssize_t k = read(fd, buf, n - 1);

	if (k < 36)
		return cl_fail(err, EIO, "boot id: short");
	buf[36] = '\0';
	return 0;
}

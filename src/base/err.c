/* SPDX-License-Identifier: Apache-2.0 */
/* Errors in words. Works when memory is gone: everything is fixed in size. */
#include "base/base.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <stdlib.h>

int cl_fail(struct cl_err *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (err) {
		err->code = code;
		va_start(ap, fmt);
		(void)vsnprintf(err->text, sizeof err->text, fmt, ap); /* cut is fine */
		va_end(ap);
	}
	return -code;
}

int cl_wrap(struct cl_err *err, const char *fmt, ...)
{
	char prefix[CL_ERR_TEXT_MAX], old[CL_ERR_TEXT_MAX];
	va_list ap;

	if (!err)
		return -EIO;
	va_start(ap, fmt);
	(void)vsnprintf(prefix, sizeof prefix, fmt, ap);
	va_end(ap);
	memcpy(old, err->text, sizeof old);
	/* Both are bounded; a longer text is cut at its end, never its start. */
	size_t n = strlen(prefix), room = sizeof err->text - 1;

	if (n + 2 > room)
		n = room - 2;
	memcpy(err->text, prefix, n);
	memcpy(err->text + n, ": ", 2);
	n += 2;
	size_t m = strnlen(old, sizeof old - 1);

	if (m > room - n)
		m = room - n;
	memcpy(err->text + n, old, m);
	err->text[n + m] = '\0';
	return -err->code;
}

int cl_close(int fd)
{
	int saved = errno;

	if (fd >= 0)
		(void)close(fd);	/* never retried: the fd is gone either way */
	errno = saved;
	return -1;
}

void cl_close_p(int *fd)
{
	*fd = cl_close(*fd);
}

void cl_free_p(void *pp)
{
	void **p = pp;

	free(*p);
	*p = NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The log: one line of key=value a record, written with one write to fd 2. */
#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *program = "cloister";
static enum cl_level max_level = CL_INFO;

void cl_log_init(const char *name)
{
	const char *e = getenv("CLOISTER_LOG");

	program = name;
	/* glibc reads /etc/localtime before its first time: let that be now, not under seccomp */
	tzset();
	if (e && strcmp(e, "debug") == 0)
		max_level = CL_DEBUG;
	else if (e && strcmp(e, "warning") == 0)
		max_level = CL_WARNING;
	else if (e && strcmp(e, "error") == 0)
		max_level = CL_ERROR;
}

void cl_log_level(enum cl_level max)
{
	max_level = max;
}

void cl_log(enum cl_level level, const char *event, const char *fmt, ...)
{
	static const char *const names[] = { "error", "warning", "info", "debug" };
	char line[1024], at[32];
	int saved = errno;

	if (level > max_level)
		return;
	cl_time_rfc3339(cl_now_us(), at, sizeof at);
	int n = snprintf(line, sizeof line - 1, "%s level=%s program=%s event=%s ", at,
			 names[level], program, event);

	if (n > 0 && (size_t)n < sizeof line - 2) {
		va_list ap;

		va_start(ap, fmt);
		int m = vsnprintf(line + n, sizeof line - 1 - (size_t)n, fmt, ap);
		va_end(ap);
		if (m > 0)
			n += m;
		if ((size_t)n > sizeof line - 2)
			n = (int)sizeof line - 2;
		line[n] = '\n';
		(void)cl_write_full(2, line, (size_t)n + 1); /* nowhere to tell it */
	}
	errno = saved;
}

const char *cl_kv(struct span s)
{
	static char ring[8][212];
	static unsigned next;
	char *b = ring[next++ & 7];
	char clean[200];
	size_t o = 0;

	utf8_scrub(s, clean, sizeof clean);
	b[o++] = '"';
	for (size_t i = 0; clean[i] && o < 208; i++) {
		if (clean[i] == '"' || clean[i] == '\\')
			b[o++] = '\\';
		b[o++] = clean[i];
	}
	b[o++] = '"';
	b[o] = '\0';
	return b;
}

const char *cl_kvs(const char *s)
{
	return cl_kv(span_str(s));
}

const char *cl_err_str(const struct cl_err *err)
{
	static char b[CL_ERR_TEXT_MAX + 80];

	if (err->code)
		(void)snprintf(b, sizeof b, "%s: %s", err->text, strerror(err->code));
	else
		(void)snprintf(b, sizeof b, "%s", err->text);
	return b;
}

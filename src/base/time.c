/* SPDX-License-Identifier: Apache-2.0 */
/* Time, randomness, hex, constant-time compare. */
#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

static int64_t clock_us(clockid_t id)
{
	struct timespec ts;

	if (clock_gettime(id, &ts) < 0)
		abort();	/* cannot fail for these clocks */
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t cl_now_us(void)
{
	return clock_us(CLOCK_REALTIME);
}

int64_t cl_mono_us(void)
{
	return clock_us(CLOCK_MONOTONIC);
}

void cl_time_rfc3339(int64_t at_us, char *buf, size_t n)
{
	time_t s = (time_t)(at_us / 1000000);
	int us = (int)(at_us % 1000000);
	struct tm tm;

	if (us < 0) {
		us += 1000000;
		s--;
	}
	if (!gmtime_r(&s, &tm))
		tm = (struct tm){ 0 };
	(void)snprintf(buf, n, "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", tm.tm_year + 1900,
		       tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, us);
}

void cl_random(void *p, size_t n)
{
	char *c = p;

	while (n) {
		ssize_t k = getrandom(c, n, 0);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			abort();	/* no safe way to go on without randomness */
		c += k;
		n -= (size_t)k;
	}
}

void cl_hex(const void *p, size_t n, char *out)
{
	static const char d[] = "0123456789abcdef";
	const unsigned char *c = p;

	for (size_t i = 0; i < n; i++) {
		out[2 * i] = d[c[i] >> 4];
		out[2 * i + 1] = d[c[i] & 15];
	}
	out[2 * n] = '\0';
}

bool cl_ct_eq(const void *a, const void *b, size_t n)
{
	const volatile unsigned char *x = a, *y = b;
	unsigned char d = 0;

	for (size_t i = 0; i < n; i++)
		d = (unsigned char)(d | (x[i] ^ y[i]));
	return d == 0;
}

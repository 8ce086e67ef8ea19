/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base - what every program of Cloister stands on: errors in words,
 * descriptors, spans, bounded buffers, strict numbers, time, the log.
 * Nothing here knows about tenants, HTTP or SQL.
 */
#ifndef CL_BASE_H
#define CL_BASE_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define CL_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define CL_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define CL_UNUSED __attribute__((unused))
#define CL_MUST_CHECK __attribute__((warn_unused_result))

/* ---- errors ---------------------------------------------------------- */

#define CL_ERR_TEXT_MAX 320

/* The failure in words. Caller-owned and fixed in size. */
struct cl_err {
	int code;			/* positive errno, 0 = none */
	char text[CL_ERR_TEXT_MAX];	/* always NUL-terminated */
};

/*
 * cl_fail - fill @err (may be NULL) with @code and words
 * Return: -code, so that callers write `return cl_fail(...)`. The words do
 * not include strerror(); cl_err_str() adds it.
 */
int cl_fail(struct cl_err *err, int code, const char *fmt, ...) CL_PRINTF(3, 4);
/* cl_wrap - put "prefix: " before the words on the way up; returns -err->code */
int cl_wrap(struct cl_err *err, const char *fmt, ...) CL_PRINTF(2, 3);

/* ---- cleanup --------------------------------------------------------- */

void cl_close_p(int *fd);
void cl_free_p(void *pp);
#define CL_CLOSE __attribute__((cleanup(cl_close_p)))
#define CL_FREE __attribute__((cleanup(cl_free_p)))

/* cl_close - close @fd if >= 0, keep errno, never retry. Always returns -1. */
int cl_close(int fd);
/* cl_take_fd - move ownership out of *fd, leaving -1 */
static inline int cl_take_fd(int *fd)
{
	int f = *fd;

	*fd = -1;
	return f;
}

/* ---- spans: bytes as pointer plus length ------------------------------ */

struct span {
	const char *p;
	size_t n;
};

#define SPAN(lit) ((struct span){ (lit), sizeof(lit) - 1 })
#define SPAN_FMT(s) (int)(s).n, (s).p	/* for "%.*s" */

struct span span_str(const char *s);	/* NULL gives an empty span */
bool span_eq(struct span a, struct span b);
bool span_eq_str(struct span a, const char *s);
bool span_eq_nocase(struct span a, struct span b);	/* ASCII only */
bool span_starts(struct span s, struct span prefix);
/* span_cut - split *s at first @c: returns what is before, *s what is after */
bool span_cut(struct span *s, char c, struct span *out_before);
struct span span_trim(struct span s);	/* spaces and tabs */
/* span_copy - copy into a NUL-terminated array; -ENAMETOOLONG, -EINVAL on NUL */
int span_copy(struct span s, char *buf, size_t buf_size);
/* utf8_ok - strict UTF-8 (RFC 3629: no overlong, no surrogate, <= U+10FFFF) */
bool utf8_ok(struct span s);
/* utf8_scrub - print-safe copy: control and invalid bytes become '?' */
void utf8_scrub(struct span s, char *buf, size_t buf_size);

/* ---- numbers ---------------------------------------------------------- */

/* Digits only, no sign, no blanks, no leading zero but "0"; -EINVAL, -ERANGE */
int num_parse_u64(struct span s, uint64_t max, uint64_t *out);
int num_parse_u32(struct span s, uint32_t max, uint32_t *out);
/* optional leading '-' */
int num_parse_i64(struct span s, int64_t *out);

/* ---- bounded growing buffer ------------------------------------------- */

struct buf {
	char *p;	/* NULL until first use */
	size_t n;	/* bytes used */
	size_t cap;	/* bytes allocated */
	size_t max;	/* never more than this: exceeding it is -E2BIG */
	bool failed;	/* sticky: some append failed */
};

void buf_init(struct buf *b, size_t max);
void buf_done(struct buf *b);
void buf_wipe_done(struct buf *b);	/* explicit_bzero before free */
/* buf_reserve - room for @n more bytes at b->p + b->n; -E2BIG, -ENOMEM */
int buf_reserve(struct buf *b, size_t n);
int buf_add(struct buf *b, const void *p, size_t n);
int buf_add_span(struct buf *b, struct span s);
int buf_add_str(struct buf *b, const char *s);
int buf_add_ch(struct buf *b, char c);
int buf_printf(struct buf *b, const char *fmt, ...) CL_PRINTF(2, 3);
/* buf_add_json_str - s as a quoted, escaped JSON string (invalid UTF-8 -> U+FFFD) */
int buf_add_json_str(struct buf *b, struct span s);
/* buf_consume - drop @n bytes from the front */
void buf_consume(struct buf *b, size_t n);
static inline void buf_clear(struct buf *b) { b->n = 0; b->failed = false; }
static inline struct span buf_span(const struct buf *b)
{
	return (struct span){ b->p, b->n };
}
#define CL_BUF __attribute__((cleanup(buf_done)))

/* ---- files ------------------------------------------------------------ */

/*
 * cl_open_beneath - openat2 with RESOLVE_BENEATH|NO_SYMLINKS|NO_MAGICLINKS
 * and O_CLOEXEC. Return: fd, or -errno.
 */
int cl_open_beneath(int dirfd, const char *path, int flags, mode_t mode);
/* cl_open_dir - an absolute path given by the operator, O_PATH-free dir fd */
int cl_open_dir(const char *path, struct cl_err *err);
/* read/write all, EINTR handled; write_full returns 0 or -errno */
int cl_write_full(int fd, const void *p, size_t n);
/* cl_read_full - exactly n bytes; -EPIPE on early end; 0 on success */
int cl_read_full(int fd, void *p, size_t n);
/* cl_read_file - whole regular file beneath @dirfd into @out (b->max bounds it) */
int cl_read_file(int dirfd, const char *name, struct buf *out, struct cl_err *err);
/* cl_write_file - atomically: temp file, fsync, rename, fsync(dir) */
int cl_write_file(int dirfd, const char *name, mode_t mode, struct span data,
		  struct cl_err *err);
/* cl_fd_path - path of @fd for messages; static-free: fills buf */
int cl_set_nonblock(int fd);
int cl_set_cloexec(int fd, bool on);
/* cl_mkdir_path - mkdir each component below dirfd (relative, no ..) */
int cl_mkdir_path(int dirfd, const char *path, mode_t mode);

/* ---- time, random ------------------------------------------------------- */

int64_t cl_now_us(void);	/* CLOCK_REALTIME */
int64_t cl_mono_us(void);	/* CLOCK_MONOTONIC */
/* cl_time_rfc3339 - "2026-11-23T19:31:40.123456Z"; buf >= 32 bytes */
void cl_time_rfc3339(int64_t at_us, char *buf, size_t n);
void cl_random(void *p, size_t n);	/* getrandom, aborts when it fails */
/* cl_hex - lower-case hex; out has 2*n+1 bytes */
void cl_hex(const void *p, size_t n, char *out);
bool cl_ct_eq(const void *a, const void *b, size_t n);	/* constant time */

/* ---- the log ------------------------------------------------------------ */

enum cl_level { CL_ERROR, CL_WARNING, CL_INFO, CL_DEBUG };

/* cl_log_init - program name shown in each line; level from CLOISTER_LOG if set */
void cl_log_init(const char *program);
void cl_log_level(enum cl_level max);
/*
 * cl_log - one line "time level program event=... " + fmt (key=value pairs).
 * Use cl_kv() around text that others chose: it quotes and escapes.
 */
void cl_log(enum cl_level level, const char *event, const char *fmt, ...) CL_PRINTF(3, 4);
/* cl_kv - "\"escaped\"" of at most 200 bytes in one of 8 rotating static buffers */
const char *cl_kv(struct span s);
const char *cl_kvs(const char *s);
const char *cl_err_str(const struct cl_err *err);	/* words + ": " + strerror */

/* ---- names ---------------------------------------------------------------- */

#define TENANT_ID_MAX 40
/* tenant_id_ok - ^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$ (DESIGN.md 8) */
bool tenant_id_ok(struct span s);
/* name_ok - 1..64 of [a-z0-9_-] */
bool name_ok(struct span s);

#endif

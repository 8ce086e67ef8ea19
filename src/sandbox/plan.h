/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan - what one sandbox shall be: made by the api, decoded and checked
 * again by cloisterd, and a third time by the spawner. Pure: no system call.
 *
 * A plan names no host path. What the sandbox gets of the host travels beside
 * it as descriptors, in the order of spawn.h.
 */
#ifndef CL_SANDBOX_PLAN_H
#define CL_SANDBOX_PLAN_H

#include "base/base.h"

#define PLAN_BYTES_MAX 65536	/* encoded */
#define PLAN_ARGV_MAX 32768	/* bytes, NULs included */
#define PLAN_ENV_MAX 16384
#define PLAN_STRINGS_MAX 256	/* arguments; variables */
#define PLAN_PATH_MAX 255
#define PLAN_HOSTNAME_MAX 63
#define PLAN_PORTS_MAX 8
#define PLAN_NO_MAX 1000000u	/* tenant numbers 1 to this */

#define SANDBOX_UID 1000u	/* the agent's uid and gid as seen inside */
#define SANDBOX_PORT 8377	/* the broker's listener inside, on 127.0.0.1 */

enum plan_flags {
	/* `run`: ends with the process that started it; digests may be empty */
	PLAN_THROWAWAY = 1u << 0,
	PLAN_FLAGS_ALL = PLAN_THROWAWAY,
};

struct plan_limits {
	uint64_t memory_bytes;		/* 16 MiB to 1 TiB */
	uint64_t swap_bytes;		/* 0 to 1 TiB, on top of memory */
	uint64_t pids;			/* 8 to 32768 tasks (a thread is one) */
	uint64_t cpu_weight;		/* 1 to 10000, 100 is ordinary */
	uint64_t cpu_ceiling_millicores;	/* 0 none, else 10 to 1024000 */
	uint64_t nofile;		/* 64 to 1048576 descriptors a process */
	uint64_t tmp_bytes;		/* 1 MiB to 1 TiB: /tmp and /dev/shm together */
	uint64_t tmp_inodes;		/* 64 to 10^8 */
	uint64_t workspace_bytes;	/* 1 MiB to 1 PiB */
	uint64_t workspace_inodes;	/* 64 to 10^9 */
	uint64_t log_bytes;		/* 64 KiB to 1 GiB kept of its output */
};

/* Spans are borrowed: by plan_decode() from its input. */
struct plan {
	uint32_t flags;			/* enum plan_flags */
	struct span argv;		/* 1 to 256 strings, each ended by a NUL; argv[0] absolute */
	struct span env;		/* 0 to 256 of NAME=value, each ended by a NUL */
	struct span image;		/* name_ok(): images/<image>/rootfs */
	struct span image_digest;	/* 64 lower-case hex: SHA-256 of files.sha256 */
	struct span config_path;	/* absolute path inside; empty: no sealed configuration */
	struct span config_digest;	/* 64 lower-case hex: SHA-256 of the sealed configuration */
	struct span hostname;		/* 1 to 63 of [a-z0-9-] */
	uint64_t generation;		/* of the tenant's tokens and configuration */
	struct plan_limits limits;
	/* TCP ports that processes inside may bind and connect to on loopback,
	 * beside connecting to 8377: the agent's own. Not 0, not 8377. */
	uint32_t nports;
	uint16_t ports[PLAN_PORTS_MAX];
};

/* plan_limits_standard - what a tenant gets that asked for nothing special */
void plan_limits_standard(struct plan_limits *out);

/*
 * plan_check - every field in its range
 * Return: 0; -EINVAL with the field named in @err.
 */
int plan_check(const struct plan *p, struct cl_err *err);

/*
 * plan_encode - check, then append to @out (buf_init(&b, PLAN_BYTES_MAX))
 * Return: 0; -EINVAL; -E2BIG; -ENOMEM. @out is as before on failure.
 */
int plan_encode(const struct plan *p, struct buf *out, struct cl_err *err);

/*
 * plan_decode - strict: exact length, no unknown flag, then plan_check()
 * @out: spans point into @in. Untouched on failure.
 * Return: 0; -EBADMSG not a plan; -EINVAL a field out of its range.
 */
int plan_decode(struct span in, struct plan *out, struct cl_err *err);

/*
 * plan_strings - split NUL-ended strings into a vector for execve
 * @vec: room for @max pointers, the last is NULL; they point into @s.
 * Return: number of strings; -E2BIG; -EINVAL not ended by a NUL.
 */
int plan_strings(struct span s, char **vec, size_t max);

/* plan_path_ok - absolute, no empty, "." or ".." component, no control byte, no NUL */
bool plan_path_ok(struct span s);

#endif

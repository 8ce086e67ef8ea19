/* SPDX-License-Identifier: Apache-2.0 */
/* See cgroup.h for how this works. All is relative to directory descriptors. */
#include "sandbox/cgroup.h"

#include "sandbox/spawn.h"

#include <dirent.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

static const char *const v1_names[CG_COUNT] = {
	[CG_UNIFIED] = "unified", [CG_MEMORY] = "memory", [CG_PIDS] = "pids", [CG_CPU] = "cpu",
	[CG_FREEZER] = "freezer", [CG_DEVICES] = "devices", [CG_BLKIO] = "blkio",
};

/* ---- small files --------------------------------------------------------------- */

static int put_text(int dirfd, const char *name, const char *text)
{
	CL_CLOSE int fd = openat(dirfd, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 ? -errno : cl_write_full(fd, text, strlen(text));
}

static int put_u64(int dirfd, const char *name, uint64_t v)
{
	char text[32];

	(void)snprintf(text, sizeof text, "%llu\n", (unsigned long long)v);	/* always fits */
	return put_text(dirfd, name, text);
}

/* Return: bytes read, NUL-terminated; -errno */
static int get_text(int dirfd, const char *name, char *buf, size_t n)
{
	CL_CLOSE int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t k;

	if (fd < 0)
		return -errno;
	k = read(fd, buf, n - 1);
	if (k < 0)
		return -errno;
	buf[k] = '\0';
	return (int)k;
}

static uint64_t get_u64(int dirfd, const char *name)
{
	char buf[64];
	uint64_t v = 0;

	if (get_text(dirfd, name, buf, sizeof buf) <= 0)
		return 0;
	buf[strcspn(buf, "\n")] = '\0';
	(void)num_parse_u64(span_str(buf), UINT64_MAX, &v);	/* "max": 0 */
	return v;
}

/* The value after "key " at the start of a line; 0 when absent */
static uint64_t get_key(int dirfd, const char *name, const char *key)
{
	char buf[4096];
	struct span s, line, k = span_str(key);
	uint64_t v = 0;

	if (get_text(dirfd, name, buf, sizeof buf) <= 0)
		return 0;
	s = span_str(buf);
	while (s.n && span_cut(&s, '\n', &line))
		if (span_starts(line, k) && line.n > k.n && line.p[k.n] == ' ') {
			line.p += k.n + 1;
			line.n -= k.n + 1;
			(void)num_parse_u64(line, UINT64_MAX, &v);	/* not a number: 0 */
			return v;
		}
	return 0;
}

static void sleep_ms(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	(void)nanosleep(&t, NULL);	/* waking early only asks once more */
}

/* ---- the host -------------------------------------------------------------------- */

static bool is_fs(const char *path, long magic)
{
	struct statfs s;

	return statfs(path, &s) == 0 && s.f_type == magic;
}

static bool has_word(const char *text, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = text; (p = strstr(p, word)); p += n)
		if ((p == text || p[-1] == ' ') && (p[n] == ' ' || p[n] == '\n' || p[n] == '\0'))
			return true;
	return false;
}

void cgroup_probe(struct cgroup_probe *out)
{
	char path[128], text[512];

	memset(out, 0, sizeof *out);
	if (is_fs(CGROUP_ROOT, CGROUP2_SUPER_MAGIC)) {
		out->v2 = true;
		out->have[CG_UNIFIED] = true;
		CL_CLOSE int fd = open(CGROUP_ROOT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (fd >= 0 && get_text(fd, "cgroup.controllers", text, sizeof text) > 0) {
			out->have[CG_MEMORY] = has_word(text, "memory");
			out->have[CG_PIDS] = has_word(text, "pids");
			out->have[CG_CPU] = has_word(text, "cpu");
			out->have[CG_BLKIO] = has_word(text, "io");
		}
		out->have[CG_FREEZER] = true;
	} else {
		for (int i = 0; i < CG_COUNT; i++) {
			(void)snprintf(path, sizeof path, "%s/%s", CGROUP_ROOT, v1_names[i]);	/* fits */
			out->have[i] = is_fs(path, i == CG_UNIFIED ? CGROUP2_SUPER_MAGIC : CGROUP_SUPER_MAGIC);
		}
		out->hybrid = out->have[CG_UNIFIED];
	}
	/* the root group has no cgroup.kill; it came with 5.14, as did what else we need */
	out->kill_file = out->have[CG_UNIFIED];
}

static int open_base(struct cgroup_host *h, enum cgroup_ctl i, const char *root, struct cl_err *err)
{
	CL_CLOSE int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return cl_fail(err, errno, "cgroup: '%s'", root);
	if (h->v2) {
		int r = put_text(fd, "cgroup.subtree_control", "+memory +pids +cpu");

		if (r)
			return cl_fail(err, -r, "cgroup: controllers cannot be enabled in '%s'", root);
		(void)put_text(fd, "cgroup.subtree_control", "+io");	/* an extra: not every kernel has it */
	}
	if (mkdirat(fd, h->base, 0755) < 0 && errno != EEXIST)
		return cl_fail(err, errno, "cgroup: mkdir '%s/%s'", root, h->base);
	h->base_fd[i] = openat(fd, h->base, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (h->base_fd[i] < 0)
		return cl_fail(err, errno, "cgroup: '%s/%s'", root, h->base);
	if (h->v2) {
		int r = put_text(h->base_fd[i], "cgroup.subtree_control", "+memory +pids +cpu");

		if (r)
			return cl_fail(err, -r, "cgroup: controllers cannot be enabled in '%s'", h->base);
		(void)put_text(h->base_fd[i], "cgroup.subtree_control", "+io");	/* as above */
	}
	return 0;
}

int cgroup_host_open(struct cgroup_host *h, const char *base, struct cl_err *err)
{
	struct cgroup_probe p;
	int r = 0;

	memset(h, 0, sizeof *h);
	for (int i = 0; i < CG_COUNT; i++)
		h->base_fd[i] = -1;
	if (!name_ok(span_str(base)) || strlen(base) >= sizeof h->base)
		return cl_fail(err, EINVAL, "cgroup: base name not allowed");
	(void)snprintf(h->base, sizeof h->base, "%s", base);	/* judged above */
	cgroup_probe(&p);
	h->v2 = p.v2;
	if (!p.have[CG_MEMORY] || !p.have[CG_PIDS] || !p.have[CG_CPU])
		return cl_fail(err, ENOSYS, "cgroup: the host offers no %s controller under " CGROUP_ROOT,
			       !p.have[CG_MEMORY] ? "memory" : !p.have[CG_PIDS] ? "pids" : "cpu");
	/* v2 beside v1 freezes and kills; else the v1 freezer does. Each join costs
	 * time at start: what no wall needs (blkio, cpuset) is not joined. */
	const bool use[CG_COUNT] = {
		[CG_UNIFIED] = p.have[CG_UNIFIED], [CG_MEMORY] = !p.v2, [CG_PIDS] = !p.v2, [CG_CPU] = !p.v2,
		[CG_FREEZER] = p.have[CG_FREEZER] && !p.have[CG_UNIFIED],
		[CG_DEVICES] = p.have[CG_DEVICES],
	};

	for (int i = 0; i < CG_COUNT && r == 0; i++) {
		char root[128];

		if (!use[i])
			continue;
		(void)snprintf(root, sizeof root, "%s/%s", CGROUP_ROOT, p.v2 ? "" : v1_names[i]);	/* fits */
		r = open_base(h, (enum cgroup_ctl)i, root, err);
	}
	if (r) {
		(void)cgroup_host_remove(h);	/* what is in use stays, and is somebody's */
		cgroup_host_done(h);
	}
	return r;
}

void cgroup_host_done(struct cgroup_host *h)
{
	for (int i = 0; i < CG_COUNT; i++)
		h->base_fd[i] = cl_close(h->base_fd[i]);
}

int cgroup_host_remove(struct cgroup_host *h)
{
	int r = 0;

	char path[80];

	(void)snprintf(path, sizeof path, "../%s", h->base);	/* fits: no path of the host is asked */
	for (int i = 0; i < CG_COUNT; i++)
		if (h->base_fd[i] >= 0 && unlinkat(h->base_fd[i], path, AT_REMOVEDIR) < 0 &&
		    errno != ENOENT)
			r = -errno;
	return r;
}

/* ---- one group ------------------------------------------------------------------- */

static void cgroup_none(struct cgroup *cg, const struct cgroup_host *h, const char *name)
{
	memset(cg, 0, sizeof *cg);
	cg->host = h;
	for (int i = 0; i < CG_COUNT; i++)
		cg->fd[i] = -1;
	(void)snprintf(cg->name, sizeof cg->name, "%s", name);	/* judged by name_ok */
}

void cgroup_done(struct cgroup *cg)
{
	for (int i = 0; i < CG_COUNT; i++)
		cg->fd[i] = cl_close(cg->fd[i]);
}

int cgroup_open(struct cgroup_host *h, const char *name, struct cgroup *out, struct cl_err *err)
{
	cgroup_none(out, h, name);
	if (!name_ok(span_str(name)))
		return cl_fail(err, EINVAL, "cgroup: name not allowed");
	for (int i = 0; i < CG_COUNT; i++) {
		if (h->base_fd[i] < 0)
			continue;
		out->fd[i] = openat(h->base_fd[i], name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (out->fd[i] < 0) {
			int code = errno;

			cgroup_done(out);
			return cl_fail(err, code, "cgroup: group '%s'", name);
		}
	}
	return 0;
}

static void remove_dirs(struct cgroup_host *h, const char *name)
{
	for (int i = 0; i < CG_COUNT; i++)
		if (h->base_fd[i] >= 0)
			(void)unlinkat(h->base_fd[i], name, AT_REMOVEDIR);	/* what is not there is fine */
}

int cgroup_create(struct cgroup_host *h, const char *name, const struct plan_limits *l,
		  struct cgroup *out, struct cl_err *err)
{
	int r;

	if (!name_ok(span_str(name)))
		return cl_fail(err, EINVAL, "cgroup: name not allowed");
	for (int i = 0, made = 0; i < CG_COUNT; i++) {
		if (h->base_fd[i] < 0)
			continue;
		if (mkdirat(h->base_fd[i], name, 0755) < 0) {
			r = errno;
			if (made)	/* the first was ours: so is what stands in the way, from a crash */
				remove_dirs(h, name);
			return cl_fail(err, r, "cgroup: mkdir '%s'", name);
		}
		made++;
	}
	r = cgroup_open(h, name, out, err);
	if (r == 0)
		r = cgroup_limits(out, l, err);
	if (r) {
		cgroup_done(out);
		remove_dirs(h, name);
	}
	return r;
}

static int limits_v2(struct cgroup *cg, const struct plan_limits *l)
{
	int fd = cg->fd[CG_UNIFIED], r = put_u64(fd, "memory.max", l->memory_bytes);
	char quota[48] = "max 100000\n";

	if (r == 0)
		r = put_u64(fd, "memory.swap.max", l->swap_bytes);
	if (r == -ENOENT)
		r = 0;			/* a kernel without swap accounting: nothing to bound */
	if (r == 0)			/* one victim of memory ends the whole sandbox */
		r = put_text(fd, "memory.oom.group", "1\n");
	if (r == 0)
		r = put_u64(fd, "pids.max", l->pids);
	if (r == 0)
		r = put_u64(fd, "cpu.weight", l->cpu_weight);
	if (l->cpu_ceiling_millicores)
		(void)snprintf(quota, sizeof quota, "%llu 100000\n",	/* always fits */
			       (unsigned long long)l->cpu_ceiling_millicores * 100);
	return r ? r : put_text(fd, "cpu.max", quota);
}

static int memory_v1(int fd, const struct plan_limits *l)
{
	uint64_t both = l->memory_bytes + l->swap_bytes;
	int r = put_u64(fd, "memory.limit_in_bytes", l->memory_bytes);

	/* raising: memory may not exceed memory+swap even for a moment, so the other way round */
	if (r == -EINVAL) {
		r = put_u64(fd, "memory.memsw.limit_in_bytes", both);
		return r ? r : put_u64(fd, "memory.limit_in_bytes", l->memory_bytes);
	}
	if (r == 0)
		r = put_u64(fd, "memory.memsw.limit_in_bytes", both);
	return r == -ENOENT ? 0 : r;	/* no swap accounting */
}

static int devices_v1(int fd)
{
	/* m: the nodes are made by the sandbox's first step, inside the group */
	static const char *const allow[] = { "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm",
					     "c 1:9 rwm", "c 5:0 rwm", "c 5:2 rw", "c 136:* rw" };
	int r = put_text(fd, "devices.deny", "a");

	for (size_t i = 0; i < CL_ARRAY_LEN(allow) && r == 0; i++)
		r = put_text(fd, "devices.allow", allow[i]);
	return r;
}

static int limits_v1(struct cgroup *cg, const struct plan_limits *l, const char **what)
{
	int r = memory_v1(cg->fd[CG_MEMORY], l);

	*what = "memory";
	if (r)
		return r;
	*what = "pids";
	r = put_u64(cg->fd[CG_PIDS], "pids.max", l->pids);
	if (r)
		return r;
	*what = "cpu";
	/* weight 100 is 1024 shares; the kernel wants at least 2 */
	r = put_u64(cg->fd[CG_CPU], "cpu.shares", l->cpu_weight * 1024 / 100 < 2 ? 2 :
		    l->cpu_weight * 1024 / 100);
	if (r == 0 && l->cpu_ceiling_millicores)
		r = put_u64(cg->fd[CG_CPU], "cpu.cfs_quota_us", l->cpu_ceiling_millicores * 100);
	else if (r == 0)
		r = put_text(cg->fd[CG_CPU], "cpu.cfs_quota_us", "-1\n");
	if (r || cg->fd[CG_DEVICES] < 0)
		return r;
	*what = "devices";
	return devices_v1(cg->fd[CG_DEVICES]);
}

int cgroup_limits(struct cgroup *cg, const struct plan_limits *l, struct cl_err *err)
{
	const char *what = "v2";
	int r = cg->host->v2 ? limits_v2(cg, l) : limits_v1(cg, l, &what);

	return r ? cl_fail(err, -r, "cgroup: limits of '%s' (%s)", cg->name, what) : 0;
}

int cgroup_join_fds(struct cgroup *cg, int *fds, size_t max, struct cl_err *err)
{
	size_t n = 0;

	for (int i = 0; i < CG_COUNT; i++) {
		if (cg->fd[i] < 0)
			continue;
		/* "tasks", not "cgroup.procs": a single thread that moves itself needs no
		 * lock over all processes of the host, which can take milliseconds */
		int fd = n < max ? openat(cg->fd[i], i == CG_UNIFIED ? "." : "tasks",
					  (i == CG_UNIFIED ? O_RDONLY | O_DIRECTORY : O_WRONLY) | O_CLOEXEC)
				 : (errno = E2BIG, -1);

		if (fd < 0) {
			int code = errno;

			while (n)
				(void)cl_close(fds[--n]);
			return cl_fail(err, code, "cgroup: '%s' cannot be joined", cg->name);
		}
		fds[n++] = fd;
	}
	return (int)n;
}

/* ---- life ------------------------------------------------------------------------- */

static bool is_frozen(struct cgroup *cg)
{
	char buf[32];

	if (cg->fd[CG_UNIFIED] >= 0)
		return get_key(cg->fd[CG_UNIFIED], "cgroup.events", "frozen") == 1;
	return get_text(cg->fd[CG_FREEZER], "freezer.state", buf, sizeof buf) > 0 &&
	       strncmp(buf, "FROZEN", 6) == 0;
}

int cgroup_freeze(struct cgroup *cg, bool frozen)
{
	int r;

	if (cg->fd[CG_UNIFIED] >= 0)
		r = put_text(cg->fd[CG_UNIFIED], "cgroup.freeze", frozen ? "1\n" : "0\n");
	else if (cg->fd[CG_FREEZER] >= 0)
		r = put_text(cg->fd[CG_FREEZER], "freezer.state", frozen ? "FROZEN\n" : "THAWED\n");
	else
		r = -ENOSYS;
	for (int i = 0; r == 0 && is_frozen(cg) != frozen; i++) {
		/* an empty group has nothing that could become frozen */
		if (cgroup_populated(cg) == 0)
			return 0;
		if (i == 1000)
			return -ETIMEDOUT;
		sleep_ms(2);
	}
	return r;
}

/* Calls @fn for each pid of the group until it returns != 0. */
static int each_pid(struct cgroup *cg, int (*fn)(void *ctx, pid_t pid), void *ctx)
{
	int dir = cg->fd[CG_UNIFIED] >= 0 ? cg->fd[CG_UNIFIED] : cg->fd[CG_PIDS];
	CL_CLOSE int fd = openat(dir, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	char buf[4096];
	uint64_t pid = 0;
	ssize_t k;

	if (fd < 0)
		return -errno;
	while ((k = read(fd, buf, sizeof buf)) > 0)
		for (ssize_t i = 0; i < k; i++) {
			if (buf[i] >= '0' && buf[i] <= '9') {
				pid = pid * 10 + (uint64_t)(buf[i] - '0');
				continue;
			}
			int r = pid ? fn(ctx, (pid_t)pid) : 0;

			pid = 0;
			if (r)
				return r;
		}
	return k < 0 ? -errno : 0;
}

static int kill_pid(void *ctx, pid_t pid)
{
	(void)ctx;
	(void)kill(pid, SIGKILL);	/* gone already: what was wanted */
	return 0;
}

int cgroup_kill(struct cgroup *cg)
{
	int r;

	if (cg->fd[CG_UNIFIED] >= 0) {
		r = put_text(cg->fd[CG_UNIFIED], "cgroup.kill", "1\n");
		if (r != -ENOENT)
			return r;
	}
	/* v1: frozen, they cannot fork away while they are counted; the dead thaw to die */
	(void)cgroup_freeze(cg, true);	/* else the repetition has to do */
	r = 0;
	for (int i = 0; i < 3 && r == 0; i++)
		r = each_pid(cg, kill_pid, NULL);
	(void)cgroup_freeze(cg, false);	/* they are dying: nothing to wait for */
	return r;
}

static int same_pid(void *ctx, pid_t pid)
{
	return pid == *(pid_t *)ctx;
}

int cgroup_has(struct cgroup *cg, pid_t pid)
{
	return each_pid(cg, same_pid, &pid);
}

static int any_pid(void *ctx, pid_t pid)
{
	(void)ctx;
	(void)pid;
	return 1;
}

int cgroup_populated(struct cgroup *cg)
{
	return each_pid(cg, any_pid, NULL);
}

int cgroup_stats(struct cgroup *cg, struct cgroup_stats *out)
{
	int u = cg->fd[CG_UNIFIED], mem = cg->fd[CG_MEMORY];

	memset(out, 0, sizeof *out);
	if (u >= 0)
		out->cpu_us = get_key(u, "cpu.stat", "usage_usec");
	if (cg->host->v2) {
		out->memory_bytes = get_u64(u, "memory.current");
		out->memory_peak_bytes = get_u64(u, "memory.peak");
		out->swap_bytes = get_u64(u, "memory.swap.current");
		out->pids = get_u64(u, "pids.current");
		out->throttled_us = get_key(u, "cpu.stat", "throttled_usec");
		out->oom_kills = get_key(u, "memory.events", "oom_kill");
		out->pids_hits = get_key(u, "pids.events", "max");
		return 0;
	}
	out->memory_bytes = get_u64(mem, "memory.usage_in_bytes");
	out->memory_peak_bytes = get_u64(mem, "memory.max_usage_in_bytes");
	uint64_t both = get_u64(mem, "memory.memsw.usage_in_bytes");

	out->swap_bytes = both > out->memory_bytes ? both - out->memory_bytes : 0;
	out->oom_kills = get_key(mem, "memory.oom_control", "oom_kill");
	out->pids = get_u64(cg->fd[CG_PIDS], "pids.current");
	out->pids_hits = get_key(cg->fd[CG_PIDS], "pids.events", "max");
	out->throttled_us = get_key(cg->fd[CG_CPU], "cpu.stat", "throttled_time") / 1000;
	return 0;
}

int cgroup_remove(struct cgroup_host *h, const char *name, int wait_ms)
{
	if (!name_ok(span_str(name)))
		return -EINVAL;
	for (int waited = 0;; waited += 2) {
		int r = 0;

		for (int i = 0; i < CG_COUNT; i++)
			if (h->base_fd[i] >= 0 && unlinkat(h->base_fd[i], name, AT_REMOVEDIR) < 0 &&
			    errno != ENOENT)
				r = -errno;
		if (r != -EBUSY || waited >= wait_ms)
			return r;
		sleep_ms(2);
	}
}

int cgroup_list(struct cgroup_host *h, cgroup_list_fn *fn, void *ctx)
{
	int r = 0;

	for (int i = 0; i < CG_COUNT && r == 0; i++) {
		if (h->base_fd[i] < 0)
			continue;
		int fd = openat(h->base_fd[i], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		DIR *d = fd < 0 ? NULL : fdopendir(fd);
		struct dirent *e;

		if (!d) {
			(void)cl_close(fd);
			return -errno;
		}
		/* an orphan may be left in any of the hierarchies: a name can come twice */
		while (r == 0 && (e = readdir(d)))
			if (e->d_type == DT_DIR && name_ok(span_str(e->d_name)))
				r = fn(ctx, e->d_name);
		(void)closedir(d);	/* read only */
	}
	return r;
}

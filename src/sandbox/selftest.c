/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each check looks at effects from inside, by means that do not depend on
 * the step that built the wall: what /proc says, and what a forbidden call
 * answers. A check writes its evidence and returns whether the wall holds.
 */
#include "sandbox/selftest.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct { const char *name; unsigned layer; } items[SELFTEST_COUNT] = {
#define X(ID, l, n) [SELFTEST_##ID] = { n, l },
	SELFTEST_ITEMS(X)
#undef X
};

const char *selftest_name(unsigned bit)
{
	return bit < SELFTEST_COUNT ? items[bit].name : "unknown";
}

unsigned selftest_layer(unsigned bit)
{
	return bit < SELFTEST_COUNT ? items[bit].layer : 0;
}

/* ---- helpers ----------------------------------------------------------------------- */

struct evidence {
	char text[160];
};

__attribute__((format(printf, 3, 4)))
static bool verdict(struct evidence *e, bool holds, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(e->text, sizeof e->text, fmt, ap);	/* cut when too long: only words */
	va_end(ap);
	return holds;
}

static int slurp(const char *path, char *buf, size_t n)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t at = 0;
	ssize_t k = 0;

	if (fd < 0)
		return -errno;
	while (at < n - 1 && (k = read(fd, buf + at, n - 1 - at)) > 0)
		at += (size_t)k;
	buf[at] = '\0';
	(void)close(fd);	/* read only */
	return k < 0 ? -EIO : (int)at;
}

/* "Key:\tvalue" of /proc/self/status; "" when absent */
static void status_field(const char *key, char *out, size_t n)
{
	static char buf[8192];	/* nothing in it changes while we look */
	const char *p;

	out[0] = '\0';
	if (!buf[0] && slurp("/proc/self/status", buf, sizeof buf) < 0)
		return;
	p = strstr(buf, key);
	if (!p || (p != buf && p[-1] != '\n'))
		return;
	p += strlen(key);
	p += strspn(p, ": \t");
	(void)snprintf(out, n, "%.*s", (int)strcspn(p, "\n"), p);	/* cut when too long */
}

/* true when the call of number @nr with bad pointers is refused before it looks at them */
static bool refused(long nr, long a, long b, long c)
{
	long r = syscall(nr, a, b, c, -1L, -1L, -1L);

	return r < 0 && (errno == EPERM || errno == ENOSYS);
}

static bool mount_flags(const char *path, unsigned long want, unsigned long not, unsigned long *out)
{
	struct statvfs v;

	if (statvfs(path, &v) < 0)
		return false;
	*out = v.f_flag;
	return (v.f_flag & want) == want && !(v.f_flag & not);
}

/* ---- layer 1 ------------------------------------------------------------------------ */

static bool check_ids(const struct selftest_setup *s, struct evidence *e)
{
	char map[256], want[64], gmap[256];
	uid_t r, eu, su;
	gid_t gr, ge, gs;
	unsigned in, out, len;

	if (slurp("/proc/self/uid_map", map, sizeof map) < 0 ||
	    slurp("/proc/self/gid_map", gmap, sizeof gmap) < 0 || getresuid(&r, &eu, &su) < 0 ||
	    getresgid(&gr, &ge, &gs) < 0)
		return verdict(e, false, "cannot be read");
	in = (unsigned)strtoul(map, NULL, 10);
	(void)snprintf(want, sizeof want, "%10u %10u %10u\n", 1000u, s->uid_outside, 1u);
	out = s->uid_outside;
	len = 1;
	/* the map as seen from inside names our own view of the outside ids: compare it as a whole */
	return verdict(e, r == 1000 && eu == 1000 && su == 1000 && gr == 1000 && ge == 1000 &&
		       gs == 1000 && in == 1000 && getgroups(0, NULL) == 0 &&
		       strchr(map, '\n') == strrchr(map, '\n') && strchr(gmap, '\n') == strrchr(gmap, '\n') &&
		       (strcmp(map, want) == 0) && (strcmp(gmap, want) == 0),
		       "uid 1000 is %u outside, map of %u, no groups", out, len);
}

static bool check_caps(const struct selftest_setup *s, struct evidence *e)
{
	static const char *const sets[] = { "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb" };
	char v[64];

	(void)s;
	for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
		status_field(sets[i], v, sizeof v);
		if (v[0] == '\0' || strspn(v, "0") != strlen(v))
			return verdict(e, false, "%s is %s", sets[i], v);
	}
	status_field("Groups", v, sizeof v);
	return verdict(e, v[strspn(v, " ")] == '\0', "none in five sets");
}

static bool check_nnp(const struct selftest_setup *s, struct evidence *e)
{
	(void)s;
	return verdict(e, prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1, "set");
}

static bool check_seccomp(const struct selftest_setup *s, struct evidence *e)
{
	char v[16];

	(void)s;
	status_field("Seccomp", v, sizeof v);
	if (strcmp(v, "2") != 0)
		return verdict(e, false, "mode %s", v);
	if (!refused(SYS_mount, -1, -1, -1) || !refused(SYS_ptrace, 0, 1, -1) ||
	    !refused(SYS_bpf, 0, -1, 0) || !refused(SYS_keyctl, 0, -1, 0) ||
	    !refused(SYS_setns, -1, 0, 0) || !refused(SYS_unshare, 0x10000000, 0, 0) ||
	    !refused(SYS_clone3, -1, 88, 0) || !refused(425 /* io_uring_setup */, 1, -1, 0) ||
	    !refused(SYS_ioctl, 0, 0x100005412, -1) /* TIOCSTI with a high bit */)
		return verdict(e, false, "a forbidden call reached the kernel");
	return verdict(e, true, "filter mode, nine forbidden calls refused");
}

static bool check_namespaces(const struct selftest_setup *s, struct evidence *e)
{
	static const char *const names[SNS_COUNT] = { "mnt", "pid", "net", "ipc", "uts", "cgroup",
						      "user", "time" };

	for (int i = 0; i < SNS_COUNT; i++) {
		char path[64];
		struct stat st;

		(void)snprintf(path, sizeof path, "/proc/self/ns/%s", names[i]);	/* fits */
		if (stat(path, &st) < 0)
			return verdict(e, false, "%s: cannot be read", names[i]);
		if (st.st_ino == s->host_ns[i])
			return verdict(e, false, "%s is the host's", names[i]);
	}
	return verdict(e, true, "mnt pid net ipc uts cgroup user time are its own");
}

static bool check_userns_limit(const struct selftest_setup *s, struct evidence *e)
{
	char v[32];

	(void)s;
	if (slurp("/proc/sys/user/max_user_namespaces", v, sizeof v) < 0)
		return verdict(e, false, "cannot be read");
	v[strcspn(v, "\n")] = '\0';
	return verdict(e, strcmp(v, "0") == 0, "user.max_user_namespaces is %.8s", v);
}

static bool check_pid1(const struct selftest_setup *s, struct evidence *e)
{
	(void)s;
	return verdict(e, getpid() == 1 && prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 && getsid(0) == 1,
		       "pid 1, own session, not dumpable");
}

/* 0 to 6 as agreed, the one that init itself has opened since (signalfd), and the one that looks */
static bool check_fds(const struct selftest_setup *s, struct evidence *e)
{
	char buf[2048];
	unsigned seen = 0;
	int dir = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	long k;

	(void)s;
	while ((k = syscall(SYS_getdents64, dir, buf, sizeof buf)) > 0)
		for (long at = 0; at < k;) {
			unsigned short len;
			unsigned long fd;
			char *end;

			/* struct linux_dirent64: u64 ino, u64 off, u16 length, u8 type, name */
			memcpy(&len, buf + at + 16, sizeof len);
			fd = strtoul(buf + at + 19, &end, 10);
			at += len;
			if (end == buf + at - len + 19)
				continue;	/* "." and ".." */
			if (fd > 8)
				return verdict(e, false, "%lu is open", fd);
			seen |= 1u << fd;
		}
	if (dir >= 0)
		(void)close(dir);	/* read only */
	return verdict(e, k == 0 && dir == 8 && seen == 0x1ff, "seven, all known (%x)", seen);
}

/* ---- layer 2 ------------------------------------------------------------------------- */

static bool check_root(const struct selftest_setup *s, struct evidence *e)
{
	static const char *const gone[] = { "/sys", "/home", "/root", "/var", "/run", "/mnt", "/boot" };
	unsigned long f = 0;
	struct stat st;
	char cwd[64];
	int there = 0;

	if (!mount_flags("/", ST_RDONLY | ST_NOSUID | ST_NODEV, 0, &f))
		return verdict(e, false, "flags %lx", f);
	if (stat("/", &st) < 0 || (st.st_dev == s->host_root_dev && st.st_ino == s->host_root_ino))
		return verdict(e, false, "/ is the host's root");
	if (!getcwd(cwd, sizeof cwd) || strcmp(cwd, "/workspace") != 0)
		return verdict(e, false, "the working directory is elsewhere");
	for (size_t i = 0; i < sizeof gone / sizeof *gone; i++)
		there += stat(gone[i], &st) == 0;
	int fd = open("/.cloister", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	if (fd >= 0) {
		(void)close(fd);	/* what counts is that it opened */
		return verdict(e, false, "/ is writable");
	}
	return verdict(e, true, "read-only, nosuid, nodev; %d of 7 usual directories in the image", there);
}

static bool check_rw(const char *dir, unsigned long want, struct evidence *e)
{
	char path[64];
	unsigned long f = 0;
	int fd;

	if (!mount_flags(dir, want, ST_RDONLY, &f))
		return verdict(e, false, "flags %lx", f);
	(void)snprintf(path, sizeof path, "%s/.cloister-selftest", dir);	/* fits */
	(void)unlink(path);	/* a leftover of a crash, or nothing */
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)	/* a full workspace must not keep a tenant from starting */
		return verdict(e, errno == ENOSPC || errno == EDQUOT, "not writable: %s",
			       strerrorname_np(errno));
	(void)close(fd);	/* nothing was written */
	if (unlink(path) < 0)
		return verdict(e, false, "a file cannot be removed");
	return verdict(e, true, "writable, nosuid, nodev");
}

static bool check_workspace(const struct selftest_setup *s, struct evidence *e)
{
	(void)s;
	return check_rw("/workspace", ST_NOSUID | ST_NODEV, e);
}

static bool check_tmp(const struct selftest_setup *s, struct evidence *e)
{
	struct statvfs v;

	if (!check_rw("/tmp", ST_NOSUID | ST_NODEV, e))
		return false;
	if (statvfs("/tmp", &v) < 0)
		return verdict(e, false, "cannot be read");
	uint64_t bytes = (uint64_t)v.f_blocks * v.f_frsize;

	return verdict(e, bytes >= s->tmp_bytes && bytes <= s->tmp_bytes + (2u << 20),
		       "own tmpfs of %llu bytes", (unsigned long long)bytes);
}

static bool check_proc(const struct selftest_setup *s, struct evidence *e)
{
	static const char *const empty[] = { "kallsyms", "keys", "key-users", "config.gz", "cmdline",
					     "kcore", "kmsg", "sysrq-trigger", "timer_list", "modules" };
	unsigned long f = 0;
	struct stat st;
	char b[256];

	(void)s;
	if (!mount_flags("/proc", ST_RDONLY | ST_NOSUID | ST_NODEV | ST_NOEXEC, 0, &f))
		return verdict(e, false, "flags %lx", f);
	for (size_t i = 0; i < sizeof empty / sizeof *empty; i++) {
		char path[64];

		(void)snprintf(path, sizeof path, "/proc/%s", empty[i]);	/* fits */
		int k = slurp(path, b, sizeof b);

		if (k > 0)
			return verdict(e, false, "%s tells of the host", empty[i]);
	}
	if (lstat("/proc/2", &st) == 0)
		return verdict(e, false, "a second process is here");
	int fd = open("/proc/sys/kernel/hostname", O_WRONLY | O_CLOEXEC);

	if (fd >= 0) {
		(void)close(fd);	/* what counts is that it opened */
		return verdict(e, false, "/proc/sys can be written");
	}
	return verdict(e, true, "own, read-only, masked");
}

static bool check_dev(const struct selftest_setup *s, struct evidence *e)
{
	static const char *const none[] = { "vda", "sda", "mem", "kmsg", "fuse", "kvm", "net/tun",
					    "console", "loop-control", "vsock", "userfaultfd" };
	unsigned long f = 0;
	struct stat st;
	char b[1];
	int fd;

	(void)s;
	if (!mount_flags("/dev", ST_RDONLY | ST_NOSUID | ST_NOEXEC, 0, &f))
		return verdict(e, false, "flags %lx", f);
	for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
		char path[64];

		(void)snprintf(path, sizeof path, "/dev/%s", none[i]);	/* fits */
		if (stat(path, &st) == 0)
			return verdict(e, false, "%s is there", path);
	}
	fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, b, 1) != 1)
		return verdict(e, false, "urandom does not answer");
	(void)close(fd);	/* read only */
	return verdict(e, true, "six nodes, read-only directory");
}

static bool check_landlock(const struct selftest_setup *s, struct evidence *e)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, 1u);
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				 .sin_port = htons(9) };
	int fd, r;

	(void)s;
	if (abi < 1)
		return verdict(e, false, "not in this kernel");
	if (abi < 4)
		return verdict(e, true, "ABI %ld: paths only, this kernel has no port rules", abi);
	/* one rule set holds paths and ports: that it is in force shows at the ports,
	 * as nothing else refuses a connect on loopback */
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	r = fd < 0 ? -1 : connect(fd, (struct sockaddr *)&a, sizeof a);
	int why = errno;

	if (fd >= 0)
		(void)close(fd);	/* never connected */
	/* nobody listens on port 9: without the rule it would be ECONNREFUSED */
	return verdict(e, r < 0 && why == EACCES, "ABI %ld: port 9 answers %s", abi,
		       r < 0 ? strerrorname_np(why) : "open");
}

/* ---- layers 3, 4, 7 -------------------------------------------------------------------- */

static bool check_limits(const struct selftest_setup *s, struct evidence *e)
{
	struct rlimit core, nofile, nproc, memlock;

	if (getrlimit(RLIMIT_CORE, &core) < 0 || getrlimit(RLIMIT_NOFILE, &nofile) < 0 ||
	    getrlimit(RLIMIT_NPROC, &nproc) < 0 || getrlimit(RLIMIT_MEMLOCK, &memlock) < 0)
		return verdict(e, false, "cannot be read");
	return verdict(e, core.rlim_max == 0 && nofile.rlim_max == s->nofile &&
		       nproc.rlim_max == s->pids && memlock.rlim_max <= (8u << 20),
		       "%llu descriptors, %llu tasks, no core",
		       (unsigned long long)nofile.rlim_max, (unsigned long long)nproc.rlim_max);
}

static bool check_network(const struct selftest_setup *s, struct evidence *e)
{
	static char buf[4096];
	int lines = 0, k = slurp("/proc/self/net/dev", buf, sizeof buf);
	const char *lo = k > 0 ? strstr(buf, " lo:") : NULL;

	(void)s;
	for (int i = 0; i < k; i++)
		lines += buf[i] == '\n';
	if (!lo || lines != 3)	/* two lines of headings */
		return verdict(e, false, "%d interfaces, lo %s", lines - 2, lo ? "there" : "missing");
	k = slurp("/proc/self/net/route", buf, sizeof buf);
	lines = 0;
	for (int i = 0; i < k; i++)
		lines += buf[i] == '\n';
	return verdict(e, k > 0 && lines == 1, "lo only, %d routes", lines - 1);
}

static bool check_sockets(const struct selftest_setup *s, struct evidence *e)
{
	static const struct { int family, type, proto; } bad[] = {
		{ AF_INET, SOCK_DGRAM, 0 }, { AF_INET, SOCK_RAW, 1 }, { AF_INET, SOCK_DGRAM, 1 },
		{ AF_INET, SOCK_STREAM, 262 }, { AF_INET, SOCK_STREAM, 132 },
		{ AF_INET6, SOCK_DGRAM, 0 }, { AF_INET6, SOCK_STREAM, 262 }, { AF_UNIX, SOCK_STREAM, 0 },
		{ AF_UNIX, SOCK_DGRAM, 0 }, { AF_PACKET, SOCK_RAW, 0 }, { AF_VSOCK, SOCK_STREAM, 0 },
		{ AF_NETLINK, SOCK_RAW, 12 }, { AF_ALG, SOCK_SEQPACKET, 0 }, { 43, SOCK_STREAM, 0 },
		{ 44, SOCK_RAW, 0 }, { AF_BLUETOOTH, SOCK_RAW, 0 },
	};

	(void)s;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		int fd = socket(bad[i].family, bad[i].type, bad[i].proto);

		if (fd >= 0 || errno != EPERM)
			return verdict(e, false, "family %d type %d protocol %d: %s", bad[i].family,
				       bad[i].type, bad[i].proto, fd >= 0 ? "open" : strerrorname_np(errno));
	}
	return verdict(e, true, "TCP and socketpair only, %zu others refused", sizeof bad / sizeof *bad);
}

static bool check_listener(const struct selftest_setup *s, struct evidence *e)
{
	struct sockaddr_in a = { 0 };
	socklen_t n = sizeof a, cn = sizeof(uint64_t), an = sizeof(int);
	uint64_t cookie = 0;
	int accepting = 0;

	if (getsockname(6, (struct sockaddr *)&a, &n) < 0 ||
	    getsockopt(6, SOL_SOCKET, SO_COOKIE, &cookie, &cn) < 0 ||
	    getsockopt(6, SOL_SOCKET, SO_ACCEPTCONN, &accepting, &an) < 0)
		return verdict(e, false, "cannot be read: %s", strerrorname_np(errno));
	return verdict(e, a.sin_family == AF_INET && ntohs(a.sin_port) == 8377 &&
		       ntohl(a.sin_addr.s_addr) == INADDR_LOOPBACK && accepting == 1 &&
		       cookie == s->listener_cookie, "127.0.0.1:%u, socket %llu", ntohs(a.sin_port),
		       (unsigned long long)cookie);
}

static bool check_config(const struct selftest_setup *s, struct evidence *e)
{
	unsigned long f = 0;
	struct stat st;
	int fd;

	if (!mount_flags(s->config_path, ST_RDONLY | ST_NOSUID | ST_NODEV, 0, &f))
		return verdict(e, false, "flags %lx", f);
	if (stat(s->config_path, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size == 0 ||
	    st.st_uid == 1000 || (st.st_mode & 0222))
		return verdict(e, false, "not a sealed file");
	fd = open(s->config_path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		(void)close(fd);	/* what counts is that it opened */
		return verdict(e, false, "can be written");
	}
	return verdict(e, true, "%lld bytes, read-only, not the agent's", (long long)st.st_size);
}

static bool (*const checks[SELFTEST_COUNT])(const struct selftest_setup *, struct evidence *) = {
	[SELFTEST_IDS] = check_ids, [SELFTEST_CAPS] = check_caps, [SELFTEST_NNP] = check_nnp,
	[SELFTEST_SECCOMP] = check_seccomp, [SELFTEST_NAMESPACES] = check_namespaces,
	[SELFTEST_USERNS_LIMIT] = check_userns_limit, [SELFTEST_PID1] = check_pid1,
	[SELFTEST_FDS] = check_fds, [SELFTEST_ROOT] = check_root,
	[SELFTEST_WORKSPACE] = check_workspace, [SELFTEST_TMP] = check_tmp,
	[SELFTEST_PROC] = check_proc, [SELFTEST_DEV] = check_dev,
	[SELFTEST_LANDLOCK] = check_landlock, [SELFTEST_LIMITS] = check_limits,
	[SELFTEST_NETWORK] = check_network, [SELFTEST_SOCKETS] = check_sockets,
	[SELFTEST_LISTENER] = check_listener, [SELFTEST_CONFIG] = check_config,
};

void selftest_run(const struct selftest_setup *s, struct selftest_result *out)
{
	size_t at = 0;

	memset(out, 0, sizeof *out);
	for (unsigned i = 0; i < SELFTEST_COUNT; i++) {
		struct evidence e = { "" };

		if (i == SELFTEST_CONFIG && s->config_path[0] == '\0')
			continue;	/* nothing sealed was asked for */
		if (checks[i](s, &e))
			out->held |= 1ull << i;
		else
			out->failed |= 1ull << i;
		int k = snprintf(out->text + at, sizeof out->text - at, "%s: %s%s\n", items[i].name,
				 out->failed & (1ull << i) ? "FAILED: " : "", e.text);

		if (k > 0 && (size_t)k < sizeof out->text - at)
			at += (size_t)k;
	}
	out->text[at] = '\0';
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * probe - tries what must not be possible, from inside a sandbox.
 *
 *   probe victim              stand on the host as somebody to attack; says where
 *   probe attack KEY=VALUE…   try everything; one line each:
 *                             "stopped ID how" or "OPEN ID how"
 *   probe bombs               try to use up processes and memory
 *   probe fill                try to use up /tmp and descriptors
 *
 * An attack is judged by its effect. Where a call could do harm if it went
 * through, it is made with bad pointers: EPERM or ENOSYS say that it was
 * refused before the kernel looked at them; EFAULT says that it was not.
 * The exit code is 1 when anything is open. The same program run outside a sandbox must find
 * things open: else the test is dead (run says how many it demands).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define CANARY "cloister-canary-7d1f0c2a"
#define BAD ((void *)-1L)

static unsigned n_open, n_stopped;
static pid_t victim;
static int victim_port;
static const char *victim_dir = "/nonexistent";
static int victim_shm;

__attribute__((format(printf, 3, 4)))
static void judge(const char *id, bool is_open, const char *fmt, ...)
{
	int saved = errno;
	va_list ap;

	printf("%s %s ", is_open ? "OPEN   " : "stopped", id);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf(" (%s)\n", strerrorname_np(saved) ? strerrorname_np(saved) : "-");
	fflush(stdout);
	if (is_open)
		n_open++;
	else
		n_stopped++;
	errno = 0;
}

/* ---- helpers ------------------------------------------------------------------------ */

static void reads(const char *id, const char *path)
{
	char buf[4096];
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	ssize_t k = fd < 0 ? -1 : read(fd, buf, sizeof buf);

	judge(id, k > 0, "read %s", path);
	if (fd >= 0)
		close(fd);
}

static void writes(const char *id, const char *path)
{
	int fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);

	judge(id, fd >= 0, "open for writing %s", path);
	if (fd >= 0)
		close(fd);
}

static void creates(const char *id, const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	judge(id, fd >= 0, "create %s", path);
	if (fd >= 0) {
		close(fd);
		unlink(path);
	}
}

/* Refused before it looked at its (bad) arguments? */
static void call(const char *id, const char *name, long nr, long a, long b, long c, long d, long e)
{
	errno = 0;
	long r = syscall(nr, a, b, c, d, e, -1L);

	judge(id, !(r < 0 && (errno == EPERM || errno == ENOSYS)), "%s with bad arguments", name);
}

static const char *in(const char *dir, const char *name)
{
	static char buf[4][512];
	static unsigned i;

	i = (i + 1) % 4;
	snprintf(buf[i], sizeof buf[i], "%s/%s", dir, name);
	return buf[i];
}

static const char *proc(pid_t pid, const char *name)
{
	char p[32];

	snprintf(p, sizeof p, "/proc/%d", pid);
	return in(p, name);
}

/* ---- processes ------------------------------------------------------------------------ */

static void others(void)
{
	char remote[32], local[32] = "";
	struct iovec l = { local, sizeof local }, r = { remote, sizeof remote };

	reads("PR01", proc(victim, "cmdline"));
	judge("PR02", kill(victim, 0) == 0, "signal to the victim");
	judge("PR03", syscall(SYS_ptrace, PTRACE_SEIZE, victim, 0, 0) == 0, "ptrace of the victim");
	judge("PR04", process_vm_readv(victim, &l, 1, &r, 1, 0) > 0 || errno == EFAULT,
	      "process_vm_readv of the victim");
	reads("PR04", proc(victim, "maps"));
	reads("PR05", proc(victim, "environ"));
	judge("PR05", open(proc(victim, "root"), O_PATH) >= 0, "the victim's root");
	judge("PR05", open(proc(victim, "fd/3"), O_RDONLY) >= 0, "the victim's descriptor");
	int pidfd = (int)syscall(SYS_pidfd_open, victim, 0);

	judge("PR06", pidfd >= 0, "pidfd_open of the victim");
	errno = 0;
	judge("PR06", syscall(SYS_pidfd_getfd, pidfd, 3, 0) >= 0 || (errno != EPERM && errno != ENOSYS),
	      "pidfd_getfd");
}

/* Pid 1 has our uid: it must be as far away as a stranger. */
static void init_process(void)
{
	struct rlimit none = { 0, 0 };

	if (getppid() != 1 && getpid() != 2)	/* outside: the real pid 1 is nobody's to try */
		return;
	judge("IN01", syscall(SYS_ptrace, PTRACE_SEIZE, 1, 0, 0) == 0, "ptrace of pid 1");
	reads("IN02", "/proc/1/environ");
	reads("IN02", "/proc/1/maps");
	judge("IN03", open("/proc/1/mem", O_RDWR) >= 0, "memory of pid 1");
	for (int fd = 3; fd < 8; fd++) {
		char name[16];

		snprintf(name, sizeof name, "fd/%d", fd);
		judge("IN04", open(proc(1, name), O_RDWR) >= 0, "descriptor %d of pid 1", fd);
	}
	writes("IN05", "/proc/1/exe");
	judge("IN06", syscall(SYS_prlimit64, 1, RLIMIT_NOFILE, &none, NULL) == 0, "limits of pid 1");
	errno = 0;
	(void)kill(1, SIGKILL);
	(void)kill(1, SIGTERM);
	usleep(100000);
	judge("IN07", kill(1, 0) < 0 && errno == ESRCH, "pid 1 killed from inside");
	judge("IN08", syscall(SYS_pidfd_getfd, syscall(SYS_pidfd_open, 1, 0), 4, 0) >= 0,
	      "pidfd_getfd from pid 1");
}

static void namespaces(void)
{
	static const char *const ns[] = { "mnt", "pid", "net", "ipc", "uts", "user", "cgroup" };
	static const struct { long flag; const char *name; } flags[] = {
		{ CLONE_NEWUSER, "user" }, { CLONE_NEWNS, "mnt" }, { CLONE_NEWNET, "net" },
		{ CLONE_NEWPID, "pid" }, { CLONE_NEWIPC, "ipc" }, { CLONE_NEWUTS, "uts" },
		{ CLONE_NEWCGROUP, "cgroup" }, { 0x80, "time" },
	};

	for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
		pid_t p = fork();

		if (p == 0)
			_exit(unshare((int)flags[i].flag) == 0 ? 0 : 1);
		int w = 0;

		waitpid(p, &w, 0);
		judge("PR07", WIFEXITED(w) && WEXITSTATUS(w) == 0, "unshare %s namespace", flags[i].name);
	}
	long r = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);

	if (r == 0)
		_exit(0);
	if (r > 0)
		waitpid((pid_t)r, NULL, 0);
	judge("PR07", r > 0, "clone into a user namespace");
	call("PR07", "clone3", SYS_clone3, -1, 88, 0, 0, 0);
	for (size_t i = 0; i < sizeof ns / sizeof *ns; i++) {
		char name[16];

		snprintf(name, sizeof name, "ns/%s", ns[i]);
		int fd = open(proc(1, name), O_RDONLY);

		judge("PR08", fd >= 0, "open the %s namespace of pid 1", ns[i]);
	}
	call("PR08", "setns", SYS_setns, -1, CLONE_NEWNET, 0, 0, 0);
}

static int run_and_wait(const char *path)
{
	pid_t p = fork();
	int w = 0;

	if (p == 0) {
		execl(path, path, "euid", (char *)NULL);
		_exit(99);
	}
	waitpid(p, &w, 0);
	return WIFEXITED(w) ? WEXITSTATUS(w) : 98;
}

static void privilege(void)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = { { ~0u, ~0u, 0 }, { ~0u, ~0u, 0 } };
	struct sched_param sp = { .sched_priority = 1 };

	/* placed there by the test: root's, mode 4755; 42 is "I am root" */
	judge("PR09", run_and_wait("./setuid-probe") == 42, "a set-uid program of root");
	judge("PR10", setuid(0) == 0 || setreuid(0, 0) == 0, "setuid 0");
	judge("PR10", setgid(0) == 0, "setgid 0");
	judge("PR10", syscall(SYS_capset, &h, d) == 0, "capset");
	judge("PR18", setpriority(PRIO_PROCESS, 0, -10) == 0, "priority -10");
	judge("PR18", sched_setscheduler(0, SCHED_FIFO, &sp) == 0, "real time");
	judge("PR18", syscall(SYS_ioprio_set, 1, 0, 1 << 13) == 0, "real-time io");
	call("PR11", "bpf", SYS_bpf, 0, -1, 72, 0, 0);
	call("PR11", "perf_event_open", SYS_perf_event_open, -1, 0, -1, -1, 0);
	call("PR11", "userfaultfd", SYS_userfaultfd, 0x7fffffff, 0, 0, 0, 0);
	call("PR12", "io_uring_setup", 425, 1, -1, 0, 0, 0);
	call("PR12", "io_uring_enter", 426, -1, 0, 0, 0, 0);
	call("PR12", "io_uring_register", 427, -1, 0, 0, 0, 0);
	call("PR13", "keyctl", SYS_keyctl, 0, -4, 0, 0, 0);
	call("PR13", "add_key", SYS_add_key, -1, -1, -1, 0, 0);
	call("PR13", "request_key", SYS_request_key, -1, -1, -1, 0, 0);
	call("PR14", "init_module", SYS_init_module, -1, 16, -1, 0, 0);
	call("PR14", "finit_module", SYS_finit_module, -1, -1, 0, 0, 0);
	call("PR14", "delete_module", SYS_delete_module, -1, 0, 0, 0, 0);
	call("PR14", "kexec_load", SYS_kexec_load, 0, -1, -1, -1, 0);
	call("PR14", "swapon", SYS_swapon, -1, 0, 0, 0, 0);
	call("PR14", "sethostname", SYS_sethostname, -1, 8, 0, 0, 0);
	call("PR14", "clock_settime", SYS_clock_settime, 0, -1, 0, 0, 0);
	call("PR14", "acct", SYS_acct, -1, 0, 0, 0, 0);
	call("PR14", "quotactl", SYS_quotactl, -1, -1, 0, -1, 0);
	call("PR14", "kcmp", SYS_kcmp, 1, 1, 99, 0, 0);
	judge("PR14", syscall(SYS_reboot, 1, 2, 3, 0) == 0 || errno == EINVAL, "reboot with bad magic");
}

static void shared(void)
{
	char tty_in = 'x';

	judge("PR15", victim_shm > 0 && shmat(victim_shm, NULL, SHM_RDONLY) != BAD, "the victim's shm segment");
	reads("PR15", "/dev/shm/cloister-denial");
	long q = syscall(SYS_mq_open, "cloister-denial", O_RDWR | O_CREAT, 0600, NULL);

	if (q >= 0)
		syscall(SYS_mq_unlink, "cloister-denial");
	judge("PR15", q >= 0, "posix message queue");
	judge("PR16", ioctl(0, TIOCSTI, &tty_in) == 0 || (errno != EPERM && errno != ENOSYS), "TIOCSTI");
	judge("PR16", syscall(SYS_ioctl, 0, 0x100005412ul, &tty_in) == 0 || errno != EPERM,
	      "TIOCSTI with a bit above 32");
	judge("PR16", ioctl(0, TIOCLINUX, BAD) == 0 || errno != EPERM, "TIOCLINUX");
	judge("PR16", ioctl(0, TIOCSETD, BAD) == 0 || errno != EPERM, "TIOCSETD");
	judge("PR16", ioctl(0, TIOCCONS, BAD) == 0 || errno != EPERM, "TIOCCONS");
	judge("PR16", open("/dev/tty", O_RDWR) >= 0, "a terminal of the host");
}

static void architecture(void)
{
#ifdef __x86_64__
	pid_t p = fork();
	int w = 0;

	if (p == 0) {
		long r;

		__asm__ volatile("int $0x80" : "=a"(r) : "0"(20L) : "memory", "r8", "r9", "r10", "r11");
		_exit(r > 0 ? 0 : 1);
	}
	waitpid(p, &w, 0);
	judge("PR17", WIFEXITED(w) && WEXITSTATUS(w) == 0, "32-bit system call (status %x)", (unsigned)w);
	judge("PR17", syscall(0x40000000 | 39) >= 0, "x32 getpid");
#endif
}

static void descriptors(void)
{
	for (int fd = 3; fd < 4096; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			judge("NW12", true, "descriptor %d was inherited", fd);
	judge("NW12", false, "inherited descriptors: none more");
	for (char **e = environ; *e; e++)
		if (strstr(*e, CANARY))
			judge("PR05", true, "the host's environment");
	judge("PR05", false, "the host's environment");
}

/* ---- files -------------------------------------------------------------------------------- */

static void host_files(void)
{
	static const char *const paths[] = {
		"/etc/shadow", "/root/.bashrc", "/root/.profile", "/var/log/dpkg.log", "/home", "/sys/kernel/uevent_seqnum",
		"/sys/class/net", "/run/systemd", "/boot", "/proc/kcore", "/proc/kallsyms", "/proc/keys",
		"/proc/config.gz", "/proc/cmdline", "/proc/kmsg", "/proc/timer_list", "/proc/modules",
		"/proc/iomem", "/proc/interrupts", "/proc/partitions", "/proc/diskstats", "/proc/locks",
		"/proc/pressure/cpu", "/proc/vmstat", "/dev/vda", "/dev/sda", "/dev/mem", "/dev/kmsg",
		"/sys/kernel/debug", "/sys/fs/bpf", "/sys/firmware", "/dev/fuse", "/dev/net/tun", "/dev/kvm",
	};
	char up[600], path[800];

	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
		reads("FS01", paths[i]);
	reads("FS01", in(victim_dir, "canary"));
	memset(up, 0, sizeof up);
	for (int i = 0; i < 40; i++)
		strncat(up, "../", sizeof up - strlen(up) - 1);
	snprintf(path, sizeof path, "%s%s", up, in(victim_dir, "canary"));
	reads("FS02", path);
	snprintf(path, sizeof path, "/proc/self/root%s", in(victim_dir, "canary"));
	reads("FS02", path);
	snprintf(path, sizeof path, "/proc/self/cwd/%s%s", up, in(victim_dir, "canary"));
	reads("FS02", path);
	unlink("link");
	if (symlink(in(victim_dir, "canary"), "link") == 0)
		reads("FS03", "link");
	unlink("hard");
	judge("FS04", link("/bin/sh", "hard") == 0, "hard link to a program");
	judge("FS04", link(in(victim_dir, "canary"), "hard2") == 0, "hard link to a host file");
	unlink("hard");
	unlink("hard2");
	creates("FS05", in(victim_dir, "planted"));
}

static void mounts(void)
{
	call("FS06", "mount", SYS_mount, -1, -1, -1, 0, 0);
	call("FS06", "umount2", SYS_umount2, -1, 0, 0, 0, 0);
	call("FS06", "fsopen", SYS_fsopen, -1, 0, 0, 0, 0);
	call("FS06", "fsconfig", SYS_fsconfig, -1, -1, 0, 0, 0);
	call("FS06", "fsmount", SYS_fsmount, -1, 0, 0, 0, 0);
	call("FS06", "fspick", SYS_fspick, -1, -1, 0, 0, 0);
	call("FS06", "open_tree", SYS_open_tree, -1, -1, 1, 0, 0);
	call("FS06", "move_mount", SYS_move_mount, -1, -1, -1, -1, 0);
	call("FS06", "mount_setattr", SYS_mount_setattr, -1, -1, 0, -1, 32);
	call("FS06", "pivot_root", SYS_pivot_root, -1, -1, 0, 0, 0);
	call("FS07", "chroot", SYS_chroot, -1, 0, 0, 0, 0);
	call("FS08", "open_by_handle_at", SYS_open_by_handle_at, -1, -1, 0, 0, 0);
	call("FS08", "name_to_handle_at", SYS_name_to_handle_at, -1, -1, -1, -1, 0);
	judge("FS09", mknod("node", S_IFBLK | 0600, makedev(254, 0)) == 0, "a block device");
	judge("FS09", mknod("node", S_IFCHR | 0600, makedev(1, 1)) == 0, "a character device");
	judge("FS09", mknod("node", S_IFSOCK | 0600, 0) == 0, "a socket file");
	call("FS12", "syslog", SYS_syslog, 3, -1, 16, 0, 0);
	call("FS14", "fanotify_init", SYS_fanotify_init, 0x7fffffff, 0, 0, 0, 0);
}

static void system_files(void)
{
	static const char *const paths[] = {
		"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hostname",
		"/proc/sysrq-trigger", "/proc/sys/fs/binfmt_misc/register", "/proc/sys/vm/panic_on_oom",
		"/proc/sys/user/max_user_namespaces", "/proc/self/uid_map", "/proc/self/oom_score_adj",
		"/sys/kernel/uevent_helper", "/sys/fs/cgroup/release_agent", "/proc/self/mem",
		"/proc/self/attr/current", "/proc/self/clear_refs", "/usr/bin/env", "/bin/sh", "/lib/x86_64-linux-gnu/libc.so.6",
		"/etc/passwd", "/etc/resolv.conf", "/etc/ld.so.cache",
	};
	static const char *const dirs[] = { "/", "/usr", "/usr/bin", "/usr/lib", "/etc", "/opt", "/opt/agent",
					    "/dev", "/proc", "/etc/agent" };

	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
		writes(strncmp(paths[i], "/proc", 5) == 0 || strncmp(paths[i], "/sys", 4) == 0 ?
		       "FS10" : "FS11", paths[i]);
	for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++)
		creates("FS11", in(dirs[i], ".cloister-denial"));
	judge("FS11", chmod("/bin/sh", 0777) == 0, "mode of a program");
	judge("FS11", rename("/usr", "/usr2") == 0, "rename /usr");
	judge("FS11", unlink("/etc/passwd") == 0, "remove /etc/passwd");
	judge("FS11", truncate("/etc/passwd", 0) == 0, "truncate /etc/passwd");
}

/* ---- network --------------------------------------------------------------------------------- */

static int tcp_to(const char *addr, int port, int proto, bool fast)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	struct timeval two = { .tv_sec = 2 };	/* for connect as well */
	int fd = socket(AF_INET, SOCK_STREAM, proto), r;

	if (fd < 0)
		return -1;
	inet_pton(AF_INET, addr, &a.sin_addr);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &two, sizeof two);
	r = fast ? (int)sendto(fd, "x", 1, 0x20000000, (struct sockaddr *)&a, sizeof a)
		 : connect(fd, (struct sockaddr *)&a, sizeof a);
	int e = errno;

	close(fd);
	errno = e;
	return r < 0 ? -1 : 0;
}

static void network(void)
{
	static const struct { const char *id, *what; int family, type, proto; } sockets[] = {
		{ "NW03", "MPTCP", AF_INET, SOCK_STREAM, 262 }, { "NW03", "SCTP", AF_INET, SOCK_STREAM, 132 },
		{ "NW03", "DCCP", AF_INET, 6, 33 }, { "NW03", "SMC", 43, SOCK_STREAM, 0 },
		{ "NW04", "UDP", AF_INET, SOCK_DGRAM, 0 }, { "NW04", "UDP6", AF_INET6, SOCK_DGRAM, 0 },
		{ "NW05", "ping", AF_INET, SOCK_DGRAM, 1 }, { "NW05", "raw", AF_INET, SOCK_RAW, 1 },
		{ "NW06", "unix", AF_UNIX, SOCK_STREAM, 0 }, { "NW06", "unix datagram", AF_UNIX, SOCK_DGRAM, 0 },
		{ "NW08", "vsock", AF_VSOCK, SOCK_STREAM, 0 }, { "NW09", "packet", AF_PACKET, SOCK_RAW, 0 },
		{ "NW09", "alg", AF_ALG, SOCK_SEQPACKET, 0 }, { "NW09", "bluetooth", AF_BLUETOOTH, SOCK_RAW, 1 },
		{ "NW09", "xdp", 44, SOCK_RAW, 0 }, { "NW09", "netfilter", AF_NETLINK, SOCK_RAW, 12 },
		{ "NW09", "audit", AF_NETLINK, SOCK_RAW, 9 }, { "NW09", "uevent", AF_NETLINK, SOCK_RAW, 15 },
		{ "NW09", "generic netlink", AF_NETLINK, SOCK_RAW, 16 }, { "NW09", "sock_diag", AF_NETLINK, SOCK_RAW, 4 },
		{ "NW09", "tipc", 30, SOCK_SEQPACKET, 0 }, { "NW09", "can", 29, SOCK_RAW, 1 },
	};

	judge("NW01", tcp_to("127.0.0.1", victim_port, 0, false) == 0, "TCP to a listener of the host");
	judge("NW02", tcp_to("127.0.0.1", victim_port, 0, true) == 0, "TCP Fast Open to the host");
	judge("NW03", tcp_to("127.0.0.1", victim_port, 262, false) == 0, "MPTCP to the host");
	judge("NW05", tcp_to("169.254.169.254", 80, 0, false) == 0, "the metadata service");
	judge("NW05", tcp_to("1.1.1.1", 443, 0, false) == 0, "the internet");
	for (size_t i = 0; i < sizeof sockets / sizeof *sockets; i++) {
		int fd = socket(sockets[i].family, sockets[i].type, sockets[i].proto);

		judge(sockets[i].id, fd >= 0, "%s socket", sockets[i].what);
		if (fd >= 0)
			close(fd);
	}
	for (int abstract = 0; abstract < 2; abstract++) {
		struct sockaddr_un u = { .sun_family = AF_UNIX };
		int fd = socket(AF_UNIX, SOCK_STREAM, 0), pair[2];
		socklen_t n = sizeof u;

		if (abstract) {
			strncpy(u.sun_path + 1, "cloister-denial", sizeof u.sun_path - 2);
			n = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen("cloister-denial"));
		} else {
			snprintf(u.sun_path, sizeof u.sun_path, "%.90s", in(victim_dir, "socket"));
		}
		if (fd < 0 && socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0)
			fd = pair[0];	/* what is left: a pair can be pointed elsewhere */
		judge(abstract ? "NW06" : "NW07", fd >= 0 && connect(fd, (struct sockaddr *)&u, n) == 0,
		      abstract ? "an abstract socket of the host" : "a named socket of the host");
	}
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(18377) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	/* before ABI 4 there are no port rules: what is bound is on our own loopback and nobody else's */
	if (syscall(SYS_landlock_create_ruleset, NULL, 0, 1u) >= 4)
		judge("NW10", bind(fd, (struct sockaddr *)&any, sizeof any) == 0,
		      "bind to a port that was not granted");
	close(fd);
}

static void interfaces(void)
{
	struct { struct nlmsghdr n; struct ifinfomsg i; char attr[64]; } m = {
		.n = { .nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)), .nlmsg_type = RTM_NEWLINK,
		       .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE },
		.i = { .ifi_family = AF_UNSPEC, .ifi_index = 1, .ifi_change = 1 },
	};
	struct { struct nlmsghdr n; struct nlmsgerr e; char rest[256]; } answer;
	int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	bool done = false;

	/* take lo down: needs power over the network namespace */
	if (fd >= 0 && send(fd, &m, m.n.nlmsg_len, 0) > 0 && recv(fd, &answer, sizeof answer, 0) > 0) {
		done = answer.n.nlmsg_type == NLMSG_ERROR && answer.e.error == 0;
		errno = answer.n.nlmsg_type == NLMSG_ERROR ? -answer.e.error : 0;
	}
	judge("NW11", done, "change an interface by netlink");
	judge("NW11", open("/dev/net/tun", O_RDWR) >= 0, "a tunnel");
}

/* ---- bombs ------------------------------------------------------------------------------------- */

static int bombs(void)
{
	unsigned forks = 0;
	static pid_t kids[100000];
	int w;

	while (forks < sizeof kids / sizeof *kids) {
		pid_t p = fork();

		if (p == 0) {
			pause();
			_exit(0);
		}
		if (p < 0)
			break;
		kids[forks++] = p;
	}
	judge("RS01", forks >= 64, "fork bomb ended after %u", forks);
	for (unsigned i = 0; i < forks; i++) {
		kill(kids[i], SIGKILL);
		waitpid(kids[i], NULL, 0);
	}
	pid_t p = fork();

	if (p == 0) {
		/* far beyond the limit of 64 MiB memory and what swap it may have */
		for (size_t got = 0; got < (8ull << 30); got += 1 << 20) {
			char *m = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

			if (m == MAP_FAILED)
				_exit(1);
			memset(m, 1, 1 << 20);
		}
		_exit(0);
	}
	waitpid(p, &w, 0);
	judge("RS02", WIFEXITED(w) && WEXITSTATUS(w) == 0, "8 GiB of memory (status %x)", (unsigned)w);
	return n_open ? 1 : 0;
}

/* With memory enough that the bounds of /tmp come first. */
static int fill(void)
{
	unsigned files = 0;
	char name[64], block[65536];
	uint64_t bytes = 0;
	int fd;

	fd = open("sparse", O_RDWR | O_CREAT, 0600);
	signal(SIGXFSZ, SIG_IGN);
	judge("RS05", ftruncate(fd, 64ll << 30) == 0, "a sparse file of 64 GiB");
	unlink("sparse");
	close(fd);
	memset(block, 1, sizeof block);
	fd = open("/tmp/big", O_WRONLY | O_CREAT, 0600);
	while (bytes < (1ull << 30) && write(fd, block, sizeof block) > 0)
		bytes += sizeof block;
	judge("RS03", bytes >= (1ull << 30), "/tmp took %llu MiB", (unsigned long long)bytes >> 20);
	close(fd);
	unlink("/tmp/big");
	for (; files < 1000000; files++) {
		snprintf(name, sizeof name, "/tmp/f%u", files);
		fd = open(name, O_WRONLY | O_CREAT, 0600);
		if (fd < 0)
			break;
		close(fd);
	}
	judge("RS04", files >= 1000000, "/tmp took %u files", files);
	for (unsigned i = 0; i < 200000; i++) {
		fd = open("/dev/null", O_RDONLY);
		if (fd < 0)
			break;
	}
	judge("RS06", fd >= 0, "descriptors without end");
	return n_open ? 1 : 0;
}

/* ---- the victim ----------------------------------------------------------------------------------- */

static int be_victim(const char *dir)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_un u = { .sun_family = AF_UNIX };
	socklen_t n = sizeof a;
	int shm = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
	int tcp = socket(AF_INET, SOCK_STREAM, 0), un = socket(AF_UNIX, SOCK_STREAM, 0);
	int ab = socket(AF_UNIX, SOCK_STREAM, 0);

	setenv("CLOISTER_DENIAL", CANARY, 1);
	snprintf(u.sun_path, sizeof u.sun_path, "%.90s", in(dir, "socket"));
	if (bind(tcp, (struct sockaddr *)&a, sizeof a) < 0 || listen(tcp, 16) < 0 ||
	    getsockname(tcp, (struct sockaddr *)&a, &n) < 0 ||
	    bind(un, (struct sockaddr *)&u, sizeof u) < 0 || listen(un, 4) < 0)
		return 1;
	memset(&u, 0, sizeof u);
	u.sun_family = AF_UNIX;
	strncpy(u.sun_path + 1, "cloister-denial", sizeof u.sun_path - 2);
	if (bind(ab, (struct sockaddr *)&u, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
						     strlen("cloister-denial"))) < 0 || listen(ab, 4) < 0)
		return 1;
	printf("pid=%d port=%d shm=%d dir=%s\n", getpid(), ntohs(a.sin_port), shm, dir);
	fflush(stdout);
	pause();	/* until killed */
	shmctl(shm, IPC_RMID, NULL);
	return 0;
}

static void on_term(int signo)
{
	(void)signo;	/* only to end pause() */
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (strcmp(what, "euid") == 0)
		return geteuid() == 0 ? 42 : 7;
	if (strcmp(what, "victim") == 0 && argc > 2) {
		signal(SIGTERM, on_term);
		return be_victim(argv[2]);
	}
	if (strcmp(what, "bombs") == 0)
		return bombs();
	if (strcmp(what, "fill") == 0)
		return fill();
	if (strcmp(what, "attack") != 0)
		return 2;
	for (int i = 2; i < argc; i++) {
		if (strncmp(argv[i], "pid=", 4) == 0)
			victim = (pid_t)strtol(argv[i] + 4, NULL, 10);
		else if (strncmp(argv[i], "port=", 5) == 0)
			victim_port = (int)strtol(argv[i] + 5, NULL, 10);
		else if (strncmp(argv[i], "shm=", 4) == 0)
			victim_shm = (int)strtol(argv[i] + 4, NULL, 10);
		else if (strncmp(argv[i], "dir=", 4) == 0)
			victim_dir = argv[i] + 4;
	}
	descriptors();
	others();
	init_process();
	namespaces();
	privilege();
	shared();
	architecture();
	host_files();
	mounts();
	system_files();
	network();
	interfaces();
	printf("# %u stopped, %u open\n", n_stopped, n_open);
	return n_open ? 1 : 0;
}

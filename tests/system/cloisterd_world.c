/* SPDX-License-Identifier: Apache-2.0 */
#include "cloisterd_world.h"

#include "sandbox/plan.h"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define UID_BASE 910000u
#define PORT "127.0.0.1:18398"

const char *cloisterd, *spawner, *init, *standin, *agent;
char dir[64];
static char image_digest[65];
pid_t daemon_pid;
int ready_fd = -1;
static int api_fd = -1;
static uint32_t next_seq;

/* ---- the scratch world ------------------------------------------------------------- */

void path_of(char *buf, size_t n, const char *rest)
{
	assert_true(snprintf(buf, n, "%s/%s", dir, rest) < (int)n);
}

static void make_dir(const char *name, mode_t mode)
{
	char p[200];

	path_of(p, sizeof p, name);
	assert_int_equal(mkdir(p, mode), 0);
	assert_int_equal(chmod(p, mode), 0);
}

static void copy_to(const char *from, const char *name)
{
	char p[200], piece[65536];
	ssize_t n;

	path_of(p, sizeof p, name);
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = open(p, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);

	assert_true(in >= 0 && out >= 0);
	while ((n = read(in, piece, sizeof piece)) > 0)
		assert_int_equal(cl_write_full(out, piece, (size_t)n), 0);
	assert_int_equal(fchmod(out, 0755), 0);
	(void)close(in);
	(void)close(out);
}

static void make_image(void)
{
	static const char list[] = "0000  bin/agent\n";
	unsigned char hash[crypto_hash_sha256_BYTES];
	char p[200];

	make_dir("images", 0755);
	make_dir("images/test", 0755);
	make_dir("images/test/rootfs", 0755);
	for (const char *const *d = (const char *const[]){ "bin", "dev", "proc", "tmp", "workspace",
							   "etc", "usr", "run", "var", NULL }; *d; d++) {
		(void)snprintf(p, sizeof p, "images/test/rootfs/%s", *d);
		make_dir(p, 0755);
	}
	copy_to(agent, "images/test/rootfs/bin/agent");
	copy_to("/dev/null", "images/test/rootfs/etc/agent.json");	/* the place of the sealed one */
	path_of(p, sizeof p, "images/test/files.sha256");
	int fd = open(p, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	assert_int_equal(cl_write_full(fd, list, sizeof list - 1), 0);
	(void)close(fd);
	(void)crypto_hash_sha256(hash, (const unsigned char *)list, sizeof list - 1);
	cl_hex(hash, sizeof hash, image_digest);
}

int make_world(void **state)
{
	static const char *const programs[] = { "ledger", "broker", "api", "model-sim" };
	char name[64];

	(void)state;
	(void)snprintf(dir, sizeof dir, "/tmp/cloisterd-life-XXXXXX");
	if (!mkdtemp(dir) || chmod(dir, 0755))
		return -1;
	for (const char *const *d = (const char *const[]){ "etc", "bin", "share", "share/web",
							   "share/agents", "share/routes", NULL }; *d; d++)
		make_dir(*d, 0755);
	for (size_t i = 0; i < CL_ARRAY_LEN(programs); i++) {
		(void)snprintf(name, sizeof name, "bin/cloister-%s", programs[i]);
		copy_to(standin, name);
	}
	copy_to(spawner, "bin/cloister-spawner");
	copy_to(init, "bin/cloister-init");
	make_image();
	return 0;
}

static int run_rm(void)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		(void)execl("/bin/rm", "rm", "-rf", dir, (char *)NULL);
		_exit(127);
	}
	return waitpid(pid, &status, 0) == pid && status == 0 ? 0 : -1;
}

/* Processes, mounts, groups of ours that are there; 0 when all is clean. */
int leftovers(void)
{
	DIR *d = opendir("/proc");
	struct dirent *e;
	int n = 0;

	while (d && (e = readdir(d))) {
		char p[300], exe[300];
		struct stat st;

		if (e->d_name[0] < '0' || e->d_name[0] > '9')
			continue;
		(void)snprintf(p, sizeof p, "/proc/%s", e->d_name);
		if (stat(p, &st) == 0 && st.st_uid >= UID_BASE && st.st_uid < UID_BASE + 1000) {
			print_error("left: process %s of uid %u\n", e->d_name, st.st_uid);
			n++;
		}
		(void)snprintf(p, sizeof p, "/proc/%s/exe", e->d_name);
		ssize_t k = readlink(p, exe, sizeof exe - 1);

		if (k > 0 && strncmp(exe, dir, strlen(dir)) == 0) {
			exe[k] = '\0';
			print_error("left: process %s: %s\n", e->d_name, exe);
			n++;
		}
	}
	if (d)
		(void)closedir(d);
	char line[4096];
	FILE *f = fopen("/proc/self/mountinfo", "re");

	while (f && fgets(line, sizeof line, f))
		if (strstr(line, dir)) {
			print_error("left: mount %s", line);
			n++;
		}
	if (f)
		(void)fclose(f);
	/* the groups of this run directory, in every hierarchy */
	struct stat st;
	char p[200], base[64];

	path_of(p, sizeof p, "run");
	if (stat(p, &st) == 0) {
		(void)snprintf(base, sizeof base, "cloister-%x-%llx", (unsigned)st.st_dev,
			       (unsigned long long)st.st_ino);
		for (const char *const *h = (const char *const[]){ "", "unified", "memory", "pids", "cpu",
								   "freezer", "devices", "blkio", NULL }; *h; h++) {
			(void)snprintf(p, sizeof p, "/sys/fs/cgroup/%s/%s", *h, base);
			if (faccessat(AT_FDCWD, p, F_OK, 0) == 0) {
				print_error("left: group %s\n", p);
				n++;
			}
		}
	}
	return n;
}

static int leftovers_soon(void)
{
	for (int i = 0; i < 20; i++) {
		DIR *d = opendir("/proc");

		if (d)
			(void)closedir(d);
		if (i == 19)
			break;
		struct stat st;
		char p[64];

		/* exited processes are reaped by their parents a moment later */
		(void)snprintf(p, sizeof p, "/proc/%d", (int)daemon_pid);
		if (daemon_pid == 0 || stat(p, &st))
			break;
		(void)usleep(50000);
	}
	return leftovers();
}

/* ---- cloisterd ------------------------------------------------------------------------ */

void daemon_start(const char *extra1, const char *extra2)
{
	char etc[100], st[100], run[100], images[100], bin[100], share[100], fd[16];
	const char *argv[] = {
		"cloisterd", "--etc", etc, "--state", st, "--run", run, "--images", images, "--bin", bin,
		"--share", share, "--uid-base", "910000", "--user-broker", "64801:64801", "--user-api",
		"64802:64802", "--user-ledger", "64803:64803", "--user-spawner", "64804:64804",
		"--user-model", "64805:64805", "--api-gid", "64806", "--listen", PORT, "--model-listen",
		"127.0.0.1:18399", "--ready-fd", fd, extra1, extra2, NULL };
	int p[2];

	path_of(etc, sizeof etc, "etc");
	path_of(st, sizeof st, "state");
	path_of(run, sizeof run, "run");
	path_of(images, sizeof images, "images");
	path_of(bin, sizeof bin, "bin");
	path_of(share, sizeof share, "share");
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	(void)snprintf(fd, sizeof fd, "%d", p[1]);
	daemon_pid = fork();
	if (daemon_pid == 0) {
		char log[100];

		path_of(log, sizeof log, "log");
		int l = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);

		(void)dup2(l, 2);
		(void)fcntl(p[1], F_SETFD, 0);
		(void)execv(cloisterd, (char **)(uintptr_t)argv);
		_exit(127);
	}
	(void)close(p[1]);
	(void)close(ready_fd);
	ready_fd = p[0];
}

/* What cloisterd said on its ready descriptor. */
void daemon_said(char *buf, size_t n)
{
	struct pollfd p = { .fd = ready_fd, .events = POLLIN };
	ssize_t k;

	assert_int_equal(poll(&p, 1, 60000), 1);
	k = read(ready_fd, buf, n - 1);
	buf[k > 0 ? k : 0] = '\0';
}

void daemon_up(void)
{
	char said[400];

	daemon_start(NULL, NULL);
	daemon_said(said, sizeof said);
	assert_string_equal(said, "R\n");
}

int daemon_ended(void)
{
	int status;

	for (int i = 0; i < 600; i++) {
		pid_t r = waitpid(daemon_pid, &status, WNOHANG);

		if (r == daemon_pid) {
			daemon_pid = 0;
			return status;
		}
		(void)usleep(100000);
	}
	return -1;
}

/* what was orphaned by a killed cloisterd is ours now: reap it */
void reap_orphans(void)
{
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

int clean_world(void **state)
{
	(void)state;
	api_fd = cl_close(api_fd);
	if (daemon_pid > 0) {
		(void)kill(daemon_pid, SIGTERM);
		if (daemon_ended() < 0)
			(void)kill(daemon_pid, SIGKILL);
	}
	reap_orphans();
	int left = leftovers_soon();

	ready_fd = cl_close(ready_fd);
	if (getenv("KEEP")) {
		print_error("kept: %s\n", dir);
		return left;
	}
	return run_rm() || left ? -1 : 0;
}

/* ---- talking as the api ------------------------------------------------------------------- */


void api_connect(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	api_fd = cl_close(api_fd);
	(void)snprintf(a.sun_path, sizeof a.sun_path, "%s/run/api.sock", dir);
	api_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(api_fd, (const struct sockaddr *)(const void *)&a, sizeof a), 0);
}

uint32_t api_send(uint32_t type, const void *msg, const int *fds, size_t nfds)
{
	union {
		char b[CMSG_SPACE(sizeof(int) * WIRE_FDS_MAX)];
		struct cmsghdr align;
	} ctl;
	CL_BUF struct buf b;
	uint32_t head[2], seq = ++next_seq;
	struct iovec iov = { head, sizeof head };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

	buf_init(&b, WIRE_MAX);
	assert_int_equal(wire_encode(type, seq, (uint32_t)nfds, msg, &b, NULL), 0);
	head[0] = (uint32_t)b.n;
	head[1] = (uint32_t)nfds;
	if (nfds) {
		memset(&ctl, 0, sizeof ctl);
		mh.msg_control = ctl.b;
		mh.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
		struct cmsghdr *cm = CMSG_FIRSTHDR(&mh);

		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
		memcpy(CMSG_DATA(cm), fds, sizeof(int) * nfds);
	}
	assert_int_equal(sendmsg(api_fd, &mh, MSG_NOSIGNAL), sizeof head);
	assert_int_equal(cl_write_full(api_fd, b.p, b.n), 0);
	return seq;
}

/* The next message within @ms; false when none came. */
bool api_read(struct got *g, int ms)
{
	union {
		char b[CMSG_SPACE(sizeof(int) * WIRE_FDS_MAX)];
		struct cmsghdr align;
	} ctl;
	uint32_t head[2];
	struct iovec iov = { head, sizeof head };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl.b,
			     .msg_controllen = sizeof ctl.b };
	struct pollfd p = { .fd = api_fd, .events = POLLIN };

	if (poll(&p, 1, ms) != 1 ||
	    recvmsg(api_fd, &mh, MSG_WAITALL | MSG_CMSG_CLOEXEC) != (ssize_t)sizeof head)
		return false;
	assert_true(head[0] <= sizeof g->bytes && head[1] <= WIRE_FDS_MAX);
	assert_int_equal(cl_read_full(api_fd, g->bytes, head[0]), 0);
	g->nfds = head[1];
	if (g->nfds)
		memcpy(g->fds, CMSG_DATA(CMSG_FIRSTHDR(&mh)), sizeof(int) * g->nfds);
	uint32_t n;

	assert_int_equal(wire_decode((struct span){ g->bytes, head[0] }, &g->type, &g->seq, &n, &g->m,
				     NULL), 0);
	return true;
}

struct got last;

/* The answer to @seq; everything else that comes before is let go. */
struct got *api_answer(uint32_t seq)
{
	int64_t until = cl_mono_us() + 60000000;

	while (cl_mono_us() < until)
		if (api_read(&last, 1000) && last.seq == seq && last.seq)
			return &last;
	fail_msg("no answer to %u", seq);
	return NULL;
}

struct got *api_ask(uint32_t type, const void *msg, const int *fds, size_t nfds)
{
	return api_answer(api_send(type, msg, fds, nfds));
}

/* 0, or the errno of the answer */
int api_do(uint32_t type, const void *msg)
{
	struct got *g = api_ask(type, msg, NULL, 0);

	if (g->type == MSG_REPLY && g->m.reply.code)
		print_message("%s: %.*s\n", wire_type_name(type), SPAN_FMT(g->m.reply.text));
	return g->type == MSG_REPLY ? (int)g->m.reply.code : 0;
}

/* Wait until the tenant is in that state; returns its pid. */
uint32_t wait_state(uint32_t no, enum tenant_state want)
{
	int64_t until = cl_mono_us() + 60000000;
	uint32_t seq = api_send(MSG_TENANTS_LIST, &(struct msg_tenants_list){ 0 }, NULL, 0);
	char seen[600] = "";

	(void)seq;
	while (cl_mono_us() < until) {
		if (!api_read(&last, 1000) || last.type != MSG_TENANT_STATE ||
		    last.m.tenant_state.no != no)
			continue;
		if (last.m.tenant_state.state == want)
			return last.m.tenant_state.pid;
		(void)snprintf(seen, sizeof seen, "%s: %.*s",
			       tenant_state_name(last.m.tenant_state.state),
			       SPAN_FMT(last.m.tenant_state.reason));
		if (last.m.tenant_state.state == TENANT_FAILED)
			break;
	}
	fail_msg("tenant %u is not %s but %s", no, tenant_state_name(want), seen);
	return 0;
}

uint32_t send_plan(uint32_t no, const char *id, const char *arg, uint64_t memory, uint32_t flags)
{
	static const char config[] = "{}";
	unsigned char hash[crypto_hash_sha256_BYTES];
	char argv[100], config_digest[65];
	struct plan p = { .image = SPAN("test"), .config_path = SPAN("/etc/agent.json"),
			  .hostname = SPAN("agent"), .generation = 1,
			  .image_digest = span_str(image_digest) };
	int n = snprintf(argv, sizeof argv, "/bin/agent%c%s", '\0', arg);
	int fd = memfd_create("config", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	CL_BUF struct buf b;

	(void)crypto_hash_sha256(hash, (const unsigned char *)config, 2);
	cl_hex(hash, sizeof hash, config_digest);
	p.config_digest = span_str(config_digest);
	p.argv = (struct span){ argv, (size_t)n + 1 };
	p.env = SPAN("HOME=/workspace\0");
	plan_limits_standard(&p.limits);
	p.limits.memory_bytes = memory;
	p.limits.swap_bytes = 0;
	p.limits.pids = 64;
	p.flags = flags;
	buf_init(&b, PLAN_BYTES_MAX);
	struct cl_err err = { 0 };

	if (plan_encode(&p, &b, &err))
		fail_msg("plan: %s", err.text);
	assert_int_equal(cl_write_full(fd, config, 2), 0);
	struct msg_tenant_put m = { .no = no, .id = span_str(id), .plan = buf_span(&b) };
	uint32_t seq = api_send(MSG_TENANT_PUT, &m, &fd, 1);

	(void)close(fd);
	return seq;
}

int put_plan(uint32_t no, const char *id, const char *arg, uint64_t memory)
{
	struct got *g = api_answer(send_plan(no, id, arg, memory, 0));

	assert_int_equal(g->type, MSG_REPLY);
	return (int)g->m.reply.code;
}

void tenant_up(uint32_t no, const char *id, const char *arg)
{
	assert_int_equal(put_plan(no, id, arg, 64 << 20), 0);
	assert_int_equal(api_do(MSG_TENANT_START, &(struct msg_tenant_start){ .no = no }), 0);
	(void)wait_state(no, TENANT_RUNNING);
}

/* Run a program inside; its exit code, its output in @out. */
int exec_in(uint32_t no, const char *what, const char *arg, char *out, size_t n)
{
	static uint32_t id;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), p[2];
	char argv[200];
	int len = snprintf(argv, sizeof argv, "/bin/agent%c%s%c%s", '\0', what, '\0', arg);
	uint32_t mine = ++id;

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	int fds[3] = { null, p[1], p[1] };
	struct msg_tenant_exec m = { .no = no, .exec_id = mine,
				     .argv = { argv, (size_t)len + 1 } };
	struct got *g = api_ask(MSG_TENANT_EXEC, &m, fds, 3);

	(void)close(null);
	(void)close(p[1]);
	assert_int_equal(g->m.reply.code, 0);
	int status = -1;

	for (int i = 0; i < 20 && status < 0; i++)
		if (api_read(&last, 1000) && last.type == MSG_EXEC_DONE &&
		    last.m.exec_done.exec_id == mine)
			status = (int)last.m.exec_done.status;
	ssize_t k = read(p[0], out, n - 1);

	out[k > 0 ? k : 0] = '\0';
	(void)close(p[0]);
	return status;
}

/* pids of children of @parent that run @binary */
pid_t program_pid(const char *binary)
{
	DIR *d = opendir("/proc");
	struct dirent *e;
	pid_t found = 0;
	char want[200];

	(void)snprintf(want, sizeof want, "%s/bin/%s", dir, binary);
	while (d && (e = readdir(d))) {
		char p[300], exe[300];

		(void)snprintf(p, sizeof p, "/proc/%s/exe", e->d_name);
		ssize_t k = readlink(p, exe, sizeof exe - 1);

		if (k > 0) {
			exe[k] = '\0';
			if (strcmp(exe, want) == 0)
				found = (pid_t)strtol(e->d_name, NULL, 10);
		}
	}
	if (d)
		(void)closedir(d);
	return found;
}

pid_t program_other(const char *binary, pid_t not)
{
	for (int i = 0; i < 100; i++) {
		pid_t p = program_pid(binary);

		if (p && p != not)
			return p;
		(void)usleep(50000);
	}
	fail_msg("%s was not started again", binary);
	return 0;
}

void daemon_killed_and_up_again(void)
{
	assert_int_equal(kill(daemon_pid, SIGKILL), 0);
	assert_true(daemon_ended() == SIGKILL);
	daemon_up();
	reap_orphans();
	api_connect();
}


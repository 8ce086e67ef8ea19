/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cloister-init - pid 1 inside a sandbox.
 *
 * How this works: the spawner has put up every wall before this program's
 * first instruction; it runs as the tenant's uid under the same filter as the
 * agent and links nothing but libc. It tests the walls from inside, waits for
 * START, runs the agent, reaps, runs what cloisterd asks for (exec), and when the agent ends it says
 * so, ends all others and exits. It decides nothing and restarts nothing.
 *
 * What it holds and never reads: cloisterd's end of the control channel, the
 * log's read end, the listener; a restarted cloisterd takes them from here.
 * All descriptors are close-on-exec; it is not dumpable, so nobody inside
 * can reach them. No heap, no stdio.
 *
 * argv[1…] is the agent's command, the environment is the agent's.
 */
#include "sandbox/initproto.h"
#include "sandbox/selftest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define STRINGS_MAX 512

extern char **environ;

enum state { WAIT_SETUP, WAIT_START, RUNNING };

static enum state state;
static pid_t agent;
static char **agent_argv;
static struct { uint32_t id; pid_t pid; } execs[INIT_EXECS_MAX];	/* id 0: free */

/* One datagram in, with room for alignment. */
static union {
	struct init_msg m;
	char b[sizeof(struct init_msg) + INIT_BYTES_MAX];
} in;

static void say(uint32_t type, uint32_t id, uint64_t a, uint64_t b, const char *text, size_t len)
{
	struct init_msg m = { INIT_MAGIC, type, id, (uint32_t)len, a, b };
	struct iovec iov[2] = { { &m, sizeof m }, { (void *)(uintptr_t)text, len } };
	struct msghdr mh = { .msg_iov = iov, .msg_iovlen = 2 };

	/* blocks while cloisterd is busy or being restarted: the sandbox waits with it */
	while (sendmsg(INIT_FD_CONTROL, &mh, MSG_NOSIGNAL) < 0 && errno == EINTR)
		;
}

static void complain(const char *what, const char *name)
{
	const char *e = strerrorname_np(errno);
	struct iovec iov[] = {
		{ (void *)(uintptr_t)"cloister-init: ", 15 },
		{ (void *)(uintptr_t)what, strlen(what) },
		{ (void *)(uintptr_t)name, strlen(name) },
		{ (void *)(uintptr_t)": ", 2 },
		{ (void *)(uintptr_t)(e ? e : "?"), e ? strlen(e) : 1 },
		{ (void *)(uintptr_t)"\n", 1 },
	};

	(void)!writev(2, iov, 6);	/* nobody else to tell */
}

static uint64_t status_of(int w)
{
	return WIFSIGNALED(w) ? 128u + (unsigned)WTERMSIG(w) : (unsigned)WEXITSTATUS(w);
}

/*
 * run() makes each program the leader of a group of its own, and the whole group
 * hears the signal; just after the fork there is no group yet, only the process.
 */
static int signal_group(pid_t pid, int signo)
{
	if (kill(-pid, signo) == 0)
		return 0;
	return errno == ESRCH ? kill(pid, signo) : -1;
}

/* ---- starting programs ---------------------------------------------------------- */

/* In the child: signals as a fresh program expects them, own session, only 0, 1, 2. */
static _Noreturn void run(char **argv, char **envp, const int *fds, int tty)
{
	sigset_t none;

	(void)sigemptyset(&none);	/* cannot fail */
	for (int s = 1; s < NSIG; s++)
		(void)signal(s, SIG_DFL);	/* KILL, STOP and libc's own refuse: fine */
	if (sigprocmask(SIG_SETMASK, &none, NULL) < 0 || setsid() < 0)
		_exit(127);
	for (int i = 0; fds && i < 3; i++)
		if (dup2(fds[i], i) < 0)
			_exit(127);
	if (tty && ioctl(0, TIOCSCTTY, 0) < 0)
		complain("terminal", "");
	if (syscall(SYS_close_range, 3, ~0u, 0) < 0)
		_exit(127);
	environ = envp;
	(void)execvp(argv[0], argv);
	complain("cannot start ", argv[0]);
	_exit(127);
}

static void start_agent(void)
{
	agent = fork();
	if (agent == 0)
		run(agent_argv, environ, NULL, 0);
	if (agent < 0) {
		complain("fork", "");
		say(INIT_EXITED, 0, 127, 0, NULL, 0);
		_exit(127);
	}
	say(INIT_STARTED, 0, (uint64_t)agent, 0, NULL, 0);
}

/* NUL-ended strings into @vec; -1 when malformed or too many */
static int strings(char *p, size_t n, char **vec, int max)
{
	int k = 0;

	if (n && p[n - 1] != '\0')
		return -1;
	for (size_t at = 0; at < n; at += strlen(p + at) + 1) {
		if (k + 1 >= max)
			return -1;
		vec[k++] = p + at;
	}
	vec[k] = NULL;
	return k;
}

/* The agent's environment, each name replaced or added to by @own. */
static int merge_env(char **own, int nown, char **out, int max)
{
	int n = 0;

	for (char **e = environ; *e; e++) {
		size_t name = strcspn(*e, "=") + 1;
		int replaced = 0;

		for (int i = 0; i < nown; i++)
			replaced |= strncmp(own[i], *e, name) == 0;
		if (replaced)
			continue;
		if (n + 1 >= max)
			return -1;
		out[n++] = *e;
	}
	for (int i = 0; i < nown; i++) {
		if (n + 1 >= max)
			return -1;
		out[n++] = own[i];
	}
	out[n] = NULL;
	return n;
}

static void do_exec(int *fds)
{
	static char *argv[STRINGS_MAX], *own[STRINGS_MAX], *envp[2 * STRINGS_MAX];
	const struct init_msg *m = &in.m;
	char *bytes = in.b + sizeof *m;
	int slot = -1, nown = -1;

	for (int i = 0; i < INIT_EXECS_MAX; i++) {
		if (execs[i].id == m->id && m->id)
			slot = -2;	/* taken */
		else if (execs[i].id == 0 && slot == -1)
			slot = i;
	}
	if (slot >= 0 && m->b <= m->len && strings(bytes, (size_t)m->b, argv, STRINGS_MAX) > 0)
		nown = strings(bytes + m->b, (size_t)(m->len - m->b), own, STRINGS_MAX);
	if (slot < 0 || m->id == 0 || fds[2] < 0 || nown < 0 ||
	    merge_env(own, nown, envp, 2 * STRINGS_MAX) < 0) {
		say(INIT_REFUSED, m->id, slot == -1 ? EAGAIN : EINVAL, 0, NULL, 0);
		return;
	}
	pid_t pid = fork();

	if (pid == 0)
		run(argv, envp, fds, m->a & 1);
	if (pid < 0) {
		say(INIT_REFUSED, m->id, (uint64_t)errno, 0, NULL, 0);
		return;
	}
	execs[slot].id = m->id;
	execs[slot].pid = pid;
}

static void do_signal(void)
{
	const struct init_msg *m = &in.m;
	pid_t target = m->id ? 0 : agent;

	for (int i = 0; i < INIT_EXECS_MAX && m->id; i++)
		if (execs[i].id == m->id)
			target = execs[i].pid;
	if (target <= 0)
		say(INIT_REFUSED, m->id, ESRCH, 0, NULL, 0);
	else if (m->a == 0 || m->a >= NSIG)
		say(INIT_REFUSED, m->id, EINVAL, 0, NULL, 0);
	else if (signal_group(target, (int)m->a) < 0)
		say(INIT_REFUSED, m->id, (uint64_t)errno, 0, NULL, 0);
}

/* ---- what arrives ---------------------------------------------------------------- */

static void do_setup(void)
{
	static struct selftest_setup setup;
	static struct selftest_result res;

	if (in.m.len != sizeof setup)
		_exit(125);
	memcpy(&setup, in.b + sizeof in.m, sizeof setup);
	/* a throw-away sandbox ends with its maker */
	if (setup.die_with_parent && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		_exit(125);
	selftest_run(&setup, &res);
	say(INIT_SELFTEST, 0, res.held, res.failed, res.text, strnlen(res.text, sizeof res.text));
	if (res.failed)
		_exit(125);	/* I9: with a wall missing nothing starts, whoever asks */
	state = WAIT_START;
}

static void on_control(void)
{
	union {
		char b[CMSG_SPACE(3 * sizeof(int))];
		struct cmsghdr align;
	} ctl;
	struct iovec iov = { in.b, sizeof in.b };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl.b,
			     .msg_controllen = sizeof ctl.b };
	int fds[3] = { -1, -1, -1 };
	ssize_t k = recvmsg(INIT_FD_CONTROL, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (k < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	for (struct cmsghdr *c = k < 0 ? NULL : CMSG_FIRSTHDR(&mh); c; c = CMSG_NXTHDR(&mh, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
			memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0) <= sizeof fds ?
			       c->cmsg_len - CMSG_LEN(0) : sizeof fds);
	/* only the spawner and cloisterd can send here: a breach is our own mistake, and the end */
	if (k < (ssize_t)sizeof in.m || (mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) ||
	    !init_msg_ok(&in.m, (size_t)k, false))
		_exit(125);
	if (state == WAIT_SETUP && in.m.type == INIT_SETUP) {
		do_setup();
	} else if (state == WAIT_START && in.m.type == INIT_START) {
		state = RUNNING;
		start_agent();
	} else if (in.m.type == INIT_STOP) {
		if (state != RUNNING)
			_exit(0);
		(void)signal_group(agent, SIGTERM);	/* it may be gone: reaped next */
	} else if (state == RUNNING && in.m.type == INIT_EXEC) {
		do_exec(fds);
	} else if (state == RUNNING && in.m.type == INIT_SIGNAL) {
		do_signal();
	} else {
		say(INIT_REFUSED, in.m.id, EPROTO, 0, NULL, 0);
	}
	for (int i = 0; i < 3; i++)
		if (fds[i] >= 0)
			(void)close(fds[i]);	/* the program has its own copies */
}

static void reap(void)
{
	int w;
	pid_t pid;

	while ((pid = waitpid(-1, &w, WNOHANG)) > 0) {
		for (int i = 0; i < INIT_EXECS_MAX; i++)
			if (execs[i].id && execs[i].pid == pid) {
				say(INIT_DONE, execs[i].id, status_of(w), 0, NULL, 0);
				execs[i].id = 0;
			}
		if (pid == agent) {
			say(INIT_EXITED, 0, status_of(w), 0, NULL, 0);
			_exit((int)(status_of(w) & 0xff));	/* the kernel ends all others with pid 1 */
		}
	}
}

static void on_signals(int fd)
{
	struct signalfd_siginfo si;

	while (read(fd, &si, sizeof si) == (ssize_t)sizeof si)
		/* from outside the namespace the sender's pid is 0: nobody inside stops us */
		if (si.ssi_signo == SIGTERM && si.ssi_pid == 0) {
			if (state != RUNNING)
				_exit(0);
			(void)signal_group(agent, SIGTERM);	/* it may be gone: reaped next */
		}
	reap();
}

int main(int argc, char **argv)
{
	sigset_t set;
	int sfd;

	if (getpid() != 1 || argc < 2 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return 125;
	for (int fd = INIT_FD_CONTROL; fd < INIT_FD_END; fd++)
		if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
			return 125;
	agent_argv = argv + 1;
	(void)sigemptyset(&set);	/* these three cannot fail */
	(void)sigaddset(&set, SIGCHLD);
	(void)sigaddset(&set, SIGTERM);
	if (sigprocmask(SIG_SETMASK, &set, NULL) < 0)
		return 125;
	sfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (sfd < 0)
		return 125;
	for (;;) {
		struct pollfd p[2] = { { .fd = INIT_FD_CONTROL, .events = POLLIN },
				       { .fd = sfd, .events = POLLIN } };

		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return 125;
		if (p[1].revents)
			on_signals(sfd);
		if (p[0].revents)
			on_control();
	}
}

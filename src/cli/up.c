/* SPDX-License-Identifier: Apache-2.0 */
/*
 * up - check the configuration and the machine, then run cloisterd in the
 * foreground, again after a crash with back-off. down - end it.
 *
 * How this works: everything that can be wrong is looked at first and named
 * with its fix. `up` holds run/up.lock (its pid inside) as long as it lives.
 * cloisterd's argument vector is its own options.h; it writes one line to a
 * pipe when it serves or refuses.
 */
#include "cli/cli.h"
#include "cli/up.h"
#include "policy/config.h"

#include <arpa/inet.h>
#include <grp.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DISK_FREE_MIN (256ull << 20)
#define ARGV_MAX 64
#define BACKOFF_MAX_S 30
#define CALM_S 60		/* ran that long: the next crash starts from the first back-off */

struct up {
	struct cli *c;
	struct config cfg;
	const char *etc, *state, *run, *images, *bin, *share;
	const char *listen, *model_listen;
	char users[USER_COUNT][32];
	char gid[16], uid_base[16], ready[16];
	int lock_fd;
};

/* ---- where things lie ------------------------------------------------------------ */

int up_layout(char *bin, char *share, char *images, size_t n)
{
	char exe[PATH_MAX];
	ssize_t k = readlink("/proc/self/exe", exe, sizeof exe - 1);
	char *slash;

	if (k <= 0 || (size_t)k >= sizeof exe - 1)
		return cli_fail(-1, "cannot find out where this program lies: is /proc mounted?");
	exe[k] = '\0';
	slash = strrchr(exe, '/');
	*slash = '\0';
	(void)snprintf(bin, n, "%s/bin/cloisterd", exe);
	if (faccessat(AT_FDCWD, bin, X_OK, AT_EACCESS) == 0) {
		(void)snprintf(bin, n, "%s/bin", exe);
		(void)snprintf(share, n, "%s/share/cloister", exe);
		(void)snprintf(images, n, "%s/images", exe);
		return 0;
	}
	slash = strrchr(exe, '/');
	if (slash)
		*slash = '\0';
	(void)snprintf(bin, n, "%s/libexec/cloister/cloisterd", exe);
	if (faccessat(AT_FDCWD, bin, X_OK, AT_EACCESS) != 0)
		return cli_fail(-1, "the programs are missing: no '%s'; install Cloister, or build it and use build/cloister", bin);
	(void)snprintf(bin, n, "%s/libexec/cloister", exe);
	(void)snprintf(share, n, "%s/share/cloister", exe);
	images[0] = '\0';
	return 0;
}

static bool is_dir(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* mkdir -p of a path that the operator names; the last component at least 0755 root */
static int ensure_dir(const char *path)
{
	char part[PATH_MAX];
	size_t n = strlen(path);

	if (n >= sizeof part)
		return cli_fail(-1, "'%s': too long", path);
	for (size_t i = 1; i <= n; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		if (mkdir(part, 0755) < 0 && errno != EEXIST)
			return cli_fail(-1, "'%s': cannot be made: %s", part, strerror(errno));
	}
	if (!is_dir(path))
		return cli_fail(-1, "'%s' is not a directory", path);
	return 0;
}

/* ---- configuration ------------------------------------------------------------------ */

/* only root may change what root runs */
static int private_file(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return cli_fail(-1, "'%s': %s", path, strerror(errno));
	if (st.st_uid != 0 || (st.st_mode & 022) != 0)
		return cli_fail(-1, "'%s' can be changed by others than root: chown root '%s'; chmod go-w '%s'",
				path, path, path);
	return 0;
}

int up_config(struct cli *c, struct config *out, bool write_default)
{
	CL_BUF struct buf text;
	const char *path = cli_path(c, "/etc/cloister/cloister.yaml");
	struct cl_err err = { 0 };
	int r;

	buf_init(&text, YAML_BYTES_MAX);
	CL_CLOSE int dir = open(cli_path(c, "/etc/cloister"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0 && errno != ENOENT)
		return cli_fail(-1, "'%s': %s", cli_path(c, "/etc/cloister"), strerror(errno));
	r = dir < 0 ? -ENOENT : cl_read_file(dir, "cloister.yaml", &text, &err);
	if (r == -ENOENT && write_default && dir >= 0) {
		if (cl_write_file(dir, "cloister.yaml", 0644, config_default_text(), &err))
			return cli_fail(-1, "'%s': %s", path, cl_err_str(&err));
		/* the umask may have narrowed it: the api reads it as its own user */
		if (fchmodat(dir, "cloister.yaml", 0644, 0) < 0)
			return cli_fail(-1, "'%s': %s", path, strerror(errno));
	} else if (r && r != -ENOENT) {
		return cli_fail(-1, "'%s': %s", path, cl_err_str(&err));
	}
	if (r == 0 && write_default && (private_file(cli_path(c, "/etc/cloister")) || private_file(path)))
		return -1;
	if (config_read(buf_span(&text), path, out, &err))
		return cli_fail(-1, "%s", err.text);
	return 0;
}

static int resolve_users(struct up *u)
{
	for (size_t i = 0; i < USER_COUNT; i++) {
		const struct passwd *p = getpwnam(u->cfg.user[i]);

		if (!p)
			return cli_fail(-1, "the user '%s' is missing: run tools/setup-host, or systemd-sysusers with dist/sysusers/cloister.conf",
					u->cfg.user[i]);
		if (p->pw_uid == 0 || p->pw_gid == 0)
			return cli_fail(-1, "the user '%s' is root: programs must not be; see users: in cloister.yaml",
					u->cfg.user[i]);
		(void)snprintf(u->users[i], sizeof u->users[i], "%u:%u", p->pw_uid, p->pw_gid);	/* fits */
	}
	const struct group *g = getgrnam(u->cfg.group);

	if (!g)
		return cli_fail(-1, "the group '%s' is missing: run tools/setup-host, or set group: in cloister.yaml",
				u->cfg.group);
	(void)snprintf(u->gid, sizeof u->gid, "%u", g->gr_gid);	/* fits */
	return 0;
}

/* ---- the machine ---------------------------------------------------------------------- */

static int port_free(const char *address, const char *key)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	struct span host, port = span_str(address);
	char text[64];
	uint32_t n;
	int one = 1;

	if (strcmp(address, "off") == 0)
		return 0;
	if (!span_cut(&port, ':', &host) || span_copy(host, text, sizeof text) ||
	    inet_pton(AF_INET, text, &a.sin_addr) != 1 || num_parse_u32(port, 65535, &n) || n == 0)
		return cli_fail(-1, "%s: '%s' is neither A.B.C.D:PORT nor off", key, address);
	a.sin_port = htons((uint16_t)n);
	CL_CLOSE int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return cli_fail(-1, "socket: %s", strerror(errno));
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);	/* as cloisterd binds it */
	if (bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(fd, 1) == 0)
		return 0;
	if (errno == EADDRINUSE)
		return cli_fail(-1, "the address %s is in use by another program: stop that one, or choose another with %s: in cloister.yaml",
				address, key);
	return cli_fail(-1, "the address %s cannot be used: %s; choose another with %s: in cloister.yaml",
			address, strerror(errno), key);
}

static int disk_free(const char *path)
{
	struct statvfs v;

	if (statvfs(path, &v) < 0)
		return cli_fail(-1, "'%s': %s", path, strerror(errno));
	if ((uint64_t)v.f_bavail * v.f_frsize < DISK_FREE_MIN)
		return cli_fail(-1, "the disk of '%s' is full: %llu MiB are free, at least %llu are needed; make room, or set state: in cloister.yaml",
				path, (unsigned long long)((uint64_t)v.f_bavail * v.f_frsize >> 20),
				DISK_FREE_MIN >> 20);
	return 0;
}

static int take_lock(struct up *u)
{
	char path[PATH_MAX], pid[16] = "";

	(void)snprintf(path, sizeof path, "%s/up.lock", u->run);
	u->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (u->lock_fd < 0)
		return cli_fail(-1, "'%s': %s", path, strerror(errno));
	if (flock(u->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		ssize_t n = read(u->lock_fd, pid, sizeof pid - 1);

		if (n > 0)
			pid[strcspn(pid, "\n")] = '\0';
		return cli_fail(-1, "already running (pid %s); stop it with: cloister%s%s down", n > 0 ? pid : "?",
				*u->c->dir ? " --dir " : "", u->c->dir);
	}
	int n = snprintf(pid, sizeof pid, "%d\n", (int)getpid());

	if (ftruncate(u->lock_fd, 0) < 0 || cl_write_full(u->lock_fd, pid, (size_t)n))
		return cli_fail(-1, "'%s': cannot be written", path);
	return 0;
}

static int prepare(struct up *u)
{
	static char bin[PATH_MAX], share[PATH_MAX], images[PATH_MAX];
	const char *opt;

	if (geteuid() != 0)
		return cli_fail(-1, "must be run as root: it makes users' namespaces, cgroups and mounts; try: sudo cloister up");
	/* the kernel first: all that follows stands on it */
	if (up_machine() || up_layout(bin, share, images, sizeof bin))
		return -1;
	u->bin = bin;
	u->share = share;
	u->etc = cli_path(u->c, "/etc/cloister");
	if (ensure_dir(u->etc) || up_config(u->c, &u->cfg, true))
		return -1;
	u->state = u->cfg.state_dir ? u->cfg.state_dir : cli_path(u->c, "/var/lib/cloister");
	u->run = cli_path(u->c, "/run/cloister");
	if (ensure_dir(u->state) || ensure_dir(u->run))
		return -1;
	opt = cli_opt(u->c, "images");
	if (opt)
		u->images = realpath(opt, NULL);
	else if (u->cfg.images_dir)
		u->images = u->cfg.images_dir;
	else if (*images && is_dir(images))
		u->images = images;
	else {
		char def[PATH_MAX];

		(void)snprintf(def, sizeof def, "%s/images", u->state);
		if (ensure_dir(def))
			return -1;
		u->images = strdup(def);
	}
	if (!u->images || !is_dir(u->images))
		return cli_fail(-1, "the directory of the agent images '%s' is missing: make an image with agents/openclaw/build-image",
				opt ? opt : u->cfg.images_dir ? u->cfg.images_dir : "images");
	opt = cli_opt(u->c, "listen");
	u->listen = opt ? opt : u->cfg.listen;
	opt = cli_opt(u->c, "model-listen");
	u->model_listen = opt ? opt : u->cfg.model_listen;
	(void)snprintf(u->uid_base, sizeof u->uid_base, "%u", u->cfg.uid_base);	/* fits */
	if (resolve_users(u) || disk_free(u->state) || take_lock(u))
		return -1;
	return port_free(u->listen, "listen") || port_free(u->model_listen, "listen_model") ? -1 : 0;
}

/* ---- run ------------------------------------------------------------------------------ */

static pid_t spawn(struct up *u, int *out_ready)
{
	static const char *const user_opt[USER_COUNT] = { "--user-broker", "--user-api", "--user-ledger",
							  "--user-spawner", "--user-model" };
	static char exe[PATH_MAX], pass_model[128];
	const char *argv[ARGV_MAX];
	size_t n = 0;
	sigset_t none;
	int p[2];
	pid_t pid;

	if (pipe2(p, O_CLOEXEC) < 0)
		return cli_fail(-1, "pipe: %s", strerror(errno));
	(void)snprintf(exe, sizeof exe, "%s/cloisterd", u->bin);
	/* where the route `simulated` leads */
	(void)snprintf(pass_model, sizeof pass_model, "api:--model-listen=%s", u->model_listen);	/* checked: short */
	(void)snprintf(u->ready, sizeof u->ready, "%d", p[1]);	/* fits */
	argv[n++] = exe;
#define PUT(name, value) (argv[n++] = (name), argv[n++] = (value))
	PUT("--etc", u->etc);
	PUT("--state", u->state);
	PUT("--run", u->run);
	PUT("--images", u->images);
	PUT("--bin", u->bin);
	PUT("--share", u->share);
	PUT("--uid-base", u->uid_base);
	for (size_t i = 0; i < USER_COUNT; i++)
		PUT(user_opt[i], u->users[i]);
	PUT("--api-gid", u->gid);
	PUT("--listen", u->listen);
	PUT("--model-listen", u->model_listen);
	PUT("--ready-fd", u->ready);
	PUT("--pass", pass_model);
#undef PUT
	argv[n] = NULL;
	pid = fork();
	if (pid == 0) {
		sigemptyset(&none);
		(void)sigprocmask(SIG_SETMASK, &none, NULL);
		(void)signal(SIGPIPE, SIG_DFL);
		if (cl_set_cloexec(p[1], false) == 0)
			(void)execv(exe, (char *const *)(uintptr_t)argv);
		dprintf(2, "cloister: cannot run '%s': %s\n", exe, strerror(errno));
		_exit(2);
	}
	(void)cl_close(p[1]);
	if (pid < 0) {
		(void)cl_close(p[0]);
		return cli_fail(-1, "fork: %s", strerror(errno));
	}
	*out_ready = p[0];
	return pid;
}

/* cloisterd's one line: "R\n" or "E words\n" */
static void told(struct up *u, int *ready_fd)
{
	char line[1024];
	ssize_t n = read(*ready_fd, line, sizeof line - 1);

	*ready_fd = cl_close(*ready_fd);
	if (n <= 0)
		return;
	line[n] = '\0';
	line[strcspn(line, "\n")] = '\0';
	if (line[0] == 'R') {
		if (strcmp(u->listen, "off") == 0)
			printf("cloister: ready\n");
		else
			printf("cloister: ready; the page is http://%s/\n", u->listen);
		(void)fflush(stdout);	/* whoever waits for the line may be a pipe */
	} else if (line[0] == 'E') {
		(void)cli_fail(0, "%s", n > 2 ? line + 2 : "cloisterd refused to start");
	}
}

/* children of sandboxes whose parent died become ours: let none become a zombie */
static int reap(pid_t main_pid, int *out_status)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == main_pid) {
			*out_status = status;
			return 1;
		}
	return 0;
}

/*
 * one life of cloisterd
 * @stop: set when somebody asked for the end; when it is set already, the end
 * comes as soon as cloisterd serves, so that it can take the sandboxes down
 * Return: its wait status
 */
static int live(struct up *u, int sig_fd, bool *stop)
{
	bool end_when_ready = *stop;
	int ready_fd = -1, status = 0;
	pid_t pid = spawn(u, &ready_fd);

	if (pid < 0)
		return 1 << 8;
	for (;;) {
		struct pollfd p[2] = { { .fd = sig_fd, .events = POLLIN }, { .fd = ready_fd, .events = POLLIN } };
		struct signalfd_siginfo si;

		if (poll(p, 2, -1) < 0 && errno != EINTR)
			break;
		if (ready_fd >= 0 && p[1].revents) {
			told(u, &ready_fd);
			if (end_when_ready)
				(void)kill(pid, SIGTERM);
		}
		while (read(sig_fd, &si, sizeof si) == (ssize_t)sizeof si) {
			if (si.ssi_signo == SIGCHLD)
				continue;
			/* Ctrl-C reached cloisterd as well: it is in our foreground group. A
			 * signal sent to us alone is handed on; twice does no harm. */
			*stop = true;
			if (si.ssi_code != SI_KERNEL)
				(void)kill(pid, SIGTERM);
		}
		if (reap(pid, &status)) {
			if (ready_fd >= 0)
				told(u, &ready_fd);
			return status;
		}
	}
	(void)kill(pid, SIGTERM);
	(void)waitpid(pid, &status, 0);
	return status;
}

static void wait_s(int sig_fd, unsigned s, bool *stop)
{
	int64_t end = cl_mono_us() + (int64_t)s * 1000000;
	struct signalfd_siginfo si;

	while (!*stop && cl_mono_us() < end) {
		struct pollfd p = { .fd = sig_fd, .events = POLLIN };

		(void)poll(&p, 1, (int)((end - cl_mono_us()) / 1000) + 1);	/* EINTR: looked at again */
		while (read(sig_fd, &si, sizeof si) == (ssize_t)sizeof si)
			if (si.ssi_signo != SIGCHLD)
				*stop = true;
	}
}

static int run(struct up *u)
{
	unsigned backoff = 1;
	bool stop = false;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
		return cli_fail(EXIT_FAILED, "cannot prepare signals: %s", strerror(errno));
	CL_CLOSE int sig_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);

	if (sig_fd < 0)
		return cli_fail(EXIT_FAILED, "signalfd: %s", strerror(errno));
	for (;;) {
		int64_t begun = cl_mono_us();
		int status = live(u, sig_fd, &stop);

		if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
			return EXIT_OK;
		if (WIFEXITED(status) && WEXITSTATUS(status) == 3)
			return cli_fail(EXIT_FAILED, "already running: another cloisterd has '%s'; stop it with: cloister down", u->run);
		if (WIFEXITED(status) && WEXITSTATUS(status) <= 2)
			return EXIT_FAILED;	/* it has said why */
		if (stop)
			return cli_fail(EXIT_FAILED, "cloisterd did not end cleanly: %s %d",
					WIFSIGNALED(status) ? "signal" : "exit",
					WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
		if (cl_mono_us() - begun > CALM_S * 1000000LL)
			backoff = 1;
		(void)cli_fail(0, "cloisterd ended (%s %d); starting it again in %u s; the sandboxes live on",
			       WIFSIGNALED(status) ? "signal" : "exit",
			       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), backoff);
		/* asked to end while cloisterd is down: it is started once more, adopts
		 * the sandboxes and takes them down */
		wait_s(sig_fd, backoff, &stop);
		backoff = backoff * 2 > BACKOFF_MAX_S ? BACKOFF_MAX_S : backoff * 2;
	}
}

int cmd_up(struct cli *c)
{
	struct up u = { .c = c, .lock_fd = -1 };
	int r;

	if (prepare(&u)) {
		r = EXIT_FAILED;
	} else if (cli_opt(c, "check")) {
		printf("cloister: the configuration and the machine are good\n");
		r = EXIT_OK;
	} else {
		r = run(&u);
	}
	(void)cl_close(u.lock_fd);
	if (u.cfg.doc)
		config_done(&u.cfg);
	return r;
}

/* ---- down ----------------------------------------------------------------------------- */

/* the pid in a lock file that somebody holds; 0 nobody does; -1 told */
static pid_t holder(const char *run_dir, const char *name)
{
	char path[PATH_MAX], text[16] = "";
	uint32_t pid = 0;

	(void)snprintf(path, sizeof path, "%s/%s", run_dir, name);
	CL_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return errno == ENOENT ? 0 : cli_fail(-1, "'%s': %s", path, strerror(errno));
	if (flock(fd, LOCK_SH | LOCK_NB) == 0)
		return 0;
	ssize_t n = read(fd, text, sizeof text - 1);

	if (n > 0)
		text[strcspn(text, "\n")] = '\0';
	if (n <= 0 || num_parse_u32(span_str(text), INT_MAX, &pid) || pid < 2)
		return cli_fail(-1, "'%s' is held, but names no process", path);
	return (pid_t)pid;
}

int cmd_down(struct cli *c)
{
	const char *run_dir = cli_path(c, "/run/cloister");
	int64_t end = cl_mono_us() + 90 * 1000000LL;
	pid_t pid;

	if (geteuid() != 0)
		return cli_fail(EXIT_FAILED, "must be run as root");
	pid = holder(run_dir, "up.lock");
	if (pid == 0)
		pid = holder(run_dir, "lock");
	if (pid == 0)
		return cli_fail(EXIT_NO_SERVICE, "not running");
	if (pid < 0)
		return EXIT_FAILED;
	if (kill(pid, SIGTERM) < 0)
		return cli_fail(EXIT_FAILED, "pid %d: %s", (int)pid, strerror(errno));
	while (cl_mono_us() < end) {
		const struct timespec nap = { 0, 100000000 };

		if (holder(run_dir, "up.lock") == 0 && holder(run_dir, "lock") == 0)
			return EXIT_OK;
		(void)nanosleep(&nap, NULL);	/* cut short is fine */
	}
	return cli_fail(EXIT_TIMEOUT, "pid %d has not ended within 90 s", (int)pid);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "cloisterd/dirs.h"

#include "cloisterd/proc.h"

#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCK_NAME "api.sock"
#define BACKLOG 512

/* The new directory gets its name only when owner and mode are right, so
 * that a crash in between leaves nothing that the next start refuses. */
static int make_dir(int dirfd, const char *name, uid_t uid, gid_t gid, mode_t mode,
		    struct cl_err *err)
{
	char tmp[128];

	if (snprintf(tmp, sizeof tmp, ".%s.new", name) >= (int)sizeof tmp)
		return cl_fail(err, ENAMETOOLONG, "directory '%s'", name);
	(void)unlinkat(dirfd, tmp, AT_REMOVEDIR);	/* of a crash; absence is fine */
	if (mkdirat(dirfd, tmp, 0700) < 0)
		return cl_fail(err, errno, "directory '%s': make", name);
	CL_CLOSE int fd = cl_open_beneath(dirfd, tmp, O_RDONLY | O_DIRECTORY, 0);

	if (fd < 0)
		return cl_fail(err, -fd, "directory '%s': open", name);
	if (fchown(fd, uid, gid) < 0 || fchmod(fd, mode) < 0 ||
	    renameat(dirfd, tmp, dirfd, name) < 0)
		return cl_fail(err, errno, "directory '%s': owner, mode", name);
	return 0;
}

int dirs_ensure(int dirfd, const char *name, uid_t uid, gid_t gid, mode_t mode,
		struct cl_err *err)
{
	struct stat st;
	int fd = cl_open_beneath(dirfd, name, O_RDONLY | O_DIRECTORY, 0);

	if (fd == -ENOENT) {
		if (make_dir(dirfd, name, uid, gid, mode, err))
			return -err->code;
		fd = cl_open_beneath(dirfd, name, O_RDONLY | O_DIRECTORY, 0);
	}
	if (fd < 0)
		return cl_fail(err, -fd, "directory '%s'", name);
	if (fstat(fd, &st) < 0) {
		int e = errno;

		(void)cl_close(fd);
		return cl_fail(err, e, "directory '%s': stat", name);
	}
	if (st.st_uid != uid || st.st_gid != gid || (st.st_mode & 07777) != mode) {
		(void)cl_close(fd);
		return cl_fail(err, EPERM,
			       "directory '%s' is %u:%u %04o and must be %u:%u %04o; look who changed it, then chown and chmod",
			       name, st.st_uid, st.st_gid, st.st_mode & 07777u, uid, gid, mode);
	}
	return fd;
}

/* --state and --run: made if missing (their parent must exist); root's own, nobody else writes */
static int root_dir(const char *path, struct cl_err *err)
{
	struct stat st;

	if (mkdir(path, 0755) == 0)
		(void)chmod(path, 0755);	/* whatever the umask took; judged below */
	else if (errno != EEXIST)
		return cl_fail(err, errno, "directory '%s': make", path);
	int fd = cl_open_dir(path, err);

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0 || st.st_uid != 0 || (st.st_mode & 022)) {
		(void)cl_close(fd);
		return cl_fail(err, EPERM,
			       "directory '%s' must belong to root and be writable by nobody else: chown root, chmod 0755",
			       path);
	}
	return fd;
}

static int share_dir(const char *own, const char *share, const char *name, struct cl_err *err)
{
	char path[4096];

	if (!own && snprintf(path, sizeof path, "%s/%s", share, name) >= (int)sizeof path)
		return cl_fail(err, ENAMETOOLONG, "directory '%s'", name);
	return cl_open_dir(own ? own : path, err);
}

static int take_lock(int run_fd, struct cl_err *err)
{
	int fd = cl_open_beneath(run_fd, "lock", O_RDWR | O_CREAT, 0600);

	if (fd < 0)
		return cl_fail(err, -fd, "lock file");
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		int e = errno;

		(void)cl_close(fd);
		if (e == EWOULDBLOCK)
			return cl_fail(err, EBUSY, "another cloisterd runs on this directory");
		return cl_fail(err, e, "lock file");
	}
	/* for people and for `cloister down`; nothing here depends on it */
	char pid[16];
	int n = snprintf(pid, sizeof pid, "%d\n", (int)getpid());

	if (ftruncate(fd, 0) < 0 || cl_write_full(fd, pid, (size_t)n))
		cl_log(CL_WARNING, "lock-file", "error=\"the pid could not be written\"");
	return fd;
}

int dirs_open(struct daemon *d, struct cl_err *err)
{
	const struct options *o = &d->opt;
	struct dirs *f = &d->fd;

	umask(0077);
	if ((f->null = open("/dev/null", O_RDWR | O_CLOEXEC)) < 0)
		return cl_fail(err, errno, "/dev/null");
	if ((f->run = root_dir(o->run, err)) < 0 || (f->lock = take_lock(f->run, err)) < 0 ||
	    (f->run_tenants = dirs_ensure(f->run, "tenants", 0, 0, 0700, err)) < 0)
		return -err->code;
	if ((f->state = root_dir(o->state, err)) < 0 ||
	    (f->tenants = dirs_ensure(f->state, "tenants", 0, 0, 0700, err)) < 0 ||
	    (f->broker = dirs_ensure(f->state, "broker", o->broker.uid, o->broker.gid, 0700,
				     err)) < 0 ||
	    (f->api = dirs_ensure(f->state, "api", o->api.uid, o->api.gid, 0700, err)) < 0 ||
	    /* the api reads the ledger's segments by its group */
	    (f->ledger = dirs_ensure(f->state, "ledger", o->ledger.uid, o->api.gid, 02750,
				     err)) < 0)
		return -err->code;
	if ((f->etc = cl_open_dir(o->etc, err)) < 0 ||
	    (f->images = cl_open_dir(o->images, err)) < 0 ||
	    (f->bin = cl_open_dir(o->bin, err)) < 0 ||
	    (f->web = share_dir(o->web, o->share, "web", err)) < 0 ||
	    (f->agents = share_dir(o->agents, o->share, "agents", err)) < 0 ||
	    (f->routes = share_dir(o->routes, o->share, "routes", err)) < 0)
		return -err->code;
	return proc_boot_id(d->boot_id, sizeof d->boot_id, err);
}

static int listen_tcp(const struct sockaddr_in *at, const char *text, int *out,
		      struct cl_err *err)
{
	int one = 1;

	if (at->sin_port == 0)
		return 0;	/* off */
	CL_CLOSE int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return cl_fail(err, errno, "socket");
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0)
		return cl_fail(err, errno, "socket option");
	if (bind(fd, (const struct sockaddr *)(const void *)at, sizeof *at) < 0 ||
	    listen(fd, BACKLOG) < 0)
		return cl_fail(err, errno, "cannot listen on %s (another program has it? choose another with listen:)",
			       text);
	*out = cl_take_fd(&fd);
	return 0;
}

static int listen_unix(struct daemon *d, struct cl_err *err)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	CL_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return cl_fail(err, errno, "socket");
	/* by descriptor: the path of --run may be longer than sun_path */
	(void)snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d/" SOCK_NAME, d->fd.run);
	(void)unlinkat(d->fd.run, SOCK_NAME, 0);	/* of the last run; absence is fine */
	/* the umask of dirs_open() keeps it root's alone until it has its group */
	if (bind(fd, (const struct sockaddr *)(const void *)&a, sizeof a) < 0 ||
	    fchownat(d->fd.run, SOCK_NAME, 0, d->opt.api_gid, AT_SYMLINK_NOFOLLOW) < 0 ||
	    fchmodat(d->fd.run, SOCK_NAME, 0660, 0) < 0 || listen(fd, BACKLOG) < 0)
		return cl_fail(err, errno, SOCK_NAME);
	d->fd.api_sock = cl_take_fd(&fd);
	return 0;
}

int dirs_listen(struct daemon *d, struct cl_err *err)
{
	const struct options *o = &d->opt;

	if (listen_tcp(&o->listen, o->listen_text, &d->fd.listen, err) ||
	    listen_tcp(&o->model_listen, o->model_listen_text, &d->fd.model_listen, err))
		return -err->code;
	return listen_unix(d, err);
}

void dirs_close(struct daemon *d)
{
	struct dirs *f = &d->fd;

	if (f->api_sock >= 0)
		(void)unlinkat(f->run, SOCK_NAME, 0);
	int *all[] = { &f->etc, &f->state, &f->images, &f->bin, &f->web, &f->agents, &f->routes,
		       &f->tenants, &f->run_tenants, &f->broker, &f->api, &f->ledger, &f->null,
		       &f->api_sock, &f->listen, &f->model_listen, &f->run, &f->lock };

	for (size_t i = 0; i < CL_ARRAY_LEN(all); i++)
		*all[i] = cl_close(*all[i]);
}

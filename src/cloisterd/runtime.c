/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records for adoption: one file run/tenants/<no> for each sandbox that is
 * up, with what is needed to find it again, to know that it is the same one,
 * and to start it again as it was. Root's own, below a directory that root
 * alone can enter; gone when the sandbox is.
 *
 * A record is believed for what to look for, never for what is found: the
 * process is held by pidfd, then its start time and its group are compared,
 * and that it still lives after that. What does not match is killed by its
 * group.
 */
#include "cloisterd/attest.h"
#include "cloisterd/dirs.h"
#include "cloisterd/proc.h"
#include "cloisterd/tell.h"
#include "cloisterd/tenant.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAGIC 0x324e5552544c43ULL	/* "CLTRUN2" */

struct runtime {
	uint64_t magic, ticks;
	uint32_t no, pid, restarts, frozen, running, uid;
	uint32_t plan_n, config_n;
	char boot_id[40], id[TENANT_ID_MAX + 8];
	/* the plan, then the configuration follow */
};

static void file_name(uint32_t no, char *buf, size_t n)
{
	(void)snprintf(buf, n, "%u", no);	/* fits */
}

void runtime_remove(struct tenant *t)
{
	char name[16];

	file_name(t->no, name, sizeof name);
	(void)unlinkat(t->d->fd.run_tenants, name, 0);	/* absence is fine */
}

void runtime_write(struct tenant *t)
{
	struct runtime r = { .magic = MAGIC, .ticks = t->ticks, .no = t->no, .pid = (uint32_t)t->pid,
			     .restarts = t->restarts,
			     /* frozen only for a copy: the next cloisterd lets it go on */
			     .frozen = t->frozen && !t->job.thaw,
			     .running = t->running_us != 0, .uid = tenant_uid(t),
			     .plan_n = (uint32_t)t->sealed.n };
	struct cl_err err = { 0 };
	char name[16];
	struct stat st;
	CL_BUF struct buf b;

	buf_init(&b, sizeof r + PLAN_BYTES_MAX + CONFIG_MAX);
	memcpy(r.boot_id, t->d->boot_id, sizeof r.boot_id);
	memcpy(r.id, t->id, sizeof t->id);
	if (t->sealed.config_fd >= 0 && fstat(t->sealed.config_fd, &st) == 0 && st.st_size > 0 &&
	    st.st_size <= (off_t)CONFIG_MAX)
		r.config_n = (uint32_t)st.st_size;
	(void)buf_add(&b, &r, sizeof r);
	(void)buf_add(&b, t->sealed.bytes, t->sealed.n);
	if (r.config_n && buf_reserve(&b, r.config_n) == 0) {
		ssize_t k = pread(t->sealed.config_fd, b.p + b.n, r.config_n, 0);

		if (k != (ssize_t)r.config_n)
			b.failed = true;
		else
			b.n += r.config_n;
	}
	file_name(t->no, name, sizeof name);
	if (b.failed || cl_write_file(t->d->fd.run_tenants, name, 0600, buf_span(&b), &err)) {
		/* it runs on; only a restart of cloisterd would end it */
		cl_log(CL_WARNING, "runtime-record", "tenant=%s error=%s", t->id,
		       cl_kvs(cl_err_str(&err)));
		runtime_remove(t);
	}
}

/* ---- adoption ---------------------------------------------------------------------- */

static int fd_of(int pidfd, int fd)
{
	long r = syscall(SYS_pidfd_getfd, pidfd, fd, 0);

	return r < 0 ? -errno : (int)r;
}

static int config_memfd(const char *p, size_t n)
{
	CL_CLOSE int fd = memfd_create("config", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	int r = cl_write_full(fd, p, n);

	return r ? r : cl_take_fd(&fd);
}

static int socket_type(int fd)
{
	int type = -1;
	socklen_t n = sizeof type;

	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) < 0 ? -1 : type;
}

static int take_over(struct tenant *t, const struct runtime *r, struct cl_err *err)
{
	char name[16];

	(void)snprintf(name, sizeof name, "t%u", t->no);
	t->pidfd = proc_hold((pid_t)r->pid, r->ticks);
	if (t->pidfd < 0)
		return cl_fail(err, ESRCH, "its process is gone");
	if (cgroup_open(&t->d->cgroups, name, &t->cgroup, err))
		return -err->code;
	t->has_cgroup = true;
	if (cgroup_has(&t->cgroup, (pid_t)r->pid) != 1 || proc_signal(t->pidfd, 0))
		return cl_fail(err, EPERM, "the process is not in the tenant's group");
	t->control_fd = fd_of(t->pidfd, INIT_FD_CONTROL_PEER);
	t->listener_fd = fd_of(t->pidfd, INIT_FD_LISTENER);
	t->logs.pipe_fd = fd_of(t->pidfd, INIT_FD_LOG);
	if (t->control_fd < 0 || t->listener_fd < 0 || t->logs.pipe_fd < 0 ||
	    socket_type(t->control_fd) != SOCK_SEQPACKET ||
	    socket_type(t->listener_fd) != SOCK_STREAM)
		return cl_fail(err, EPERM, "init's descriptors are not what they were");
	/* what the record says holds, whatever was half done when cloisterd died */
	if (cgroup_freeze(&t->cgroup, r->frozen != 0))
		return cl_fail(err, EIO, "it cannot be %s", r->frozen ? "frozen" : "thawed");
	t->pid = (pid_t)r->pid;
	t->ticks = r->ticks;
	t->restarts = r->restarts;
	t->phase = PH_UP;
	struct cgroup_stats st;

	if (cgroup_stats(&t->cgroup, &st) == 0) {
		t->seen_oom = st.oom_kills;
		t->seen_pids = st.pids_hits;
	}
	return tenant_watch(t, err);
}

/* What could not be taken over ends; its directories stay as they are. */
static void give_up(struct tenant *t)
{
	if (t->has_cgroup)
		(void)cgroup_kill(&t->cgroup);
	if (t->pidfd >= 0)
		(void)proc_gone(t->pidfd, 2000);
	loop_io_del(&t->pid_io);
	loop_io_del(&t->control_io);
	if (t->logs.dirfd >= 0)
		logs_stop(&t->logs);
	else
		t->logs.pipe_fd = cl_close(t->logs.pipe_fd);
	t->pidfd = cl_close(t->pidfd);
	t->control_fd = cl_close(t->control_fd);
	t->listener_fd = cl_close(t->listener_fd);
	t->phase = PH_NONE;
	t->pid = 0;
	runtime_remove(t);
}

static int record_read(struct daemon *d, uint32_t no, struct buf *b, struct runtime *r,
		       struct cl_err *err)
{
	char name[16];

	file_name(no, name, sizeof name);
	if (cl_read_file(d->fd.run_tenants, name, b, err))
		return -err->code;
	if (b->n < sizeof *r)
		return cl_fail(err, EBADMSG, "record: short");
	memcpy(r, b->p, sizeof *r);
	if (r->magic != MAGIC || r->no != no || b->n != sizeof *r + (size_t)r->plan_n + r->config_n ||
	    r->pid > INT32_MAX || memchr(r->id, '\0', sizeof r->id) == NULL ||
	    !tenant_id_ok(span_str(r->id)) || r->uid != d->opt.uid_base + no)
		return cl_fail(err, EBADMSG, "record: not ours");
	if (memcmp(r->boot_id, d->boot_id, sizeof r->boot_id) != 0)
		return cl_fail(err, ESTALE, "record: of another boot");
	return 0;
}

/* A tenant's record: adopt what it describes, or start it again from the plan in it. */
static void adopt_one(struct daemon *d, uint32_t no)
{
	struct cl_err err = { 0 };
	struct runtime r;
	struct tenant *t;
	char name[16];
	CL_BUF struct buf b;
	int config_fd = -1;

	buf_init(&b, sizeof r + PLAN_BYTES_MAX + CONFIG_MAX);
	file_name(no, name, sizeof name);
	if (record_read(d, no, &b, &r, &err) || !(t = tenant_new(d, no, span_str(r.id), &err))) {
		cl_log(CL_WARNING, "adopt", "no=%u outcome=refused reason=%s", no,
		       cl_kvs(cl_err_str(&err)));
		(void)unlinkat(d->fd.run_tenants, name, 0);
		return;
	}
	if (r.config_n)
		config_fd = config_memfd(b.p + sizeof r + r.plan_n, r.config_n);
	if (sealed_set(&t->sealed, (struct span){ b.p + sizeof r, r.plan_n }, &config_fd, &err)) {
		(void)cl_close(config_fd);
		cl_log(CL_ERROR, "adopt", "tenant=%s outcome=refused reason=%s", t->id,
		       cl_kvs(cl_err_str(&err)));
		(void)unlinkat(d->fd.run_tenants, name, 0);
		tenant_forget(t);
		return;
	}
	if (take_over(t, &r, &err)) {
		give_up(t);
		cl_log(CL_WARNING, "adopt", "tenant=%s outcome=restart reason=%s", t->id,
		       cl_kvs(cl_err_str(&err)));
		(void)tenant_start(t, &err);	/* waits for the spawner */
		return;
	}
	t->frozen = r.frozen != 0;
	t->running_us = r.running ? cl_mono_us() : 0;
	tenant_adopted(t);
	cl_log(CL_INFO, "adopt", "tenant=%s pid=%d outcome=adopted", t->id, (int)t->pid);
}

/* groups of sandboxes that no record speaks of: half made when cloisterd died */
static int end_orphan(void *ctx, const char *name)
{
	struct daemon *d = ctx;
	struct cgroup cg;
	uint32_t no;

	if (name[0] == 't' && num_parse_u32(span_str(name + 1), TENANTS_MAX, &no) == 0 &&
	    tenant_get(d, no) && tenant_get(d, no)->phase != PH_NONE)
		return 0;
	if (cgroup_open(&d->cgroups, name, &cg, NULL) == 0) {
		(void)cgroup_kill(&cg);
		cgroup_done(&cg);
	}
	int r = cgroup_remove(&d->cgroups, name, 2000);

	cl_log(r ? CL_ERROR : CL_WARNING, "orphan-group", "name=%s outcome=%s", cl_kvs(name),
	       r ? "stays" : "removed");
	return 0;
}

void runtime_adopt(struct daemon *d)
{
	int fd = fcntl(d->fd.run_tenants, F_DUPFD_CLOEXEC, 3);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *e;
	uint32_t no;

	if (!dir) {
		(void)cl_close(fd);
		cl_log(CL_ERROR, "adopt", "error=\"records cannot be listed\"");
		return;
	}
	rewinddir(dir);
	while ((e = readdir(dir)))
		if (num_parse_u32(span_str(e->d_name), TENANTS_MAX, &no) == 0 && no >= 1)
			adopt_one(d, no);
	(void)closedir(dir);
	int r = cgroup_list(&d->cgroups, end_orphan, d);

	if (r)
		cl_log(CL_ERROR, "adopt", "error=%s", cl_kvs(strerror(r < 0 ? -r : r)));
}

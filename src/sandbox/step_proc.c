/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /proc of the sandbox's own pid namespace, read-only as a whole (so nothing
 * below /proc/sys can be written whatever its mode), other processes' entries only
 * for who may trace them, and what tells of the host masked: an empty file or
 * directory from our own tmpfs, never a source that a tenant could change.
 */
#include "sandbox/step.h"
#include "sandbox/sys.h"

#define PROC_ATTR (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)

static const struct { const char *name; bool dir; } masks[] = {
	{ "acpi", true }, { "asound", true }, { "bus", true }, { "driver", true },
	{ "dynamic_debug", true }, { "fs", true }, { "irq", true }, { "pressure", true },
	{ "scsi", true }, { "sys/fs/binfmt_misc", true }, { "tty", true },
	{ "cmdline", false }, { "config.gz", false }, { "crypto", false }, { "diskstats", false },
	{ "interrupts", false }, { "iomem", false }, { "ioports", false }, { "kallsyms", false },
	{ "kcore", false }, { "key-users", false }, { "keys", false }, { "kmsg", false },
	{ "latency_stats", false }, { "locks", false }, { "modules", false }, { "partitions", false },
	{ "sched_debug", false }, { "schedstat", false }, { "softirqs", false },
	{ "sysrq-trigger", false }, { "timer_list", false }, { "vmstat", false },
};

static int mask(struct step_ctx *c, int proc_fd, const char *name, bool dir)
{
	CL_CLOSE int at = sys_place(proc_fd, name, 0);
	int r;

	if (at == -ENOENT)
		return 0;	/* this kernel has no such file */
	if (at < 0)
		return at;
	CL_CLOSE int tree = sys_tree_clone(c->tmp_fd, dir ? "nothing" : "empty");

	r = tree < 0 ? tree : sys_move_mount(tree, at);
	return r;
}

int step_proc(struct step_ctx *c)
{
	CL_CLOSE int fs = sys_fsopen("proc");
	CL_CLOSE int at = sys_place(c->rootfs_fd, "proc", O_DIRECTORY);
	int r;

	if (fs < 0 || at < 0)
		return fs < 0 ? fs : at;
	r = sys_fsconfig_str(fs, "hidepid", "invisible");
	if (r == 0)
		r = sys_fsconfig_create(fs);
	if (r)
		return r;
	CL_CLOSE int mnt = sys_fsmount(fs, PROC_ATTR);

	if (mnt < 0)
		return mnt;
	r = sys_move_mount(mnt, at);
	for (size_t i = 0; i < CL_ARRAY_LEN(masks) && r == 0; i++)
		r = mask(c, mnt, masks[i].name, masks[i].dir);
	return r;
}

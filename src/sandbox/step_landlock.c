/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A second wall over paths and ports that does not depend on mounts or
 * capabilities. What an older kernel's ABI lacks is left out here, and said by
 * doctor: without ABI 4 no port rules, without ABI 6 no scopes.
 */
#include "sandbox/step.h"
#include "sandbox/sys.h"

#include <linux/landlock.h>

#define READ (SYS_LL_FS_READ_FILE | SYS_LL_FS_READ_DIR)
/* everything but making devices and sockets */
#define OWN (READ | SYS_LL_FS_EXECUTE | SYS_LL_FS_WRITE_FILE | SYS_LL_FS_REMOVE_DIR | \
	     SYS_LL_FS_REMOVE_FILE | SYS_LL_FS_MAKE_DIR | SYS_LL_FS_MAKE_REG | \
	     SYS_LL_FS_MAKE_FIFO | SYS_LL_FS_MAKE_SYM | SYS_LL_FS_REFER | SYS_LL_FS_TRUNCATE)

static const struct { const char *path; uint64_t access; } rules[] = {
	{ "/", READ | SYS_LL_FS_EXECUTE },
	{ "/workspace", OWN },
	{ "/tmp", OWN },
	{ "/dev/shm", OWN & ~SYS_LL_FS_EXECUTE },
	{ "/dev", READ | SYS_LL_FS_WRITE_FILE | SYS_LL_FS_IOCTL_DEV },
};

static uint64_t fs_known(int abi)
{
	uint64_t m = SYS_LL_FS_REFER - 1;	/* ABI 1 */

	if (abi >= 2)
		m |= SYS_LL_FS_REFER;
	if (abi >= 3)
		m |= SYS_LL_FS_TRUNCATE;
	if (abi >= 5)
		m |= SYS_LL_FS_IOCTL_DEV;
	return m;
}

static int add_path(int rs, const char *path, uint64_t access)
{
	CL_CLOSE int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct landlock_path_beneath_attr a = { .allowed_access = access, .parent_fd = fd };

	if (fd < 0)
		return -errno;
	return sys_ret(syscall(SYS_landlock_add_rule, rs, LANDLOCK_RULE_PATH_BENEATH, &a, 0));
}

static int add_port(int rs, uint16_t port, uint64_t access)
{
	struct sys_landlock_port a = { access, port };

	return sys_ret(syscall(SYS_landlock_add_rule, rs, SYS_LL_RULE_NET_PORT, &a, 0));
}

int step_landlock(struct step_ctx *c)
{
	int abi = sys_landlock_abi(), r = 0;

	if (abi < 1)
		return abi < 0 ? abi : -ENOSYS;

	struct sys_landlock_attr a = {
		.fs = fs_known(abi),
		.net = abi >= 4 ? SYS_LL_NET_BIND_TCP | SYS_LL_NET_CONNECT_TCP : 0,
		.scoped = abi >= 6 ? SYS_LL_SCOPE_ALL : 0,
	};
	size_t size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
	CL_CLOSE int rs = sys_ret(syscall(SYS_landlock_create_ruleset, &a, size, 0));

	if (rs < 0)
		return rs;
	for (size_t i = 0; i < CL_ARRAY_LEN(rules) && r == 0; i++)
		r = add_path(rs, rules[i].path, rules[i].access & a.fs);
	if (abi >= 4 && r == 0)
		r = add_port(rs, SANDBOX_PORT, SYS_LL_NET_CONNECT_TCP);
	for (uint32_t i = 0; abi >= 4 && i < c->plan->nports && r == 0; i++)
		r = add_port(rs, c->plan->ports[i], a.net);
	if (r == 0)
		r = sys_ret(syscall(SYS_landlock_restrict_self, rs, 0));
	return r;
}

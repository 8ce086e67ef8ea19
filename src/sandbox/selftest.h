/* SPDX-License-Identifier: Apache-2.0 */
/*
 * selftest - the walls seen from inside, at each start, before the agent runs (I9).
 * One bit a wall: held or failed; a bit that is neither was not tested.
 * Only libc: it is part of cloister-init; cloisterd uses the names.
 */
#ifndef CL_SANDBOX_SELFTEST_H
#define CL_SANDBOX_SELFTEST_H

#include <stddef.h>
#include <stdint.h>

/* SELFTEST_X(bit, layer of DESIGN.md, name) */
#define SELFTEST_ITEMS(X) \
	X(IDS, 1, "ids")			/* uid, gid 1000; one-entry map; no groups */ \
	X(CAPS, 1, "capabilities")		/* none in all five sets, securebits locked */ \
	X(NNP, 1, "no-new-privs") \
	X(SECCOMP, 1, "seccomp")		/* filter mode; forbidden calls refused */ \
	X(NAMESPACES, 1, "namespaces")		/* each differs from the host's */ \
	X(USERNS_LIMIT, 1, "user-namespace-limit") \
	X(PID1, 1, "pid-1")			/* we are pid 1, not dumpable, nobody else is here */ \
	X(FDS, 1, "descriptors")		/* no descriptor but the known ones */ \
	X(ROOT, 2, "root-readonly")		/* and nosuid, nodev; nothing of the host */ \
	X(WORKSPACE, 2, "workspace")		/* writable, nosuid, nodev */ \
	X(TMP, 2, "tmp")			/* own tmpfs, sized */ \
	X(PROC, 2, "proc")			/* read-only, own, masks in place */ \
	X(DEV, 2, "dev")			/* six nodes, nothing else */ \
	X(LANDLOCK, 2, "landlock") \
	X(LIMITS, 3, "limits")			/* rlimits read back */ \
	X(NETWORK, 4, "network")		/* lo only, no route */ \
	X(SOCKETS, 4, "sockets")		/* family, type, protocol rules hold */ \
	X(LISTENER, 4, "listener")		/* 127.0.0.1:8377 is the descriptor that was handed out */ \
	X(CONFIG, 7, "sealed-configuration")	/* there, read-only */

enum selftest_bit {
#define X(ID, layer, name) SELFTEST_##ID,
	SELFTEST_ITEMS(X)
#undef X
	SELFTEST_COUNT
};

#define SELFTEST_BIT(ID) (1ull << SELFTEST_##ID)
/* All but the sealed configuration, which a throw-away sandbox need not have. */
#define SELFTEST_REQUIRED (((1ull << SELFTEST_COUNT) - 1) & ~SELFTEST_BIT(CONFIG))

const char *selftest_name(unsigned bit);	/* "unknown" beyond the last */
unsigned selftest_layer(unsigned bit);		/* 1 to 7, 0 unknown */

/*
 * What init cannot know by itself: the SETUP message of the spawner. Numbers
 * only, so that it can be read as bytes.
 */
enum selftest_ns { SNS_MNT, SNS_PID, SNS_NET, SNS_IPC, SNS_UTS, SNS_CGROUP, SNS_USER, SNS_TIME, SNS_COUNT };
struct selftest_setup {
	uint64_t host_ns[SNS_COUNT];	/* inode numbers of the host's namespaces */
	uint64_t host_root_dev, host_root_ino;
	uint64_t listener_cookie;	/* SO_COOKIE of what was handed out */
	uint64_t nofile, pids, tmp_bytes;
	uint32_t uid_outside;
	uint32_t die_with_parent;
	char config_path[256];		/* empty: none */
};

struct selftest_result {
	uint64_t held, failed;		/* masks of 1 << enum selftest_bit */
	char text[4096];		/* "name: evidence\n" an item, NUL-terminated */
};

/* selftest_run - changes nothing that stays. Runs in: init. */
void selftest_run(const struct selftest_setup *s, struct selftest_result *out);

#endif

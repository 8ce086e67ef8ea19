/* SPDX-License-Identifier: Apache-2.0 */
/* Each test narrows a child and sees from inside what is left. */
#include "test.h"

#include "base/drop.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define USER 64732

/* @fn in a child; Return: its wait status */
static int in_child(int (*fn)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		(void)syscall(SYS_exit_group, fn());	/* a sanitizer's _exit makes more calls */
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static uid_t user(void)
{
	return geteuid() ? geteuid() : USER;
}

static gid_t group(void)
{
	return geteuid() ? getegid() : USER;
}

static int dropped(void)
{
	struct cl_err err;
	char line[4096] = "";

	if (drop_to_user(user(), group(), &err))
		return 1;
	if (getuid() != user() || setuid(0) == 0 || setgid(0) == 0)
		return 2;
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1 || prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
		return 3;
	int fd = open("/proc/thread-self/status", O_RDONLY);

	/* not dumpable: the kernel gives /proc/self to root; when it cannot be read, that is it */
	if (fd < 0)
		return 0;
	ssize_t n = read(fd, line, sizeof line - 1);

	if (n <= 0)
		return 4;
	line[n] = '\0';
	static const char *const want[] = { "CapInh:\t0000000000000000", "CapPrm:\t0000000000000000",
					    "CapEff:\t0000000000000000", "CapAmb:\t0000000000000000",
					    "NoNewPrivs:\t1" };

	for (size_t i = 0; i < CL_ARRAY_LEN(want); i++)
		if (!strstr(line, want[i]))
			return 5 + (int)i;
	return 0;
}

static void dropping_root_leaves_nothing_and_cannot_be_undone(void **state)
{
	(void)state;
	assert_int_equal(in_child(dropped), 0);
}

static int refused(void)
{
	return drop_to_user(0, USER, NULL) == -EINVAL && drop_to_user(USER, 0, NULL) == -EINVAL ? 0 : 1;
}

static void root_is_no_user_to_drop_to(void **state)
{
	(void)state;
	assert_int_equal(in_child(refused), 0);
}

static char scratch[64];

static int locked(void)
{
	int dir = open(scratch, O_RDONLY | O_DIRECTORY), fd;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || landlock_only(NULL, 0, &dir, 1, true, NULL, NULL))
		return 2;
	fd = openat(dir, "f", O_RDWR | O_CREAT, 0600);
	if (fd < 0 || write(fd, "x", 1) != 1 || unlinkat(dir, "f", 0) < 0)
		return 3;
	if (open("/etc/passwd", O_RDONLY) >= 0 || errno != EACCES)
		return 4;
	if (openat(dir, "../x", O_RDWR | O_CREAT, 0600) >= 0)
		return 5;
	struct sockaddr sa = { .sa_family = AF_INET, .sa_data = { 0, 0, 127, 0, 0, 1 } };
	int s = socket(AF_INET, SOCK_STREAM, 0);

	/* Landlock knows TCP since its fourth version */
	if (s < 0 || (syscall(SYS_landlock_create_ruleset, NULL, 0, 1) >= 4 &&
		      bind(s, &sa, sizeof sa) == 0))
		return 6;
	return 0;
}

static void landlock_leaves_the_given_directory_only(void **state)
{
	(void)state;
	(void)snprintf(scratch, sizeof scratch, "/tmp/cl-drop-XXXXXX");
	assert_non_null(mkdtemp(scratch));
	int status = in_child(locked);

	test_rm_tree(scratch);
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_true(WIFEXITED(status));
}

static const int few[] = { SYS_write, SYS_exit, SYS_exit_group, SYS_munmap, SYS_brk };

static int filtered(void)
{
	if (seccomp_only(few, CL_ARRAY_LEN(few), NULL))
		return 1;
	if (syscall(SYS_write, STDERR_FILENO, "", 0) != 0)
		return 2;
	/* by number: a sanitizer's mmap makes calls of its own */
	return syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == -1 ? 3 : 0;
}

static int calls_other(void)
{
	return seccomp_only(few, CL_ARRAY_LEN(few), NULL) ? 1 : (int)syscall(SYS_getppid) * 0;
}

static int maps_code(void)
{
	if (seccomp_only(few, CL_ARRAY_LEN(few), NULL))
		return 1;
	(void)syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return 0;
}

#if defined(__x86_64__)
static int calls_x32(void)
{
	if (seccomp_only(few, CL_ARRAY_LEN(few), NULL))
		return 1;
	(void)syscall(0x40000000 | SYS_write, STDERR_FILENO, "", 0);
	return 0;
}
#endif

static void seccomp_allows_the_list_and_kills_on_the_rest(void **state)
{
	(void)state;
	assert_int_equal(in_child(filtered), 0);
	int (*const killed[])(void) = { calls_other, maps_code,
#if defined(__x86_64__)
					calls_x32,
#endif
	};

	for (size_t i = 0; i < CL_ARRAY_LEN(killed); i++) {
		int status = in_child(killed[i]);

		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), SIGSYS);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dropping_root_leaves_nothing_and_cannot_be_undone),
		cmocka_unit_test(root_is_no_user_to_drop_to),
		cmocka_unit_test(landlock_leaves_the_given_directory_only),
		cmocka_unit_test(seccomp_allows_the_list_and_kills_on_the_rest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent of the life test: linked statically, the only file of its image.
 *   agent            says so, touches the broker's port again and again
 *   agent die        ends at once with code 3
 *   agent quiet      never touches the port
 *   agent echo WORD  prints the word; exit code 5 (for exec)
 *   agent write NAME writes a file of that name into the workspace
 *   agent has NAME   exit code 0 when that file is there, 1 when not
 *   agent state      as without a word, but ends with code 9 when .openclaw/bad is there
 *   agent eat        takes memory until it is stopped
 *   agent fork       starts processes until it may not
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static void on_term(int signo)
{
	(void)signo;
	_exit(0);
}

static void touch_port(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(8377),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd >= 0) {
		(void)connect(fd, (const struct sockaddr *)(const void *)&a, sizeof a);
		(void)close(fd);
	}
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	(void)signal(SIGTERM, on_term);
	if (strcmp(what, "echo") == 0) {
		(void)dprintf(1, "%s\n", argc > 2 ? argv[2] : "");
		return 5;
	}
	if (strcmp(what, "write") == 0 && argc > 2)
		return open(argv[2], O_WRONLY | O_CREAT, 0600) < 0;
	if (strcmp(what, "has") == 0 && argc > 2)
		return open(argv[2], O_RDONLY) < 0;
	if (strcmp(what, "eat") == 0)
		for (;;) {
			char *p = malloc(1 << 20);

			if (p)
				memset(p, 1, 1 << 20);
		}
	if (strcmp(what, "fork") == 0) {
		for (int i = 0; i < 4096; i++)
			if (fork() == 0) {
				(void)close_range(0, ~0u, 0);	/* the output is not theirs */
				for (;;)
					(void)pause();
			}
		return 0;
	}
	(void)dprintf(1, "agent started\n");
	if (strcmp(what, "die") == 0)
		return 3;
	if (strcmp(what, "state") == 0) {
		(void)mkdir(".openclaw", 0700);
		if (open(".openclaw/bad", O_RDONLY) >= 0)
			return 9;
	}
	for (;;) {
		if (strcmp(what, "quiet") != 0)
			touch_port();
		(void)usleep(200000);
	}
}

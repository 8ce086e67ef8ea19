/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network namespace belongs to the initial user namespace and holds lo and
 * nothing else. The broker's listener is made in it by root and handed out: a
 * socket stays in the namespace it was made in.
 */
#include "sandbox/netns.h"

#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static int lo_up(void)
{
	struct ifreq ifr = { .ifr_name = "lo" };
	CL_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &ifr) < 0)
		return -errno;
	ifr.ifr_flags |= IFF_UP;
	return ioctl(fd, SIOCSIFFLAGS, &ifr) < 0 ? -errno : 0;
}

static int make_listener(struct engine_net *n)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(SANDBOX_PORT),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof n->cookie;
	int on = 1;

	n->listener_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (n->listener_fd < 0 ||
	    setsockopt(n->listener_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
	    bind(n->listener_fd, (struct sockaddr *)&a, sizeof a) < 0 ||
	    listen(n->listener_fd, 256) < 0 ||
	    getsockopt(n->listener_fd, SOL_SOCKET, SO_COOKIE, &n->cookie, &len) < 0)
		return -errno;
	return 0;
}

void netns_done(struct engine_net *n)
{
	n->ns_fd = cl_close(n->ns_fd);
	n->listener_fd = cl_close(n->listener_fd);
}

int netns_make(int proc_fd, int host_fd, struct engine_net *out, struct cl_err *err)
{
	struct engine_net n = { -1, -1, 0 };
	int r;

	if (unshare(CLONE_NEWNET) < 0)
		return cl_fail(err, errno, "network namespace: unshare");
	r = lo_up();
	if (r == 0)
		r = make_listener(&n);
	if (r == 0) {
		n.ns_fd = openat(proc_fd, "self/ns/net", O_RDONLY | O_CLOEXEC);
		if (n.ns_fd < 0)
			r = -errno;
	}
	/* to go on inside a tenant's network would be worse than to end */
	if (setns(host_fd, CLONE_NEWNET) < 0)
		abort();
	if (r) {
		netns_done(&n);
		return cl_fail(err, -r, "network namespace: lo or listener");
	}
	*out = n;
	return 0;
}

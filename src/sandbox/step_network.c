/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network namespace holds lo and nothing else. The broker's listener is
 * made here, by root, and handed out: a socket stays in the namespace it was made in.
 */
#include "sandbox/step.h"

#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

int step_host_name(struct step_ctx *c)
{
	return sethostname(c->plan->hostname.p, c->plan->hostname.n) < 0 ? -errno : 0;
}

static int lo_up(void)
{
	struct ifreq ifr = { .ifr_name = "lo" };
	CL_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &ifr) < 0)
		return -errno;
	ifr.ifr_flags |= IFF_UP;
	return ioctl(fd, SIOCSIFFLAGS, &ifr) < 0 ? -errno : 0;
}

static int send_listener(struct step_ctx *c)
{
	struct step_report rep = { .cookie = c->listener_cookie };
	union {
		char b[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} ctl = { { 0 } };
	struct iovec iov = { &rep, sizeof rep };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl.b,
			     .msg_controllen = sizeof ctl.b };
	struct cmsghdr *cm = CMSG_FIRSTHDR(&mh);

	cm->cmsg_level = SOL_SOCKET;
	cm->cmsg_type = SCM_RIGHTS;
	cm->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cm), &c->listener_fd, sizeof(int));
	return sendmsg(c->report_fd, &mh, MSG_NOSIGNAL) == (ssize_t)sizeof rep ? 0 : -errno;
}

int step_network(struct step_ctx *c)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(SANDBOX_PORT),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof c->listener_cookie;
	int on = 1, r = lo_up();

	if (r)
		return r;
	c->listener_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->listener_fd < 0 ||
	    setsockopt(c->listener_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
	    bind(c->listener_fd, (struct sockaddr *)&a, sizeof a) < 0 ||
	    listen(c->listener_fd, 256) < 0 ||
	    getsockopt(c->listener_fd, SOL_SOCKET, SO_COOKIE, &c->listener_cookie, &n) < 0)
		return -errno;
	return send_listener(c);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http-load - both ends for the benchmarks of the broker, on epoll.
 *
 *	http-load upstream PORT KEY           answers 591 bytes; 401 without "Bearer KEY"
 *	http-load load PORT TOKEN CONNS MS    keep-alive POSTs of 1.3 KB; prints
 *	                                      "REQUESTS MS WRONG" and a latency in us a line
 */
#include "base/base.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNS_MAX 1024
#define BODY 900
#define ANSWER 591
#define SAMPLES 200000

struct conn { int fd; size_t n; int64_t sent_us; char in[16384]; };

static struct conn conns[CONNS_MAX];
static uint32_t samples[SAMPLES];
static int ep;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int tcp(uint16_t port, bool server)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one))
		die("socket");
	if (server ? bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 4096)
		   : connect(fd, (struct sockaddr *)&a, sizeof a))
		die(server ? "listen" : "connect");
	return fd;
}

static void watch(struct conn *c)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = c };
	int one = 1;

	(void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev))
		die("epoll");
}

/* length of the whole message at the front of @c, 0 = not there yet */
static size_t message(struct conn *c)
{
	c->in[c->n] = '\0';
	char *end = strstr(c->in, "\r\n\r\n"), *l = strcasestr(c->in, "\r\nContent-Length:");

	if (!end)
		return 0;
	size_t all = (size_t)(end + 4 - c->in) + (l && l < end ? strtoul(l + 17, NULL, 10) : 0);

	return c->n >= all ? all : 0;
}

static void upstream(uint16_t port, const char *key)
{
	static char ok[2048], bad[] = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
	char want[300], body[ANSWER + 1] = "{\"id\":\"chatcmpl-1\",\"usage\":{\"prompt_tokens\":200,\"completion_tokens\":9},\"pad\":\"";
	struct epoll_event ev[256], lev = { .events = EPOLLIN };
	int lfd = tcp(port, true);
	size_t next = 0, n = strlen(body);

	memset(body + n, 'x', ANSWER - n - 2);
	memcpy(body + ANSWER - 2, "\"}", 3);
	(void)snprintf(ok, sizeof ok, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		       ANSWER, body);
	(void)snprintf(want, sizeof want, "\r\nAuthorization: Bearer %s\r\n", key);
	if (epoll_ctl(ep, EPOLL_CTL_ADD, lfd, &lev))
		die("epoll");
	for (;;) {
		int k = epoll_wait(ep, ev, 256, -1);

		for (int i = 0; i < k; i++) {
			struct conn *c = ev[i].data.ptr;

			if (!c) {
				c = &conns[next++ % CONNS_MAX];
				if (c->fd > 0)
					(void)close(c->fd);
				*c = (struct conn){ .fd = accept4(lfd, NULL, NULL, SOCK_CLOEXEC) };
				if (c->fd >= 0)
					watch(c);
				continue;
			}
			ssize_t r = read(c->fd, c->in + c->n, sizeof c->in - 1 - c->n);

			if (r <= 0) {
				(void)close(c->fd);
				c->fd = 0;
				continue;
			}
			c->n += (size_t)r;
			for (size_t m; (m = message(c)) > 0;) {
				const char *out = strcasestr(c->in, want) ? ok : bad;

				if (write(c->fd, out, strlen(out)) < 0)
					break;
				memmove(c->in, c->in + m, c->n - m);
				c->n -= m;
			}
		}
	}
}

static void load(uint16_t port, const char *token, unsigned n, int ms)
{
	char request[4096], body[BODY + 1] = "{\"model\":\"m\",\"max_tokens\":16,\"messages\":[{\"role\":\"user\",\"content\":\"";
	struct epoll_event ev[256];
	unsigned long done = 0, wrong = 0;
	size_t k = strlen(body), nsamples = 0;

	for (size_t i = k; i < BODY - 4; i++)
		body[i] = (char)('a' + i % 26);
	memcpy(body + BODY - 4, "\"}]}", 5);
	int len = snprintf(request, sizeof request,
			   "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nAccept: application/json\r\n"
			   "Content-Type: application/json\r\nUser-Agent: bench/1\r\nX-Stainless-Lang: js\r\n"
			   "X-Stainless-Package-Version: 7.57.0\r\nX-Stainless-OS: Linux\r\nX-Stainless-Arch: x64\r\n"
			   "X-Stainless-Runtime: node\r\nX-Stainless-Runtime-Version: v24.0.0\r\nAccept-Language: *\r\n"
			   "Authorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s", port, token, BODY, body);
	int64_t start, end;

	for (unsigned i = 0; i < n; i++) {
		conns[i].fd = tcp(port, false);
		watch(&conns[i]);
	}
	start = cl_mono_us();
	end = start + (int64_t)ms * 1000;
	for (unsigned i = 0; i < n; i++) {
		conns[i].sent_us = start;
		if (write(conns[i].fd, request, (size_t)len) != len)
			die("write");
	}
	while (cl_mono_us() < end) {
		int m = epoll_wait(ep, ev, 256, 100);
		int64_t now = cl_mono_us();

		for (int i = 0; i < m; i++) {
			struct conn *c = ev[i].data.ptr;
			ssize_t r = read(c->fd, c->in + c->n, sizeof c->in - 1 - c->n);

			if (r <= 0)
				die("the proxy closed a connection");
			c->n += (size_t)r;
			if (!message(c))
				continue;
			wrong += strncmp(c->in, "HTTP/1.1 200", 12) != 0 || !strstr(c->in, "chatcmpl-1");
			done++;
			if (nsamples < SAMPLES)
				samples[nsamples++] = (uint32_t)(now - c->sent_us);
			c->n = 0;
			c->sent_us = now;
			if (write(c->fd, request, (size_t)len) != len)
				die("write");
		}
	}
	(void)printf("%lu %lld %lu\n", done, (long long)(cl_mono_us() - start) / 1000, wrong);
	for (size_t i = 0; i < nsamples; i++)
		(void)printf("%u\n", samples[i]);
}

int main(int argc, char **argv)
{
	uint32_t port, conns_n, ms;

	ep = epoll_create1(EPOLL_CLOEXEC);
	if (argc == 4 && strcmp(argv[1], "upstream") == 0 && num_parse_u32(span_str(argv[2]), 65535, &port) == 0)
		upstream((uint16_t)port, argv[3]);
	if (argc == 6 && strcmp(argv[1], "load") == 0 && num_parse_u32(span_str(argv[2]), 65535, &port) == 0 &&
	    num_parse_u32(span_str(argv[4]), CONNS_MAX, &conns_n) == 0 &&
	    num_parse_u32(span_str(argv[5]), 600000, &ms) == 0) {
		load((uint16_t)port, argv[3], conns_n, (int)ms);
		return 0;
	}
	(void)fprintf(stderr, "usage: http-load upstream PORT KEY | load PORT TOKEN CONNS MS\n");
	return 2;
}

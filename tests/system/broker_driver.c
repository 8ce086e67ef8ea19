/* SPDX-License-Identifier: Apache-2.0 */
/*
 * broker_driver BROKER STATE_DIR UID - runs a real cloister-broker alone, in the
 * place of cloisterd, api and ledger, for the tests and benchmarks of the broker.
 *
 * It makes two tenants' listeners (1 alice, 2 bob) on loopback, prints
 * "ready PORT_ALICE PORT_BOB PID", then takes lines on stdin:
 *	secret NAME VALUE	seal as the CLI does and put -> "422 {...}" or "200 {...}"
 *	METHOD JSON		a CALL of the api -> "STATUS JSON"
 * and prints "record KIND name=value ..." for each record and "event NAME JSON"
 * for each event. At the end of stdin the broker is ended and waited for.
 */
#include "base/base.h"
#include "record/record.h"
#include "wire/wire.h"

#include <arpa/inet.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct {
	struct loop *loop;
	struct chan control, api, ledger;
	struct loop_io in;
	struct buf line;
	uint64_t records;
	int listeners[2];
	pid_t pid;
	unsigned char pubkey[crypto_box_PUBLICKEYBYTES];
	bool have_key;
} d;

static void die(const char *what)
{
	(void)fprintf(stderr, "broker_driver: %s\n", what);
	exit(1);
}

static void on_result(void *ctx, uint32_t type, const union wire_any *msg, int *fds, size_t nfds)
{
	(void)ctx;
	(void)fds;
	(void)nfds;
	if (type != MSG_RESULT) {
		(void)printf("0 {}\n");
	} else {
		(void)printf("%u %.*s\n", msg->result.status, SPAN_FMT(msg->result.body));
	}
	(void)fflush(stdout);
}

static void call(const char *method, struct span body)
{
	struct msg_call m = { .method = span_str(method), .body = body };

	if (chan_call(&d.api, MSG_CALL, &m, NULL, 0, on_result, NULL))
		die("call");
}

static void put_secret(struct span name, struct span value)
{
	unsigned char *box = malloc(value.n + crypto_box_SEALBYTES);
	size_t size = sodium_base64_encoded_len(value.n + crypto_box_SEALBYTES, sodium_base64_VARIANT_ORIGINAL);
	char *text = malloc(size);
	CL_BUF struct buf j;

	buf_init(&j, 65536);
	if (!box || !text || !d.have_key ||
	    crypto_box_seal(box, (const unsigned char *)value.p, value.n, d.pubkey))
		die("seal");
	(void)sodium_bin2base64(text, size, box, value.n + crypto_box_SEALBYTES, sodium_base64_VARIANT_ORIGINAL);
	buf_printf(&j, "{\"name\":\"%.*s\",\"sealed\":\"%s\"}", SPAN_FMT(name), text);
	call("secret.put", buf_span(&j));
	free(box);
	free(text);
}

static void on_line(struct span line)
{
	struct span word;
	char method[65];

	if (!span_cut(&line, ' ', &word) || span_copy(word, method, sizeof method))
		die("bad line");
	if (strcmp(method, "secret") == 0) {
		if (!span_cut(&line, ' ', &word))
			die("bad secret line");
		put_secret(word, line);
		return;
	}
	call(method, line);
}

static void on_stdin(struct loop_io *io, uint32_t events)
{
	char tmp[65536];
	ssize_t n = read(io->fd, tmp, sizeof tmp);

	(void)events;
	if (n <= 0) {
		if (n < 0 && errno == EAGAIN)
			return;
		loop_stop(d.loop);
		return;
	}
	if (buf_add(&d.line, tmp, (size_t)n))
		die("line too long");
	for (;;) {
		struct span all = buf_span(&d.line), one;

		if (!span_cut(&all, '\n', &one))
			return;
		on_line(one);
		buf_consume(&d.line, one.n + 1);
	}
}

static int on_event(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds)
{
	(void)c;
	(void)seq;
	(void)fds;
	(void)nfds;
	(void)printf("event %.*s %.*s\n", SPAN_FMT(msg->event.name), SPAN_FMT(msg->event.body));
	(void)fflush(stdout);
	return 0;
}

static int on_record(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds)
{
	const struct record_kind_info *k = record_kind_info(msg->record.kind);
	struct msg_recorded done = { .number = ++d.records };
	struct span body = msg->record.body;
	struct record_value v;
	struct cl_err err = { 0 };

	(void)fds;
	(void)nfds;
	if (!k || record_check(msg->record.kind, body, false, &err)) {
		(void)printf("record BAD %s\n", err.text);
		done.code = EBADMSG;
	}
	(void)printf("record %s tenant=%.*s", k ? k->name : "?", SPAN_FMT(msg->record.tenant));
	while (record_next(&body, &v) == 1) {
		if (v.info->type == RT_NUM)
			(void)printf(" %s=%llu", v.info->name, (unsigned long long)v.num);
		else if (v.info->type != RT_BYTES)
			(void)printf(" %s=\"%.*s\"", v.info->name, SPAN_FMT(v.bytes));
	}
	(void)printf("\n");
	(void)fflush(stdout);
	return seq ? chan_send(c, MSG_RECORDED, seq, &done, NULL, 0) : 0;
}

static void on_closed(struct chan *c)
{
	(void)printf("closed %s\n", wire_role_name(c->peer));
	(void)fflush(stdout);
	loop_stop(d.loop);
}

static const struct chan_rule api_rules[] = { { MSG_EVENT, CHAN_ANY, 0, on_event } };
static const struct chan_rule ledger_rules[] = { { MSG_RECORD, CHAN_ANY, 0, on_record } };

static void link_to(struct chan *c, enum wire_role role, const struct chan_rule *rules, size_t n)
{
	int pair[2];
	struct msg_link m = { .role = role };

	if (chan_pair(pair) || chan_init(c, d.loop, pair[0], ROLE_BROKER, rules, n, on_closed, NULL) ||
	    chan_send(&d.control, MSG_LINK, 0, &m, &pair[1], 1))
		die("link");
	(void)close(pair[1]);
}

static void on_pubkey(void *ctx, uint32_t type, const union wire_any *msg, int *fds, size_t nfds)
{
	static const char *const ids[] = { "alice", "bob" };
	int ports[2];

	(void)ctx;
	(void)fds;
	(void)nfds;
	if (type != MSG_RESULT || msg->result.status != 200 || msg->result.body.n < 20 ||
	    sodium_base642bin(d.pubkey, sizeof d.pubkey, msg->result.body.p + 11, 44, NULL, NULL, NULL,
			      sodium_base64_VARIANT_ORIGINAL))
		die("pubkey");
	d.have_key = true;
	for (int i = 0; i < 2; i++) {
		struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
		socklen_t n = sizeof a;
		struct msg_tenant_listen m = { .no = (uint32_t)i + 1, .id = span_str(ids[i]) };
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (fd < 0 || bind(fd, (struct sockaddr *)&a, n) || listen(fd, 1024) ||
		    getsockname(fd, (struct sockaddr *)&a, &n) ||
		    chan_send(&d.control, MSG_TENANT_LISTEN, 0, &m, &fd, 1))
			die("listen");
		ports[i] = ntohs(a.sin_port);
		(void)close(fd);
	}
	(void)printf("ready %d %d %d\n", ports[0], ports[1], (int)d.pid);
	(void)fflush(stdout);
	if (loop_io_add(d.loop, &d.in, 0, EPOLLIN, on_stdin, NULL))
		die("stdin");
}

static int on_ready(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds)
{
	struct msg_call m = { .method = SPAN("pubkey"), .body = SPAN("{}") };

	(void)c;
	(void)seq;
	(void)msg;
	(void)fds;
	(void)nfds;
	link_to(&d.ledger, ROLE_LEDGER, ledger_rules, CL_ARRAY_LEN(ledger_rules));
	link_to(&d.api, ROLE_API, api_rules, CL_ARRAY_LEN(api_rules));
	if (chan_call(&d.api, MSG_CALL, &m, NULL, 0, on_pubkey, NULL))
		die("pubkey");
	return 0;
}

static int on_tenant(struct chan *c, uint32_t seq, const union wire_any *msg, int *fds, size_t nfds)
{
	(void)c;
	(void)seq;
	(void)fds;
	(void)nfds;
	(void)printf("tenant-ready %u\n", msg->tenant_ready.no);
	(void)fflush(stdout);
	return 0;
}

static const struct chan_rule control_rules[] = {
	{ MSG_READY, CHAN_ANY, 0, on_ready },
	{ MSG_TENANT_READY, CHAN_ANY, 0, on_tenant },
	{ MSG_TENANT_WAKE, CHAN_ANY, 0, on_tenant },
};

static void start(const char *broker, const char *dir, const char *uid)
{
	int pair[2], dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir_fd < 0 || chan_pair(pair))
		die("state directory");
	d.pid = fork();
	if (d.pid < 0)
		die("fork");
	if (d.pid == 0) {
		int chan_fd = fcntl(pair[1], F_DUPFD, 100), state_fd = fcntl(dir_fd, F_DUPFD, 100);

		if (dup2(chan_fd, 3) < 0 || dup2(state_fd, 4) < 0 || fchdir(4) < 0)
			_exit(126);
		if (close_range(5, ~0u, 0) < 0)	/* and nothing else */
			_exit(126);
		(void)execl(broker, "cloister-broker", "--uid", uid, "--gid", uid, (char *)NULL);
		_exit(127);
	}
	(void)close(pair[1]);
	(void)close(dir_fd);
	if (chan_init(&d.control, d.loop, pair[0], ROLE_BROKER, control_rules, CL_ARRAY_LEN(control_rules),
		      on_closed, NULL))
		die("channel");
}

int main(int argc, char **argv)
{
	int status = 0;

	if (argc != 4)
		die("usage: broker_driver BROKER STATE_DIR UID");
	if (sodium_init() < 0 || loop_new(&d.loop, NULL))
		die("start");
	buf_init(&d.line, 1u << 20);
	start(argv[1], argv[2], argv[3]);
	if (loop_run(d.loop))
		die("loop");
	chan_done(&d.control);	/* cloisterd is gone: the broker finishes and exits */
	if (waitpid(d.pid, &status, 0) < 0)
		die("wait");
	if (WIFEXITED(status))
		(void)printf("exit %d\n", WEXITSTATUS(status));
	else
		(void)printf("signal %d\n", WTERMSIG(status));
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : 1;
}

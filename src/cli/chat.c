/* SPDX-License-Identifier: Apache-2.0 */
/* chat - talk to an agent as its owner, a line a message; also piped and one-shot. */
#include "cli/cli.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TIMEOUT_PRESET_S 180u
#define TEXT_MAX (64u * 1024)
#define POLL_MS 300

/* the conversation after message @after; prints what the agent said */
struct look {
	int64_t last;		/* highest message seen */
	unsigned answers;	/* of the agent, since it was set to 0 */
	bool typing;
	json_t *list;		/* with --json: collects them */
};

static int look(struct cli *c, struct look *l, bool print)
{
	json_t *a = NULL;
	const json_t *m;
	size_t i;
	int r = client_do(c, "GET", client_path("/v1/tenants/%s/chat?after=%lld&limit=200", c->arg[0],
						(long long)l->last), NULL, &a);

	if (r)
		return r;
	json_array_foreach(json_object_get(a, "messages"), i, m) {
		int64_t id = json_integer_value(json_object_get(m, "id"));
		const char *from = json_string_value(json_object_get(m, "from"));
		const char *text = json_string_value(json_object_get(m, "text"));

		if (id > l->last)
			l->last = id;
		if (!from || strcmp(from, "agent") != 0 || json_is_true(json_object_get(m, "deleted")))
			continue;
		/* a notice is Cloister's own word ("waking up"), not the answer */
		if (!json_is_true(json_object_get(m, "notice")))
			l->answers++;
		if (print && l->list)
			(void)json_array_append(l->list, (json_t *)(uintptr_t)m);
		else if (print) {
			cli_put(text ? text : "");
			putchar('\n');
			(void)fflush(stdout);	/* who talks wants to see it now */
		}
	}
	l->typing = json_is_true(json_object_get(a, "typing"));
	json_decref(a);
	return EXIT_OK;
}

/* the end of the conversation, without showing it */
static int to_end(struct cli *c, struct look *l)
{
	json_t *a = NULL;
	const json_t *m;
	size_t i;
	int r = client_do(c, "GET", client_path("/v1/tenants/%s/chat?limit=1", c->arg[0]), NULL, &a);

	if (r)
		return r;
	json_array_foreach(json_object_get(a, "messages"), i, m)
		l->last = json_integer_value(json_object_get(m, "id"));
	json_decref(a);
	return EXIT_OK;
}

static int say(struct cli *c, struct span text)
{
	unsigned char raw[16];
	char client_id[33];
	json_t *body;
	int r;

	if (text.n > TEXT_MAX)
		return cli_fail(EXIT_FAILED, "the message is longer than %u bytes: send it in parts, or as a file", TEXT_MAX);
	if (!utf8_ok(text))
		return cli_fail(EXIT_FAILED, "the message is not UTF-8 text");
	cl_random(raw, sizeof raw);
	cl_hex(raw, sizeof raw, client_id);
	body = json_pack("{s:o, s:s}", "text", json_stringn(text.p, text.n), "client_id", client_id);
	r = client_do(c, "POST", client_path("/v1/tenants/%s/chat", c->arg[0]), body, NULL);
	json_decref(body);
	return r;
}

/* until the agent has answered and is not typing any more */
static int await_answer(struct cli *c, struct look *l, uint32_t timeout_s)
{
	int64_t end = cl_mono_us() + (int64_t)timeout_s * 1000000;
	const struct timespec nap = { 0, POLL_MS * 1000000L };
	unsigned calm = 0;

	l->answers = 0;
	for (;;) {
		int r = look(c, l, true);

		if (r)
			return r;
		/* one look more after an answer: a second part may follow at once */
		if (l->answers && !l->typing && ++calm >= 2)
			return EXIT_OK;
		if (cl_mono_us() > end)
			return l->answers ? EXIT_OK : cli_fail(EXIT_TIMEOUT,
				"no answer within %u s; the message is kept: cloister tenant show %s", timeout_s, c->arg[0]);
		(void)nanosleep(&nap, NULL);	/* cut short is fine */
	}
}

static int one_shot(struct cli *c, struct span text, uint32_t timeout_s)
{
	struct look l = { .list = c->json ? json_array() : NULL };
	int r = to_end(c, &l);

	if (r == EXIT_OK)
		r = say(c, text);
	if (r == EXIT_OK)
		r = await_answer(c, &l, timeout_s);
	if (r == EXIT_OK && c->json)
		(void)client_print_json(c, l.list);
	json_decref(l.list);
	return r;
}

/* a person at a terminal: answers appear as they come */
static int talk(struct cli *c)
{
	struct look l = { 0 };
	char *line = NULL;
	size_t cap = 0;
	int r = to_end(c, &l);

	if (r)
		return r;
	fprintf(stderr, "talking to %s; a line is a message; Ctrl-D ends\n", c->arg[0]);
	for (;;) {
		struct pollfd p = { .fd = 0, .events = POLLIN };

		if (poll(&p, 1, POLL_MS) > 0) {
			ssize_t n = getline(&line, &cap, stdin);

			if (n < 0)
				break;
			while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
				n--;
			if (n > 0)
				r = say(c, (struct span){ line, (size_t)n });
			if (r && r != EXIT_FAILED)
				break;
		}
		r = look(c, &l, true);
		if (r)
			break;
	}
	free(line);
	return r;
}

/* each line of a pipe is a message; its answer is waited for */
static int piped(struct cli *c, uint32_t timeout_s)
{
	struct look l = { 0 };
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;
	int r = to_end(c, &l);

	while (r == EXIT_OK && (n = getline(&line, &cap, stdin)) >= 0) {
		while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
			n--;
		if (n == 0)
			continue;
		r = say(c, (struct span){ line, (size_t)n });
		if (r == EXIT_OK)
			r = await_answer(c, &l, timeout_s);
	}
	free(line);
	return r;
}

int cmd_chat(struct cli *c)
{
	CL_BUF struct buf text;
	const char *m = cli_opt(c, "message");
	uint32_t timeout_s;

	if (!tenant_id_ok(span_str(c->arg[0])))
		return cli_fail(EXIT_USAGE, "'%s' is not a tenant id", c->arg[0]);
	if (cli_opt_u32(c, "timeout", 86400, TIMEOUT_PRESET_S, &timeout_s))
		return EXIT_USAGE;
	buf_init(&text, 4u << 20);
	if (m && strcmp(m, "-") == 0)
		return cli_fail(EXIT_USAGE, "-m needs the message; without -m the lines of the input are messages");
	if (m)
		(void)buf_add_str(&text, m);	/* argv is bounded by the system */
	for (unsigned i = 1; i < c->nargs; i++) {
		if (text.n)
			(void)buf_add_ch(&text, ' ');
		(void)buf_add_str(&text, c->arg[i]);
	}
	if (text.failed)
		return cli_fail(EXIT_FAILED, "the message is too long");
	if (m || c->nargs > 1)
		return one_shot(c, buf_span(&text), timeout_s);
	return isatty(0) ? talk(c) : piped(c, timeout_s);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* status, tenant ... */
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WAIT_PRESET_S 180u
#define POLICY_MAX (256u * 1024)

static const char *text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static int id_ok(const char *id)
{
	if (tenant_id_ok(span_str(id)))
		return 0;
	return cli_fail(EXIT_USAGE, "'%s' is not a tenant id: a-z, 0-9 and -, at most 40, no - at either end", id);
}

static bool sure(struct cli *c, const char *question)
{
	char line[16];

	if (cli_opt(c, "yes"))
		return true;
	if (!isatty(0)) {
		(void)cli_fail(0, "%s Say --yes.", question);
		return false;
	}
	fprintf(stderr, "%s [y/N] ", question);
	return fgets(line, sizeof line, stdin) && (line[0] == 'y' || line[0] == 'Y');
}

static void when(int64_t us, char *buf, size_t n)
{
	if (us <= 0)
		(void)snprintf(buf, n, "-");
	else {
		cl_time_rfc3339(us, buf, n);
		buf[19] = '\0';	/* whole seconds, UTC */
	}
}

static void print_row(const json_t *t)
{
	char since[40];

	when(json_integer_value(json_object_get(t, "since_us")), since, sizeof since);
	printf("%-4lld %-24s %-10s %-20s ", (long long)json_integer_value(json_object_get(t, "no")),
	       text(t, "id"), text(t, "state"), since);
	cli_put(text(t, "reason"));
	putchar('\n');
}

static void print_table(const json_t *list)
{
	const json_t *t;
	size_t i;

	if (json_array_size(list) == 0) {
		printf("no tenants; make one with: cloister tenant create alice\n");
		return;
	}
	printf("%-4s %-24s %-10s %-20s %s\n", "NO", "ID", "STATE", "SINCE (UTC)", "");
	json_array_foreach(list, i, t)
		print_row(t);
}

int cmd_status(struct cli *c)
{
	json_t *a = NULL;
	const json_t *p;
	int r = client_do(c, "GET", "/v1/status", NULL, &a);

	if (r)
		return r;
	if (!client_print_json(c, a)) {
		printf("cloister %s", text(a, "version"));
		p = json_object_get(a, "listen");
		if (p)
			printf(", page http://%s/", json_string_value(p));
		printf("\nbroker %s, ledger %s\n", text(a, "broker"), text(a, "ledger"));
		print_table(json_object_get(a, "tenants"));
	}
	json_decref(a);
	return EXIT_OK;
}

int cmd_tenant_list(struct cli *c)
{
	json_t *a = NULL;
	int r = client_do(c, "GET", "/v1/tenants", NULL, &a);

	if (r)
		return r;
	if (c->json)
		(void)client_print_json(c, json_object_get(a, "tenants"));
	else
		print_table(json_object_get(a, "tenants"));
	json_decref(a);
	return EXIT_OK;
}

int cmd_tenant_show(struct cli *c)
{
	json_t *a = NULL;
	char since[40], made[40];
	int r = id_ok(c->arg[0]);

	if (r == 0)
		r = client_do(c, "GET", client_path("/v1/tenants/%s", c->arg[0]), NULL, &a);
	if (r)
		return r;
	if (!client_print_json(c, a)) {
		const json_t *e = json_object_get(a, "policy"), *m = json_object_get(e, "model");

		when(json_integer_value(json_object_get(a, "since_us")), since, sizeof since);
		when(json_integer_value(json_object_get(a, "created_us")), made, sizeof made);
		printf("id       %s (number %lld, generation %lld)\n", text(a, "id"),
		       (long long)json_integer_value(json_object_get(a, "no")),
		       (long long)json_integer_value(json_object_get(a, "generation")));
		printf("state    %s since %s", text(a, "state"), since);
		if (*text(a, "reason")) {
			printf(": ");
			cli_put(text(a, "reason"));
		}
		printf("\ncreated  %s\nclass    %s\nagent    %s\nmodel    %s on route %s\n", made, text(e, "class"),
		       text(e, "agent"), text(m, "id"), text(m, "route"));
	}
	json_decref(a);
	return EXIT_OK;
}

static int read_whole(const char *name, struct buf *out)
{
	FILE *f = strcmp(name, "-") == 0 ? stdin : fopen(name, "re");
	int r = 0;

	if (!f)
		return cli_fail(EXIT_FAILED, "'%s': %s", name, strerror(errno));
	for (;;) {
		char piece[8192];
		size_t n = fread(piece, 1, sizeof piece, f);

		if (n && buf_add(out, piece, n)) {
			r = cli_fail(EXIT_FAILED, "'%s': larger than %zu bytes", name, out->max);
			break;
		}
		if (n < sizeof piece) {
			if (ferror(f))
				r = cli_fail(EXIT_FAILED, "'%s': cannot be read", name);
			break;
		}
	}
	if (f != stdin)
		(void)fclose(f);
	if (r == 0 && !utf8_ok(buf_span(out)))
		r = cli_fail(EXIT_FAILED, "'%s': is not UTF-8 text", name);
	return r;
}

int cmd_tenant_create(struct cli *c)
{
	CL_BUF struct buf policy;
	const char *file = cli_opt(c, "policy"), *class = cli_opt(c, "class");
	json_t *body, *a = NULL;
	int r = id_ok(c->arg[0]);

	buf_init(&policy, POLICY_MAX);
	if (r == 0 && file)
		r = read_whole(file, &policy);
	if (r)
		return r;
	body = json_pack("{s:s, s:b}", "id", c->arg[0], "start", cli_opt(c, "start") != NULL);
	if (file)
		(void)json_object_set_new(body, "policy", json_stringn(policy.n ? policy.p : "", policy.n));
	if (class)
		(void)json_object_set_new(body, "class", json_string(class));
	r = client_do(c, "POST", "/v1/tenants", body, &a);
	json_decref(body);
	if (r == EXIT_OK && !client_print_json(c, a))
		printf("tenant '%s' is made (number %lld)\n", text(a, "id"),
		       (long long)json_integer_value(json_object_get(a, "no")));
	json_decref(a);
	return r;
}

/* until @id runs; EXIT_OK, EXIT_FAILED told, EXIT_TIMEOUT told */
static int wait_running(struct cli *c, const char *id, uint32_t seconds)
{
	int64_t end = cl_mono_us() + (int64_t)seconds * 1000000;

	for (;;) {
		const struct timespec nap = { 0, 250000000 };
		json_t *a = NULL;
		int r = client_do(c, "GET", client_path("/v1/tenants/%s", id), NULL, &a);

		if (r)
			return r;
		if (strcmp(text(a, "state"), "running") == 0) {
			json_decref(a);
			return EXIT_OK;
		}
		if (strcmp(text(a, "state"), "failed") == 0) {
			r = cli_fail(EXIT_FAILED, "tenant '%s' failed: %s; see: cloister logs %s", id, text(a, "reason"), id);
			json_decref(a);
			return r;
		}
		if (cl_mono_us() > end) {
			r = cli_fail(EXIT_TIMEOUT, "tenant '%s' is %s after %u s", id, text(a, "state"), seconds);
			json_decref(a);
			return r;
		}
		json_decref(a);
		(void)nanosleep(&nap, NULL);	/* cut short is fine */
	}
}

static int act_one(struct cli *c, const char *id, const char *verb)
{
	const char *wait = cli_opt(c, "wait");
	bool starts = strcmp(verb, "start") == 0 || strcmp(verb, "restart") == 0 || strcmp(verb, "wake") == 0;
	uint32_t seconds;
	json_t *a = NULL;
	int r = id_ok(id);

	if (r == 0 && cli_opt_u32(c, "wait", 86400, WAIT_PRESET_S, &seconds))
		r = EXIT_USAGE;
	if (r == 0)
		r = client_do(c, "POST", client_path("/v1/tenants/%s/%s", id, verb), NULL, &a);
	if (r == EXIT_OK && wait && starts)
		r = wait_running(c, id, seconds);
	if (r == EXIT_OK && wait && starts) {
		json_decref(a);
		r = client_do(c, "GET", client_path("/v1/tenants/%s", id), NULL, &a);
	}
	if (r == EXIT_OK && !client_print_json(c, a))
		printf("tenant '%s': %s\n", id, text(a, "state"));
	json_decref(a);
	return r;
}

int cmd_tenant_act(struct cli *c)
{
	const char *verb = strchr(c->command->words, ' ') + 1;
	json_t *list = NULL;
	const json_t *t;
	size_t i;
	int r, worst = EXIT_OK;

	if (c->nargs == 1)
		return act_one(c, c->arg[0], verb);
	if (!cli_opt(c, "all"))
		return cli_fail(EXIT_USAGE, "usage: cloister %s ID, or --all", c->command->words);
	r = client_do(c, "GET", "/v1/tenants", NULL, &list);
	if (r)
		return r;
	json_array_foreach(json_object_get(list, "tenants"), i, t) {
		r = act_one(c, text(t, "id"), verb);
		if (r)
			worst = r;
	}
	json_decref(list);
	return worst;
}

int cmd_tenant_reset(struct cli *c)
{
	const char *level = cli_opt(c, "level");
	json_t *body, *a = NULL;
	int r = id_ok(c->arg[0]);

	if (r)
		return r;
	if (!level)
		level = "state";
	if (strcmp(level, "agent") != 0 && strcmp(level, "state") != 0 && strcmp(level, "workspace") != 0)
		return cli_fail(EXIT_USAGE, "--level must be agent, state or workspace");
	if (!sure(c, "A reset takes what the agent keeps; a snapshot of before is made. Go on?"))
		return EXIT_FAILED;
	body = json_pack("{s:s}", "level", level);
	r = client_do(c, "POST", client_path("/v1/tenants/%s/reset", c->arg[0]), body, &a);
	json_decref(body);
	if (r == EXIT_OK && !client_print_json(c, a))
		printf("tenant '%s' is reset; before is kept as snapshot '%s'\n", c->arg[0], text(a, "snapshot"));
	json_decref(a);
	return r;
}

int cmd_tenant_snapshot(struct cli *c)
{
	json_t *body, *a = NULL;
	int r = id_ok(c->arg[0]);

	if (r)
		return r;
	if (c->nargs > 1 && !name_ok(span_str(c->arg[1])))
		return cli_fail(EXIT_USAGE, "'%s' is not a name: a-z, 0-9, - and _", c->arg[1]);
	body = json_object();
	if (c->nargs > 1)
		(void)json_object_set_new(body, "name", json_string(c->arg[1]));
	r = client_do(c, "POST", client_path("/v1/tenants/%s/snapshots", c->arg[0]), body, &a);
	json_decref(body);
	if (r == EXIT_OK && !client_print_json(c, a))
		printf("snapshot '%s'\n", text(a, "name"));
	json_decref(a);
	return r;
}

int cmd_tenant_snapshots(struct cli *c)
{
	json_t *a = NULL;
	const json_t *s;
	size_t i;
	int r = id_ok(c->arg[0]);

	if (r == 0)
		r = client_do(c, "GET", client_path("/v1/tenants/%s/snapshots", c->arg[0]), NULL, &a);
	if (r == EXIT_OK && !client_print_json(c, a))
		json_array_foreach(json_object_get(a, "snapshots"), i, s) {
			cli_put(text(s, "line"));
			putchar('\n');
		}
	json_decref(a);
	return r;
}

int cmd_tenant_restore(struct cli *c)
{
	json_t *a = NULL;
	int r = id_ok(c->arg[0]);

	if (r)
		return r;
	if (!name_ok(span_str(c->arg[1])))
		return cli_fail(EXIT_USAGE, "'%s' is not a name: a-z, 0-9, - and _", c->arg[1]);
	if (!sure(c, "The workspace of now is replaced. Go on?"))
		return EXIT_FAILED;
	r = client_do(c, "POST", client_path("/v1/tenants/%s/snapshots/%s/restore", c->arg[0], c->arg[1]),
		      NULL, &a);
	if (r == EXIT_OK && !client_print_json(c, a))
		printf("tenant '%s' is back at '%s'\n", c->arg[0], c->arg[1]);
	json_decref(a);
	return r;
}

int cmd_tenant_rm(struct cli *c)
{
	json_t *a = NULL;
	int r = id_ok(c->arg[0]);

	if (r)
		return r;
	if (!sure(c, "Conversation, workspace, snapshots and logs are erased. Go on?"))
		return EXIT_FAILED;
	r = client_do(c, "DELETE", client_path("/v1/tenants/%s", c->arg[0]), NULL, &a);
	if (r == EXIT_OK && !client_print_json(c, a))
		printf("tenant '%s' is removed\n", c->arg[0]);
	json_decref(a);
	return r;
}

/* ---- policy ------------------------------------------------------------------------- */

int cmd_policy_get(struct cli *c)
{
	json_t *a = NULL;
	int r = id_ok(c->arg[0]);

	if (r == 0)
		r = client_do(c, "GET", client_path("/v1/tenants/%s/policy", c->arg[0]), NULL, &a);
	if (r == EXIT_OK && !client_print_json(c, a)) {
		CL_FREE char *e = json_dumps(json_object_get(a, "effective"), JSON_INDENT(2));
		const char *yaml = json_string_value(json_object_get(a, "yaml"));

		printf("# what the operator wrote (%s)\n", text(a, "source"));
		cli_put(yaml && *yaml ? yaml : "# nothing: the class's defaults hold\n");
		printf("# what follows from it\n");
		cli_put(e ? e : "");
		putchar('\n');
	}
	json_decref(a);
	return r;
}

int cmd_policy_set(struct cli *c)
{
	CL_BUF struct buf policy;
	json_t *body, *a = NULL;
	int r = id_ok(c->arg[0]);

	buf_init(&policy, POLICY_MAX);
	if (r == 0)
		r = read_whole(c->arg[1], &policy);
	if (r)
		return r;
	body = json_pack("{s:o, s:s}", "yaml", json_stringn(policy.n ? policy.p : "", policy.n), "file",
			 strcmp(c->arg[1], "-") == 0 ? "stdin" : c->arg[1]);
	r = client_do(c, "PUT", client_path("/v1/tenants/%s/policy", c->arg[0]), body, &a);
	json_decref(body);
	if (r == EXIT_OK && !client_print_json(c, a))
		printf("policy of '%s' is set; limits and the agent's own configuration follow at its next start\n",
		       c->arg[0]);
	json_decref(a);
	return r;
}

int cmd_policy_explain(struct cli *c)
{
	const char *text_body = cli_opt(c, "body");
	json_t *body, *a = NULL;
	int r = id_ok(c->arg[0]);

	if (r)
		return r;
	body = json_pack("{s:s, s:s, s:s}", "method", c->arg[1], "path", c->arg[2], "body",
			 text_body ? text_body : "");
	if (!body)
		return cli_fail(EXIT_USAGE, "method, path and body must be UTF-8 text");
	r = client_do(c, "POST", client_path("/v1/tenants/%s/policy/explain", c->arg[0]), body, &a);
	json_decref(body);
	if (r == EXIT_OK && !client_print_json(c, a)) {
		CL_FREE char *t = json_dumps(a, JSON_INDENT(2));

		cli_put(t ? t : "");
		putchar('\n');
	}
	json_decref(a);
	return r;
}

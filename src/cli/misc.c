/* SPDX-License-Identifier: Apache-2.0 */
/* logs, routes, model, invitations, bindings, why, audit, events, version, completion */
#include "cli/cli.h"
#include "record/audit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static int named(const char *name, const char *what)
{
	if (name_ok(span_str(name)))
		return 0;
	return cli_fail(EXIT_USAGE, "'%s' is not a name of a %s: a-z, 0-9, - and _", name, what);
}

static int id_ok(const char *id)
{
	if (tenant_id_ok(span_str(id)))
		return 0;
	return cli_fail(EXIT_USAGE, "'%s' is not a tenant id: a-z, 0-9 and -, at most 40, no - at either end", id);
}

static void print_all(const json_t *v)
{
	CL_FREE char *t = json_dumps(v, JSON_INDENT(2));

	cli_put(t ? t : "");
	putchar('\n');
}

/* ---- logs, events ------------------------------------------------------------------ */

static int put_piece(void *ctx, struct span piece)
{
	char clean[4096];

	(void)ctx;
	/* line by line: control characters of an agent must not reach the terminal */
	while (piece.n) {
		struct span line;
		bool whole = span_cut(&piece, '\n', &line);

		if (!whole) {
			line = piece;
			piece.n = 0;
		}
		while (line.n) {
			size_t k = line.n < sizeof clean - 1 ? line.n : sizeof clean - 1;

			utf8_scrub((struct span){ line.p, k }, clean, sizeof clean);
			fputs(clean, stdout);
			line.p += k;
			line.n -= k;
		}
		if (whole)
			putchar('\n');
	}
	return fflush(stdout) != 0;
}

int cmd_logs(struct cli *c)
{
	uint32_t lines;
	int r = id_ok(c->arg[0]);

	if (r == 0 && cli_opt_u32(c, "lines", 1000000, 200, &lines))
		r = EXIT_USAGE;
	if (r)
		return r;
	return client_stream(c, client_path("/v1/tenants/%s/logs?lines=%u%s", c->arg[0], lines,
					    cli_opt(c, "follow") ? "&follow=1" : ""), put_piece, NULL);
}

int cmd_events(struct cli *c)
{
	return client_stream(c, "/v1/events", put_piece, NULL);
}

/* ---- routes, model -------------------------------------------------------------------- */

int cmd_route_list(struct cli *c)
{
	json_t *a = NULL;
	const json_t *v;
	size_t i;
	int r = client_do(c, "GET", "/v1/routes", NULL, &a);

	if (r == EXIT_OK && !client_print_json(c, a)) {
		printf("%-16s %-10s %-36s %-16s %s\n", "NAME", "KIND", "UPSTREAM", "SECRET", "");
		json_array_foreach(json_object_get(a, "routes"), i, v)
			printf("%-16s %-10s %-36s %-16s %s\n", text(v, "name"), text(v, "kind"), text(v, "upstream"),
			       *text(v, "secret") ? text(v, "secret") : "-",
			       *text(v, "secret") && !json_is_true(json_object_get(v, "ready")) ? "(no key yet)" : "");
	}
	json_decref(a);
	return r;
}

int cmd_route_show(struct cli *c)
{
	json_t *a = NULL;
	int r = named(c->arg[0], "route");

	if (r == 0)
		r = client_do(c, "GET", client_path("/v1/routes/%s", c->arg[0]), NULL, &a);
	if (r == EXIT_OK && !client_print_json(c, a))
		print_all(a);
	json_decref(a);
	return r;
}

int cmd_route_test(struct cli *c)
{
	json_t *a = NULL;
	int r = named(c->arg[0], "route");

	if (r == 0)
		r = client_do(c, "POST", client_path("/v1/routes/%s/test", c->arg[0]), NULL, &a);
	if (r == EXIT_OK && !client_print_json(c, a))
		print_all(a);
	json_decref(a);
	return r;
}

int cmd_model_show(struct cli *c)
{
	json_t *a = NULL;
	int r = client_do(c, "GET", "/v1/model", NULL, &a);

	if (r == EXIT_OK && !client_print_json(c, a))
		printf("model %s on route %s (%s)\n", text(a, "id"), text(a, "route"), text(a, "source"));
	json_decref(a);
	return r;
}

int cmd_model_set(struct cli *c)
{
	const char *id = cli_opt(c, "model"), *url = cli_opt(c, "base-url");
	json_t *body, *a = NULL;
	int r = named(c->arg[0], "route");

	if (r)
		return r;
	body = json_pack("{s:s}", "route", c->arg[0]);
	if (id)
		(void)json_object_set_new(body, "id", json_string(id));
	if (url)
		(void)json_object_set_new(body, "base_url", json_string(url));
	r = client_do(c, "PUT", "/v1/model", body, &a);
	json_decref(body);
	if (r == EXIT_OK && !client_print_json(c, a)) {
		printf("model %s on route %s; tenants that run take it at their next start: cloister tenant restart --all\n",
		       text(a, "id"), text(a, "route"));
		if (*text(a, "note"))
			printf("%s\n", text(a, "note"));
	}
	json_decref(a);
	return r;
}

/* ---- people ----------------------------------------------------------------------------- */

int cmd_invite(struct cli *c)
{
	const char *channel = cli_opt(c, "channel"), *ttl = cli_opt(c, "ttl");
	json_t *body, *a = NULL;
	int r = id_ok(c->arg[0]);

	if (r == 0 && channel)
		r = named(channel, "channel");
	if (r)
		return r;
	body = json_pack("{s:s}", "channel", channel ? channel : "web");
	if (ttl)
		(void)json_object_set_new(body, "ttl", json_string(ttl));
	r = client_do(c, "POST", client_path("/v1/tenants/%s/invites", c->arg[0]), body, &a);
	json_decref(body);
	if (r == EXIT_OK && !client_print_json(c, a)) {
		printf("%s\n", *text(a, "url") ? text(a, "url") : text(a, "code"));
		fprintf(stderr, "works once; give it to the owner of '%s' only\n", c->arg[0]);
	}
	json_decref(a);
	return r;
}

int cmd_bindings(struct cli *c)
{
	json_t *a = NULL;
	const json_t *v;
	size_t i;
	int r = id_ok(c->arg[0]);

	if (r == 0)
		r = client_do(c, "GET", client_path("/v1/tenants/%s/bindings", c->arg[0]), NULL, &a);
	if (r == EXIT_OK && !client_print_json(c, a))
		json_array_foreach(json_object_get(a, "bindings"), i, v) {
			printf("%-10s ", text(v, "channel"));
			cli_put(text(v, "address"));
			printf("  ");
			cli_put(text(v, "name"));
			putchar('\n');
		}
	json_decref(a);
	return r;
}

int cmd_binding_rm(struct cli *c)
{
	json_t *body, *a = NULL;
	int r = id_ok(c->arg[0]);

	if (r)
		return r;
	body = json_pack("{s:s, s:s}", "channel", c->arg[1], "address", c->arg[2]);
	if (!body)
		return cli_fail(EXIT_USAGE, "channel and address must be UTF-8 text");
	r = client_do(c, "DELETE", client_path("/v1/tenants/%s/bindings", c->arg[0]), body, &a);
	json_decref(body);
	if (r == EXIT_OK && !client_print_json(c, a))
		printf("removed\n");
	json_decref(a);
	return r;
}

/* ---- why, audit --------------------------------------------------------------------------- */

int cmd_why(struct cli *c)
{
	json_t *a = NULL;
	int r = named(c->arg[0], "denial");

	if (r == 0)
		r = client_do(c, "GET", client_path("/v1/why/%s", c->arg[0]), NULL, &a);
	if (r == EXIT_OK && !client_print_json(c, a)) {
		static const char *const keys[] = { "id", "tenant", "rule", "reason", "fix" };

		for (size_t i = 0; i < CL_ARRAY_LEN(keys); i++)
			if (*text(a, keys[i])) {
				printf("%-8s ", keys[i]);
				cli_put(text(a, keys[i]));
				putchar('\n');
			}
	}
	json_decref(a);
	return r;
}

static int kind_ok(const char *kind)
{
	for (const char *p = kind; *p; p++)
		if (!((*p >= 'a' && *p <= 'z') || *p == '.'))
			return cli_fail(EXIT_USAGE, "'%s' is not a kind, such as request.denied", kind);
	return 0;
}

static int audit(struct cli *c, const char *form, uint32_t preset)
{
	const char *tenant = cli_opt(c, "tenant"), *kind = cli_opt(c, "kind");
	uint32_t lines;

	if (tenant && id_ok(tenant))
		return EXIT_USAGE;
	if (cli_opt_u32(c, "lines", 100000000, preset, &lines))
		return EXIT_USAGE;
	if (kind && kind_ok(kind))
		return EXIT_USAGE;
	return client_stream(c, client_path("/v1/audit?form=%s&lines=%u%s%s%s%.64s", form, lines,
					    tenant ? "&tenant=" : "", tenant ? tenant : "", kind ? "&kind=" : "",
					    kind ? kind : ""), put_piece, NULL);
}

int cmd_audit_tail(struct cli *c)
{
	return audit(c, c->json ? "json" : "text", 50);
}

/* lines as they come, and the number of the last one: {"number":12,... */
struct export {
	char head[40];		/* how the line begins */
	size_t n;
	uint64_t last, lines;
};

static int export_piece(void *ctx, struct span piece)
{
	struct export *e = ctx;

	for (size_t i = 0; i < piece.n; i++) {
		if (piece.p[i] != '\n') {
			if (e->n < sizeof e->head)
				e->head[e->n++] = piece.p[i];
			continue;
		}
		struct span rest = { e->head, e->n }, before;

		if (span_cut(&rest, ':', &before) && span_eq_str(before, "{\"number\"") &&
		    span_cut(&rest, ',', &before))
			(void)num_parse_u64(before, UINT64_MAX, &e->last);	/* not a number: the page is the last */
		e->lines++;
		e->n = 0;
	}
	return put_piece(NULL, piece);
}

/* page by page: an answer is bounded, the ledger is not */
int cmd_audit_export(struct cli *c)
{
	const char *tenant = cli_opt(c, "tenant"), *kind = cli_opt(c, "kind");
	uint64_t from = 1;

	if (cli_opt(c, "lines"))
		return cli_fail(EXIT_USAGE, "export gives all; for the last ones: cloister audit tail --json -n N");
	if (tenant && id_ok(tenant))
		return EXIT_USAGE;
	if (kind && kind_ok(kind))
		return EXIT_USAGE;
	for (;;) {
		struct export e = { 0 };
		int r = client_stream(c, client_path("/v1/audit?form=json&lines=2000&from=%llu%s%s%s%.64s",
						     (unsigned long long)from, tenant ? "&tenant=" : "", tenant ? tenant : "",
						     kind ? "&kind=" : "", kind ? kind : ""), export_piece, &e);

		if (r || e.lines == 0 || e.last < from)
			return r;
		from = e.last + 1;
	}
}

/* a copy of the ledger, or the one of a service that does not run */
static int verify_offline(struct cli *c, const char *dir, const char *key, const char *anchor_text)
{
	struct audit_anchor anchor;
	struct audit_report rep = { 0 };
	struct cl_err err = { 0 };
	unsigned char pub[32];
	char hex[65];
	CL_CLOSE int fd = cl_open_dir(dir, &err);
	json_t *v;
	int r = fd < 0 ? fd : audit_key_read(key ? AT_FDCWD : fd, key ? key : "ledger.pub", pub, &err);

	if (r >= 0 && anchor_text && audit_anchor_parse(span_str(anchor_text), &anchor))
		return cli_fail(EXIT_USAGE, "--anchor wants NUMBER:64 hex digits");
	if (r >= 0)
		r = audit_verify(fd, pub, false, anchor_text ? &anchor : NULL, &rep, &err);
	if (r && r != -EBADMSG)
		return cli_fail(EXIT_FAILED, "%s", cl_err_str(&err));
	cl_hex(rep.chain, sizeof rep.chain, hex);
	v = json_pack("{s:b, s:s, s:s, s:I, s:I, s:I, s:s}", "ok", r == 0, "text", r ? err.text : "", "place", rep.place,
		      "first", (json_int_t)rep.first, "last", (json_int_t)rep.last, "signed_to",
		      (json_int_t)rep.signed_to, "chain", hex);
	if (!client_print_json(c, v)) {
		printf("%s%s\n", r ? "CHANGED: " : "unchanged", r ? err.text : "");
		printf("records %llu to %llu in %llu segments, signed up to %llu; anchor %llu:%s\n",
		       (unsigned long long)rep.first, (unsigned long long)rep.last, (unsigned long long)rep.segments,
		       (unsigned long long)rep.signed_to, (unsigned long long)rep.last, hex);
	}
	json_decref(v);
	return r ? EXIT_FAILED : EXIT_OK;
}

int cmd_audit_verify(struct cli *c)
{
	const char *key = cli_opt(c, "key"), *anchor = cli_opt(c, "anchor");
	json_t *a = NULL;
	int r;

	if (c->nargs)
		return verify_offline(c, c->arg[0], key, anchor);
	if (key || anchor)
		return cli_fail(EXIT_USAGE, "--key and --anchor need the ledger's directory: cloister audit verify DIR");
	r = client_do(c, "GET", "/v1/audit/verify", NULL, &a);
	if (r)
		return r;
	r = json_is_true(json_object_get(a, "ok")) ? EXIT_OK : EXIT_FAILED;
	if (!client_print_json(c, a)) {
		printf("%s: ", r == EXIT_OK ? "unchanged" : "CHANGED");
		cli_put(text(a, "text"));
		putchar('\n');
	}
	json_decref(a);
	return r;
}

/* ---- version, completion -------------------------------------------------------------------- */

int cmd_version(struct cli *c)
{
	json_t *a = NULL, *out;
	struct cl_err err = { 0 };
	int status = client_call(c, "GET", "/v1/version", NULL, &a, &err);
	const char *service = status == 200 ? text(a, "version") : NULL;

	out = json_pack("{s:s, s:s?}", "tool", CLOISTER_VERSION, "service", service);
	if (!client_print_json(c, out))
		printf("cloister %s\nservice %s\n", CLOISTER_VERSION, service ? service : "does not run");
	json_decref(out);
	json_decref(a);
	return EXIT_OK;
}

/* the next words after "first", or the first words; without repetition */
static void print_words(const char *first)
{
	char done[64][32];
	size_t n = 0, len = first ? strlen(first) : 0;

	for (size_t i = 0; i < cli_ncommands; i++) {
		const char *w = cli_commands[i].words;
		struct span rest, word;
		bool dup = false;

		if (first && (strncmp(w, first, len) != 0 || w[len] != ' '))
			continue;
		rest = span_str(first ? w + len + 1 : w);
		if (!span_cut(&rest, ' ', &word))
			word = rest;
		for (size_t k = 0; k < n; k++)
			dup |= span_eq_str(word, done[k]);
		if (dup || n == CL_ARRAY_LEN(done) || span_copy(word, done[n], sizeof done[n]))
			continue;
		printf("%s%s", n ? " " : "", done[n]);
		n++;
	}
}

static bool is_group(const char *words)
{
	return strchr(words, ' ') != NULL;
}

static void bash_completion(void)
{
	char last[32] = "";

	printf("_cloister() {\n\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
	       "\tcase $prev in\n");
	for (size_t i = 0; i < cli_ncommands; i++) {
		struct span rest = span_str(cli_commands[i].words), first;

		if (!is_group(cli_commands[i].words) || !span_cut(&rest, ' ', &first) || span_eq_str(first, last) ||
		    span_copy(first, last, sizeof last))
			continue;
		printf("\t%s) COMPREPLY=($(compgen -W \"", last);
		print_words(last);
		printf("\" -- \"$cur\")); return ;;\n");
	}
	printf("\tstart|stop|restart|freeze|wake|show|reset|chat|exec|logs|invite)\n"
	       "\t\tCOMPREPLY=($(compgen -W \"$(cloister tenant list --json 2>/dev/null |"
	       " sed -n 's/.*\"id\": \"\\(.*\\)\".*/\\1/p')\" -- \"$cur\")); return ;;\n");
	printf("\tesac\n\tCOMPREPLY=($(compgen -W \"");
	print_words(NULL);
	printf(" --dir --json --help\" -- \"$cur\"))\n}\ncomplete -F _cloister cloister\n");
}

int cmd_completion(struct cli *c)
{
	const char *shell = c->arg[0];

	if (strcmp(shell, "bash") == 0) {
		bash_completion();
	} else if (strcmp(shell, "zsh") == 0) {
		printf("autoload -U +X bashcompinit && bashcompinit\n");
		bash_completion();
	} else if (strcmp(shell, "fish") == 0) {
		for (size_t i = 0; i < cli_ncommands; i++) {
			const struct cli_command *k = &cli_commands[i];
			struct span rest = span_str(k->words), first;

			if (span_cut(&rest, ' ', &first))
				printf("complete -c cloister -f -n '__fish_seen_subcommand_from %.*s' -a '%.*s' -d '%s'\n",
				       SPAN_FMT(first), SPAN_FMT(rest), k->help);
			printf("complete -c cloister -f -n __fish_use_subcommand -a '%.*s'\n", SPAN_FMT(first.n ? first : rest));
		}
	} else {
		return cli_fail(EXIT_USAGE, "no completion for '%s': bash, zsh or fish", shell);
	}
	return EXIT_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli - the command line tool: one table of commands; each talks to the api's
 * socket (client.c), but `up`, `down`, `doctor` and `version`, which need no
 * service.
 */
#ifndef CL_CLI_H
#define CL_CLI_H

#include "base/base.h"

#include <jansson.h>

/* What the tool's exit code says (cloister(1) lists them). */
enum cli_exit {
	EXIT_OK = 0,
	EXIT_FAILED = 1,	/* the service or the system said no */
	EXIT_USAGE = 2,		/* not a command, option or argument */
	EXIT_NO_SERVICE = 3,	/* nothing listens on the socket */
	EXIT_NOT_FOUND = 4,	/* no such tenant, secret, route, ... */
	EXIT_TIMEOUT = 5,	/* it did not happen in time */
};

#define CLI_ARGS_MAX 300

/* An option of a command: --name, or --name VALUE */
struct cli_option {
	const char *name;	/* without -- */
	char letter;		/* 0: none */
	const char *value;	/* what the value is called in the help; NULL: takes none */
	bool maybe;		/* the value may be left out (--wait, --wait 60) */
	const char *help;
};

struct cli;
struct cli_command {
	const char *words;	/* "tenant create" */
	const char *args;	/* "ID", "ID [--] COMMAND..." */
	const char *help;	/* one line */
	unsigned min, max;	/* arguments; max UINT_MAX: any number, the rest is not parsed */
	int (*fn)(struct cli *c);
	const struct cli_option *options;
	size_t noptions;
};

struct cli {
	const char *dir;		/* --dir, without a slash at the end; "" = the root */
	bool json;			/* --json */
	const struct cli_command *command;
	char *arg[CLI_ARGS_MAX + 1];	/* NULL-terminated */
	unsigned nargs;
	struct { const struct cli_option *o; const char *value; } given[32];
	size_t ngiven;
};

extern const struct cli_command cli_commands[];
extern const size_t cli_ncommands;

/* cli_opt - is --name there; its value, or "" when it has none */
const char *cli_opt(const struct cli *c, const char *name);
/* cli_opt_u32 - a number, or @preset when not given; -EINVAL said to stderr */
int cli_opt_u32(const struct cli *c, const char *name, uint32_t max, uint32_t preset, uint32_t *out);
/* cli_path - --dir and @below; in a static buffer of its own per call (8 in turn) */
const char *cli_path(const struct cli *c, const char *below);
/* cli_fail - "cloister: words" to stderr; returns @code */
int cli_fail(int code, const char *fmt, ...) CL_PRINTF(2, 3);
/* cli_say - text that others chose, printed without control characters but newline */
void cli_put(const char *text);

/* ---- client.c -------------------------------------------------------------- */

/*
 * client_call - one request to the api's socket
 * @body: JSON to send, or NULL; borrowed
 * @out:  the answer's JSON, new reference (NULL when it is not JSON); may be NULL
 * Return: HTTP status, or -errno: -ECONNREFUSED no service; words in @err
 */
int client_call(const struct cli *c, const char *method, const char *path, const json_t *body,
		json_t **out, struct cl_err *err);
/* client_do - client_call, failures told to stderr. Return: EXIT_*; *out when EXIT_OK */
int client_do(const struct cli *c, const char *method, const char *path, const json_t *body,
	      json_t **out);
/* client_stream - GET; pieces to @fn until the end or fn returns nonzero. Return: EXIT_* */
typedef int client_piece_fn(void *ctx, struct span piece);
int client_stream(const struct cli *c, const char *path, client_piece_fn *fn, void *ctx);
/* client_failed - what a status and an error body mean. Return: EXIT_*, words to stderr */
int client_failed(const struct cli *c, int status, const json_t *answer);
/* client_connect - a connected socket to the api; -ECONNREFUSED, -EACCES ... */
int client_connect(const struct cli *c, struct cl_err *err);
/* client_print - the answer as JSON (with --json), else nothing; true when it did */
bool client_print_json(const struct cli *c, const json_t *v);
/* a path made of words; each %s must be name_ok, tenant_id_ok or a number */
const char *client_path(const char *fmt, ...) CL_PRINTF(1, 2);

/* ---- commands ---------------------------------------------------------------- */

int cmd_up(struct cli *c);
int cmd_down(struct cli *c);
int cmd_doctor(struct cli *c);
int cmd_version(struct cli *c);
int cmd_help(struct cli *c);
int cmd_completion(struct cli *c);
int cmd_status(struct cli *c);
int cmd_tenant_create(struct cli *c);
int cmd_tenant_list(struct cli *c);
int cmd_tenant_show(struct cli *c);
int cmd_tenant_act(struct cli *c);	/* start stop restart freeze wake */
int cmd_tenant_reset(struct cli *c);
int cmd_tenant_snapshot(struct cli *c);
int cmd_tenant_snapshots(struct cli *c);
int cmd_tenant_restore(struct cli *c);
int cmd_tenant_rm(struct cli *c);
int cmd_chat(struct cli *c);
int cmd_exec(struct cli *c);
int cmd_logs(struct cli *c);
int cmd_secret_set(struct cli *c);
int cmd_secret_list(struct cli *c);
int cmd_secret_rm(struct cli *c);
int cmd_route_list(struct cli *c);
int cmd_route_show(struct cli *c);
int cmd_route_test(struct cli *c);
int cmd_policy_get(struct cli *c);
int cmd_policy_set(struct cli *c);
int cmd_policy_explain(struct cli *c);
int cmd_model_show(struct cli *c);
int cmd_model_set(struct cli *c);
int cmd_invite(struct cli *c);
int cmd_bindings(struct cli *c);
int cmd_binding_rm(struct cli *c);
int cmd_why(struct cli *c);
int cmd_audit_tail(struct cli *c);
int cmd_audit_verify(struct cli *c);
int cmd_audit_export(struct cli *c);
int cmd_events(struct cli *c);

#endif

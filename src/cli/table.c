/* SPDX-License-Identifier: Apache-2.0 */
/* Every command of the tool: parsing, help and completion read this table. */
#include "cli/cli.h"

#include <limits.h>

#define OPTIONS(o) (o), CL_ARRAY_LEN(o)

static const struct cli_option up_options[] = {
	{ "listen", 0, "ADDR:PORT|off", false, "the chat page and the API (instead of cloister.yaml's)" },
	{ "model-listen", 0, "ADDR:PORT|off", false, "the simulated model" },
	{ "images", 0, "DIR", false, "where the agent images lie" },
	{ "check", 0, NULL, false, "only check the configuration and the machine" },
};
static const struct cli_option wait_options[] = {
	{ "wait", 'w', "SECONDS", true, "until it runs (or failed); 180 when no number is given" },
	{ "all", 'a', NULL, false, "every tenant" },
};
static const struct cli_option create_options[] = {
	{ "class", 0, "NAME", false, "small, standard, large, or one of cloister.yaml" },
	{ "policy", 'f', "FILE", false, "policy of the tenant, YAML" },
	{ "start", 's', NULL, false, "start it as well" },
};
static const struct cli_option reset_options[] = {
	{ "level", 'l', "agent|state|workspace", false, "agent: restart; state: caches and sessions; workspace: all" },
	{ "yes", 'y', NULL, false, "do not ask" },
};
static const struct cli_option yes_options[] = { { "yes", 'y', NULL, false, "do not ask" } };
static const struct cli_option chat_options[] = {
	{ "message", 'm', "TEXT", false, "say this, wait for the answer, end" },
	{ "timeout", 't', "SECONDS", false, "how long to wait for an answer (180)" },
};
static const struct cli_option exec_options[] = {
	{ "tty", 't', NULL, false, "a terminal even when the input is none" },
	{ "no-tty", 'T', NULL, false, "no terminal" },
};
static const struct cli_option logs_options[] = {
	{ "follow", 'f', NULL, false, "go on as more comes" },
	{ "lines", 'n', "N", false, "the last N lines (200)" },
};
static const struct cli_option model_options[] = {
	{ "model", 0, "ID", false, "name of the model, as the provider calls it" },
	{ "base-url", 0, "URL", false, "instead of the route's own address" },
};
static const struct cli_option invite_options[] = {
	{ "channel", 'c', "web|telegram", false, "where the person will write (web)" },
	{ "ttl", 0, "DURATION", false, "how long it can be used, such as 2h (24h)" },
};
static const struct cli_option explain_options[] = {
	{ "body", 0, "TEXT", false, "body of the request" },
};
static const struct cli_option audit_options[] = {
	{ "lines", 'n', "N", false, "the last N records (50)" },
	{ "tenant", 0, "ID", false, "only of this tenant" },
	{ "kind", 'k', "KIND", false, "only of this kind, or of all that begin so: request." },
};
static const struct cli_option verify_options[] = {
	{ "key", 0, "FILE", false, "public key that was kept elsewhere (DIR/ledger.pub)" },
	{ "anchor", 0, "NUMBER:HEX", false, "an anchor that was written down: it must still be there" },
};

const struct cli_command cli_commands[] = {
	{ "up", "", "check the configuration and run the service in the foreground", 0, 0, cmd_up, OPTIONS(up_options) },
	{ "down", "", "stop the service", 0, 0, cmd_down, NULL, 0 },
	{ "status", "", "is it up, what runs", 0, 0, cmd_status, NULL, 0 },
	{ "doctor", "", "can this machine do it; works without the service", 0, 0, cmd_doctor, NULL, 0 },
	{ "tenant create", "ID", "make a tenant", 1, 1, cmd_tenant_create, OPTIONS(create_options) },
	{ "tenant list", "", "all tenants", 0, 0, cmd_tenant_list, NULL, 0 },
	{ "tenant show", "ID", "one tenant", 1, 1, cmd_tenant_show, NULL, 0 },
	{ "tenant start", "ID", "start its agent", 0, 1, cmd_tenant_act, OPTIONS(wait_options) },
	{ "tenant stop", "ID", "stop its agent; what it is told meanwhile is kept", 0, 1, cmd_tenant_act, OPTIONS(wait_options) },
	{ "tenant restart", "ID", "stop, then start", 0, 1, cmd_tenant_act, OPTIONS(wait_options) },
	{ "tenant freeze", "ID", "halt it at once, memory kept", 0, 1, cmd_tenant_act, OPTIONS(wait_options) },
	{ "tenant wake", "ID", "go on after freeze", 0, 1, cmd_tenant_act, OPTIONS(wait_options) },
	{ "tenant reset", "ID", "a clean start; a snapshot of before is kept", 1, 1, cmd_tenant_reset, OPTIONS(reset_options) },
	{ "tenant snapshot", "ID [NAME]", "keep a copy of its workspace", 1, 2, cmd_tenant_snapshot, NULL, 0 },
	{ "tenant snapshots", "ID", "the copies that there are", 1, 1, cmd_tenant_snapshots, NULL, 0 },
	{ "tenant restore", "ID NAME", "bring a copy back", 2, 2, cmd_tenant_restore, OPTIONS(yes_options) },
	{ "tenant rm", "ID", "remove it: conversation, workspace, snapshots, logs", 1, 1, cmd_tenant_rm, OPTIONS(yes_options) },
	{ "chat", "ID [TEXT...]", "talk to an agent as its owner", 1, CLI_ARGS_MAX, cmd_chat, OPTIONS(chat_options) },
	{ "exec", "ID [--] COMMAND...", "run a command in a sandbox", 2, UINT_MAX, cmd_exec, OPTIONS(exec_options) },
	{ "logs", "ID", "what its agent printed", 1, 1, cmd_logs, OPTIONS(logs_options) },
	{ "secret set", "NAME", "store a key: asked for without echo, or from stdin", 1, 1, cmd_secret_set, NULL, 0 },
	{ "secret list", "", "names, dates, fingerprints", 0, 0, cmd_secret_list, NULL, 0 },
	{ "secret rm", "NAME", "forget a key", 1, 1, cmd_secret_rm, NULL, 0 },
	{ "route list", "", "ways to the outside", 0, 0, cmd_route_list, NULL, 0 },
	{ "route show", "NAME", "one of them", 1, 1, cmd_route_show, NULL, 0 },
	{ "route test", "NAME", "one harmless real call with the real key", 1, 1, cmd_route_test, NULL, 0 },
	{ "policy get", "ID", "what a tenant may do", 1, 1, cmd_policy_get, NULL, 0 },
	{ "policy set", "ID FILE", "a new policy from a YAML file (- is stdin)", 2, 2, cmd_policy_set, NULL, 0 },
	{ "policy explain", "ID METHOD PATH", "what would happen to a request, and which rule says so", 3, 3, cmd_policy_explain, OPTIONS(explain_options) },
	{ "model show", "", "the model of tenants that name none", 0, 0, cmd_model_show, NULL, 0 },
	{ "model set", "ROUTE", "choose it: simulated, openai, anthropic, ...", 1, 1, cmd_model_set, OPTIONS(model_options) },
	{ "invite", "ID", "a one-time link that ties a person to a tenant", 1, 1, cmd_invite, OPTIONS(invite_options) },
	{ "binding list", "ID", "who talks to this agent", 1, 1, cmd_bindings, NULL, 0 },
	{ "binding rm", "ID CHANNEL ADDRESS", "untie a person", 3, 3, cmd_binding_rm, NULL, 0 },
	{ "why", "DENIAL", "a refusal in words, and what would allow it", 1, 1, cmd_why, NULL, 0 },
	{ "audit tail", "", "the last records of the ledger", 0, 0, cmd_audit_tail, OPTIONS(audit_options) },
	{ "audit verify", "[DIR]", "has the ledger been changed; of DIR without the service", 0, 1, cmd_audit_verify, OPTIONS(verify_options) },
	{ "audit export", "", "the whole ledger, a JSON line a record", 0, 0, cmd_audit_export, OPTIONS(audit_options) },
	{ "events", "", "what happens, as it happens", 0, 0, cmd_events, NULL, 0 },
	{ "version", "", "of this tool and of the service", 0, 0, cmd_version, NULL, 0 },
	{ "completion", "bash|zsh|fish", "a completion script for a shell", 1, 1, cmd_completion, NULL, 0 },
	{ "help", "[COMMAND...]", "this text, or a command's", 0, 3, cmd_help, NULL, 0 },
};
const size_t cli_ncommands = CL_ARRAY_LEN(cli_commands);

/* SPDX-License-Identifier: Apache-2.0 */
/* The tables: what each file may say. man/cloister.yaml.5 explains the keys. */
#include "policy/config.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)
#define TIB (1ull << 40)

/* ---- shared parts ---------------------------------------------------------- */

static const struct schema_field limit_fields[] = {
	{ .key = "memory", .type = S_SIZE, .min = 64 * MIB, .max = TIB },
	{ .key = "swap", .type = S_SIZE, .max = TIB },
	{ .key = "pids", .type = S_NUMBER, .min = 8, .max = 32768 },
	{ .key = "cpu", .type = S_MILLI, .min = 10, .max = 1024000 },
	{ .key = "cpu_weight", .type = S_NUMBER, .min = 1, .max = 10000 },
	{ .key = "open_files", .type = S_NUMBER, .min = 64, .max = 1048576 },
	{ .key = "tmp", .type = S_SIZE, .min = MIB, .max = TIB },
	{ .key = "tmp_files", .type = S_NUMBER, .min = 64, .max = 100000000 },
	{ .key = "workspace", .type = S_SIZE, .min = MIB, .max = 1024 * TIB },
	{ .key = "workspace_files", .type = S_NUMBER, .min = 64, .max = 1000000000 },
	{ .key = "log", .type = S_SIZE, .min = 64 * 1024, .max = GIB },
};
static const struct schema limit_schema = SCHEMA(limit_fields);

static const struct schema_field budget_fields[] = {
	{ .key = "calls_per_hour", .type = S_NUMBER, .max = 10000000 },
	{ .key = "tokens_per_day", .type = S_NUMBER, .max = 100000000000ull },
};
static const struct schema budget_schema = SCHEMA(budget_fields);

static const struct schema_field model_fields[] = {
	{ .key = "route", .type = S_NAME, .required = true },
	{ .key = "id", .type = S_TEXT, .min = 1, .max = 200 },
	{ .key = "base_url", .type = S_URL },
};
static const struct schema model_schema = SCHEMA(model_fields);

static const struct schema_field route_item = { .key = "routes", .type = S_NAME };
static const struct schema_field host_item = { .key = "hosts", .type = S_TEXT, .min = 1, .max = 255 };

/* ---- cloister.yaml ----------------------------------------------------------- */

static const struct schema_field class_fields[] = {
	{ .key = "limits", .type = S_MAP, .sub = &limit_schema },
	{ .key = "budget", .type = S_MAP, .sub = &budget_schema },
};
static const struct schema class_schema = SCHEMA(class_fields);
static const struct schema_field class_item = { .key = "classes", .type = S_MAP, .sub = &class_schema };

static const struct schema_field user_fields[] = {
	{ .key = "broker", .type = S_TEXT, .min = 1, .max = 64, .def = "cloister-broker" },
	{ .key = "api", .type = S_TEXT, .min = 1, .max = 64, .def = "cloister-api" },
	{ .key = "ledger", .type = S_TEXT, .min = 1, .max = 64, .def = "cloister-ledger" },
	{ .key = "spawner", .type = S_TEXT, .min = 1, .max = 64, .def = "cloister-spawner" },
	{ .key = "model", .type = S_TEXT, .min = 1, .max = 64, .def = "cloister-model" },
};
static const struct schema user_schema = SCHEMA(user_fields);

static const struct schema_field telegram_fields[] = {
	{ .key = "api_root", .type = S_URL, .def = "https://api.telegram.org" },
	{ .key = "secret", .type = S_NAME, .def = "telegram" },
};
static const struct schema telegram_schema = SCHEMA(telegram_fields);
static const struct schema_field channel_fields[] = {
	{ .key = "telegram", .type = S_MAP, .sub = &telegram_schema, .fill = true },
};
static const struct schema channel_schema = SCHEMA(channel_fields);

static const struct schema_field invite_fields[] = {
	{ .key = "ttl", .type = S_SECONDS, .min = 60, .max = 365ull * 86400, .def = "24h" },
};
static const struct schema invite_schema = SCHEMA(invite_fields);

static const struct schema_field default_fields[] = {
	{ .key = "class", .type = S_NAME, .def = "standard" },
	{ .key = "agent", .type = S_NAME, .def = "openclaw" },
	{ .key = "timezone", .type = S_TEXT, .min = 1, .max = 64, .def = "UTC" },
	{ .key = "routes", .type = S_LIST, .item = &route_item },
};
static const struct schema default_schema = SCHEMA(default_fields);

static const struct schema_field config_fields[] = {
	{ .key = "listen", .type = S_ADDRESS, .def = "127.0.0.1:8378" },
	{ .key = "listen_model", .type = S_ADDRESS, .def = "127.0.0.1:8379" },
	{ .key = "public_url", .type = S_URL },
	{ .key = "state", .type = S_PATH },
	{ .key = "images", .type = S_PATH },
	{ .key = "uid_base", .type = S_NUMBER, .min = 65536, .max = 4000000000ull, .def = "700000" },
	{ .key = "group", .type = S_TEXT, .min = 1, .max = 64, .def = "cloister" },
	{ .key = "users", .type = S_MAP, .sub = &user_schema, .fill = true },
	{ .key = "model", .type = S_MAP, .sub = &model_schema },
	{ .key = "classes", .type = S_DICT, .item = &class_item },
	{ .key = "defaults", .type = S_MAP, .sub = &default_schema, .fill = true },
	{ .key = "channels", .type = S_MAP, .sub = &channel_schema, .fill = true },
	{ .key = "invites", .type = S_MAP, .sub = &invite_schema, .fill = true },
};
const struct schema config_schema = SCHEMA(config_fields);

/* ---- tenants/ID.yaml ----------------------------------------------------------- */

static const struct schema_field tenant_fields[] = {
	{ .key = "id", .type = S_TENANT },
	{ .key = "run", .type = S_BOOL },
	{ .key = "class", .type = S_NAME },
	{ .key = "agent", .type = S_NAME },
	{ .key = "timezone", .type = S_TEXT, .min = 1, .max = 64 },
	{ .key = "model", .type = S_MAP, .sub = &model_schema },
	{ .key = "routes", .type = S_LIST, .item = &route_item },
	{ .key = "hosts", .type = S_LIST, .item = &host_item },
	{ .key = "budget", .type = S_MAP, .sub = &budget_schema },
	{ .key = "limits", .type = S_MAP, .sub = &limit_schema },
};
const struct schema tenant_schema = SCHEMA(tenant_fields);

/* ---- routes/NAME.yaml ----------------------------------------------------------- */

static const char *const route_kinds[] = { "openai", "anthropic", "http", NULL };
static const char *const methods[] = { "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", NULL };

static const struct schema_field inject_fields[] = {	/* header (and prefix), or query, or path, or basic */
	{ .key = "header", .type = S_TEXT, .min = 1, .max = 64 },
	{ .key = "prefix", .type = S_TEXT, .max = 64 },
	{ .key = "query", .type = S_NAME },
	{ .key = "path", .type = S_TEXT, .min = 1, .max = 64 },
	{ .key = "basic", .type = S_TEXT, .max = 64 },
};
static const struct schema inject_schema = SCHEMA(inject_fields);

static const struct schema_field allow_fields[] = {
	{ .key = "method", .type = S_CHOICE, .required = true, .choices = methods },
	{ .key = "path", .type = S_TEXT, .required = true, .min = 1, .max = 512 },
};
static const struct schema allow_schema = SCHEMA(allow_fields);
static const struct schema_field allow_item = { .key = "allow", .type = S_MAP, .sub = &allow_schema };
static const struct schema_field header_item = { .key = "headers", .type = S_TEXT, .max = 512 };

static const struct schema_field model_item = { .key = "models", .type = S_TEXT, .min = 1, .max = 200 };
static const struct schema_field forward_item = { .key = "forward", .type = S_TEXT, .min = 1, .max = 47 };
static const struct schema_field one_of_item = { .key = "one_of", .type = S_TEXT, .max = 400 };
static const struct schema_field body_fields[] = {	/* at, and one of the others */
	{ .key = "at", .type = S_TEXT, .required = true, .min = 1, .max = 200 },
	{ .key = "equals", .type = S_TEXT, .max = 400 },
	{ .key = "one_of", .type = S_LIST, .item = &one_of_item },
	{ .key = "prefix", .type = S_TEXT, .max = 400 },
	{ .key = "at_most", .type = S_NUMBER },
	{ .key = "absent", .type = S_BOOL },
};
static const struct schema body_schema = SCHEMA(body_fields);
static const struct schema_field body_item = { .key = "body", .type = S_MAP, .sub = &body_schema };

static const struct schema_field route_fields[] = {
	{ .key = "name", .type = S_NAME },
	{ .key = "description", .type = S_TEXT, .max = 400 },
	{ .key = "kind", .type = S_CHOICE, .choices = route_kinds, .def = "http" },
	{ .key = "upstream", .type = S_URL, .required = true },
	{ .key = "secret", .type = S_NAME },
	{ .key = "inject", .type = S_MAP, .sub = &inject_schema },
	{ .key = "headers", .type = S_DICT, .item = &header_item },
	{ .key = "allow", .type = S_LIST, .item = &allow_item },
	{ .key = "private", .type = S_BOOL },
	{ .key = "timeout", .type = S_SECONDS, .min = 1, .max = 3600 },
	{ .key = "body_max", .type = S_SIZE, .min = 1, .max = GIB },
	{ .key = "test", .type = S_MAP, .sub = &allow_schema },
	{ .key = "default_model", .type = S_TEXT, .min = 1, .max = 200 },
	{ .key = "body", .type = S_LIST, .item = &body_item },
	{ .key = "models", .type = S_LIST, .item = &model_item },
	{ .key = "ca", .type = S_TEXT, .max = 65536 },
	{ .key = "forward", .type = S_LIST, .max = 16, .item = &forward_item },
	{ .key = "fetch", .type = S_BOOL },
	{ .key = "calls_per_minute", .type = S_NUMBER, .min = 1, .max = 1000000 },
};
const struct schema route_schema = SCHEMA(route_fields);

/* ---- agents/NAME/agent.yaml ------------------------------------------------------- */

static const struct schema_field command_item = { .key = "command", .type = S_TEXT, .min = 1, .max = 4096 };
static const struct schema_field env_item = { .key = "env", .type = S_TEXT, .max = 4096 };

/* what this agent was seen to need; a tenant's class must not be below the minimum */
static const struct schema_field need_fields[] = {
	{ .key = "memory_mb", .type = S_NUMBER, .min = 16, .max = 1u << 20 },
	{ .key = "memory_min_mb", .type = S_NUMBER, .min = 16, .max = 1u << 20 },
	{ .key = "pids", .type = S_NUMBER, .min = 8, .max = 32768 },
	{ .key = "tmp_mb", .type = S_NUMBER, .min = 1, .max = 1u << 20 },
	{ .key = "workspace_mb", .type = S_NUMBER, .min = 1, .max = 1u << 30 },
	{ .key = "workspace_files", .type = S_NUMBER, .min = 64, .max = 1000000000 },
};
static const struct schema need_schema = SCHEMA(need_fields);

static const struct schema_field agent_fields[] = {
	{ .key = "name", .type = S_NAME, .required = true },
	{ .key = "description", .type = S_TEXT, .max = 400 },
	{ .key = "image", .type = S_NAME },
	{ .key = "workdir", .type = S_PATH },
	{ .key = "command", .type = S_LIST, .required = true, .item = &command_item },
	{ .key = "env", .type = S_ENV, .item = &env_item },
	{ .key = "config_template", .type = S_TEXT, .min = 1, .max = 200 },
	{ .key = "config_path", .type = S_PATH },
	{ .key = "config_safety", .type = S_TEXT, .min = 1, .max = 200 },
	{ .key = "state_dir", .type = S_PATH },
	{ .key = "port", .type = S_NUMBER, .min = 1, .max = 65535 },
	{ .key = "ready_path", .type = S_TEXT, .max = 200 },
	{ .key = "live_path", .type = S_TEXT, .max = 200 },
	{ .key = "ready", .type = S_TEXT, .max = 64 },
	{ .key = "ready_timeout_s", .type = S_NUMBER, .min = 1, .max = 3600, .def = "120" },
	{ .key = "stop_timeout_s", .type = S_NUMBER, .min = 1, .max = 600, .def = "10" },
	{ .key = "version_command", .type = S_LIST, .item = &command_item },
	{ .key = "schedule_command", .type = S_LIST, .item = &command_item },
	{ .key = "limits", .type = S_MAP, .sub = &need_schema },
};
const struct schema agent_schema = SCHEMA(agent_fields);

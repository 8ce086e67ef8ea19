/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/config.h"

#include <assert.h>
#include <string.h>

static const char default_text[] =
"# Cloister's configuration. Every key is optional; what stands here after a #\n"
"# is what holds without it. An unknown or repeated key stops the start.\n"
"# cloister.yaml(5) explains each key. After a change: cloister down, cloister up.\n"
"\n"
"#listen: 127.0.0.1:8378          # the chat page and the API; \"off\": none\n"
"#public_url: https://agents.example.com   # how people reach the page (behind a proxy)\n"
"#listen_model: 127.0.0.1:8379    # the simulated model; \"off\": none\n"
"#uid_base: 700000                # tenant number n is the host user 700000 + n\n"
"#group: cloister                 # its members may use the command line\n"
"\n"
"# The model of every tenant that names none. Routes: cloister route list.\n"
"# Keys: cloister secret set openai\n"
"#model:\n"
"#  route: openai\n"
"#  id: gpt-4.1-mini\n"
"#  base_url: http://127.0.0.1:11434   # instead of the route's own address\n"
"\n"
"#defaults:\n"
"#  class: standard               # small, standard, large, or one of yours\n"
"#  agent: openclaw\n"
"#  timezone: UTC\n"
"\n"
"#classes:\n"
"#  standard:\n"
"#    limits: { memory: 1536MiB, swap: 1GiB, cpu: 2, pids: 512, workspace: 5GiB, tmp: 512MiB }\n"
"#    budget: { calls_per_hour: 600, tokens_per_day: 2000000 }\n"
"\n"
"#channels:\n"
"#  telegram:                     # token: cloister secret set telegram\n"
"#    api_root: https://api.telegram.org\n"
"#    secret: telegram\n"
"\n"
"#invites:\n"
"#  ttl: 24h\n";

struct span config_default_text(void)
{
	return (struct span){ default_text, sizeof default_text - 1 };
}

/* What the three shipped classes give; cloister.yaml may change each key. */
static const char shipped_classes[] =
"small:\n"
"  limits: { memory: 1GiB, swap: 1GiB, cpu: 1, cpu_weight: 100, pids: 256, open_files: 8192, tmp: 256MiB,\n"
"            tmp_files: 50000, workspace: 1GiB, workspace_files: 100000, log: 8MiB }\n"
"  budget: { calls_per_hour: 200, tokens_per_day: 500000 }\n"
"standard:\n"
"  limits: { memory: 1536MiB, swap: 1GiB, cpu: 2, cpu_weight: 100, pids: 512, open_files: 16384, tmp: 512MiB,\n"
"            tmp_files: 100000, workspace: 5GiB, workspace_files: 500000, log: 16MiB }\n"
"  budget: { calls_per_hour: 600, tokens_per_day: 2000000 }\n"
"large:\n"
"  limits: { memory: 4GiB, swap: 2GiB, cpu: 4, cpu_weight: 200, pids: 2048, open_files: 65536, tmp: 2GiB,\n"
"            tmp_files: 400000, workspace: 50GiB, workspace_files: 4000000, log: 64MiB }\n"
"  budget: { calls_per_hour: 3000, tokens_per_day: 20000000 }\n";

/* the classes table of cloister.yaml is a dict: read the shipped one by its own row */
static int shipped(json_t **out, struct cl_err *err)
{
	const struct schema_field *row = NULL;

	for (size_t i = 0; i < config_schema.n; i++)
		if (strcmp(config_schema.fields[i].key, "classes") == 0)
			row = &config_schema.fields[i];
	assert(row);

	const struct schema_field one[] = {
		{ .key = "small", .type = S_MAP, .sub = row->item->sub }, { .key = "standard", .type = S_MAP, .sub = row->item->sub },
		{ .key = "large", .type = S_MAP, .sub = row->item->sub },
	};
	const struct schema s = SCHEMA(one);

	return schema_load(&s, (struct span){ shipped_classes, sizeof shipped_classes - 1 },
			   "shipped classes", out, err);
}

/* @over's keys replace those of @base, one level below too (limits, budget) */
static int overlay(json_t *base, const json_t *over)
{
	json_t *o = (json_t *)(uintptr_t)over;	/* iterated, not changed */

	for (void *it = json_object_iter(o); it; it = json_object_iter_next(o, it)) {
		const char *key = json_object_iter_key(it);
		json_t *v = json_object_iter_value(it), *had = json_object_get(base, key);
		int r;

		if (json_is_object(v) && json_is_object(had))
			r = overlay(had, v);
		else
			r = json_object_set_new(base, key, json_deep_copy(v));
		if (r)
			return -1;
	}
	return 0;
}

static const char *text_of(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

int config_read(struct span text, const char *file, struct config *out, struct cl_err *err)
{
	static const char *const users[USER_COUNT] = { "broker", "api", "ledger", "spawner", "model" };
	struct config c = { 0 };
	json_t *classes = NULL;
	int r = schema_load(&config_schema, text, file, &c.doc, err);

	if (r)
		return r;
	r = shipped(&classes, err);
	if (r == 0) {
		const json_t *own = json_object_get(c.doc, "classes");

		if ((own && overlay(classes, own)) || json_object_set(c.doc, "classes", classes))
			r = cl_fail(err, ENOMEM, "%s: no memory", file);
	}
	json_decref(classes);
	if (r) {
		json_decref(c.doc);
		return r;
	}
	c.listen = text_of(c.doc, "listen");
	c.model_listen = text_of(c.doc, "listen_model");
	c.state_dir = text_of(c.doc, "state");
	c.images_dir = text_of(c.doc, "images");
	c.public_url = text_of(c.doc, "public_url");
	c.group = text_of(c.doc, "group");
	c.uid_base = (uint32_t)json_integer_value(json_object_get(c.doc, "uid_base"));
	for (size_t i = 0; i < USER_COUNT; i++)
		c.user[i] = text_of(json_object_get(c.doc, "users"), users[i]);
	c.invite_ttl_s = (uint32_t)json_integer_value(
		json_object_get(json_object_get(c.doc, "invites"), "ttl"));
	c.model_said = json_object_get(c.doc, "model") != NULL;
	*out = c;
	return 0;
}

void config_done(struct config *c)
{
	json_decref(c->doc);
	*c = (struct config){ 0 };
}

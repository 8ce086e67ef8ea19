/* SPDX-License-Identifier: Apache-2.0 */
/* policy: the YAML reader, schemas, cloister.yaml, effective policy, plan, sealed configuration. */
#include "policy/config.h"
#include "policy/near.h"
#include "policy/seal.h"
#include "sandbox/plan.h"

#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int refused(const struct schema *s, const char *text, struct cl_err *err)
{
	json_t *v = NULL;
	int r = schema_load(s, span_str(text), "f.yaml", &v, err);

	assert_null(v);
	return r;
}

static void assert_says(const struct cl_err *err, const char *words)
{
	if (!strstr(err->text, words))
		fail_msg("'%s' is not in '%s'", words, err->text);
}

/* ---- reader ----------------------------------------------------------------------- */

static void an_unknown_key_is_refused_with_its_place_and_the_nearest_one(void **state)
{
	struct cl_err err;

	assert_int_equal(refused(&config_schema, "# comment\nlissten: 127.0.0.1:80\n", &err), -EINVAL);
	assert_says(&err, "f.yaml:2:1: unknown key 'lissten'; did you mean 'listen'?");
	assert_int_equal(refused(&config_schema, "classes:\n  a:\n    limits:\n      memmory: 1GiB\n", &err), -EINVAL);
	assert_says(&err, "f.yaml:4:7: unknown key 'memmory'; did you mean 'memory'?");
	assert_int_equal(refused(&config_schema, "zzzzzzzz: 1\n", &err), -EINVAL);
	assert_says(&err, "known here: listen, listen_model");
}

static void a_key_that_stands_twice_is_refused(void **state)
{
	struct cl_err err;

	assert_int_equal(refused(&config_schema, "group: a\nlisten: off\ngroup: b\n", &err), -EINVAL);
	assert_says(&err, "f.yaml:3:1: 'group' stands twice (first in line 1)");
}

static void what_hides_what_a_file_says_is_refused(void **state)
{
	static const struct { const char *text, *words; } t[] = {
		{ "group: &a x\n", "anchors" }, { "group: *a\n", "aliases" }, { "group: !!str x\n", "tags" },
		{ "<<: {group: a}\n", "merge keys" }, { "group: a\n---\ngroup: b\n", "only one document" },
		{ "%YAML 1.1\n---\ngroup: a\n", "directives" }, { "? [a]\n: b\n", "a key must be" },
		{ "group: \"a\\0b\"\n", "control characters" }, { "group: \"\\x07\"\n", "control characters" },
		{ "- a\n", "must be a map" }, { "group: [\n", "f.yaml:" }, { "group:\n", "has no value" },
		{ "group: ~\n", "has no value" }, { "group: {a: b}\n", "must be a text" },
		{ "a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: 1}}}}}}}}}}}}}}\n", "too deeply" },
	};

	for (size_t i = 0; i < CL_ARRAY_LEN(t); i++) {
		struct cl_err err = { 0 };

		assert_true(refused(&config_schema, t[i].text, &err) < 0);
		assert_says(&err, t[i].words);
	}
}

static void bytes_that_are_no_text_are_refused(void **state)
{
	struct cl_err err;
	json_t *v = NULL;
	char *big = malloc(YAML_BYTES_MAX + 1);

	assert_int_equal(schema_load(&config_schema, SPAN("group: \xff\n"), "f", &v, &err), -EINVAL);
	assert_says(&err, "UTF-8");
	assert_int_equal(schema_load(&config_schema, SPAN("group: a\0b\n"), "f", &v, &err), -EINVAL);
	assert_says(&err, "NUL");
	memset(big, '#', YAML_BYTES_MAX + 1);
	assert_int_equal(schema_load(&config_schema, (struct span){ big, YAML_BYTES_MAX + 1 }, "f", &v, &err), -EFBIG);
	free(big);
	assert_null(v);
}

static void every_prefix_of_a_good_file_is_read_or_refused_cleanly(void **state)
{
	static const char text[] = "listen: 127.0.0.1:8378\nclasses:\n  big: { limits: { memory: 2GiB, cpu: 1.5 } }\n"
				   "defaults: { class: big, routes: [a, 'b'] }\ninvites: { ttl: 2h }\n";

	for (size_t n = 0; n < sizeof text; n++) {
		struct cl_err err = { 0 };
		json_t *v = NULL;
		char *copy = malloc(n ? n : 1);	/* exactly as long: a read beyond it shows */
		int r;

		memcpy(copy, text, n);
		r = schema_load(&config_schema, (struct span){ copy, n }, "f", &v, &err);
		assert_true(r == 0 ? v != NULL : v == NULL && err.text[0]);
		json_decref(v);
		free(copy);
	}
}

/* ---- values ------------------------------------------------------------------------- */

static void values_have_the_types_of_the_table(void **state)
{
	struct cl_err err = { 0 };
	json_t *v = NULL, *l;

	assert_int_equal(schema_load(&tenant_schema, SPAN("run: true\nclass: on\nlimits: { memory: 1536MiB, cpu: 0.25, "
		"pids: 99 }\nroutes: [no, '1']\n"), "f", &v, &err), 0);
	l = json_object_get(v, "limits");
	assert_true(json_is_true(json_object_get(v, "run")));
	assert_string_equal(json_string_value(json_object_get(v, "class")), "on");	/* never a boolean */
	assert_int_equal(json_integer_value(json_object_get(l, "memory")), 1536ll << 20);
	assert_int_equal(json_integer_value(json_object_get(l, "cpu")), 250);
	assert_int_equal(json_integer_value(json_object_get(l, "pids")), 99);
	assert_string_equal(json_string_value(json_array_get(json_object_get(v, "routes"), 0)), "no");
	json_decref(v);
}

static void values_out_of_their_range_are_refused_by_name(void **state)
{
	static const struct { const char *text, *words; } t[] = {
		{ "limits: { memory: 12 }", "'memory' must be from" }, { "limits: { memory: -1 }", "must be a size" },
		{ "limits: { memory: 1.5GiB }", "must be a size" }, { "limits: { memory: 99999999999999999999TiB }", "must be a size" },
		{ "limits: { cpu: 1.2345 }", "'cpu' must be" }, { "limits: { pids: 010 }", "'pids' must be" },
		{ "run: yes", "true or false" }, { "class: A", "must be a name" }, { "class: ''", "must be a name" },
		{ "id: -a", "must be a tenant id" }, { "id: " "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "must be a tenant id" },
		{ "routes: a", "must be a list" }, { "model: { id: x }", "'route' is missing" },
		{ "model: { route: a, base_url: 'ftp://x' }", "must be an address" },
		{ "model: { route: a, base_url: 'http://u@x' }", "must be an address" },
		{ "model: { route: a, base_url: 'http://x?q' }", "must be an address" },
	};

	for (size_t i = 0; i < CL_ARRAY_LEN(t); i++) {
		struct cl_err err = { 0 };

		assert_true(refused(&tenant_schema, t[i].text, &err) < 0);
		assert_says(&err, t[i].words);
	}
}

static void json_is_checked_by_the_same_tables(void **state)
{
	struct cl_err err;
	json_t *v = json_pack("{s:s, s:{s:I}}", "class", "small", "limits", "memory", (json_int_t)1 << 30);

	assert_int_equal(schema_json(&tenant_schema, v, "policy", &err), 0);
	json_object_set_new(v, "clas", json_string("x"));
	assert_int_equal(schema_json(&tenant_schema, v, "policy", &err), -EINVAL);
	assert_says(&err, "did you mean 'class'?");
	json_object_del(v, "clas");
	json_object_set_new(json_object_get(v, "limits"), "memory", json_integer(1));
	assert_int_equal(schema_json(&tenant_schema, v, "policy", &err), -EINVAL);
	json_decref(v);
}

static void the_nearest_word_is_a_slip_away_or_none(void **state)
{
	static const char *const words[] = { "tenant", "secret", "listen", NULL };

	assert_string_equal(near_word(SPAN("tenatn"), words, 4, sizeof words[0]), "tenant");
	assert_string_equal(near_word(SPAN("lstn"), words, 4, sizeof words[0]), "listen");
	assert_null(near_word(SPAN("completely"), words, 4, sizeof words[0]));
	assert_int_equal(near_distance(SPAN("ab"), SPAN("ba")), 1);
	assert_int_equal(near_distance(SPAN(""), SPAN("abc")), 3);
}

/* ---- configuration, policy ------------------------------------------------------------- */

static void the_default_file_changes_nothing(void **state)
{
	struct config a, b;
	struct cl_err err = { 0 };

	assert_int_equal(config_read(SPAN(""), "f", &a, &err), 0);
	assert_int_equal(config_read(config_default_text(), "f", &b, &err), 0);
	assert_true(json_equal(a.doc, b.doc));
	assert_string_equal(a.listen, "127.0.0.1:8378");
	assert_int_equal(a.uid_base, 700000);
	assert_int_equal(a.invite_ttl_s, 86400);
	assert_false(a.model_said);
	config_done(&a);
	config_done(&b);
}

/* what stands behind each # of the default file is what holds without it */
static void the_comments_of_the_default_file_are_true(void **state)
{
	static const char *const lines[] = { "listen: 127.0.0.1:8378\n", "listen_model: 127.0.0.1:8379\n", "uid_base: 700000\n",
		"group: cloister\n", "defaults:\n  class: standard\n  agent: openclaw\n  timezone: UTC\n",
		"classes:\n  standard:\n    limits: { memory: 1536MiB, swap: 1GiB, cpu: 2, pids: 512, workspace: 5GiB, tmp: 512MiB }\n"
		"    budget: { calls_per_hour: 600, tokens_per_day: 2000000 }\n",
		"channels:\n  telegram:\n    api_root: https://api.telegram.org\n    secret: telegram\n", "invites:\n  ttl: 24h\n" };
	struct config plain, said;
	struct cl_err err = { 0 };

	assert_int_equal(config_read(SPAN(""), "f", &plain, &err), 0);
	for (size_t i = 0; i < CL_ARRAY_LEN(lines); i++) {
		struct span first = span_str(lines[i]), key;

		assert_true(span_cut(&first, ':', &key));
		assert_non_null(memmem(config_default_text().p, config_default_text().n, key.p, key.n));
		assert_int_equal(config_read(span_str(lines[i]), "f", &said, &err), 0);
		assert_true(json_equal(plain.doc, said.doc));
		config_done(&said);
	}
	config_done(&plain);
}

static void a_tenant_overrides_its_class_key_by_key(void **state)
{
	struct config c;
	struct cl_err err = { 0 };
	json_t *t = NULL, *e = NULL, *b, *l;

	assert_int_equal(config_read(SPAN("classes: { small: { limits: { pids: 77 } } }\n"), "f", &c, &err), 0);
	assert_int_equal(schema_load(&tenant_schema, SPAN("class: small\nlimits: { cpu: 0.5 }\nmodel: { route: openai, id: m }\n"),
				     "t", &t, &err), 0);
	assert_int_equal(policy_effective(&c, t, NULL, &e, &err), 0);
	l = json_object_get(e, "limits");
	assert_int_equal(json_integer_value(json_object_get(l, "cpu")), 500);
	assert_int_equal(json_integer_value(json_object_get(l, "pids")), 77);
	assert_int_equal(json_integer_value(json_object_get(l, "memory")), 1ll << 30);
	b = policy_for_broker(e);
	assert_string_equal(json_string_value(json_object_get(json_object_get(b, "model"), "route")), "openai");
	/* the model's own route may always be used */
	assert_string_equal(json_string_value(json_array_get(json_object_get(b, "routes"), 0)), "openai");
	assert_null(json_object_get(b, "limits"));
	json_decref(b);
	json_decref(e);
	json_decref(t);
	config_done(&c);
}

static void a_class_that_is_not_there_is_named_with_the_nearest(void **state)
{
	struct config c;
	struct cl_err err = { 0 };
	json_t *t = json_pack("{s:s}", "class", "smal"), *e = NULL;

	assert_int_equal(config_read(SPAN(""), "f", &c, &err), 0);
	assert_int_equal(policy_effective(&c, t, NULL, &e, &err), -ENOENT);
	assert_says(&err, "did you mean 'small'?");
	assert_null(e);
	json_decref(t);
	config_done(&c);
}

static void the_models_order_is_tenant_then_file_then_command_then_simulated(void **state)
{
	struct config c;
	struct cl_err err = { 0 };
	json_t *chosen = json_pack("{s:s, s:s}", "route", "ollama", "id", "x"), *m;

	assert_int_equal(config_read(SPAN(""), "f", &c, &err), 0);
	m = policy_default_model(&c, NULL);
	assert_string_equal(json_string_value(json_object_get(m, "route")), "simulated");
	json_decref(m);
	m = policy_default_model(&c, chosen);
	assert_string_equal(json_string_value(json_object_get(m, "route")), "ollama");
	json_decref(m);
	config_done(&c);
	assert_int_equal(config_read(SPAN("model: { route: openai, id: y }"), "f", &c, &err), 0);
	m = policy_default_model(&c, chosen);
	assert_string_equal(json_string_value(json_object_get(m, "route")), "openai");
	assert_true(c.model_said);
	json_decref(m);
	json_decref(chosen);
	config_done(&c);
}

static const char hex64[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

static void a_plan_has_what_class_and_agent_say(void **state)
{
	static const char agent_text[] = "name: a\ncommand: [/bin/x, '--port=@{owner_id}']\nenv: { TZ: '@{timezone}', KEY: '@{api_token}' }\n"
					 "config_path: /etc/agent/a.json\nport: 18789\nlimits: { memory_min_mb: 512 }\n";
	const struct seal_value values[] = { { "owner_id", "1001" }, { "timezone", "Europe/Berlin" }, { "api_token", "sk-x" } };
	const struct plan_facts facts = { .id = "alice", .generation = 3, .image = "a", .image_digest = hex64,
		.config_digest = hex64, .values = values, .nvalues = CL_ARRAY_LEN(values) };
	struct config c;
	struct cl_err err = { 0 };
	json_t *agent = NULL, *e = NULL;
	CL_BUF struct buf out;
	struct plan p;

	buf_init(&out, PLAN_BYTES_MAX);
	assert_int_equal(config_read(SPAN(""), "f", &c, &err), 0);
	assert_int_equal(schema_load(&agent_schema, SPAN(agent_text), "agent.yaml", &agent, &err), 0);
	assert_int_equal(policy_effective(&c, NULL, NULL, &e, &err), 0);
	assert_int_equal(policy_plan(e, agent, &facts, &out, &err), 0);
	assert_int_equal(plan_decode(buf_span(&out), &p, &err), 0);
	assert_true(span_eq(p.argv, SPAN("/bin/x\0--port=1001\0")));
	assert_true(span_eq(p.env, SPAN("TZ=Europe/Berlin\0KEY=sk-x\0")));
	assert_true(span_eq(p.hostname, SPAN("alice")));
	assert_int_equal(p.generation, 3);
	assert_int_equal(p.nports, 1);
	assert_int_equal(p.ports[0], 18789);
	assert_int_equal(p.limits.memory_bytes, 1536ull << 20);
	assert_int_equal(p.limits.cpu_ceiling_millicores, 2000);
	/* an agent that cannot live in what its class gives is refused, not started to die */
	json_object_set_new(json_object_get(agent, "limits"), "memory_min_mb", json_integer(4096));
	buf_clear(&out);
	assert_int_equal(policy_plan(e, agent, &facts, &out, &err), -EINVAL);
	assert_says(&err, "needs 4096 MiB");
	json_decref(e);
	json_decref(agent);
	config_done(&c);
}

/* ---- sealed configuration ------------------------------------------------------------------ */

static const struct seal_value vals[] = { { "token", "a\"b" }, { "id", "1001" } };

static int sealed(const char *template, const char *safety, char *out, size_t n, struct cl_err *err)
{
	CL_BUF struct buf b;
	int r;

	buf_init(&b, SEAL_MAX);
	r = seal_render(span_str(template), span_str(safety), vals, CL_ARRAY_LEN(vals), &b, err);
	if (r == 0)
		assert_int_equal(span_copy(buf_span(&b), out, n), 0);
	return r;
}

static void placeholders_become_values_and_never_markup(void **state)
{
	struct cl_err err = { 0 };
	char out[512];
	json_t *v;

	assert_int_equal(sealed("{\"a\": \"x @{token} y\", \"n\": [\"@{id:number}\"], \"s\": \"@{id}\"}", "", out, sizeof out, &err), 0);
	v = json_loads(out, JSON_REJECT_DUPLICATES, NULL);
	assert_string_equal(json_string_value(json_object_get(v, "a")), "x a\"b y");
	assert_int_equal(json_integer_value(json_array_get(json_object_get(v, "n"), 0)), 1001);
	assert_string_equal(json_string_value(json_object_get(v, "s")), "1001");
	json_decref(v);
}

static void a_bad_template_is_refused(void **state)
{
	static const char *const bad[] = { "{\"a\": \"@{nope}\"}", "{\"a\": \"@{token\"}", "{\"a\": \"x@{id:number}\"}",
		"{\"a\": \"@{token:number}\"}", "{\"@{id}\": 1}", "{\"a\": 1, \"a\": 2}", "[]", "{", "" };

	for (size_t i = 0; i < CL_ARRAY_LEN(bad); i++) {
		struct cl_err err = { 0 };
		char out[64];

		assert_int_equal(sealed(bad[i], "", out, sizeof out, &err), -EINVAL);
		assert_true(err.text[0]);
	}
}

static void safety_keys_rule_whatever_the_template_says(void **state)
{
	static const char safety[] = "{\"format\": 1, \"set\": [{\"path\": \"/tools/elevated/enabled\", \"value\": false}],"
		"\"contain\": [{\"path\": \"/tools/deny\", \"values\": [\"gateway\"]}], \"only\": [{\"path\": \"/channels\", \"keys\": [\"telegram\"]}],"
		"\"absent\": [\"/env/vars\"], \"forbidden_keys\": [\"$include\"]}";
	struct cl_err err = { 0 };
	char out[512];
	json_t *v, *tools;

	assert_int_equal(sealed("{\"tools\": {\"elevated\": {\"enabled\": true}, \"deny\": [\"x\"]}, \"channels\": {\"telegram\": {}}}",
				safety, out, sizeof out, &err), 0);
	v = json_loads(out, JSON_REJECT_DUPLICATES, NULL);
	tools = json_object_get(v, "tools");
	assert_true(json_is_false(json_object_get(json_object_get(tools, "elevated"), "enabled")));
	assert_int_equal(json_array_size(json_object_get(tools, "deny")), 2);
	json_decref(v);
	assert_int_equal(sealed("{\"channels\": {\"slack\": {}}}", safety, out, sizeof out, &err), -EINVAL);
	assert_says(&err, "must not have 'slack'");
	assert_int_equal(sealed("{\"env\": {\"vars\": {}}}", safety, out, sizeof out, &err), -EINVAL);
	assert_says(&err, "must not be there");
	assert_int_equal(sealed("{\"a\": [{\"$include\": \"x\"}]}", safety, out, sizeof out, &err), -EINVAL);
	assert_says(&err, "$include");
	assert_int_equal(sealed("{\"tools\": 1}", safety, out, sizeof out, &err), -EINVAL);
	assert_says(&err, "stands on the way");
	/* a rule of a newer version would be a wall that is not there */
	assert_int_equal(sealed("{}", "{\"format\": 1, \"forbid\": []}", out, sizeof out, &err), -EINVAL);
	assert_int_equal(sealed("{}", "{\"format\": 2}", out, sizeof out, &err), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_unknown_key_is_refused_with_its_place_and_the_nearest_one),
		cmocka_unit_test(a_key_that_stands_twice_is_refused),
		cmocka_unit_test(what_hides_what_a_file_says_is_refused),
		cmocka_unit_test(bytes_that_are_no_text_are_refused),
		cmocka_unit_test(every_prefix_of_a_good_file_is_read_or_refused_cleanly),
		cmocka_unit_test(values_have_the_types_of_the_table),
		cmocka_unit_test(values_out_of_their_range_are_refused_by_name),
		cmocka_unit_test(json_is_checked_by_the_same_tables),
		cmocka_unit_test(the_nearest_word_is_a_slip_away_or_none),
		cmocka_unit_test(the_default_file_changes_nothing),
		cmocka_unit_test(the_comments_of_the_default_file_are_true),
		cmocka_unit_test(a_tenant_overrides_its_class_key_by_key),
		cmocka_unit_test(a_class_that_is_not_there_is_named_with_the_nearest),
		cmocka_unit_test(the_models_order_is_tenant_then_file_then_command_then_simulated),
		cmocka_unit_test(a_plan_has_what_class_and_agent_say),
		cmocka_unit_test(placeholders_become_values_and_never_markup),
		cmocka_unit_test(a_bad_template_is_refused),
		cmocka_unit_test(safety_keys_rule_whatever_the_template_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The broker's pure parts: vault, tokens, scrubber, usage, body rules, routes, budget, addresses. */
#include "broker/route/budget.h"
#include "broker/route/doc.h"
#include "broker/route/resolve.h"
#include "broker/route/scrub.h"
#include "broker/route/usage.h"
#include "broker/token.h"
#include "broker/vault.h"

#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];
static int dir_fd;

static int setup(void **state)
{
	(void)state;
	(void)snprintf(dir, sizeof dir, "/tmp/cloister-parts-XXXXXX");
	assert_non_null(mkdtemp(dir));
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(dir_fd >= 0);
	assert_int_equal(fchdir(dir_fd), 0);
	return 0;
}

static int teardown(void **state)
{
	static const char *const files[] = { "vault.key", "token.key", "budget.db", "budget.db-wal", "budget.db-shm" };

	(void)state;
	for (size_t i = 0; i < CL_ARRAY_LEN(files); i++)
		(void)unlinkat(dir_fd, files[i], 0);
	(void)close(dir_fd);
	return rmdir(dir);
}

static int put(struct vault *v, const char *name, const char *secret, size_t n)
{
	unsigned char box[SECRET_MAX + 100];
	char print[FINGERPRINT_SIZE];

	assert_int_equal(crypto_box_seal(box, (const unsigned char *)secret, n, vault_pubkey(v)), 0);
	return vault_put(v, span_str(name), (struct span){ (char *)box, n + crypto_box_SEALBYTES }, print, NULL);
}

/* ---- vault, tokens ------------------------------------------------------------------ */

static void the_vault_opens_what_is_sealed_to_it_and_nothing_else(void **state)
{
	struct vault *v, *again;
	unsigned char pk[VAULT_PUBKEY], box[100];
	char print[FINGERPRINT_SIZE];
	struct stat st;

	(void)state;
	assert_int_equal(vault_new(&v, dir_fd, NULL), 0);
	memcpy(pk, vault_pubkey(v), sizeof pk);
	assert_int_equal(fstatat(dir_fd, "vault.key", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(put(v, "openai", "sk-12345678", 11), 0);
	assert_true(span_eq_str(vault_get(v, "openai"), "sk-12345678"));
	assert_null(vault_get(v, "other").p);
	assert_int_equal(put(v, "openai", "sk-new", 6), 0);
	assert_true(span_eq_str(vault_get(v, "openai"), "sk-new"));
	assert_int_equal(put(v, "bad name", "x", 1), -EINVAL);
	assert_int_equal(put(v, "a", "line\nbreak", 10), -EBADMSG);
	assert_int_equal(put(v, "a", "cr\r", 3), -EBADMSG);
	assert_int_equal(put(v, "a", "nul\0x", 5), -EBADMSG);
	assert_int_equal(put(v, "a", "", 0), -EBADMSG);
	assert_int_equal(vault_new(&again, dir_fd, NULL), 0);	/* the same key pair */
	assert_memory_equal(vault_pubkey(again), pk, sizeof pk);
	vault_free(again);
	pk[0] ^= 1;
	if (crypto_box_seal(box, (const unsigned char *)"abc", 3, pk) == 0)
		assert_int_equal(vault_put(v, SPAN("a"), (struct span){ (char *)box, 3 + crypto_box_SEALBYTES },
					   print, NULL), -EBADMSG);
	assert_int_equal(vault_rm(v, SPAN("openai")), 0);
	assert_int_equal(vault_rm(v, SPAN("openai")), -ENOENT);
	vault_free(v);
}

static void a_vault_key_that_others_can_read_is_refused(void **state)
{
	struct vault *v;

	(void)state;
	assert_int_equal(vault_new(&v, dir_fd, NULL), 0);
	vault_free(v);
	assert_int_equal(fchmodat(dir_fd, "vault.key", 0644, 0), 0);
	assert_int_equal(vault_new(&v, dir_fd, NULL), -EPERM);
}

static void a_token_is_good_for_its_kind_tenant_and_generation_only(void **state)
{
	struct token_key *k;
	char a[TOKEN_SIZE], b[TOKEN_SIZE];

	(void)state;
	assert_int_equal(token_key_new(&k, dir_fd, NULL), 0);
	token_make(k, TOKEN_API, 1, 7, a);
	token_make(k, TOKEN_BOT, 1, 7, b);
	assert_int_equal(strlen(a), 12 + 43);
	assert_true(token_ok(k, TOKEN_API, 1, 7, span_str(a)));
	assert_true(token_ok(k, TOKEN_BOT, 1, 7, span_str(b)));
	assert_false(token_ok(k, TOKEN_API, 2, 7, span_str(a)));
	assert_false(token_ok(k, TOKEN_API, 1, 8, span_str(a)));
	assert_false(token_ok(k, TOKEN_BOT, 1, 7, span_str(a)));
	assert_memory_not_equal(a + 12, b + 5, 43);
	for (size_t i = 0; i < strlen(a); i++) {
		char c[TOKEN_SIZE];

		memcpy(c, a, sizeof c);
		c[i] = c[i] == 'A' ? 'B' : 'A';
		assert_false(token_ok(k, TOKEN_API, 1, 7, span_str(c)));
		assert_false(token_ok(k, TOKEN_API, 1, 7, (struct span){ a, i }));
	}
	token_key_free(k);
	assert_int_equal(token_key_new(&k, dir_fd, NULL), 0);
	assert_true(token_ok(k, TOKEN_API, 1, 7, span_str(a)));
	token_key_free(k);
}

/* ---- scrubber ------------------------------------------------------------------------- */

static const char secret[] = "sk-proj-Ab/9+zQ\"x%7_secret=";

/* through the stream in pieces of @step; @out NUL-terminated. Return: found */
static uint64_t stream(struct scrubber *s, const char *in, size_t n, size_t step, char *out)
{
	struct scrub x;
	struct span pass;
	CL_BUF struct buf b;
	size_t k = 0;

	scrub_init(&x, s);
	for (size_t at = 0; at < n || at == 0; at += step) {
		size_t m = n - at < step ? n - at : step;

		buf_init(&b, 1u << 20);
		assert_int_equal(scrub_next(&x, (struct span){ in + at, m }, at + m == n, &b, &pass), 0);
		assert_true(b.n == 0 || pass.n == 0);
		if (pass.n)
			memcpy(out + k, pass.p, pass.n);
		else if (b.n)
			memcpy(out + k, b.p, b.n);
		k += pass.n ? pass.n : b.n;
		buf_done(&b);
		if (m == 0)
			break;
	}
	buf_init(&b, 16);
	out[k] = '\0';
	assert_int_equal(k, n);		/* the length never changes */
	uint64_t found = x.found;

	scrub_done(&x);
	return found;
}

static void a_secret_is_blanked_in_every_encoding_at_every_border(void **state)
{
	struct vault *v;
	struct scrubber *s;
	char forms[16][400], text[1000], out[1000];
	size_t n = 0, len = sizeof secret - 1;

	(void)state;
	assert_int_equal(vault_new(&v, dir_fd, NULL), 0);
	assert_int_equal(put(v, "openai", secret, len), 0);
	assert_int_equal(put(v, "other", "another-secret-value", 20), 0);
	assert_int_equal(scrubber_new(&s, v, NULL), 0);

	(void)snprintf(forms[n++], 400, "%s", secret);
	for (size_t i = 0; i < len; i++)
		forms[n][i] = secret[len - 1 - i];
	forms[n++][len] = '\0';
	(void)sodium_bin2hex(forms[n++], 400, (const unsigned char *)secret, len);
	for (size_t i = 0; i < len; i++)
		(void)snprintf(forms[n] + 2 * i, 3, "%02X", (unsigned)(unsigned char)secret[i]);
	n++;
	(void)snprintf(forms[n++], 400, "sk-proj-Ab%%2F9%%2BzQ%%22x%%257_secret%%3D");
	(void)snprintf(forms[n++], 400, "sk-proj-Ab%%2f9%%2bzQ%%22x%%257_secret%%3d");
	(void)snprintf(forms[n++], 400, "sk-proj-Ab\\/9+zQ\\\"x%%7_secret=");
	for (size_t shift = 0; shift < 3; shift++) {	/* inside of a longer text, in all alignments */
		char plain[100];

		(void)snprintf(plain, sizeof plain, "%.*s%s tail", (int)shift, "xyz", secret);
		(void)sodium_bin2base64(forms[n++], 400, (unsigned char *)plain, strlen(plain),
					sodium_base64_VARIANT_ORIGINAL);
		(void)sodium_bin2base64(forms[n++], 400, (unsigned char *)plain, strlen(plain),
					sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	}
	for (size_t f = 0; f < n; f++) {
		(void)snprintf(text, sizeof text, "{\"error\": \"sk-proj-sk-%.399s and more sk-proj\"}", forms[f]);
		for (size_t step = 1; step <= strlen(text); step++)
			if (stream(s, text, strlen(text), step, out) != 1 || strstr(out, "secret") ||
			    strstr(out, forms[f]))
				fail_msg("form %zu step %zu: %s -> %s", f, step, text, out);
		assert_non_null(strstr(out, " and more sk-proj\"}"));
		assert_memory_equal(out, "{\"error\": \"sk-proj-sk-", 20);
	}
	/* half a secret is no secret, and innocent text stays as it is */
	(void)snprintf(text, sizeof text, "sk-proj-Ab/9+zQ and sk-proj-Ab/9 another-secret");
	for (size_t step = 1; step <= strlen(text); step++) {
		assert_int_equal(stream(s, text, strlen(text), step, out), 0);
		assert_string_equal(out, text);
	}
	assert_true(scrubber_find(s, SPAN("xx another-secret-value yy"), out, 65));
	assert_string_equal(out, "other");
	scrubber_unref(s);
	vault_free(v);
}

static void overlapping_secrets_are_all_blanked(void **state)
{
	struct vault *v;
	struct scrubber *s;
	char out[200];

	(void)state;
	assert_int_equal(vault_new(&v, dir_fd, NULL), 0);
	assert_int_equal(put(v, "a", "abcdefghij", 10), 0);
	assert_int_equal(put(v, "b", "cdefgh", 6), 0);
	assert_int_equal(put(v, "c", "hijKLMNO", 8), 0);
	assert_int_equal(scrubber_new(&s, v, NULL), 0);
	for (size_t step = 1; step < 20; step++) {
		(void)stream(s, "..abcdefghijKLMNO..", 19, step, out);
		assert_string_equal(out, "..***************..");
	}
	scrubber_unref(s);
	vault_free(v);
}

static void an_empty_vault_scrubs_nothing(void **state)
{
	struct vault *v;
	struct scrubber *s;
	char out[100];

	(void)state;
	assert_int_equal(vault_new(&v, dir_fd, NULL), 0);
	assert_int_equal(scrubber_new(&s, v, NULL), 0);
	assert_int_equal(stream(s, "hello", 5, 2, out), 0);
	assert_string_equal(out, "hello");
	scrubber_unref(s);
	vault_free(v);
}

/* ---- usage ------------------------------------------------------------------------------ */

static void usage_is_found_in_answers_and_streams_whatever_the_pieces(void **state)
{
	static const struct { const char *text; uint64_t in, out, cached; } t[] = {
		{ "{\"choices\":[{\"message\":{\"content\":\"my \\\"usage\\\":{\\\"prompt_tokens\\\":9999}\"}}],"
		  "\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":34,\"prompt_tokens_details\":"
		  "{\"cached_tokens\":5}}}", 12, 34, 5 },
		{ "event: message_start\ndata: {\"message\":{\"usage\":{\"input_tokens\":7,\"output_tokens\":1}}}\n\n"
		  "event: message_delta\ndata: {\"usage\":{\"output_tokens\":21}}\n\n", 7, 21, 0 },
		{ "data: {\"usage\":null}\n\ndata: {\"usage\": {\"prompt_tokens\": 3, \"completion_tokens\": 4}}\n\n", 3, 4, 0 },
		{ "{\"\"usage\"\":{\"prompt_tokens\":1}}", 0, 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < CL_ARRAY_LEN(t); i++) {
		size_t n = strlen(t[i].text);

		for (size_t step = 1; step <= n; step++) {
			struct usage u;

			usage_init(&u);
			for (size_t at = 0; at < n; at += step)
				usage_next(&u, (struct span){ t[i].text + at, n - at < step ? n - at : step });
			assert_int_equal(u.in_tokens, t[i].in);
			assert_int_equal(u.out_tokens, t[i].out);
			assert_int_equal(u.cached_tokens, t[i].cached);
		}
	}
}

/* ---- bodies ------------------------------------------------------------------------------- */

static void what_makes_the_provider_reach_out_is_seen(void **state)
{
	static const struct { bool fetches; enum body_shape shape; const char *body; } t[] = {
		{ false, BODY_SHAPE_OPENAI, "{\"model\":\"m\",\"tools\":[{\"type\":\"function\",\"function\":{}}]}" },
		{ true, BODY_SHAPE_OPENAI, "{\"tools\":[{\"type\":\"function\"},{\"type\":\"web_search_preview\"}]}" },
		{ true, BODY_SHAPE_OPENAI, "{\"tools\":[{\"type\":\"m\\u0063p\",\"server_url\":\"https://evil\"}]}" },
		{ true, BODY_SHAPE_OPENAI, "{\"tools\":[{}]}" },
		{ true, BODY_SHAPE_OPENAI, "{\"web_search_options\":{}}" },
		{ false, BODY_SHAPE_OPENAI, "{\"web_search_options\":null}" },
		{ true, BODY_SHAPE_OPENAI, "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\","
		  "\"image_url\":{\"url\":\"https://evil/?d=1\"}}]}]}" },
		{ false, BODY_SHAPE_OPENAI, "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\","
		  "\"image_url\":{\"url\":\"data:image/png;base64,AA\"}}]}]}" },
		{ true, BODY_SHAPE_OPENAI, "{\"input\":[{\"type\":\"message\",\"content\":[{\"type\":\"input_image\","
		  "\"image_url\":\"http://evil\"}]}]}" },
		{ true, BODY_SHAPE_OPENAI, "{\"previous_response_id\":\"resp_1\"}" },
		{ false, BODY_SHAPE_ANTHROPIC, "{\"tools\":[{\"name\":\"x\",\"input_schema\":{}}]}" },
		{ false, BODY_SHAPE_ANTHROPIC, "{\"tools\":[{\"type\":\"bash_20250124\",\"name\":\"bash\"}]}" },
		{ true, BODY_SHAPE_ANTHROPIC, "{\"tools\":[{\"type\":\"web_search_20250305\",\"name\":\"web_search\"}]}" },
		{ true, BODY_SHAPE_ANTHROPIC, "{\"mcp_servers\":[{\"url\":\"https://evil\"}]}" },
		{ true, BODY_SHAPE_ANTHROPIC, "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\","
		  "\"source\":{\"type\":\"url\",\"url\":\"https://evil\"}}]}]}" },
		{ true, BODY_SHAPE_ANTHROPIC, "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\","
		  "\"content\":[{\"type\":\"image\",\"source\":{\"type\":\"url\",\"url\":\"https://evil\"}}]}]}]}" },
		{ false, BODY_SHAPE_HTTP, "{\"tools\":[{\"type\":\"anything\"}]}" },
	};
	char what[100];

	(void)state;
	for (size_t i = 0; i < CL_ARRAY_LEN(t); i++) {
		assert_int_equal(body_check(span_str(t[i].body), what, sizeof what), 0);
		if (body_fetches(span_str(t[i].body), t[i].shape, what, sizeof what) != t[i].fetches)
			fail_msg("%s", t[i].body);
	}
}

static struct route_doc *doc(const char *json, int want)
{
	struct route_doc *d = NULL;
	struct cl_err err = { 0 };
	json_error_t je;
	json_t *j = json_loads(json, JSON_REJECT_DUPLICATES, &je);

	assert_non_null(j);
	int r = route_doc_new(&d, j, &err);

	if (r != want)
		fail_msg("%d instead of %d (%s): %s", r, want, err.text, json);
	json_decref(j);
	return d;
}

static void body_rules_are_met_or_the_request_is_refused(void **state)
{
	static const struct { int want; const char *body; } t[] = {
		{ 0, "{\"to\":\"a@x\",\"n\":3,\"list\":[{\"k\":\"v1\"},{\"k\":\"v2\"}],\"url\":\"https://ok/1\"}" },
		{ 0, "{\"to\":\"a\\u0040x\",\"url\":\"https://ok/\"}" },
		{ -EPERM, "{\"to\":\"b@x\",\"url\":\"https://ok/\"}" },
		{ -EPERM, "{\"url\":\"https://ok/\"}" },
		{ -EPERM, "{\"to\":[\"a@x\"],\"url\":\"https://ok/\"}" },
		{ -EPERM, "{\"to\":\"a@x\",\"url\":\"https://ok.evil/\"}" },
		{ -EPERM, "{\"to\":\"a@x\",\"url\":\"https://ok/\",\"n\":4}" },
		{ -EPERM, "{\"to\":\"a@x\",\"url\":\"https://ok/\",\"n\":\"3\"}" },
		{ -EPERM, "{\"to\":\"a@x\",\"url\":\"https://ok/\",\"bcc\":null}" },
		{ -EPERM, "{\"to\":\"a@x\",\"url\":\"https://ok/\",\"list\":[{\"k\":\"v1\"},{\"k\":\"v3\"}]}" },
		{ -EPERM, "[]" },
	};
	struct route_doc *d = doc("{\"name\":\"mail\",\"upstream\":\"https://x.example\",\"body\":["
				  "{\"at\":\"/to\",\"equals\":\"a@x\"},{\"at\":\"/n\",\"at_most\":3},"
				  "{\"at\":\"/bcc\",\"absent\":true},{\"at\":\"/list/*/k\",\"one_of\":[\"v1\",\"v2\"]},"
				  "{\"at\":\"/url\",\"prefix\":\"https://ok/\"}]}", 0);
	char why[200];

	(void)state;
	for (size_t i = 0; i < CL_ARRAY_LEN(t); i++) {
		assert_int_equal(body_check(span_str(t[i].body), why, sizeof why), 0);
		if (body_rules(span_str(t[i].body), d->rules, d->nrules, why, sizeof why) != t[i].want)
			fail_msg("%s", t[i].body);
	}
	route_doc_unref(d);
}

/* ---- routes ----------------------------------------------------------------------------------- */

static void route_documents_are_strict(void **state)
{
	static const char *const good[] = {
		"{\"name\":\"a\",\"upstream\":\"https://api.openai.com\",\"kind\":\"openai\",\"secret\":\"openai\"}",
		"{\"name\":\"a\",\"upstream\":\"http://127.0.0.1:11434\"}",
		"{\"name\":\"a\",\"upstream\":\"http://[::1]:11434/api\"}",
		"{\"name\":\"a\",\"upstream\":\"http://llm.lan\",\"private\":true}",
		"{\"name\":\"a\",\"upstream\":\"https://x.example\",\"secret\":\"k\",\"inject\":{\"query\":\"key\"}}",
		"{\"name\":\"a\",\"upstream\":\"https://x.example\",\"secret\":\"k\",\"inject\":{\"basic\":\"api\"}}",
		"{\"name\":\"a\",\"upstream\":\"https://x.example\",\"secret\":\"k\",\"inject\":{\"path\":\"/bot\"}}",
	};
	static const char *const bad[] = {
		"[]", "{}", "{\"name\":\"a\"}", "{\"name\":\"A b\",\"upstream\":\"https://x.example\"}",
		"{\"name\":\"a\",\"upstream\":\"ftp://x\"}", "{\"name\":\"a\",\"upstream\":\"http://x.example\"}",
		"{\"name\":\"a\",\"upstream\":\"https://u@x.example\"}", "{\"name\":\"a\",\"upstream\":\"https://x.example:0\"}",
		"{\"name\":\"a\",\"upstream\":\"https://x.example:99999\"}", "{\"name\":\"a\",\"upstream\":\"https://\"}",
		"{\"name\":\"a\",\"upstream\":\"https://x..y\"}", "{\"name\":\"a\",\"upstream\":\"https://0x7f.1\"}",
		"{\"name\":\"a\",\"upstream\":\"https://2130706433\"}", "{\"name\":\"a\",\"upstream\":\"https://x.example/a/../b\"}",
		"{\"name\":\"a\",\"upstream\":\"https://x.example?q=1\"}", "{\"name\":\"a\",\"upstream\":\"https://x.example\",\"typo\":1}",
		"{\"name\":\"a\",\"upstream\":\"https://x.example\",\"inject\":{\"header\":\"X\"}}",
		"{\"name\":\"a\",\"upstream\":\"https://x.example\",\"secret\":\"k\",\"inject\":{\"header\":\"Host\"}}",
		"{\"name\":\"a\",\"upstream\":\"https://x.example\",\"secret\":\"k\",\"inject\":{\"header\":\"a b\"}}",
		"{\"name\":\"a\",\"upstream\":\"https://x.example\",\"secret\":\"k\",\"inject\":{\"header\":\"X\",\"query\":\"y\"}}",
		"{\"name\":\"a\",\"upstream\":\"https://x.example\",\"headers\":{\"X\":\"a\\r\\nB: c\"}}",
		"{\"name\":\"a\",\"upstream\":\"https://x.example\",\"headers\":{\"Content-Length\":\"1\"}}",
		"{\"name\":\"a\",\"upstream\":\"https://x.example\",\"forward\":[\"authorization\"]}",
		"{\"name\":\"a\",\"upstream\":\"https://x.example\",\"allow\":[{\"method\":\"get\",\"path\":\"/\"}]}",
		"{\"name\":\"a\",\"upstream\":\"https://x.example\",\"allow\":[{\"method\":\"GET\",\"path\":\"/a*b\"}]}",
		"{\"name\":\"a\",\"upstream\":\"https://x.example\",\"allow\":[{\"method\":\"GET\",\"path\":\"/../x\"}]}",
		"{\"name\":\"a\",\"upstream\":\"https://x.example\",\"body\":[{\"at\":\"x\",\"equals\":\"y\"}]}",
		"{\"name\":\"a\",\"upstream\":\"https://x.example\",\"body\":[{\"at\":\"/x\",\"equals\":1}]}",
		"{\"name\":\"a\",\"upstream\":\"https://x.example\",\"timeout\":0}",
		"{\"name\":\"a\",\"upstream\":\"https://x.example\",\"ca\":\"no pem\"}",
	};

	(void)state;
	for (size_t i = 0; i < CL_ARRAY_LEN(good); i++)
		route_doc_unref(doc(good[i], 0));
	for (size_t i = 0; i < CL_ARRAY_LEN(bad); i++) {
		struct route_doc *d = NULL;
		json_t *j = json_loads(bad[i], 0, NULL);
		int r = route_doc_new(&d, j, NULL);

		if (r >= 0)
			fail_msg("accepted: %s", bad[i]);
		json_decref(j);
	}
}

static void methods_and_paths_are_matched_exactly(void **state)
{
	struct route_doc *d = doc("{\"name\":\"a\",\"upstream\":\"https://x.example\",\"allow\":["
				  "{\"method\":\"POST\",\"path\":\"/v1/x\"},{\"method\":\"GET\",\"path\":\"/v1/files/*\"}]}", 0);
	bool other;

	(void)state;
	assert_true(route_doc_allows(d, SPAN("POST"), SPAN("/v1/x"), &other));
	assert_true(route_doc_allows(d, SPAN("GET"), SPAN("/v1/files/a/b"), &other));
	assert_false(route_doc_allows(d, SPAN("GET"), SPAN("/v1/x"), &other));
	assert_true(other);
	assert_false(route_doc_allows(d, SPAN("POST"), SPAN("/v1/x/"), &other));
	assert_false(other);
	assert_false(route_doc_allows(d, SPAN("POST"), SPAN("/v1/X"), &other));
	assert_false(route_doc_allows(d, SPAN("GET"), SPAN("/v1/files"), &other));
	assert_false(route_doc_allows(d, SPAN("GET"), SPAN("/v1/files/"), &other));
	assert_false(route_doc_allows(d, SPAN("GET"), SPAN("/v1/filesystem"), &other));
	route_doc_unref(d);
}

/* ---- budget --------------------------------------------------------------------------------------- */

static void a_budget_is_checked_before_and_settled_after(void **state)
{
	const int64_t hour = 3600000000LL, now = 500000 * hour + 60000000;
	struct budget b = { .max = { 3, 1000 } };
	enum budget_kind kind;
	int wait;

	(void)state;
	assert_int_equal(budget_reserve(&b, 600, now, &kind, &wait), 0);
	assert_int_equal(budget_reserve(&b, 600, now, &kind, &wait), -EDQUOT);	/* while the first is under way */
	assert_int_equal(kind, BUDGET_TOKENS_DAY);
	budget_settle(&b, 600, 100, true, now);
	assert_int_equal(budget_reserve(&b, 900, now, &kind, &wait), 0);
	budget_settle(&b, 900, 0, false, now);		/* it never left: no call, no tokens */
	assert_int_equal(b.used[BUDGET_CALLS_HOUR], 1);
	assert_int_equal(b.used[BUDGET_TOKENS_DAY], 100);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(budget_reserve(&b, 1, now, &kind, &wait), 0);
		budget_settle(&b, 1, 1, true, now);
	}
	assert_int_equal(budget_reserve(&b, 1, now, &kind, &wait), -EDQUOT);
	assert_int_equal(kind, BUDGET_CALLS_HOUR);
	assert_int_equal(wait, 3540);
	assert_int_equal(budget_reserve(&b, 1, now + hour, &kind, &wait), 0);	/* a new hour */
	assert_int_equal(b.used[BUDGET_TOKENS_DAY], 102);
}

static void what_was_used_survives_a_restart(void **state)
{
	struct budget_store *s;
	struct budget b = { .max = { 0, 0 } }, again = { 0 };
	enum budget_kind kind;
	int wait;

	(void)state;
	assert_int_equal(budget_open(&s, "budget.db", NULL), 0);
	assert_int_equal(budget_load(s, &b, 7, NULL), 0);
	assert_int_equal(budget_reserve(&b, 50, cl_now_us(), &kind, &wait), 0);
	budget_settle(&b, 50, 40, true, cl_now_us());
	assert_int_equal(budget_reserve(&b, 60, cl_now_us(), &kind, &wait), 0);	/* under way when it ends */
	assert_int_equal(budget_save(s, &b, NULL), 0);
	budget_close(s);
	assert_int_equal(budget_open(&s, "budget.db", NULL), 0);
	assert_int_equal(budget_load(s, &again, 7, NULL), 0);
	assert_int_equal(again.used[BUDGET_CALLS_HOUR], 2);
	assert_int_equal(again.used[BUDGET_TOKENS_DAY], 100);
	assert_int_equal(budget_rm(s, 7, NULL), 0);
	budget_close(s);
}

/* ---- addresses --------------------------------------------------------------------------------------- */

static void addresses_are_classed_also_behind_their_disguises(void **state)
{
	static const struct { const char *text; enum addr_class c; } t[] = {
		{ "8.8.8.8", ADDR_PUBLIC }, { "127.0.0.1", ADDR_PRIVATE }, { "10.1.2.3", ADDR_PRIVATE },
		{ "172.31.255.255", ADDR_PRIVATE }, { "172.32.0.1", ADDR_PUBLIC }, { "192.168.0.1", ADDR_PRIVATE },
		{ "100.64.0.1", ADDR_PRIVATE }, { "169.254.169.254", ADDR_FORBIDDEN }, { "0.0.0.0", ADDR_FORBIDDEN },
		{ "224.0.0.1", ADDR_FORBIDDEN }, { "255.255.255.255", ADDR_FORBIDDEN }, { "198.18.0.1", ADDR_FORBIDDEN },
		{ "::1", ADDR_PRIVATE }, { "::", ADDR_FORBIDDEN }, { "fe80::1", ADDR_FORBIDDEN },
		{ "fc00::1", ADDR_PRIVATE }, { "fd00:ec2::254", ADDR_FORBIDDEN }, { "ff02::1", ADDR_FORBIDDEN },
		{ "::ffff:127.0.0.1", ADDR_PRIVATE }, { "::ffff:169.254.169.254", ADDR_FORBIDDEN },
		{ "::ffff:8.8.8.8", ADDR_PUBLIC }, { "64:ff9b::a9fe:a9fe", ADDR_FORBIDDEN },
		{ "2002:7f00:1::", ADDR_FORBIDDEN }, { "2001::1", ADDR_FORBIDDEN }, { "2001:db8::1", ADDR_FORBIDDEN },
		{ "2606:4700::1111", ADDR_PUBLIC }, { "::127.0.0.1", ADDR_FORBIDDEN },
	};

	(void)state;
	for (size_t i = 0; i < CL_ARRAY_LEN(t); i++) {
		union addr a;

		assert_true(addr_literal(t[i].text, 1, &a));
		if (addr_class(&a) != t[i].c)
			fail_msg("%s: %d", t[i].text, (int)addr_class(&a));
	}
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(the_vault_opens_what_is_sealed_to_it_and_nothing_else),
		T(a_vault_key_that_others_can_read_is_refused),
		T(a_token_is_good_for_its_kind_tenant_and_generation_only),
		T(a_secret_is_blanked_in_every_encoding_at_every_border),
		T(overlapping_secrets_are_all_blanked),
		T(an_empty_vault_scrubs_nothing),
		cmocka_unit_test(usage_is_found_in_answers_and_streams_whatever_the_pieces),
		cmocka_unit_test(what_makes_the_provider_reach_out_is_seen),
		cmocka_unit_test(body_rules_are_met_or_the_request_is_refused),
		cmocka_unit_test(route_documents_are_strict),
		cmocka_unit_test(methods_and_paths_are_matched_exactly),
		cmocka_unit_test(a_budget_is_checked_before_and_settled_after),
		T(what_was_used_survives_a_restart),
		cmocka_unit_test(addresses_are_classed_also_behind_their_disguises),
	};
#undef T

	return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}

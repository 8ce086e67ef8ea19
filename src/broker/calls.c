/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The methods that the api may call (ARCHITECTURE.md has them with their
 * bodies). What is not in the table goes to the conversation, which has a
 * table of its own.
 */
#include "broker/broker.h"

#include "broker/conv/conv.h"
#include "broker/route/route.h"
#include "broker/token.h"
#include "broker/vault.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define ANSWER_MAX 131072
#define SEALED_MAX (SECRET_MAX + crypto_box_SEALBYTES)

static struct span text_of(const json_t *body, const char *key)
{
	const json_t *v = json_object_get(body, key);

	return (struct span){ json_string_value(v), json_string_length(v) };
}

static bool number_of(const json_t *body, const char *key, uint32_t *out)
{
	const json_t *v = json_object_get(body, key);
	json_int_t n = json_integer_value(v);

	if (!json_is_integer(v) || n < 0 || n > UINT32_MAX)
		return false;
	*out = (uint32_t)n;
	return true;
}

int call_fail_with(struct call *c, int status, const char *fmt, ...)
{
	char words[512];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(words, sizeof words, fmt, ap);	/* cut is fine */
	va_end(ap);
	buf_clear(c->out);
	(void)buf_add_str(c->out, "{\"error\":{\"message\":");	/* sticky; small */
	(void)buf_add_json_str(c->out, span_str(words));
	(void)buf_add_str(c->out, "}}");
	return status;
}

static int on_pubkey(struct call *c)
{
	char b64[sodium_base64_ENCODED_LEN(VAULT_PUBKEY, sodium_base64_VARIANT_ORIGINAL)];

	sodium_bin2base64(b64, sizeof b64, vault_pubkey(c->b->vault), VAULT_PUBKEY,
			  sodium_base64_VARIANT_ORIGINAL);
	(void)buf_printf(c->out, "{\"pubkey\":\"%s\"}", b64);
	return 200;
}

static void secret_changed(struct broker *b, struct span name)
{
	char n[65];

	if (span_copy(name, n, sizeof n) == 0) {
		routes_secret_changed(b->routes, n);
		conv_secret_changed(b->conv, n);
	}
}

static int on_secret_put(struct call *c)
{
	struct span name = text_of(c->body, "name"), b64 = text_of(c->body, "sealed");
	unsigned char sealed[SEALED_MAX];
	char print[FINGERPRINT_SIZE];
	struct cl_err err = { 0 };
	size_t n = 0;
	int r;

	if (!b64.p || sodium_base642bin(sealed, sizeof sealed, b64.p, b64.n, NULL, &n, NULL,
					sodium_base64_VARIANT_ORIGINAL) != 0)
		return call_fail_with(c, 422, "secret '%.*s': \"sealed\" is no base64 of at most %d bytes",
				      SPAN_FMT(name), SECRET_MAX);
	r = vault_put(c->b->vault, name, (struct span){ (char *)sealed, n }, print, &err);
	if (r)
		return call_fail_with(c, 422, "%s", err.text);
	secret_changed(c->b, name);
	(void)buf_printf(c->out, "{\"fingerprint\":\"%s\"}", print);
	return 200;
}

static int on_secret_rm(struct call *c)
{
	struct span name = text_of(c->body, "name");

	if (!name.p || vault_rm(c->b->vault, name))
		return call_fail_with(c, 404, "there is no secret '%.*s'", SPAN_FMT(name));
	secret_changed(c->b, name);
	(void)buf_add_str(c->out, "{}");
	return 200;
}

static int on_tenant_put(struct call *c)
{
	struct span id = text_of(c->body, "id");
	const json_t *policy = json_object_get(c->body, "policy");
	uint32_t no, generation;
	char api[TOKEN_SIZE], bot[TOKEN_SIZE];
	struct cl_err err = { 0 };

	if (!id.p || !number_of(c->body, "no", &no) || !number_of(c->body, "generation", &generation) ||
	    !json_is_object(policy))
		return call_fail_with(c, 400, "tenant.put needs no, id, generation and policy");
	if (tenant_put(c->b, no, id, generation, policy, &err))
		return call_fail_with(c, 422, "%s", cl_err_str(&err));
	token_make(c->b->tokens, TOKEN_API, no, generation, api);
	token_make(c->b->tokens, TOKEN_BOT, no, generation, bot);
	(void)buf_printf(c->out, "{\"tokens\":{\"api\":\"%s\",\"bot\":\"%s\"}}", api, bot);
	return 200;
}

static int on_tenant_rm(struct call *c)
{
	struct cl_err err = { 0 };
	uint32_t no;

	if (!number_of(c->body, "no", &no))
		return call_fail_with(c, 400, "tenant.rm needs no");
	if (tenant_rm(c->b, no, &err))
		return call_fail_with(c, 500, "%s", cl_err_str(&err));
	(void)buf_add_str(c->out, "{}");
	return 200;
}

static int on_sync_end(struct call *c)
{
	tenants_synced(c->b);
	(void)buf_add_str(c->out, "{}");
	return 200;
}

static int on_stats(struct call *c)
{
	const struct broker *b = c->b;

	(void)buf_printf(c->out,
			 "{\"tenants\":%u,\"requests\":%llu,\"denied\":%llu,\"bad_requests\":%llu,"
			 "\"upstream_failed\":%llu,\"calls\":%llu,\"records_waiting\":%zu,"
			 "\"records_refused\":%llu,\"records_dropped\":%llu}",
			 b->ntenants, (unsigned long long)b->stats.requests,
			 (unsigned long long)b->stats.denied, (unsigned long long)b->stats.bad_requests,
			 (unsigned long long)b->stats.upstream_failed, (unsigned long long)b->stats.calls,
			 b->records.n, (unsigned long long)b->records.refused,
			 (unsigned long long)b->records.dropped);
	return 200;
}

static const struct call_method methods[] = {
	{ "pubkey", on_pubkey },	 { "secret.put", on_secret_put },
	{ "secret.rm", on_secret_rm },	 { "route.put", call_route_put },
	{ "route.test", call_route_test }, { "tenant.put", on_tenant_put },
	{ "tenant.rm", on_tenant_rm },	 { "sync.end", on_sync_end },
	{ "explain", call_explain },	 { "why", call_why },
	{ "stats", on_stats },
};

void call_answer(struct broker *b, uint32_t seq, int status, struct span json, int fd)
{
	struct msg_result m = { .status = (uint32_t)status, .body = json };
	int r = b->api_linked ? chan_send(&b->api, MSG_RESULT, seq, &m, &fd, fd >= 0 ? 1 : 0) : -EPIPE;

	if (r)
		cl_log(CL_WARNING, "answer-lost", "code=%d", r);	/* the api asks again after its restart */
}

void calls_handle(struct broker *b, uint32_t seq, struct span method, struct span body)
{
	CL_BUF struct buf out;
	json_error_t je;
	json_t *doc = NULL;
	int status = 0, fd = -1;

	buf_init(&out, ANSWER_MAX);
	if (body.n)
		doc = json_loadb(body.p, body.n, JSON_REJECT_DUPLICATES, &je);
	struct call c = { .b = b, .seq = seq, .method = method, .body = doc, .raw = body, .out = &out,
			  .out_fd = -1 };

	if (body.n && !json_is_object(doc) && !json_is_null(doc)) {
		status = call_fail_with(&c, 400, "the body is no JSON object");
	} else {
		bool mine = false;

		for (size_t i = 0; i < CL_ARRAY_LEN(methods) && !mine; i++)
			if (span_eq_str(method, methods[i].name)) {
				mine = true;
				status = methods[i].fn(&c);
				fd = c.out_fd;
			}
		if (!mine)
			status = conv_call(b->conv, method, body, &out, &fd);
		if (!mine && status == 0)
			status = call_fail_with(&c, 404, "unknown method '%.*s'", SPAN_FMT(method));
	}
	if (out.failed)
		status = call_fail_with(&c, 500, "the answer is too large");
	if (status != CALL_LATER)
		call_answer(b, seq, status, buf_span(&out), fd);
	(void)cl_close(fd);
	json_decref(doc);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the api may call: the web chat, invitations, bindings, channels.
 * The api is unprivileged and repeats what browsers said: each session is
 * checked here. Runs in: broker.
 */
#include "broker/channel/channel.h"
#include "broker/conv/conv_impl.h"
#include "broker/media/media.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HISTORY_MAX 200
#define HISTORY_BYTES (120u * 1024)	/* of one answer; a CALL's result holds 128 KiB */
#define SESSION_BYTES 32
#define INVITE_TTL_MAX_S (30 * 24 * 3600)

int call_fail(struct buf *out, int status, const char *fmt, ...)
{
	char text[400];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	buf_clear(out);
	(void)buf_add_str(out, "{\"reason\":");
	(void)buf_add_json_str(out, span_str(text));
	(void)buf_add_ch(out, '}');
	return status;
}

void hash_code(struct span code, uint8_t out[CVS_HASH])
{
	/* codes and sessions are 130 bits and more of randomness: no key is needed */
	(void)crypto_generichash(out, CVS_HASH, (const unsigned char *)code.p, code.n,
				 (const unsigned char *)"cloister conversation code", 26);
}

static struct span text_of(const json_t *body, const char *name)
{
	const json_t *v = json_object_get(body, name);

	return (struct span){ json_string_value(v), json_string_length(v) };
}

/* number_of - an integer between 0 and @max, or @otherwise when absent; -1 for anything else */
static int64_t number_of(const json_t *body, const char *name, int64_t max, int64_t otherwise)
{
	const json_t *v = json_object_get(body, name);

	if (!v || json_is_null(v))
		return otherwise;
	if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > max)
		return -1;
	return json_integer_value(v);
}

static struct ctenant *tenant_of(struct conv *c, const json_t *body)
{
	int64_t no = number_of(body, "no", UINT32_MAX, -1);

	return no < 0 ? NULL : conv_tenant(c, (uint32_t)no);
}

/* session_tenant - whose the session is; @address gets the binding's name (a hash, never the session) */
static struct ctenant *session_tenant(struct conv *c, const json_t *body, char address[2 * CVS_HASH + 1])
{
	struct span session = text_of(body, "session");
	uint8_t hash[CVS_HASH];
	uint32_t no;

	if (session.n < 20 || session.n > 100)
		return NULL;
	hash_code(session, hash);
	cl_hex(hash, sizeof(hash), address);
	if (cvs_binding_owner(c->store, SPAN("web"), span_str(address), &no, NULL))
		return NULL;
	return conv_tenant(c, no);
}

/* ---- chat ------------------------------------------------------------------------ */

static int send_for(struct conv *c, struct ctenant *t, const json_t *body, struct span address, struct buf *out)
{
	struct span text = text_of(body, "text"), client = text_of(body, "client_id");
	struct inbound in = { .channel = SPAN("web"), .address = address, .text = text };
	struct cl_err err = { 0 };
	const char *problem;
	int64_t id = 0;
	int status, rc;

	problem = text_problem(text, &status);
	if (problem)
		return call_fail(out, status, "%s", problem);
	if (client.n > 64 || (client.n && !utf8_ok(client)))
		return call_fail(out, 422, "client_id: at most 64 bytes");
	if (client.n)
		in.client_id = client;
	rc = cvs_begin(c->store, &err);
	if (rc == 0) {
		rc = inbound_store(c, t, &in, &id, &err);
		if (rc == 0)
			rc = cvs_commit(c->store, &err);
		else
			cvs_rollback(c->store);
	}
	if (rc == -ENOBUFS)
		return call_fail(out, 429, "Many of your messages wait for your assistant already; this one was not taken. "
				 "Please try again later.");
	if (rc && rc != -EEXIST) {
		cl_log(CL_ERROR, "conversation.store", "tenant=%s outcome=failed error=%s", t->id,
		       cl_kvs(cl_err_str(&err)));
		return call_fail(out, 503, rc == -ENOSPC ? "The disk of this service is full; your message was not "
				 "taken. Please try again later." : "Your message could not be stored. Please try again.");
	}
	if (rc == 0)
		inbound_told(c, t, id);
	(void)buf_printf(out, "{\"message_id\":%lld}", (long long)id);
	return 200;
}

struct history {
	struct conv *c;
	struct ctenant *t;
	struct buf *out;
	int n;
	bool full;
};

static void on_history(void *ctx, const struct cvs_message *m)
{
	struct history *h = ctx;
	size_t before = h->out->n;

	if (h->full)
		return;
	if (h->n)
		(void)buf_add_ch(h->out, ',');
	(void)page_message_json(h->c, h->t, m, h->out);
	if (h->out->n > HISTORY_BYTES) {	/* the caller asks again with after=<last id> */
		h->out->n = before;
		h->full = true;
		return;
	}
	h->n++;
}

static int history_for(struct conv *c, struct ctenant *t, const json_t *body, struct buf *out)
{
	int64_t after = number_of(body, "after", INT64_MAX, -1), limit = number_of(body, "limit", HISTORY_MAX, 100);
	struct history h = { .c = c, .t = t, .out = out };
	struct cl_err err = { 0 };

	if (limit < 1 || (after < 0 && json_object_get(body, "after") && !json_is_null(json_object_get(body, "after"))))
		return call_fail(out, 422, "after: a message id; limit: 1 to %d", HISTORY_MAX);
	(void)buf_printf(out, "{\"tenant\":\"%s\",\"no\":%u,\"messages\":[", t->id, t->no);
	if (cvs_history(c->store, t->no, after, (int)limit, on_history, &h, &err) < 0) {
		cl_log(CL_ERROR, "conversation.store", "tenant=%s outcome=failed error=%s", t->id,
		       cl_kvs(cl_err_str(&err)));
		return call_fail(out, 503, "The conversation cannot be read now.");
	}
	(void)buf_printf(out, "],\"typing\":%s,\"more\":%s}", t->typing_until_us > cl_mono_us() ? "true" : "false",
			 h.full || h.n == limit ? "true" : "false");
	return out->failed ? call_fail(out, 500, "too large") : 200;
}

static int call_web_send(struct conv *c, json_t *body, struct buf *out)
{
	char address[2 * CVS_HASH + 1];
	struct ctenant *t = session_tenant(c, body, address);

	if (!t)
		return call_fail(out, 401, "Please open your invitation link again.");
	return send_for(c, t, body, span_str(address), out);
}

static int call_web_history(struct conv *c, json_t *body, struct buf *out)
{
	char address[2 * CVS_HASH + 1];
	struct ctenant *t = session_tenant(c, body, address);

	if (!t)
		return call_fail(out, 401, "Please open your invitation link again.");
	return history_for(c, t, body, out);
}

static int call_chat_send(struct conv *c, json_t *body, struct buf *out)
{
	struct ctenant *t = tenant_of(c, body);

	return t ? send_for(c, t, body, SPAN("operator"), out) : call_fail(out, 404, "there is no such tenant");
}

static int call_chat_history(struct conv *c, json_t *body, struct buf *out)
{
	struct ctenant *t = tenant_of(c, body);

	return t ? history_for(c, t, body, out) : call_fail(out, 404, "there is no such tenant");
}

/* media_for - a file of the conversation as a sealed memfd, with its name and type */
static int media_for(struct conv *c, struct ctenant *t, const json_t *body, struct buf *out, int *out_fd)
{
	struct span handle = text_of(body, "handle");
	CL_BUF struct buf data = { 0 };
	struct cl_err err = { 0 };
	CL_CLOSE int fd = -1;
	int rc;

	buf_init(&data, MEDIA_MAX + 1);
	rc = media_read(c, t->no, handle, &data, &err);
	if (rc)
		return call_fail(out, rc == -ENOENT ? 404 : rc == -ENODATA ? 409 : 503, "%s", err.text);
	fd = memfd_create("media", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || cl_write_full(fd, data.p, data.n) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
		return call_fail(out, 503, "there is no memory for this file now");
	(void)buf_printf(out, "{\"size\":%zu}", data.n);
	*out_fd = cl_take_fd(&fd);
	return 200;
}

/* call_media - the one method whose answer comes with a descriptor */
static int call_media(struct conv *c, struct span method, json_t *body, struct buf *out, int *out_fd)
{
	char address[2 * CVS_HASH + 1];
	bool web = span_eq_str(method, "web.media");
	struct ctenant *t = web ? session_tenant(c, body, address) : tenant_of(c, body);

	if (!t && web)
		return call_fail(out, 401, "Please open your invitation link again.");
	return t ? media_for(c, t, body, out, out_fd) : call_fail(out, 404, "there is no such tenant");
}

/* ---- invitations and bindings -------------------------------------------------------- */

static void record_invite(struct conv *c, struct ctenant *t, const char *act, struct span channel,
			  const char *outcome)
{
	struct record r;

	record_begin(&r, RECORD_INVITE, t ? t->id : NULL);
	record_str(&r, RF_ACT, act);
	record_text(&r, RF_CHANNEL, channel);
	record_str(&r, RF_OUTCOME, outcome);
	c->h.record(c->h.ctx, &r);
}

static int call_invite_new(struct conv *c, json_t *body, struct buf *out)
{
	static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";
	struct span name = text_of(body, "channel");
	int64_t ttl = number_of(body, "ttl_s", INVITE_TTL_MAX_S, 24 * 3600), expires;
	struct ctenant *t = tenant_of(c, body);
	char code[BASE32_CODE + 1], url[512];
	uint8_t raw[BASE32_CODE], hash[CVS_HASH];
	struct cl_err err = { 0 };
	struct channel *ch = NULL;

	if (!t)
		return call_fail(out, 404, "there is no such tenant");
	if (ttl < 1)
		return call_fail(out, 422, "ttl_s: 1 to %d seconds", INVITE_TTL_MAX_S);
	if (!name.n)
		name = SPAN("web");
	if (!span_eq_str(name, "web")) {
		ch = channel_find(c, name);
		if (!ch)
			return call_fail(out, 422, "there is no channel of this name: set its bot token first, for Telegram: "
					 "cloister secret set telegram");
	}
	cl_random(raw, sizeof(raw));
	for (size_t i = 0; i < BASE32_CODE; i++)
		code[i] = alphabet[raw[i] & 31];
	code[BASE32_CODE] = '\0';
	sodium_memzero(raw, sizeof(raw));
	(void)snprintf(url, sizeof(url), "/i/%s", code);	/* the api puts its host before it */
	if (ch && !ch->ops->invite_url(ch, code, url, sizeof(url)))
		return call_fail(out, 503, "the messenger has not said the bot's name yet: is the bot token right and the "
				 "network there? Try again in a moment");
	hash_code(span_str(code), hash);
	expires = conv_now_ms() + ttl * 1000;
	if (cvs_invite_add(c->store, hash, t->no, name, expires, &err))
		return call_fail(out, 503, "the invitation could not be stored: %s", err.text);
	record_invite(c, t, "new", name, "ok");
	(void)buf_printf(out, "{\"code\":\"%s\",\"url\":\"%s\",\"expires_at\":%lld}", code, url,
			 (long long)(expires / 1000));
	sodium_memzero(code, sizeof(code));
	return 200;
}

int bind_event(struct conv *c, struct ctenant *t, struct span channel, struct span address, struct span name)
{
	CL_BUF struct buf b = { 0 };
	struct record r;

	buf_init(&b, 4096);
	(void)buf_printf(&b, "{\"no\":%u,\"channel\":", t->no);
	(void)buf_add_json_str(&b, channel);
	(void)buf_add_str(&b, ",\"address\":");
	(void)buf_add_json_str(&b, address);
	(void)buf_add_str(&b, ",\"name\":");
	(void)buf_add_json_str(&b, name);
	(void)buf_add_ch(&b, '}');
	if (!b.failed)
		c->h.event(c->h.ctx, "binding", buf_span(&b));
	record_begin(&r, RECORD_BINDING, t->id);
	record_str(&r, RF_ACT, "bound");
	record_text(&r, RF_CHANNEL, channel);
	record_text(&r, RF_ADDRESS, address);
	record_text(&r, RF_PERSON_NAME, name);
	c->h.record(c->h.ctx, &r);
	return 0;
}

int channel_bind(struct conv *c, struct span channel, struct span address, struct span name, struct span code,
		 struct ctenant **out, struct cl_err *err)
{
	uint8_t hash[CVS_HASH];
	struct ctenant *t;
	uint32_t no = 0, have = 0;
	int rc;

	if (code.n != BASE32_CODE)
		return cl_fail(err, ENOENT, "this invitation is not known");
	hash_code(code, hash);
	rc = cvs_begin(c->store, err);
	if (rc)
		return rc;
	rc = cvs_invite_use(c->store, hash, channel, conv_now_ms(), &no, err);
	t = rc == 0 ? conv_tenant(c, no) : NULL;
	if (rc == 0 && !t)
		rc = cl_fail(err, ENOENT, "this invitation is not known");
	if (rc == 0 && cvs_binding_owner(c->store, channel, address, &have, NULL) == 0 && have != no)
		rc = cl_fail(err, EEXIST, "this chat belongs to another assistant already");
	else if (rc == 0 && have != no)
		rc = cvs_binding_add(c->store, &(struct cvs_binding){ .channel = channel, .address = address,
				     .name = name, .no = no, .since_ms = conv_now_ms() }, err);
	if (rc == 0)
		rc = cvs_commit(c->store, err);
	else
		cvs_rollback(c->store);	/* an invitation that did not bind stays unused */
	record_invite(c, t, rc == 0 ? "used" : "refused", channel, rc == 0 ? "ok" : "refused");
	if (rc)
		return rc;
	(void)bind_event(c, t, channel, address, name);
	*out = t;
	return 0;
}

static int call_invite_use(struct conv *c, json_t *body, struct buf *out)
{
	char session[SESSION_BYTES * 2], address[2 * CVS_HASH + 1];
	uint8_t raw[SESSION_BYTES], hash[CVS_HASH];
	struct cl_err err = { 0 };
	struct ctenant *t = NULL;
	int rc;

	if (!span_eq_str(text_of(body, "channel"), "web"))
		return call_fail(out, 422, "only web invitations are used here");
	cl_random(raw, sizeof(raw));
	(void)sodium_bin2base64(session, sizeof(session), raw, sizeof(raw), sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	hash_code(span_str(session), hash);
	cl_hex(hash, sizeof(hash), address);
	rc = channel_bind(c, SPAN("web"), span_str(address), SPAN("web page"), text_of(body, "code"), &t, &err);
	if (rc == -ENOENT || rc == -EALREADY || rc == -ETIME || rc == -EEXIST)
		return call_fail(out, 403, "%s", err.text);
	if (rc)
		return call_fail(out, 503, "The invitation could not be used now. Please try again.");
	(void)buf_printf(out, "{\"no\":%u,\"id\":\"%s\",\"session\":\"%s\"}", t->no, t->id, session);
	sodium_memzero(raw, sizeof(raw));
	sodium_memzero(session, sizeof(session));
	return 200;
}

static void on_binding(void *ctx, const struct cvs_binding *b)
{
	struct buf *out = ctx;

	(void)buf_add_str(out, out->p[out->n - 1] == '[' ? "{\"channel\":" : ",{\"channel\":");
	(void)buf_add_json_str(out, b->channel);
	(void)buf_add_str(out, ",\"address\":");
	(void)buf_add_json_str(out, b->address);
	(void)buf_add_str(out, ",\"name\":");
	(void)buf_add_json_str(out, b->name);
	(void)buf_printf(out, ",\"since_ms\":%lld}", (long long)b->since_ms);
}

static int call_bindings(struct conv *c, json_t *body, struct buf *out)
{
	struct ctenant *t = tenant_of(c, body);

	if (!t)
		return call_fail(out, 404, "there is no such tenant");
	(void)buf_add_str(out, "{\"bindings\":[");
	if (out->failed || cvs_bindings(c->store, t->no, on_binding, out, NULL) < 0)
		return call_fail(out, 503, "the bindings cannot be read now");
	(void)buf_add_str(out, "]}");
	return out->failed ? call_fail(out, 500, "too large") : 200;
}

static int call_binding_rm(struct conv *c, json_t *body, struct buf *out)
{
	struct span channel = text_of(body, "channel"), address = text_of(body, "address");
	struct ctenant *t = tenant_of(c, body);
	struct cl_err err = { 0 };
	struct record r;
	int rc;

	if (!t)
		return call_fail(out, 404, "there is no such tenant");
	rc = cvs_binding_rm(c->store, t->no, channel, address, &err);
	if (rc == -ENOENT)
		return call_fail(out, 404, "this address is not bound to %s", t->id);
	if (rc)
		return call_fail(out, 503, "%s", err.text);
	if (span_eq_str(channel, t->last_channel) && span_eq_str(address, t->last_address))
		t->last_channel[0] = t->last_address[0] = '\0';
	record_begin(&r, RECORD_BINDING, t->id);
	record_str(&r, RF_ACT, "removed");
	record_text(&r, RF_CHANNEL, channel);
	record_text(&r, RF_ADDRESS, address);
	c->h.record(c->h.ctx, &r);
	(void)buf_add_str(out, "{}");
	return 200;
}

/* ---- channels ---------------------------------------------------------------------------- */

struct channel *channel_find(struct conv *c, struct span name)
{
	for (struct channel *ch = c->channels; ch; ch = ch->next)
		if (span_eq_str(name, ch->name))
			return ch;
	return NULL;
}

void channel_typing(struct conv *c, struct span name, struct span address, const char *action)
{
	struct channel *ch = channel_find(c, name);
	char to[129];

	if (ch && span_copy(address, to, sizeof(to)) == 0)
		ch->ops->typing(ch, to, action);
}

void channels_free(struct conv *c)
{
	while (c->channels) {
		struct channel *ch = c->channels;

		c->channels = ch->next;
		ch->ops->free(ch);
	}
}

static int call_channel_put(struct conv *c, json_t *body, struct buf *out)
{
	struct span name = text_of(body, "name"), kind = text_of(body, "kind"), root = text_of(body, "api_root");
	struct span secret = text_of(body, "secret");
	char n[33], s[65], api_root[256];
	struct cl_err err = { 0 };
	struct channel *ch;

	if (!name_ok(name) || span_copy(name, n, sizeof(n)) || span_eq_str(name, "web"))
		return call_fail(out, 422, "name: 1 to 32 of a-z 0-9 _ -, not web");
	if (!span_eq_str(kind, "telegram"))
		return call_fail(out, 422, "kind: only telegram");
	if (!root.n)
		root = SPAN("https://api.telegram.org");
	if (span_copy(root, api_root, sizeof(api_root)) || root.p[root.n - 1] == '/' ||
	    (!span_starts(root, SPAN("https://")) && !span_starts(root, SPAN("http://"))))
		return call_fail(out, 422, "api_root: an https:// address without a slash at the end");
	if (!name_ok(secret) || span_copy(secret, s, sizeof(s)))
		return call_fail(out, 422, "secret: the name of the secret with the bot token");
	ch = channel_find(c, name);
	if (ch && !strcmp(ch->secret, s) && !strcmp(ch->api_root, api_root)) {
		(void)buf_add_str(out, "{}");
		return 200;
	}
	if (ch) {	/* other settings: a new adapter goes on at the stored offset */
		struct channel **at = &c->channels;

		while (*at != ch)
			at = &(*at)->next;
		*at = ch->next;
		ch->ops->free(ch);
	}
	if (telegram_new(c, n, api_root, s, &ch, &err))
		return call_fail(out, 503, "%s", cl_err_str(&err));
	ch->next = c->channels;
	c->channels = ch;
	deliver_kick(c);
	(void)buf_add_str(out, "{}");
	return 200;
}

int conv_call(struct conv *c, struct span method, struct span body, struct buf *out, int *out_fd)
{
	static const struct { const char *name; int (*fn)(struct conv *, json_t *, struct buf *); } calls[] = {
		{ "web.send", call_web_send }, { "web.history", call_web_history },
		{ "chat.send", call_chat_send }, { "chat.history", call_chat_history },
		{ "invite.new", call_invite_new }, { "invite.use", call_invite_use },
		{ "bindings", call_bindings }, { "binding.rm", call_binding_rm },
		{ "channel.put", call_channel_put },
	};
	json_error_t je;
	json_t *doc;
	int status;

	bool media = span_eq_str(method, "web.media") || span_eq_str(method, "chat.media");

	*out_fd = -1;
	for (size_t i = 0; i < CL_ARRAY_LEN(calls); i++) {
		if (!media && !span_eq_str(method, calls[i].name))
			continue;
		doc = json_loadb(body.p ? body.p : "", body.n, JSON_REJECT_DUPLICATES, &je);
		if (!json_is_object(doc))
			status = call_fail(out, 422, "the body is not a JSON object: %s", doc ? "something else" : je.text);
		else if (media)
			status = call_media(c, method, doc, out, out_fd);
		else
			status = calls[i].fn(c, doc, out);
		json_decref(doc);
		return status;
	}
	return 0;
}

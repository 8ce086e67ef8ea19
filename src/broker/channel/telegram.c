/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Telegram: one bot for any number of tenants, by long poll.
 *
 * How this works: getMe says the bot's name (and that the token is right),
 * then one getUpdates after the other. What it brings is stored together
 * with the new offset before the next poll acknowledges it, so a crash
 * repeats an update at most, and never loses one. Runs in: broker.
 */
#include "broker/channel/telegram.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POLL_S 25
#define CALL_MS 20000
#define ANSWER_MAX (4u << 20)
#define BACKOFF_MAX_S 60
#define PAUSE_US 400000

static void start(struct telegram *tg);
static void poll_next(struct telegram *tg);

/* ---- calls ---------------------------------------------------------------------- */

static void call_free(struct tg_call *k)
{
	*k->at = k->next;
	if (k->next)
		k->next->at = k->at;
	free(k);
}

static void on_fetched(void *ctx, int status, bool reached, struct span body)
{
	struct tg_call *k = ctx;

	k->fetch = NULL;
	k->done(k, status, reached, body);
	call_free(k);
}

int tg_call(struct telegram *tg, const char *method, const char *content_type, struct span body, int timeout_ms,
	    void (*done)(struct tg_call *, int, bool, struct span), struct delivery *d, void *ctx)
{
	const struct conv_host *h = &tg->ch.c->h;
	struct conv_fetch f = { .api_root = tg->ch.api_root, .secret = tg->ch.secret, .content_type = content_type,
				.body = body, .timeout_ms = timeout_ms, .answer_max = ANSWER_MAX };
	struct tg_call *k = calloc(1, sizeof(*k));
	struct cl_err err = { 0 };
	char path[64];
	int rc;

	if (!k)
		return -ENOMEM;
	(void)snprintf(path, sizeof(path), "/%s", method);
	f.path = path;
	*k = (struct tg_call){ .tg = tg, .done = done, .delivery = d, .ctx = ctx, .next = tg->calls,
			       .at = &tg->calls };
	if (tg->calls)
		tg->calls->at = &k->next;
	tg->calls = k;
	rc = h->fetch(h->ctx, &f, on_fetched, k, &k->fetch, &err);
	if (rc) {
		if (rc != -ENOKEY)
			cl_log(CL_WARNING, "channel.call", "channel=%s method=%s outcome=failed error=%s", tg->ch.name,
			       method, cl_kvs(cl_err_str(&err)));
		call_free(k);
	}
	return rc;
}

static void alert(struct telegram *tg, const char *kind, const char *text)
{
	struct conv *c = tg->ch.c;
	CL_BUF struct buf b = { 0 };
	struct record r;

	if (tg->alerted)
		return;
	tg->alerted = true;
	cl_log(CL_ERROR, "channel.alert", "channel=%s kind=%s text=%s", tg->ch.name, kind, cl_kvs(text));
	buf_init(&b, 4096);
	(void)buf_printf(&b, "{\"no\":0,\"kind\":\"%s\",\"text\":", kind);
	(void)buf_add_json_str(&b, span_str(text));
	(void)buf_add_ch(&b, '}');
	c->h.event(c->h.ctx, "alert", buf_span(&b));
	record_begin(&r, RECORD_ALERT, NULL);
	record_str(&r, RF_EVENT, kind);
	record_str(&r, RF_REASON, text);
	c->h.record(c->h.ctx, &r);
}

/* ---- the poll --------------------------------------------------------------------- */

static void on_again(struct loop_timer *t)
{
	start(t->ctx);
}

/* later - after a failure: 1, 2, 4 … 60 seconds, or @at_least_s if that is more */
static void later(struct telegram *tg, int at_least_s)
{
	int s = tg->failures < 6 ? 1 << tg->failures : BACKOFF_MAX_S;

	tg->failures++;
	if (s < at_least_s)
		s = at_least_s;
	(void)loop_timer_set(tg->ch.c->h.loop, &tg->again, s * 1000000LL, on_again, tg);	/* heap is reserved */
}

static int retry_after_s(const json_t *doc)
{
	json_int_t s = json_integer_value(json_object_get(json_object_get(doc, "parameters"), "retry_after"));

	return s < 1 ? 1 : s > 3600 ? 3600 : (int)s;
}

/* refused - what a failed getMe or getUpdates means, in words for the operator */
static void refused(struct telegram *tg, int status, bool reached, struct span body)
{
	char text[600], words[160];
	json_t *doc = status ? json_loadb(body.p, body.n, JSON_REJECT_DUPLICATES, NULL) : NULL;
	int wait_s = 0;

	(void)reached;
	if (status == 401 || status == 404) {
		(void)snprintf(text, sizeof(text), "%s refused the bot token (HTTP %d): set the right one with "
			       "'cloister secret set %s'", tg->ch.api_root, status, tg->ch.secret);
		alert(tg, "telegram.token", text);
		wait_s = BACKOFF_MAX_S;
	} else if (status == 409) {
		(void)snprintf(text, sizeof(text), "another program polls the bot of channel %s, or it has a webhook: "
			       "only one of the two can get its messages", tg->ch.name);
		alert(tg, "telegram.conflict", text);
		wait_s = 10;
	} else if (status == 429) {
		wait_s = retry_after_s(doc);
	} else {
		utf8_scrub(status ? SPAN("it answers, but not as the Bot API does") : body, words, sizeof(words));
		(void)snprintf(text, sizeof(text), "%s cannot be used (HTTP %d: %s)", tg->ch.api_root, status, words);
		if (tg->failures >= 2)
			alert(tg, "telegram.unreachable", text);
	}
	json_decref(doc);
	later(tg, wait_s);
}

static void on_pause_end(struct loop_timer *t)
{
	poll_next(t->ctx);
}

/* poll_again - at once; but a server that does not hold an empty poll is not hammered */
static void poll_again(struct telegram *tg, bool empty)
{
	if (!empty || cl_mono_us() - tg->polled_us > PAUSE_US) {
		poll_next(tg);
		return;
	}
	tg->polling = true;
	if (loop_timer_set(tg->ch.c->h.loop, &tg->pause, PAUSE_US, on_pause_end, tg))
		poll_next(tg);
}

static void on_polled(struct tg_call *k, int status, bool reached, struct span body)
{
	struct telegram *tg = k->tg;
	struct cl_err err = { 0 };
	json_t *doc;

	tg->polling = false;
	doc = status == 200 ? json_loadb(body.p, body.n, JSON_REJECT_DUPLICATES, NULL) : NULL;
	if (!json_is_true(json_object_get(doc, "ok")) || !json_is_array(json_object_get(doc, "result"))) {
		json_decref(doc);
		refused(tg, status, reached, body);
		return;
	}
	tg->failures = 0;
	tg->alerted = false;
	if (tg_updates(tg, json_object_get(doc, "result"), &err)) {
		cl_log(CL_ERROR, "channel.store", "channel=%s outcome=failed error=%s", tg->ch.name,
		       cl_kvs(cl_err_str(&err)));
		later(tg, 5);	/* the offset did not move: Telegram keeps them for us */
	} else {
		poll_again(tg, json_array_size(json_object_get(doc, "result")) == 0);
	}
	json_decref(doc);
}

static void poll_next(struct telegram *tg)
{
	char body[200];
	int n = snprintf(body, sizeof(body), "{\"offset\":%lld,\"timeout\":%d,\"limit\":100,\"allowed_updates\":"
			 "[\"message\",\"edited_message\",\"callback_query\"]}", (long long)tg->offset, POLL_S);

	if (tg_call(tg, "getUpdates", "application/json", (struct span){ body, (size_t)n }, (POLL_S + 10) * 1000,
		    on_polled, NULL, NULL)) {
		tg->polling = false;
		later(tg, 0);
	} else {
		tg->polled_us = cl_mono_us();
		tg->polling = true;
	}
}

static void on_me(struct tg_call *k, int status, bool reached, struct span body)
{
	struct telegram *tg = k->tg;
	json_t *doc = status == 200 ? json_loadb(body.p, body.n, JSON_REJECT_DUPLICATES, NULL) : NULL;
	const json_t *me = json_object_get(doc, "result");
	const json_t *name = json_object_get(me, "username");
	struct span s = { json_string_value(name), json_string_length(name) };
	bool good = json_is_true(json_object_get(doc, "ok")) && s.n > 0;

	tg->polling = false;
	for (size_t i = 0; i < s.n; i++)	/* it becomes part of a link */
		good = good && memchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_", s.p[i], 63);
	if (!good || span_copy(s, tg->bot, sizeof(tg->bot))) {
		json_decref(doc);
		refused(tg, status, reached, body);
		return;
	}
	json_decref(doc);
	tg->failures = 0;
	tg->alerted = false;
	cl_log(CL_INFO, "channel.ready", "channel=%s bot=%s", tg->ch.name, tg->bot);
	poll_next(tg);
}

/* start - getMe first: it tells a wrong token from a network that is not there */
static void start(struct telegram *tg)
{
	int rc;

	if (tg->polling)
		return;
	rc = tg_call(tg, "getMe", NULL, (struct span){ 0 }, CALL_MS, on_me, NULL, NULL);
	if (rc == 0)
		tg->polling = true;
	else if (rc != -ENOKEY)
		later(tg, 0);
	/* no secret yet: conv_secret_changed() starts us */
}

/* ---- ops ----------------------------------------------------------------------------- */

void tg_ignore(struct tg_call *k, int status, bool reached, struct span body)
{
	(void)k;	/* typing and courtesies: nobody waits for their fate */
	(void)status;
	(void)reached;
	(void)body;
}

void tg_say(struct telegram *tg, int64_t chat, const char *text)
{
	CL_BUF struct buf b = { 0 };

	buf_init(&b, 8192);
	(void)buf_printf(&b, "{\"chat_id\":%lld,\"link_preview_options\":{\"is_disabled\":true},\"text\":", (long long)chat);
	(void)buf_add_json_str(&b, span_str(text));
	(void)buf_add_ch(&b, '}');
	if (!b.failed)
		(void)tg_call(tg, "sendMessage", "application/json", buf_span(&b), CALL_MS, tg_ignore, NULL, NULL);
}

static void typing(struct channel *ch, const char *address, const char *action)
{
	struct telegram *tg = (struct telegram *)ch;
	char body[200];
	int n = snprintf(body, sizeof(body), "{\"chat_id\":%s,\"action\":\"%s\"}", address, action);
	size_t open = 0;

	for (struct tg_call *k = tg->calls; k; k = k->next)
		open++;
	if (n > 0 && (size_t)n < sizeof(body) && open < 64)
		(void)tg_call(tg, "sendChatAction", "application/json", (struct span){ body, (size_t)n }, CALL_MS, tg_ignore,
			      NULL, NULL);	/* only a courtesy */
}

static void restart(struct channel *ch)
{
	struct telegram *tg = (struct telegram *)ch;
	const struct conv_host *h = &ch->c->h;

	/* the poll that is under way uses the old token */
	for (struct tg_call *k = tg->calls, *next; k; k = next) {
		next = k->next;
		if (k->done != on_polled && k->done != on_me)
			continue;
		h->fetch_cancel(h->ctx, k->fetch);
		call_free(k);
	}
	tg->polling = tg->alerted = false;
	tg->failures = 0;
	tg->bot[0] = '\0';
	loop_timer_del(&tg->again);
	loop_timer_del(&tg->pause);
	start(tg);
}

static bool invite_url(struct channel *ch, const char *code, char *url, size_t n)
{
	struct telegram *tg = (struct telegram *)ch;

	if (!tg->bot[0])
		return false;
	(void)snprintf(url, n, "https://t.me/%s?start=%s", tg->bot, code);
	return true;
}

static void cancel(struct channel *ch, struct delivery *d)
{
	struct telegram *tg = (struct telegram *)ch;
	const struct conv_host *h = &ch->c->h;

	for (struct tg_call *k = tg->calls, *next; k; k = next) {
		next = k->next;
		if (k->delivery != d)
			continue;
		h->fetch_cancel(h->ctx, k->fetch);
		call_free(k);
	}
}

static void tg_free(struct channel *ch)
{
	struct telegram *tg = (struct telegram *)ch;
	const struct conv_host *h = &ch->c->h;

	loop_timer_del(&tg->again);
	loop_timer_del(&tg->pause);
	while (tg->calls) {
		struct tg_call *k = tg->calls;
		struct delivery *d = k->delivery;

		h->fetch_cancel(h->ctx, k->fetch);
		call_free(k);
		if (d)
			deliver_done(d, OUT_UNKNOWN, 502, SPAN(""), "the broker ended while this was being sent", 0);
	}
	free(tg);
}

static const struct channel_ops telegram_ops = {
	.kind = "telegram", .deliver = tg_deliver, .cancel = cancel, .typing = typing, .restart = restart,
	.invite_url = invite_url, .free = tg_free,
	.address_gap_us = 1000000, .per_second = 30,	/* Telegram's own limits */
};

int telegram_new(struct conv *c, const char *name, const char *api_root, const char *secret,
		 struct channel **out, struct cl_err *err)
{
	struct telegram *tg = calloc(1, sizeof(*tg));
	int rc;

	if (!tg)
		return cl_fail(err, ENOMEM, "channel");
	tg->ch.c = c;
	tg->ch.ops = &telegram_ops;
	rc = span_copy(span_str(name), tg->ch.name, sizeof(tg->ch.name));
	if (rc == 0)
		rc = span_copy(span_str(secret), tg->ch.secret, sizeof(tg->ch.secret));
	if (rc == 0)
		rc = span_copy(span_str(api_root), tg->ch.api_root, sizeof(tg->ch.api_root));
	if (rc == 0)
		rc = cvs_channel_offset(c->store, span_str(name), &tg->offset, err);
	if (rc) {
		free(tg);
		return rc;
	}
	*out = &tg->ch;
	start(tg);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tenants of the conversation, and the door of /telegram/: token, method,
 * parameters, then one handler a method. Runs in: broker.
 */
#include "broker/conv/conv_impl.h"
#include "broker/channel/channel.h"
#include "broker/media/media.h"
#include "wire/tenant.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BODY_MAX (256u << 10)
#define MEDIA_BODY_MAX (21u << 20)	/* Telegram takes 20 MB back through getFile */
#define UPLOADS_MAX 3			/* of a tenant at once: each is held in memory */
#define SLOW_TELL_US (20 * 1000000LL)

int64_t conv_now_ms(void)
{
	return cl_now_us() / 1000;
}

struct ctenant *conv_tenant(struct conv *c, uint32_t no)
{
	for (struct ctenant *t = c->slots[no % TENANT_SLOTS]; t; t = t->next)
		if (t->no == no)
			return t;
	return NULL;
}

static struct ctenant *tenant_make(struct conv *c, uint32_t no, struct span id)
{
	struct ctenant *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->no = no;
	t->state = TENANT_STOPPED;
	(void)span_copy(id, t->id, sizeof(t->id));	/* checked by tenant_id_ok */
	(void)snprintf(t->person, sizeof(t->person), "Owner");
	buf_init(&t->tail, 4096);
	t->next = c->slots[no % TENANT_SLOTS];
	c->slots[no % TENANT_SLOTS] = t;
	return t;
}

static void on_stored_tenant(void *ctx, const struct cvs_tenant *row)
{
	struct ctenant *t = tenant_make(ctx, row->no, row->id);

	if (!t)
		return;
	(void)span_copy(row->channel, t->last_channel, sizeof(t->last_channel));	/* ours, fits */
	(void)span_copy(row->address, t->last_address, sizeof(t->last_address));
}

struct person_name {
	struct ctenant *t;
};

static void on_binding_name(void *ctx, const struct cvs_binding *b)
{
	struct person_name *n = ctx;

	if (b->name.n && !span_eq_str(b->channel, "web"))
		(void)span_copy(b->name, n->t->person, sizeof(n->t->person));
}

int conv_new(struct conv **out, const struct conv_host *host, struct cl_err *err)
{
	struct conv *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return cl_fail(err, ENOMEM, "conversation");
	c->h = *host;
	rc = cvs_open(&c->store, host->store_path, err);
	if (rc == 0)
		rc = cvs_tenants(c->store, on_stored_tenant, c, err);
	if (rc >= 0)
		rc = media_init(c, err);
	if (rc >= 0)
		rc = deliver_load(c, err);
	if (rc < 0) {
		conv_free(c);
		return rc;
	}
	for (size_t i = 0; i < TENANT_SLOTS; i++)
		for (struct ctenant *t = c->slots[i]; t; t = t->next)
			(void)cvs_bindings(c->store, t->no, on_binding_name, &(struct person_name){ t }, NULL);
	*out = c;
	return 0;
}

static void tenant_free(struct conv *c, struct ctenant *t)
{
	poll_drop(c, t);
	loop_timer_del(&t->slow);
	buf_wipe_done(&t->tail);
	free(t);
}

void conv_free(struct conv *c)
{
	if (!c)
		return;
	channels_free(c);
	deliver_free(c);
	for (size_t i = 0; i < TENANT_SLOTS; i++)
		while (c->slots[i]) {
			struct ctenant *t = c->slots[i];

			c->slots[i] = t->next;
			tenant_free(c, t);
		}
	media_done(c);
	cvs_close(c->store);
	free(c);
}

/* ---- what the broker tells ---------------------------------------------------- */

int conv_tenant_put(struct conv *c, uint32_t no, struct span id, struct cl_err *err)
{
	struct ctenant *t = conv_tenant(c, no);
	int rc;

	if (!tenant_id_ok(id))
		return cl_fail(err, EINVAL, "tenant id not allowed");
	if (t && span_eq_str(id, t->id))
		return 0;
	rc = cvs_tenant_put(c->store, no, id, err);
	if (rc)
		return rc;
	if (t) {
		(void)span_copy(id, t->id, sizeof(t->id));	/* checked above */
		return 0;
	}
	return tenant_make(c, no, id) ? 0 : cl_fail(err, ENOMEM, "tenant");
}

int conv_tenant_rm(struct conv *c, uint32_t no, struct cl_err *err)
{
	struct ctenant **at = &c->slots[no % TENANT_SLOTS], *t;
	int rc;

	while (*at && (*at)->no != no)
		at = &(*at)->next;
	if (!*at)
		return cl_fail(err, ENOENT, "there is no tenant %u", no);
	rc = media_tenant_rm(c, no, err);
	if (rc == 0)
		rc = cvs_tenant_rm(c->store, no, err);
	if (rc)
		return rc;
	deliver_tenant_rm(c, no);
	t = *at;
	*at = t->next;
	tenant_free(c, t);
	return 0;
}

void conv_tenant_listen(struct conv *c, uint32_t no)
{
	struct ctenant *t = conv_tenant(c, no);

	if (!t)
		return;
	t->listening = true;
	t->ready_told = false;
}

void conv_tenant_gone(struct conv *c, uint32_t no)
{
	struct ctenant *t = conv_tenant(c, no);

	if (!t)
		return;
	t->listening = t->ready_told = false;
	t->typing_until_us = 0;
	poll_drop(c, t);
}

static void tell_slow(struct loop_timer *timer)
{
	struct ctenant *t = (struct ctenant *)((char *)timer - offsetof(struct ctenant, slow));
	struct conv *c = timer->ctx;

	if (cvs_waiting(c->store, t->no, NULL) <= 0 || t->slow_told)
		return;
	t->slow_told = true;
	(void)conv_notice(c, t->no, "Your assistant is waking up. Your message is safe and will be answered.");
}

/* slow_watch - if the person's message is still not taken in a while, say why */
static void slow_watch(struct conv *c, struct ctenant *t)
{
	if (!t->slow_told && t->slow.heap_at == 0)
		(void)loop_timer_set(c->h.loop, &t->slow, SLOW_TELL_US, tell_slow, c);	/* only a courtesy */
}

void conv_tenant_state(struct conv *c, uint32_t no, uint32_t state, struct span reason)
{
	struct ctenant *t = conv_tenant(c, no);
	uint32_t before;

	if (!t)
		return;
	before = t->state;
	t->state = state;
	if (state == TENANT_RUNNING) {
		t->slow_told = t->failed_told = false;
		loop_timer_del(&t->slow);
	}
	if (state == TENANT_FAILED && before != state && !t->failed_told && cvs_waiting(c->store, no, NULL) > 0) {
		t->failed_told = true;
		(void)conv_notice(c, no, "Your assistant could not be started. Your message is kept, and the "
					 "people who run this service have been told.");
	}
	(void)reason;	/* for operators, not for persons */
}

void conv_secret_changed(struct conv *c, const char *name)
{
	for (struct channel *ch = c->channels; ch; ch = ch->next)
		if (!strcmp(ch->secret, name) && ch->ops->restart)
			ch->ops->restart(ch);
}

/* conv_told - a message of the person was stored: wake whom it is for */
void inbound_told(struct conv *c, struct ctenant *t, int64_t id)
{
	page_event(c, t, id);
	if (t->state == TENANT_RUNNING && t->ready_told) {
		poll_wake(c, t);
		slow_watch(c, t);
		return;
	}
	c->h.wake(c->h.ctx, t->no);
	poll_wake(c, t);
	slow_watch(c, t);
	if (t->last_channel[0])
		channel_typing(c, span_str(t->last_channel), span_str(t->last_address), "typing");
}

/* ---- the door ---------------------------------------------------------------------- */

bool conv_path_ok(struct span path)
{
	/* some SDKs resolve against the root of the address, whatever its path is */
	return span_starts(path, SPAN(PATH_PREFIX)) || span_starts(path, SPAN("/bot")) ||
	       span_starts(path, SPAN("/file/bot"));
}

struct door {
	struct span token, method;	/* method: what is after the token, without the slash */
	bool file;
};

/* door_parse - [/telegram]/[file/]bot<token>/<rest>; nothing is decoded: none of it needs escapes */
static int door_parse(struct span path, struct door *out)
{
	size_t skip = span_starts(path, SPAN(PATH_PREFIX)) ? sizeof(PATH_PREFIX) - 1 : 1;
	struct span rest = { path.p + skip, path.n - skip };

	*out = (struct door){ .file = span_starts(rest, SPAN("file/")) };
	if (out->file) {
		rest.p += 5;
		rest.n -= 5;
	}
	if (!span_starts(rest, SPAN("bot")))
		return -EINVAL;
	rest.p += 3;
	rest.n -= 3;
	if (!span_cut(&rest, '/', &out->token) || out->token.n == 0 || out->token.n > 128)
		return -EINVAL;
	out->method = rest;
	return 0;
}

/* upload_begin - a large body is held in memory: a few at a time for each tenant */
static int upload_begin(struct conv *c, struct ctenant *t, struct httpd_req *r, uint64_t *body_max)
{
	struct wait *w = t->uploads < UPLOADS_MAX ? calloc(1, sizeof(*w)) : NULL;

	if (!w) {
		answer_error(r, 429, "Too Many Requests: %d files are on their way already", UPLOADS_MAX);
		return HTTPD_DONE;
	}
	*w = (struct wait){ .c = c, .no = t->no, .r = r, .upload = true };
	r->ctx = w;
	t->uploads++;
	*body_max = MEDIA_BODY_MAX;
	return HTTPD_BUFFER;
}

static void upload_end(struct conv *c, struct httpd_req *r)
{
	struct wait *w = r->ctx;
	struct ctenant *t;

	if (!w || !w->upload)
		return;
	t = conv_tenant(c, w->no);
	if (t && t->uploads)
		t->uploads--;
	r->ctx = NULL;
	free(w);
}

int conv_head(struct conv *c, struct httpd_req *r, uint32_t no, uint64_t *body_max)
{
	struct ctenant *t = conv_tenant(c, no);
	const struct method *m;
	struct door d;

	r->ctx = NULL;
	if (!t) {
		answer_error(r, 503, "Service Unavailable: this tenant is not known yet, try again");
		return HTTPD_DONE;
	}
	if (door_parse(r->path, &d)) {
		answer_error(r, 404, "Not Found");
		return HTTPD_DONE;
	}
	if (!c->h.token_ok(c->h.ctx, no, d.token)) {
		answer_denied(c, t, r, 401, "conversation.token", "this is not your bot token",
			      "use the bot token of your own configuration", "");
		return HTTPD_DONE;
	}
	if (!span_eq_str(r->method, "GET") && !span_eq_str(r->method, "POST")) {
		answer_error(r, 405, "Method Not Allowed");
		return HTTPD_DONE;
	}
	if (d.file)
		return HTTPD_BUFFER;
	m = method_find(d.method);
	if (!m) {
		answer_denied(c, t, r, 404, "conversation.method", "there is no such method",
			      "see /capabilities for what this conversation can do", "");
		return HTTPD_DONE;
	}
	if (httpd_header(r, "content-encoding").n) {
		answer_error(r, 415, "Unsupported Media Type: a compressed body is not taken");
		return HTTPD_DONE;
	}
	*body_max = BODY_MAX;
	if ((m->what == DO_SEND_MEDIA || m->what == DO_SEND_GROUP) && r->content_length > BODY_MAX)
		return upload_begin(c, t, r, body_max);
	return HTTPD_BUFFER;
}

static void refused(struct conv *c, struct ctenant *t, struct httpd_req *r, const struct method *m,
		    const struct param_refusal *why)
{
	if (!why->rule) {
		answer_error(r, why->code, "%s: %s", why->code == 413 ? "Request Entity Too Large" : "Bad Request",
			     why->reason);
		return;
	}
	answer_denied(c, t, r, why->code, why->rule, why->reason,
		      "leave it out, or use chat 1001: this conversation has one chat, your owner's", m->name);
}

static void do_refused(struct conv *c, struct ctenant *t, struct httpd_req *r, struct params *p)
{
	answer_denied(c, t, r, 403, "conversation.method", "this conversation has no such ability",
		      "an operator cannot switch it on: it reaches beyond your owner's chat", p->method->name);
}

typedef void do_fn(struct conv *c, struct ctenant *t, struct httpd_req *r, struct params *p);

/* What each kind of method does; what is not here is small.c's. */
static do_fn *const handlers[DO_COUNT] = {
	[DO_REFUSED] = do_refused, [DO_GET_UPDATES] = do_get_updates,
	[DO_SEND_TEXT] = do_send, [DO_SEND_MEDIA] = do_send, [DO_SEND_GROUP] = do_send,
	[DO_SEND_LOCATION] = do_send, [DO_COPY] = do_send,
	[DO_EDIT_TEXT] = do_edit, [DO_EDIT_CAPTION] = do_edit, [DO_EDIT_MARKUP] = do_edit, [DO_REACT] = do_edit,
	[DO_DELETE] = do_delete, [DO_DELETE_MANY] = do_delete,
};

void conv_request(struct conv *c, struct httpd_req *r, uint32_t no)
{
	struct ctenant *t = conv_tenant(c, no);
	struct param_refusal why = { 0 };
	const struct method *m;
	struct params p;
	struct door d;

	upload_end(c, r);
	/* all of it was right in conv_head; a tenant may have been removed meanwhile */
	if (!t || door_parse(r->path, &d)) {
		answer_error(r, 404, "Not Found");
		return;
	}
	if (d.file) {
		media_serve(c, t, r, d.method);
		return;
	}
	m = method_find(d.method);
	if (!m) {
		answer_error(r, 404, "Not Found");
		return;
	}
	if (httpd_header_count(r, "content-type") > 1) {
		answer_error(r, 400, "Bad Request: two content types");
		return;
	}
	if (params_read(&p, m, httpd_header(r, "content-type"), r->query, r->body, &why)) {
		refused(c, t, r, m, &why);
		return;
	}
	(handlers[m->what] ? handlers[m->what] : do_small)(c, t, r, &p);
	params_done(&p);
}

void conv_gone(struct conv *c, struct httpd_req *r)
{
	struct wait *w = r->ctx;

	if (!w)
		return;
	if (w->upload) {
		upload_end(c, r);
		return;
	}
	r->ctx = NULL;
	w->r = NULL;
	if (w->t) {
		poll_drop(c, w->t);
		return;
	}
	if (w->media)
		return;
	if (w->delivery)
		w->delivery->wait = NULL;
	loop_timer_del(&w->timer);
	free(w);
}

void conv_drain(struct conv *c, struct httpd_req *r)
{
	(void)c;	/* answers here are whole: nothing waits for room */
	(void)r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conv_world - a conversation with everything around it played by the test:
 * the agent (requests), the api (calls) and the messenger (fetches).
 * The four functions of httpd that conv uses are played here as well.
 */
#ifndef CONV_WORLD_H
#define CONV_WORLD_H

#include "broker/conv/conv.h"
#include "broker/conv/params.h"
#include "wire/tenant.h"

#include "test.h"

#include <stdlib.h>

#define FETCHES 64
#define TOKEN "8377:good"

struct fake_fetch {
	bool open;
	char path[64], body[8192];
	size_t body_n;
	conv_fetched_fn *fn;
	void *ctx;
};

struct world {
	struct loop *loop;
	struct conv *conv;
	struct conv_host host;
	char dir[64], db[96];
	int dirfd;
	struct fake_fetch fetches[FETCHES];
	size_t nsent;			/* everything that reached the messenger but getMe, getUpdates */
	char sent[8192], sent_path[64];	/* the last of them */
	int next_status;		/* 0: 200 */
	const char *next_body;
	bool next_lost, hold_sends;
	int64_t next_id;
	size_t ready, wakes, events, denials, alerts;
	char last_rule[64];
	const char *secret;
	int call_fd;			/* of the last call's answer, or -1 */
};

/* One request and its answer. */
struct ask {
	struct httpd_req r;
	struct http_header headers[2];
	bool answered, gone;
	int status;
	char text[65536];
	size_t n;
};

static struct ask *ask_of(struct httpd_req *r)
{
	return (struct ask *)((char *)r - offsetof(struct ask, r));
}

void httpd_respond(struct httpd_req *r, int status, const char *content_type, const char *headers, struct span body)
{
	struct ask *a = ask_of(r);

	(void)content_type;
	(void)headers;
	assert_false(a->answered);
	a->answered = true;
	a->status = status;
	a->n = body.n < sizeof(a->text) - 1 ? body.n : sizeof(a->text) - 1;
	memcpy(a->text, body.p, a->n);
	a->text[a->n] = '\0';
}

void httpd_respond_json(struct httpd_req *r, int status, struct span json)
{
	httpd_respond(r, status, "application/json", NULL, json);
}

struct span httpd_header(const struct httpd_req *r, const char *name)
{
	for (size_t i = 0; i < r->nheaders; i++)
		if (span_eq_nocase(r->headers[i].name, span_str(name)))
			return r->headers[i].value;
	return (struct span){ 0 };
}

size_t httpd_header_count(const struct httpd_req *r, const char *name)
{
	return httpd_header(r, name).p ? 1 : 0;
}

/* ---- the broker ------------------------------------------------------------------ */

static bool w_token(void *ctx, uint32_t no, struct span token)
{
	(void)ctx;
	(void)no;
	return span_eq_str(token, TOKEN);
}

static void w_ready(void *ctx, uint32_t no)
{
	(void)no;
	((struct world *)ctx)->ready++;
}

static void w_wake(void *ctx, uint32_t no)
{
	(void)no;
	((struct world *)ctx)->wakes++;
}

static void w_event(void *ctx, const char *name, struct span json)
{
	struct world *w = ctx;
	json_t *doc = json_loadb(json.p, json.n, JSON_REJECT_DUPLICATES, NULL);

	assert_non_null(doc);
	json_decref(doc);
	w->events++;
	if (!strcmp(name, "alert"))
		w->alerts++;
}

static void w_record(void *ctx, const struct record *r)
{
	struct cl_err err;

	(void)ctx;
	assert_int_equal(r->failed, 0);
	assert_int_equal(record_check(r->kind, (struct span){ r->body, r->n }, false, &err), 0);
}

static void w_denied(void *ctx, uint32_t no, const char *rule, const char *reason, const char *fix,
		     const char *method, int status, char *out_id, size_t out_size)
{
	struct world *w = ctx;

	(void)no;
	(void)method;
	(void)status;
	assert_true(reason[0] && fix[0]);
	w->denials++;
	(void)snprintf(w->last_rule, sizeof(w->last_rule), "%s", rule);
	(void)snprintf(out_id, out_size, "d-%zu", w->denials);
}

static bool w_leaks(void *ctx, uint32_t no, struct span bytes, char *what, size_t what_size)
{
	struct world *w = ctx;

	(void)no;
	(void)snprintf(what, what_size, "test");
	return w->secret && bytes.n && memmem(bytes.p, bytes.n, w->secret, strlen(w->secret));
}

static int w_fetch(void *ctx, const struct conv_fetch *f, conv_fetched_fn *fn, void *fn_ctx, void **out_call,
		   struct cl_err *err)
{
	struct world *w = ctx;

	(void)err;
	for (size_t i = 0; i < FETCHES; i++) {
		struct fake_fetch *k = &w->fetches[i];

		if (k->open)
			continue;
		*k = (struct fake_fetch){ .open = true, .fn = fn, .ctx = fn_ctx, .body_n = f->body.n };
		(void)snprintf(k->path, sizeof(k->path), "%s", f->path);
		(void)snprintf(k->body, sizeof(k->body), "%.*s", SPAN_FMT(f->body));
		*out_call = k;
		if (strcmp(f->path, "/getMe") != 0 && strcmp(f->path, "/getUpdates") != 0) {
			w->nsent++;
			(void)snprintf(w->sent, sizeof(w->sent), "%.*s", SPAN_FMT(f->body));
			(void)snprintf(w->sent_path, sizeof(w->sent_path), "%s", f->path);
		}
		return 0;
	}
	return -EAGAIN;
}

static void w_fetch_cancel(void *ctx, void *call)
{
	(void)ctx;
	((struct fake_fetch *)call)->open = false;
}

/* answer - the messenger answers one open call */
static void answer(struct fake_fetch *k, int status, bool reached, const char *body)
{
	k->open = false;
	k->fn(k->ctx, status, reached, span_str(body));
}

static struct fake_fetch *open_call(struct world *w, const char *path)
{
	for (size_t i = 0; i < FETCHES; i++)
		if (w->fetches[i].open && !strcmp(w->fetches[i].path, path))
			return &w->fetches[i];
	return NULL;
}

/* messenger - answers everything that is open but polls */
static void messenger(struct world *w)
{
	char body[256];

	for (size_t i = 0; i < FETCHES; i++) {
		struct fake_fetch *k = &w->fetches[i];

		if (!k->open || !strcmp(k->path, "/getUpdates"))
			continue;
		if (!strcmp(k->path, "/getMe")) {
			answer(k, 200, true, "{\"ok\":true,\"result\":{\"id\":1,\"username\":\"house_bot\"}}");
		} else if (w->hold_sends) {
			continue;
		} else if (w->next_lost) {
			w->next_lost = false;
			answer(k, 0, true, "cut");
		} else if (w->next_status) {
			int s = w->next_status;

			w->next_status = 0;
			answer(k, s, true, w->next_body);
		} else {
			(void)snprintf(body, sizeof(body), "{\"ok\":true,\"result\":{\"message_id\":%lld}}",
				       (long long)(9000 + w->next_id++));
			answer(k, 200, true, body);
		}
	}
}

static void stop_loop(struct loop_timer *t)
{
	loop_stop(t->ctx);
}

/* spin - the loop for @ms, with a messenger that answers */
static void spin(struct world *w, int ms)
{
	for (int i = 0; i < ms; i += 2) {
		struct loop_timer t = { 0 };

		messenger(w);
		assert_int_equal(loop_timer_set(w->loop, &t, 2000, stop_loop, w->loop), 0);
		assert_int_equal(loop_run(w->loop), 0);
	}
}

/* updates - the messenger's answer to the open poll */
static void updates(struct world *w, const char *list)
{
	char body[4096];
	struct fake_fetch *k;

	spin(w, 4);
	k = open_call(w, "/getUpdates");
	assert_non_null(k);
	(void)snprintf(body, sizeof(body), "{\"ok\":true,\"result\":[%s]}", list);
	answer(k, 200, true, body);
	spin(w, 4);
}

static void world_open(struct world *w)
{
	struct cl_err err = { 0 };

	w->host = (struct conv_host){ .ctx = w, .loop = w->loop, .store_path = w->db, .state_dirfd = w->dirfd,
		.token_ok = w_token, .ready = w_ready, .wake = w_wake, .event = w_event, .record = w_record,
		.denied = w_denied, .leaks = w_leaks, .fetch = w_fetch, .fetch_cancel = w_fetch_cancel };
	if (conv_new(&w->conv, &w->host, &err))
		fail_msg("%s", cl_err_str(&err));
}

static void world_init(struct world *w)
{
	struct cl_err err = { 0 };

	memset(w, 0, sizeof(*w));
	w->call_fd = -1;
	(void)snprintf(w->dir, sizeof(w->dir), "/tmp/cl-conv-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	(void)snprintf(w->db, sizeof(w->db), "%s/conversation.db", w->dir);
	w->dirfd = open(w->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(w->dirfd >= 0);
	cl_log_level(CL_ERROR);
	assert_int_equal(loop_new(&w->loop, &err), 0);
	world_open(w);
	assert_int_equal(conv_tenant_put(w->conv, 1, SPAN("alice"), &err), 0);
	assert_int_equal(conv_tenant_put(w->conv, 2, SPAN("bob"), &err), 0);
}

static void world_done(struct world *w)
{
	conv_free(w->conv);
	loop_free(w->loop);
	close(w->dirfd);
	(void)cl_close(w->call_fd);
	test_rm_tree(w->dir);
}

/* call - one CALL of the api; the answer's JSON is the caller's */
static json_t *call(struct world *w, const char *method, int want, const char *fmt, ...) CL_PRINTF(4, 5);
static json_t *call(struct world *w, const char *method, int want, const char *fmt, ...)
{
	struct buf out;
	char body[20000];
	va_list ap;
	json_t *doc;
	int fd, status;

	va_start(ap, fmt);
	(void)vsnprintf(body, sizeof(body), fmt, ap);
	va_end(ap);
	buf_init(&out, 131072);
	status = conv_call(w->conv, span_str(method), span_str(body), &out, &fd);
	if (status != want)
		print_error("%s: %.*s\n", method, (int)out.n, out.p);
	assert_int_equal(status, want);
	doc = json_loadb(out.p, out.n, 0, NULL);
	assert_non_null(doc);
	(void)cl_close(w->call_fd);
	w->call_fd = fd;
	buf_done(&out);
	return doc;
}

/* ask - a request of tenant @no's agent. @target: what follows the token */
static void ask(struct world *w, struct ask *a, uint32_t no, const char *target, const char *type, struct span body)
{
	static char path[4][8192];
	static unsigned turn;
	char *p = path[turn++ % 4], *q;
	uint64_t max = 0;
	int rc;

	memset(a, 0, sizeof(*a));
	(void)snprintf(p, sizeof(path[0]), "/telegram/bot" TOKEN "/%s", target);
	q = strchr(p, '?');
	a->headers[0] = (struct http_header){ SPAN("content-type"), span_str(type) };
	a->r.headers = a->headers;
	a->r.nheaders = type ? 1 : 0;
	a->r.method = body.n ? SPAN("POST") : SPAN("GET");
	a->r.path = q ? (struct span){ p, (size_t)(q - p) } : span_str(p);
	a->r.query = q ? span_str(q + 1) : (struct span){ 0 };
	a->r.body = body;
	rc = conv_head(w->conv, &a->r, no, &max);
	if (rc == HTTPD_BUFFER)
		conv_request(w->conv, &a->r, no);
	else
		assert_true(a->answered);
}

static void ask_json(struct world *w, struct ask *a, uint32_t no, const char *method, const char *json)
{
	ask(w, a, no, method, "application/json", span_str(json));
}

/* telegram - the channel is set up and the bot known */
static void telegram(struct world *w)
{
	json_decref(call(w, "channel.put", 200, "{\"name\":\"telegram\",\"kind\":\"telegram\","
			 "\"api_root\":\"http://127.0.0.1:1\",\"secret\":\"telegram\"}"));
	spin(w, 6);
}

/* bind_chat - tenant @no's person is @chat */
static void bind_chat(struct world *w, int no, int chat, int update)
{
	json_t *doc = call(w, "invite.new", 200, "{\"no\":%d,\"channel\":\"telegram\"}", no);
	char u[1024];

	(void)snprintf(u, sizeof(u), "{\"update_id\":%d,\"message\":{\"message_id\":%d,\"from\":{\"id\":%d,\"first_name\":"
		       "\"P%d\"},\"chat\":{\"id\":%d,\"type\":\"private\"},\"date\":1,\"text\":\"/start %s\"}}", update, update,
		       chat, no, chat, json_string_value(json_object_get(doc, "code")));
	updates(w, u);
	json_decref(doc);
}

static void says(struct world *w, int chat, int update, const char *text)
{
	char u[1024];

	(void)snprintf(u, sizeof(u), "{\"update_id\":%d,\"message\":{\"message_id\":%d,\"from\":{\"id\":%d,\"first_name\":"
		       "\"P\"},\"chat\":{\"id\":%d,\"type\":\"private\"},\"date\":1,\"text\":\"%s\"}}", update, update, chat,
		       chat, text);
	updates(w, u);
}

#endif

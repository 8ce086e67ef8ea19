/* SPDX-License-Identifier: Apache-2.0 */
/*
 * web - the pages on TCP: landing, invitation, chat; their files; their JSON.
 *
 * How this works: anybody on the network may try. A request must name us as
 * its Host (else a foreign name was bound to our address), a POST must come
 * from a page of ours (Origin) and be JSON (so that no form of another site
 * can make it). The session is a cookie for one conversation's path; the
 * broker alone knows what it is worth. Nothing of a request ever becomes
 * part of a page.
 */
#include "api/api.h"
#include "base/programs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_MAX (2u << 20)
#define TEXT_MAX (64u * 1024)
#define SESSION_MAX 128u
#define COOKIE "cloister"

#define SAFE \
	"Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " \
	"connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'\r\n" \
	"X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n" \
	"Cross-Origin-Opener-Policy: same-origin\r\nCross-Origin-Resource-Policy: same-origin\r\n"
#define SAFE_PAGE SAFE "Cache-Control: no-store\r\n"
#define SAFE_FILE SAFE "Cache-Control: no-cache\r\n"

static struct api *api_of(const struct httpd_req *r)
{
	return ((const struct listener *)r->listener_ctx)->api;
}

/* ---- who asks, from where ------------------------------------------------------------ */

/* host[:port] of public_url, or empty */
static struct span public_host(const struct api *a)
{
	struct span s = span_str(a->cfg.public_url), host;

	if (span_starts(s, SPAN("https://")))
		s = (struct span){ s.p + 8, s.n - 8 };
	else if (span_starts(s, SPAN("http://")))
		s = (struct span){ s.p + 7, s.n - 7 };
	host = s;
	(void)span_cut(&s, '/', &host);	/* no path: host is all of it */
	return host;
}

static bool host_ok(const struct api *a, struct span host)
{
	struct span port = span_str(a->listen), before;
	char local[80];

	if (!span_cut(&port, ':', &before))
		return false;
	if (span_eq_str(host, a->listen))
		return true;
	(void)snprintf(local, sizeof local, "localhost:%.*s", SPAN_FMT(port));	/* fits */
	if (span_eq_nocase(host, span_str(local)))
		return true;
	before = public_host(a);
	return before.n && span_eq_nocase(host, before);
}

/* an Origin that is there must be ours, spelled as scheme://host */
static bool origin_ok(const struct httpd_req *r, struct span host)
{
	struct span o = httpd_header(r, "origin");
	size_t n = httpd_header_count(r, "origin");

	if (n == 0)
		return true;
	if (n > 1)
		return false;
	if (span_starts(o, SPAN("http://")))
		o = (struct span){ o.p + 7, o.n - 7 };
	else if (span_starts(o, SPAN("https://")))
		o = (struct span){ o.p + 8, o.n - 8 };
	else
		return false;
	return span_eq_nocase(o, host);
}

static void plain(struct httpd_req *r, int status, struct span text)
{
	httpd_respond(r, status, "text/plain; charset=utf-8", SAFE_PAGE, text);
}

static void json_safe(struct httpd_req *r, int status, const char *more, json_t *v)
{
	CL_FREE char *text = v ? json_dumps(v, JSON_COMPACT) : NULL;
	char headers[2048];

	json_decref(v);
	if (!r)
		return;
	(void)snprintf(headers, sizeof headers, "%s%s", SAFE_PAGE, more ? more : "");	/* fits: a cookie is short */
	httpd_respond(r, text ? status : 500, "application/json", headers,
		      text ? span_str(text) : SPAN("{\"error\":{\"reason\":\"no memory\"}}"));
}

static void refuse(struct httpd_req *r, int status, const char *reason, const char *fix)
{
	json_safe(r, status, NULL, json_pack("{s:{s:s, s:s*}}", "error", "reason", reason, "fix", fix));
}

/* the one cookie of ours; an empty span when there is none or it is odd */
static struct span session_of(const struct httpd_req *r)
{
	struct span all = httpd_header(r, "cookie"), one, name;

	if (httpd_header_count(r, "cookie") != 1)
		return (struct span){ NULL, 0 };
	while (all.n) {
		if (!span_cut(&all, ';', &one)) {
			one = all;
			all.n = 0;
		}
		one = span_trim(one);
		if (!span_cut(&one, '=', &name) || !span_eq_str(name, COOKIE))
			continue;
		for (size_t i = 0; i < one.n; i++) {
			char ch = one.p[i];

			if (!((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
			      ch == '-' || ch == '_'))
				return (struct span){ NULL, 0 };
		}
		return one.n <= SESSION_MAX ? one : (struct span){ NULL, 0 };
	}
	return (struct span){ NULL, 0 };
}

/* ---- files ------------------------------------------------------------------------------ */

static const char *type_of(struct span name)
{
	static const struct { const char *end, *type; } types[] = {
		{ ".html", "text/html; charset=utf-8" }, { ".js", "text/javascript; charset=utf-8" },
		{ ".css", "text/css; charset=utf-8" }, { ".svg", "image/svg+xml" }, { ".png", "image/png" },
		{ ".webmanifest", "application/manifest+json" },
	};

	for (size_t i = 0; i < CL_ARRAY_LEN(types); i++) {
		size_t n = strlen(types[i].end);

		if (name.n > n && memcmp(name.p + name.n - n, types[i].end, n) == 0)
			return types[i].type;
	}
	return NULL;
}

static void send_file(struct httpd_req *r, const char *name, bool page)
{
	CL_BUF struct buf b;
	struct cl_err err = { 0 };
	int rc;

	buf_init(&b, FILE_MAX);
	rc = cl_read_file(API_WEB_FD, name, &b, &err);
	if (rc) {
		if (rc != -ENOENT)
			cl_log(CL_ERROR, "web-file", "name=%s error=%s", cl_kvs(name), cl_kvs(cl_err_str(&err)));
		plain(r, 404, SPAN("There is nothing here.\n"));
		return;
	}
	httpd_respond(r, 200, type_of(span_str(name)), page ? SAFE_PAGE : SAFE_FILE, buf_span(&b));
}

/* /a/<name>: one component of a narrow alphabet; no path can be said in it */
static void asset(struct httpd_req *r, struct span name)
{
	char file[64];
	size_t dots = 0;

	for (size_t i = 0; i < name.n; i++) {
		char ch = name.p[i];

		if (ch == '.')
			dots++;
		else if (!((ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9') || ch == '-'))
			dots = 9;
	}
	if (dots != 1 || name.p[0] == '.' || !type_of(name) || span_copy(name, file, sizeof file))
		plain(r, 404, SPAN("There is nothing here.\n"));
	else
		send_file(r, file, false);
}

/* ---- invitation ---------------------------------------------------------------------------- */

static void invited(void *ctx, int status, json_t *answer)
{
	struct wait *w = ctx;
	struct httpd_req *r = wait_take(w);
	const char *id = json_string_value(json_object_get(answer, "id"));
	const char *session = json_string_value(json_object_get(answer, "session"));
	char cookie[400], page[80];

	if (status == 200 && id && session && tenant_id_ok(span_str(id)) && strlen(session) <= SESSION_MAX) {
		(void)snprintf(page, sizeof page, "/c/%s/", id);	/* fits */
		(void)snprintf(cookie, sizeof cookie,
			       "Set-Cookie: " COOKIE "=%s; Path=%s; HttpOnly; SameSite=Strict; Max-Age=31536000\r\n",
			       session, page);	/* fits */
		json_safe(r, 200, cookie, json_pack("{s:s, s:s}", "id", id, "page", page));
	} else if (status == 403) {
		refuse(r, 403, "this invitation was used already, has expired or is incomplete", "ask for a new one");
	} else {
		refuse(r, 503, "the service is starting", "try again in a moment");
	}
}

static void use_invitation(struct httpd_req *r, struct span code)
{
	struct call c = { .a = api_of(r), .req = r };
	struct wait *w = wait_new(&c, "");

	if (!w)
		refuse(r, 503, "no memory", NULL);
	else if (broker_call(c.a, "invite.use", json_pack("{s:s, s:s%}", "channel", "web", "code", code.p, code.n),
			     invited, w))
		refuse(wait_take(w), 503, "the service is starting", "try again in a moment");
}

/* ---- conversation ---------------------------------------------------------------------------- */

/* the broker's answer names the tenant; a session of another one is none */
static bool own(const struct wait *w, const json_t *answer)
{
	const json_t *t = json_object_get(answer, "tenant");
	const struct tenant *mine = tenant_by_id(w->a, span_str(w->id));

	if (json_is_string(t))
		return strcmp(json_string_value(t), w->id) == 0;
	return mine && json_is_integer(t) && json_integer_value(t) == (json_int_t)mine->no;
}

/* states that are not good news of the service itself; true: answered */
static bool not_ok(struct wait *w, int status, json_t *answer, bool check_own)
{
	if (status == 200 && answer && (!check_own || own(w, answer)))
		return false;
	struct httpd_req *r = wait_take(w);

	if (status == 200 || status == 401 || status == 403 || status == 404)
		refuse(r, 401, "this browser is not signed in to this conversation", "open your personal link");
	else if (status == 400 || status == 413 || status == 422 || status == 429)
		json_safe(r, status == 422 ? 400 : status, NULL, broker_error(answer));
	else
		refuse(r, 503, "the service is starting", "try again in a moment");
	return true;
}

static void history(void *ctx, int status, json_t *answer)
{
	struct wait *w = ctx;
	const struct tenant *t;

	if (not_ok(w, status, answer, true))
		return;
	t = tenant_by_id(w->a, span_str(w->id));
	(void)json_object_set_new(answer, "agent", json_string(!t ? "deleted" : t->known ?
				  tenant_state_name(t->state) : t->run ? "starting" : "created"));
	(void)json_object_set_new(answer, "tenant", json_string(w->id));
	json_safe(wait_take(w), 200, NULL, json_incref(answer));
}

static void sent(void *ctx, int status, json_t *answer)
{
	if (!not_ok(ctx, status, answer, false))
		json_safe(wait_take(ctx), 200, NULL, json_incref(answer));
}

static void may_listen(void *ctx, int status, json_t *answer)
{
	struct wait *w = ctx;
	const struct tenant *t;
	struct api *a = w->a;

	if (not_ok(w, status, answer, true))
		return;
	t = tenant_by_id(a, span_str(w->id));
	struct httpd_req *r = wait_take(w);

	if (r && t)
		events_open(a, r, t->no);
	else if (r)
		refuse(r, 401, "there is no such conversation any more", NULL);
}


static void may_send(void *ctx, int status, json_t *answer)
{
	struct wait *w = ctx;
	json_t *body = w->data;

	if (status != 200 || !answer || !own(w, answer))
		json_decref(body);
	if (not_ok(w, status, answer, true))
		return;
	if (broker_call(w->a, "web.send", body, sent, w))
		refuse(wait_take(w), 503, "the service is starting", "try again in a moment");
}

static void ask(struct httpd_req *r, struct span id, const char *method, json_t *body, broker_fn *fn, json_t *data)
{
	struct call c = { .a = api_of(r), .req = r };
	struct wait *w = wait_new(&c, "");

	if (!w || !body) {
		json_decref(body);
		json_decref(data);
		if (w)
			(void)wait_take(w);
		refuse(r, 503, "no memory", NULL);
		return;
	}
	(void)span_copy(id, w->id, sizeof w->id);	/* tenant_id_ok: short */
	w->data = data;
	if (broker_call(c.a, method, body, fn, w)) {
		json_decref(data);
		refuse(wait_take(w), 503, "the service is starting", "try again in a moment");
	}
}

static json_t *look_body(struct span session, uint64_t after, uint32_t limit)
{
	return json_pack("{s:s%, s:I, s:I}", "session", session.p, session.n, "after", (json_int_t)after, "limit",
			 (json_int_t)limit);
}

static void on_history(struct httpd_req *r, struct span id, struct span session)
{
	struct span s = query_get(r, "after");
	uint64_t after = 0;
	uint32_t limit = 200;

	if ((s.n && num_parse_u64(s, INT64_MAX, &after)) ||
	    ((s = query_get(r, "limit")).n && (num_parse_u32(s, 500, &limit) || limit == 0))) {
		refuse(r, 400, "after and limit must be numbers", NULL);
		return;
	}
	ask(r, id, "web.history", look_body(session, after, limit), history, NULL);
}

static void on_send(struct httpd_req *r, struct span id, struct span session)
{
	json_t *in = json_loadb(r->body.p ? r->body.p : "", r->body.n, JSON_REJECT_DUPLICATES, NULL);
	const json_t *text = json_object_get(in, "text"), *client_id = json_object_get(in, "client_id");
	json_t *body;

	if (!json_is_string(text) || json_string_length(text) == 0 || (client_id && !json_is_string(client_id)) ||
	    json_string_length(client_id) > 64) {
		refuse(r, 400, "the message is empty or not UTF-8 text", NULL);
	} else if (json_string_length(text) > TEXT_MAX) {
		refuse(r, 413, "the message is longer than 64 KB", "send it in parts");
	} else {
		body = json_pack("{s:s%, s:O}", "session", session.p, session.n, "text", text);
		if (client_id)
			(void)json_object_set(body, "client_id", (json_t *)(uintptr_t)client_id);
		ask(r, id, "web.history", look_body(session, INT64_MAX, 1), may_send, body);
	}
	json_decref(in);
}

static void conversation(struct httpd_req *r, struct span rest, bool post)
{
	struct span id, session = session_of(r);

	if (!span_cut(&rest, '/', &id) || !tenant_id_ok(id)) {
		plain(r, 404, SPAN("There is nothing here.\n"));
	} else if (rest.n == 0 && !post) {
		send_file(r, "chat.html", true);
	} else if (!span_eq_str(rest, "send") && !span_eq_str(rest, "history") && !span_eq_str(rest, "events")) {
		plain(r, 404, SPAN("There is nothing here.\n"));
	} else if (post != span_eq_str(rest, "send")) {
		refuse(r, 405, "not with this method", NULL);
	} else if (session.n == 0) {
		refuse(r, 401, "this browser is not signed in to this conversation", "open your personal link");
	} else if (post) {
		on_send(r, id, session);
	} else if (span_eq_str(rest, "history")) {
		on_history(r, id, session);
	} else {
		ask(r, id, "web.history", look_body(session, INT64_MAX, 1), may_listen, NULL);
	}
}

/* ---- the rows ----------------------------------------------------------------------------------- */

static bool json_body(const struct httpd_req *r)
{
	struct span type = httpd_header(r, "content-type"), first = type;

	if (httpd_header_count(r, "content-type") != 1)
		return false;
	(void)span_cut(&type, ';', &first);	/* no parameter: first is all of it */
	return span_eq_nocase(span_trim(first), SPAN("application/json"));
}

static void on_request(struct httpd_req *r)
{
	struct api *a = api_of(r);
	struct span host = httpd_header(r, "host"), path = r->path;
	bool get = span_eq_str(r->method, "GET"), post = span_eq_str(r->method, "POST");

	r->ctx = NULL;
	if (httpd_header_count(r, "host") != 1 || !host_ok(a, host)) {
		refuse(r, 421, "this address is not ours", "use the address that cloister prints");
	} else if (span_eq_str(path, "/healthz") || span_eq_str(path, "/readyz") || span_starts(path, SPAN("/v1/"))) {
		rest_head_checked(r);
	} else if (!get && !post) {
		refuse(r, 405, "not with this method", NULL);
	} else if (post && (!origin_ok(r, host) || !json_body(r))) {
		refuse(r, 403, "only pages of this service may do this", NULL);
	} else if (get && span_eq_str(path, "/")) {
		send_file(r, "landing.html", true);
	} else if (get && span_eq_str(path, "/favicon.ico")) {
		asset(r, SPAN("icon.svg"));
	} else if (get && span_starts(path, SPAN("/a/"))) {
		asset(r, (struct span){ path.p + 3, path.n - 3 });
	} else if (span_starts(path, SPAN("/i/")) && name_ok((struct span){ path.p + 3, path.n - 3 })) {
		if (get)
			send_file(r, "invite.html", true);
		else
			use_invitation(r, (struct span){ path.p + 3, path.n - 3 });
	} else if (span_starts(path, SPAN("/c/"))) {
		conversation(r, (struct span){ path.p + 3, path.n - 3 }, post);
	} else {
		plain(r, 404, SPAN("There is nothing here.\n"));
	}
}

static int on_head(struct httpd_req *r, uint64_t *body_max)
{
	r->ctx = NULL;
	/* a message and what JSON may make of it */
	*body_max = span_eq_str(r->method, "POST") ? 6 * TEXT_MAX + 4096 : 0;
	return HTTPD_BUFFER;
}

static void on_gone(struct httpd_req *r)
{
	rest_ops.on_gone(r);
}

const struct httpd_ops web_ops = { .on_head = on_head, .on_request = on_request, .on_gone = on_gone };

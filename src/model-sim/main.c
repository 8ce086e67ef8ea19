/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cloister-model-sim - the simulated model of the demo without a key: the
 * OpenAI API (chat completions, streaming or not; models; embeddings) on a
 * listening socket that cloisterd made. It keeps nothing and opens nothing.
 *
 * Runs as: cloister-model. Who can connect: whoever can reach the address,
 * which is loopback; what is asked is answered from the request alone.
 */
#include "base/drop.h"
#include "base/programs.h"
#include "httpd/httpd.h"
#include "model-sim/answer.h"
#include "wire/wire.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#define BODY_MAX (16u << 20)
#define OUT_MAX (16u << 20)

static struct loop *loop;
static struct chan control;
static uint64_t answers;

static void respond_error(struct httpd_req *r, int status, const char *type, const char *text)
{
	CL_BUF struct buf b;

	buf_init(&b, 4096);
	(void)answer_error(type, text, &b);	/* short texts of ours */
	httpd_respond_json(r, status, buf_span(&b));
}

/* Return: the request as an object, or NULL when it has been answered */
static json_t *body_object(struct httpd_req *r)
{
	json_error_t je;
	json_t *o = json_loadb(r->body.p ? r->body.p : "", r->body.n, JSON_REJECT_DUPLICATES, &je);

	if (json_is_object(o))
		return o;
	json_decref(o);
	respond_error(r, 400, "invalid_request_error", "the body must be a JSON object");
	return NULL;
}

static void chat(struct httpd_req *r)
{
	CL_BUF struct buf out;
	struct thought t = { .args = NULL };
	struct cl_err err = { 0 };
	char id[24];
	int64_t now = cl_now_us();
	json_t *q = body_object(r);

	if (!q)
		return;
	buf_init(&out, OUT_MAX);
	(void)snprintf(id, sizeof id, "sim%012llu", (unsigned long long)++answers);
	bool stream = json_is_true(json_object_get(q, "stream"));
	bool usage = json_is_true(json_object_get(json_object_get(q, "stream_options"), "include_usage"));
	int x = brain_think(q, now, &t, &err);

	json_decref(q);
	if (x == 0)
		x = stream ? answer_stream(&t, id, now / 1000000, r->body.n / 4, usage, &out) :
			     answer_whole(&t, id, now / 1000000, r->body.n / 4, &out);
	thought_done(&t);
	if (x == -EINVAL)
		respond_error(r, 400, "invalid_request_error", err.text);
	else if (x)
		respond_error(r, 500, "server_error", "no memory for this answer");
	else
		httpd_respond(r, 200, stream ? "text/event-stream" : "application/json",
			      "Cache-Control: no-store\r\n", buf_span(&out));
}

static void models(struct httpd_req *r)
{
	CL_BUF struct buf out;

	buf_init(&out, 4096);
	(void)answer_models(&out);	/* a constant that fits */
	httpd_respond_json(r, 200, buf_span(&out));
}

static void embeddings(struct httpd_req *r)
{
	CL_BUF struct buf out;
	struct cl_err err = { 0 };
	json_t *q = body_object(r);

	if (!q)
		return;
	buf_init(&out, OUT_MAX);
	int x = answer_embeddings(q, &out, &err);

	json_decref(q);
	if (x)
		respond_error(r, x == -EINVAL ? 400 : 500, x == -EINVAL ? "invalid_request_error" :
			      "server_error", err.text);
	else
		httpd_respond_json(r, 200, buf_span(&out));
}

static const struct {
	const char *method, *path;
	void (*fn)(struct httpd_req *r);
} paths[] = {
	{ "POST", "/v1/chat/completions", chat },
	{ "GET", "/v1/models", models },
	{ "POST", "/v1/embeddings", embeddings },
};

static int on_head(struct httpd_req *r, uint64_t *body_max)
{
	(void)r;
	*body_max = BODY_MAX;
	return HTTPD_BUFFER;
}

static void on_request(struct httpd_req *r)
{
	bool path = false;

	for (size_t i = 0; i < CL_ARRAY_LEN(paths); i++) {
		if (!span_eq_str(r->path, paths[i].path))
			continue;
		path = true;
		if (span_eq_str(r->method, paths[i].method)) {
			paths[i].fn(r);
			return;
		}
	}
	respond_error(r, path ? 405 : 404, "invalid_request_error",
		      path ? "this method is not allowed here" :
		      "the simulated model knows /v1/chat/completions, /v1/models and /v1/embeddings");
}

/* ---- start and end ------------------------------------------------------------------ */

static void on_control_closed(struct chan *c)
{
	(void)c;
	loop_stop(loop);
}

static void on_signal(struct loop *l, int signo, void *ctx)
{
	(void)signo;
	(void)ctx;
	loop_stop(l);
}

static const int calls[] = {
	SYS_read, SYS_write, SYS_writev, SYS_close, SYS_accept4, SYS_recvfrom, SYS_recvmsg, SYS_sendto,
	SYS_sendmsg, SYS_shutdown, SYS_setsockopt, SYS_getsockopt, SYS_epoll_wait, SYS_epoll_pwait,
	SYS_epoll_ctl, SYS_fcntl, SYS_clock_gettime, SYS_getrandom, SYS_brk, SYS_munmap, SYS_mremap,
	SYS_madvise, SYS_futex, SYS_fstat, SYS_newfstatat, SYS_rt_sigprocmask, SYS_rt_sigaction,
	SYS_rt_sigreturn, SYS_restart_syscall, SYS_getpid, SYS_gettid, SYS_tgkill, SYS_exit,
	SYS_exit_group,
};

static int options_parse(int argc, char **argv, uint32_t *uid, uint32_t *gid, struct cl_err *err)
{
	for (int i = 1; i < argc; i++) {
		bool u = strcmp(argv[i], "--uid") == 0, g = strcmp(argv[i], "--gid") == 0;

		if ((!u && !g) || i + 1 == argc ||
		    num_parse_u32(span_str(argv[i + 1]), UINT32_MAX - 1, u ? uid : gid))
			return cl_fail(err, EINVAL, "cloister-model-sim: argument %s", argv[i]);
		i++;
	}
	return 0;
}

static int start(int argc, char **argv, struct httpd **server, struct cl_err *err)
{
	static const int signals[] = { SIGTERM, SIGINT, 0 };
	const struct httpd_ops ops = { .on_head = on_head, .on_request = on_request };
	const struct httpd_limits limits = { .body_max = BODY_MAX, .conns_max = 256 };
	uint32_t uid = 0, gid = 0;
	int r = options_parse(argc, argv, &uid, &gid, err);

	if (r == 0)
		r = loop_new(&loop, err);
	if (r == 0)
		r = loop_signals(loop, signals, on_signal, NULL);
	if (r == 0)
		r = drop_to_user(uid, gid, err);
	if (r == 0)
		r = landlock_only(NULL, 0, NULL, 0, true, NULL, err);
	if (r == 0)
		r = seccomp_only(calls, CL_ARRAY_LEN(calls), err);
	if (r == 0)
		r = httpd_new(server, loop, &ops, &limits, err);
	if (r == 0)
		r = httpd_listen(*server, MODEL_TCP_FD, NULL, NULL);
	if (r == 0)
		r = chan_init(&control, loop, PROGRAM_CONTROL_FD, ROLE_CLOISTERD, NULL, 0,
			      on_control_closed, NULL);
	if (r == 0)
		r = chan_send(&control, MSG_READY, 0, &(struct msg_ready){ 0 }, NULL, 0);
	if (r && !err->code)
		(void)cl_fail(err, -r, "start");
	return r;
}

int main(int argc, char **argv)
{
	struct cl_err err = { 0 };
	struct httpd *server = NULL;

	cl_log_init("cloister-model-sim");
	/* jansson seeds its tables from a file otherwise, which is out of reach then */
	json_object_seed(0);
	if (start(argc, argv, &server, &err)) {
		cl_log(CL_ERROR, "model-start", "error=%s", cl_kvs(cl_err_str(&err)));
		return 1;
	}
	cl_log(CL_INFO, "model-ready", "simulated=yes");
	int r = loop_run(loop);

	httpd_free(server);
	chan_done(&control);
	loop_free(loop);
	return r < 0 ? 1 : 0;
}

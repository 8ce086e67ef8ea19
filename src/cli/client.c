/* SPDX-License-Identifier: Apache-2.0 */
/* client - requests to the api's socket, by libcurl; answers are JSON. */
#include "cli/cli.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_MAX (64u << 20)
#define CALL_TIMEOUT_S 300L

static const char *socket_path(const struct cli *c)
{
	return cli_path(c, "/run/cloister/api.sock");
}

int client_connect(const struct cli *c, struct cl_err *err)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	const char *path = socket_path(c);

	if (span_copy(span_str(path), a.sun_path, sizeof a.sun_path))
		return cl_fail(err, ENAMETOOLONG, "'%s' is too long for a socket: use a shorter --dir", path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return cl_fail(err, errno, "socket");
	if (connect(fd, (struct sockaddr *)&a, sizeof a) < 0) {
		int e = errno;

		(void)cl_close(fd);
		return cl_fail(err, e, "'%s'", path);
	}
	return fd;
}

static int no_service(const struct cli *c, int code)
{
	if (code == EACCES || code == EPERM)
		return cli_fail(EXIT_FAILED, "'%s' may not be used by you: be root or a member of the group cloister",
				socket_path(c));
	if (code == ENAMETOOLONG)
		return cli_fail(EXIT_FAILED, "'%s' is too long for a socket: use a shorter --dir", socket_path(c));
	return cli_fail(EXIT_NO_SERVICE, "the service does not run: start it with: cloister%s%s up",
			*c->dir ? " --dir " : "", c->dir);
}

static size_t on_data(char *p, size_t one, size_t n, void *ctx)
{
	struct buf *b = ctx;

	return buf_add(b, p, one * n) == 0 ? one * n : 0;
}

static CURL *easy(const struct cli *c, const char *path, char *url, size_t url_size)
{
	CURL *h = curl_easy_init();

	if (!h)
		return NULL;
	(void)snprintf(url, url_size, "http://localhost%s", path);
	(void)curl_easy_setopt(h, CURLOPT_UNIX_SOCKET_PATH, socket_path(c));
	(void)curl_easy_setopt(h, CURLOPT_URL, url);
	(void)curl_easy_setopt(h, CURLOPT_PROXY, "");
	(void)curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
	(void)curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http");
	return h;
}

/* libcurl's failure as an errno: did anybody listen? */
static int curl_code(CURLcode rc)
{
	return rc == CURLE_COULDNT_CONNECT ? ECONNREFUSED : rc == CURLE_OPERATION_TIMEDOUT ? ETIMEDOUT : EIO;
}

int client_call(const struct cli *c, const char *method, const char *path, const json_t *body,
		json_t **out, struct cl_err *err)
{
	CL_BUF struct buf answer;
	CL_FREE char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	struct curl_slist *headers = NULL;
	char url[2048], words[CURL_ERROR_SIZE] = "";
	long status = 0;
	int probe = client_connect(c, err);

	if (out)
		*out = NULL;
	if (probe < 0)
		return probe;
	(void)cl_close(probe);	/* only to learn why it cannot be reached */
	buf_init(&answer, ANSWER_MAX);
	CURL *h = easy(c, path, url, sizeof url);

	if (!h || (body && !text)) {
		curl_easy_cleanup(h);
		return cl_fail(err, ENOMEM, "no memory");
	}
	(void)curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, method);
	(void)curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_data);
	(void)curl_easy_setopt(h, CURLOPT_WRITEDATA, &answer);
	(void)curl_easy_setopt(h, CURLOPT_ERRORBUFFER, words);
	(void)curl_easy_setopt(h, CURLOPT_TIMEOUT, CALL_TIMEOUT_S);
	if (text) {
		headers = curl_slist_append(headers, "Content-Type: application/json");
		headers = curl_slist_append(headers, "Expect:");
		(void)curl_easy_setopt(h, CURLOPT_HTTPHEADER, headers);
		(void)curl_easy_setopt(h, CURLOPT_POSTFIELDS, text);
		(void)curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(text));
	}
	CURLcode rc = curl_easy_perform(h);

	(void)curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, &status);
	curl_slist_free_all(headers);
	curl_easy_cleanup(h);
	if (rc != CURLE_OK)
		return cl_fail(err, curl_code(rc), "the service: %s",
			       *words ? words : curl_easy_strerror(rc));
	if (out && answer.n)
		*out = json_loadb(answer.p, answer.n, JSON_REJECT_DUPLICATES, NULL);
	return (int)status;
}

int client_failed(const struct cli *c, int status, const json_t *answer)
{
	const json_t *e = json_object_get(answer, "error");
	const char *reason = json_string_value(json_object_get(e, "reason"));
	const char *fix = json_string_value(json_object_get(e, "fix"));
	int code = status == 404 ? EXIT_NOT_FOUND : status == 504 ? EXIT_TIMEOUT : EXIT_FAILED;

	if (client_print_json(c, answer))
		return code;
	if (!reason)
		return cli_fail(code, "the service answered %d", status);
	return cli_fail(code, "%s%s%s", reason, fix ? "; " : "", fix ? fix : "");
}

int client_do(const struct cli *c, const char *method, const char *path, const json_t *body,
	      json_t **out)
{
	struct cl_err err = { 0 };
	json_t *answer = NULL;
	int status = client_call(c, method, path, body, &answer, &err), r = EXIT_OK;

	if (out)
		*out = NULL;
	if (status == -ECONNREFUSED || status == -ENOENT || status == -EACCES || status == -EPERM ||
	    status == -ENAMETOOLONG)
		return no_service(c, -status);
	if (status < 0)
		return cli_fail(status == -ETIMEDOUT ? EXIT_TIMEOUT : EXIT_FAILED, "%s", err.text);
	if (status >= 300)
		r = client_failed(c, status, answer);
	else if (out)
		*out = json_incref(answer);
	json_decref(answer);
	return r;
}

struct streaming {
	CURL *h;
	client_piece_fn *fn;
	void *ctx;
	struct buf error;	/* body of a refusal */
	long status;
	bool ended;
};

static size_t on_piece(char *p, size_t one, size_t n, void *ctx)
{
	struct streaming *s = ctx;

	if (!s->status)
		(void)curl_easy_getinfo(s->h, CURLINFO_RESPONSE_CODE, &s->status);
	if (s->status >= 300)
		return buf_add(&s->error, p, one * n) == 0 ? one * n : 0;
	if (s->fn(s->ctx, (struct span){ p, one * n })) {
		s->ended = true;
		return 0;
	}
	return one * n;
}

int client_stream(const struct cli *c, const char *path, client_piece_fn *fn, void *ctx)
{
	struct streaming s = { .fn = fn, .ctx = ctx };
	struct cl_err err = { 0 };
	char url[2048];
	int r = EXIT_OK, probe = client_connect(c, &err);

	if (probe < 0)
		return no_service(c, -probe);
	(void)cl_close(probe);
	buf_init(&s.error, 65536);
	s.h = easy(c, path, url, sizeof url);
	if (!s.h)
		return cli_fail(EXIT_FAILED, "no memory");
	(void)curl_easy_setopt(s.h, CURLOPT_WRITEFUNCTION, on_piece);
	(void)curl_easy_setopt(s.h, CURLOPT_WRITEDATA, &s);
	CURLcode rc = curl_easy_perform(s.h);

	(void)curl_easy_getinfo(s.h, CURLINFO_RESPONSE_CODE, &s.status);
	if (rc == CURLE_OK && s.status >= 300) {
		json_t *answer = json_loadb(s.error.p ? s.error.p : "", s.error.n, JSON_REJECT_DUPLICATES, NULL);

		r = client_failed(c, (int)s.status, answer);
		json_decref(answer);
	} else if (rc != CURLE_OK && !s.ended) {
		r = cli_fail(EXIT_FAILED, "the service: %s", curl_easy_strerror(rc));
	}
	buf_done(&s.error);
	curl_easy_cleanup(s.h);
	return r;
}

bool client_print_json(const struct cli *c, const json_t *v)
{
	CL_FREE char *text = NULL;

	if (!c->json || !v)
		return false;
	text = json_dumps(v, JSON_INDENT(2) | JSON_ENSURE_ASCII);
	if (text)
		puts(text);
	return text != NULL;
}

const char *client_path(const char *fmt, ...)
{
	static char path[1024];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(path, sizeof path, fmt, ap);	/* callers checked each part's length */
	va_end(ap);
	return path;
}

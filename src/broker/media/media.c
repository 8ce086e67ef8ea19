/* SPDX-License-Identifier: Apache-2.0 */
/* Files of a conversation: encrypted at rest, one key a tenant; see media.h. Runs in: broker. */
#include "broker/channel/channel.h"
#include "broker/media/media.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE (64u * 1024)
#define KEY crypto_secretstream_xchacha20poly1305_KEYBYTES
#define HEADER crypto_secretstream_xchacha20poly1305_HEADERBYTES
#define EXTRA crypto_secretstream_xchacha20poly1305_ABYTES
#define TENANT_BYTES_MAX (1LL << 30)	/* of all files of a tenant */
#define KEY_SETTING "media-key"

int media_init(struct conv *c, struct cl_err *err)
{
	int rc;

	if (sodium_init() < 0)
		return cl_fail(err, ENOSYS, "libsodium");
	rc = cl_mkdir_path(c->h.state_dirfd, "media", 0700);
	return rc && rc != -EEXIST ? cl_fail(err, -rc, "media directory") : 0;
}

/* tenant_key - made on first use; with the tenant's rows it goes, and with it every file */
static int tenant_key(struct conv *c, uint32_t no, uint8_t key[KEY], struct cl_err *err)
{
	struct buf b = { 0 };
	int rc;

	buf_init(&b, KEY);
	rc = cvs_setting_get(c->store, no, KEY_SETTING, &b, err);
	if (rc == 0 && b.n == KEY) {
		memcpy(key, b.p, KEY);
	} else if (rc == -ENOENT) {
		crypto_secretstream_xchacha20poly1305_keygen(key);
		rc = cvs_setting_put(c->store, no, KEY_SETTING, (struct span){ (char *)key, KEY }, err);
	} else if (rc == 0) {
		rc = cl_fail(err, EBADMSG, "media key");
	}
	buf_wipe_done(&b);
	return rc;
}

static void make_handle(char out[MEDIA_HANDLE])
{
	uint8_t raw[16];

	cl_random(raw, sizeof(raw));
	cl_hex(raw, sizeof(raw), out);
}

static bool handle_ok(struct span h)
{
	if (h.n != MEDIA_HANDLE - 1)
		return false;
	for (size_t i = 0; i < h.n; i++)
		if (!memchr("0123456789abcdef", h.p[i], 16))
			return false;
	return true;
}

/* file_path - "media/<handle>": the handle is hex and nothing else */
static void file_path(struct span handle, char out[64])
{
	(void)snprintf(out, 64, "media/%.*s", SPAN_FMT(handle));
}

/* seal - @data as a secretstream bound to its handle */
static int seal(const uint8_t key[KEY], struct span handle, struct span data, struct buf *out)
{
	crypto_secretstream_xchacha20poly1305_state st;
	uint8_t header[HEADER];
	size_t at = 0;
	bool last;

	(void)crypto_secretstream_xchacha20poly1305_init_push(&st, header, key);	/* cannot fail */
	if (buf_add(out, header, sizeof(header)))
		return -ENOMEM;
	do {
		size_t n = data.n - at < PIECE ? data.n - at : PIECE;

		last = at + n == data.n;
		if (buf_reserve(out, n + EXTRA))
			return -ENOMEM;
		(void)crypto_secretstream_xchacha20poly1305_push(&st, (unsigned char *)out->p + out->n, NULL,
			(const unsigned char *)data.p + at, n, (const unsigned char *)handle.p, handle.n,
			last ? crypto_secretstream_xchacha20poly1305_TAG_FINAL : 0);
		out->n += n + EXTRA;
		at += n;
	} while (!last);
	sodium_memzero(&st, sizeof(st));
	return 0;
}

static int unseal(const uint8_t key[KEY], struct span handle, struct span in, struct buf *out)
{
	crypto_secretstream_xchacha20poly1305_state st;
	unsigned char tag = 0;
	size_t at = HEADER;

	if (in.n < HEADER + EXTRA ||
	    crypto_secretstream_xchacha20poly1305_init_pull(&st, (const unsigned char *)in.p, key))
		return -EBADMSG;
	while (at < in.n) {
		size_t n = in.n - at < PIECE + EXTRA ? in.n - at : PIECE + EXTRA;

		if (tag || n < EXTRA || buf_reserve(out, n - EXTRA) ||
		    crypto_secretstream_xchacha20poly1305_pull(&st, (unsigned char *)out->p + out->n, NULL, &tag,
			(const unsigned char *)in.p + at, n, (const unsigned char *)handle.p, handle.n))
			return -EBADMSG;
		out->n += n - EXTRA;
		at += n;
	}
	sodium_memzero(&st, sizeof(st));
	return tag == crypto_secretstream_xchacha20poly1305_TAG_FINAL ? 0 : -EBADMSG;
}

/* write_sealed - the file first, then its row: a row never names a file that is not whole */
static int write_sealed(struct conv *c, uint32_t no, struct span handle, struct span data, struct cl_err *err)
{
	uint8_t key[KEY];
	CL_BUF struct buf out = { 0 };
	int64_t have = 0;
	char path[64];
	int rc = cvs_media_bytes(c->store, no, &have, err);

	if (rc == 0 && have + (int64_t)data.n > TENANT_BYTES_MAX)
		return cl_fail(err, EFBIG, "the files of this conversation fill their %lld MB", TENANT_BYTES_MAX >> 20);
	if (rc == 0)
		rc = tenant_key(c, no, key, err);
	if (rc)
		return rc;
	buf_init(&out, MEDIA_MAX + MEDIA_MAX / 1024 + 4096);
	rc = seal(key, handle, data, &out);
	sodium_memzero(key, sizeof(key));
	if (rc)
		return cl_fail(err, -rc, "media");
	file_path(handle, path);
	return cl_write_file(c->h.state_dirfd, path, 0600, buf_span(&out), err);
}

int media_note(struct conv *c, uint32_t no, const char *kind, struct span mime, struct span name,
	       struct span upstream, int64_t size_bytes, char out_handle[MEDIA_HANDLE], struct cl_err *err)
{
	make_handle(out_handle);
	return cvs_media_add(c->store, &(struct cvs_media){ .handle = span_str(out_handle), .no = no,
			     .kind = span_str(kind), .mime = mime, .name = name, .upstream = upstream,
			     .size_bytes = size_bytes, .at_ms = conv_now_ms() }, err);
}

int media_put(struct conv *c, uint32_t no, const char *kind, struct span mime, struct span name,
	      struct span data, char out_handle[MEDIA_HANDLE], struct cl_err *err)
{
	char path[64];
	int rc;

	if (data.n > MEDIA_MAX)
		return cl_fail(err, EFBIG, "the file is larger than %u MB", MEDIA_MAX >> 20);
	make_handle(out_handle);
	rc = write_sealed(c, no, span_str(out_handle), data, err);
	if (rc)
		return rc;
	file_path(span_str(out_handle), path);
	rc = cvs_media_add(c->store, &(struct cvs_media){ .handle = span_str(out_handle), .no = no,
			   .kind = span_str(kind), .mime = mime, .name = name, .file = span_str(path),
			   .size_bytes = (int64_t)data.n, .at_ms = conv_now_ms() }, err);
	if (rc)
		(void)unlinkat(c->h.state_dirfd, path, 0);	/* an orphan is only lost space */
	return rc;
}

struct row {
	bool fetched;
	char upstream[257], mime[129];
	int64_t size;
};

static void on_row(void *ctx, const struct cvs_media *m)
{
	struct row *r = ctx;

	r->fetched = m->file.n > 0;
	r->size = m->size_bytes;
	(void)span_copy(m->upstream, r->upstream, sizeof(r->upstream));	/* too long: empty, cannot be fetched */
	(void)span_copy(m->mime, r->mime, sizeof(r->mime));
}

static int get_row(struct conv *c, uint32_t no, struct span handle, struct row *out)
{
	*out = (struct row){ 0 };
	if (!handle_ok(handle))
		return -ENOENT;
	return cvs_media_get(c->store, no, handle, on_row, out, NULL);
}

bool media_known(struct conv *c, uint32_t no, struct span handle)
{
	struct row r;

	return get_row(c, no, handle, &r) == 0;
}

int media_read(struct conv *c, uint32_t no, struct span handle, struct buf *out, struct cl_err *err)
{
	CL_BUF struct buf in = { 0 };
	uint8_t key[KEY];
	char path[64];
	struct row row;
	int rc = get_row(c, no, handle, &row);

	if (rc)
		return cl_fail(err, -rc, "there is no such file");
	if (!row.fetched)
		return cl_fail(err, ENODATA, "the file was not fetched yet");
	file_path(handle, path);
	buf_init(&in, MEDIA_MAX + MEDIA_MAX / 1024 + 4096);
	rc = cl_read_file(c->h.state_dirfd, path, &in, err);
	if (rc == 0)
		rc = tenant_key(c, no, key, err);
	if (rc)
		return rc;
	rc = unseal(key, handle, buf_span(&in), out);
	sodium_memzero(key, sizeof(key));
	return rc ? cl_fail(err, -rc, "the file is damaged") : 0;
}

static void on_remove(void *ctx, const struct cvs_media *m)
{
	struct conv *c = ctx;
	char path[64];

	if (!m->file.n || !handle_ok(m->handle))
		return;
	file_path(m->handle, path);
	(void)unlinkat(c->h.state_dirfd, path, 0);	/* without its key it is noise anyway */
}

int media_tenant_rm(struct conv *c, uint32_t no, struct cl_err *err)
{
	int rc = cvs_media_all(c->store, no, on_remove, c, err);

	return rc < 0 ? rc : 0;
}

/* ---- as the agent and the messengers see it -------------------------------------------- */

void media_json(const json_t *media, struct buf *out)
{
	static const char *const numbers[] = { "width", "height", "duration" };
	const char *kind = json_string_value(json_object_get(media, "kind"));
	const char *handle = json_string_value(json_object_get(media, "handle"));
	const json_t *name = json_object_get(media, "name"), *v;
	bool photo, sized;

	if (!kind || !handle)
		return;
	photo = !strcmp(kind, "photo");
	sized = photo || !strcmp(kind, "video") || !strcmp(kind, "animation") || !strcmp(kind, "sticker");
	(void)buf_printf(out, ",\"%s\":%s{\"file_id\":\"%s\",\"file_unique_id\":\"%.16s\",\"file_size\":%lld", kind,
			 photo ? "[" : "", handle, handle, (long long)json_integer_value(json_object_get(media, "size")));
	for (size_t i = 0; i < CL_ARRAY_LEN(numbers); i++) {
		v = json_object_get(media, numbers[i]);
		if (json_is_integer(v))
			(void)buf_printf(out, ",\"%s\":%lld", numbers[i], (long long)json_integer_value(v));
		else if (sized && i < 2)	/* clients expect them there */
			(void)buf_printf(out, ",\"%s\":0", numbers[i]);
	}
	if (!photo && json_is_string(json_object_get(media, "mime"))) {
		(void)buf_add_str(out, ",\"mime_type\":");
		(void)buf_add_json_str(out, span_str(json_string_value(json_object_get(media, "mime"))));
	}
	if (!photo && json_is_string(name)) {
		(void)buf_add_str(out, ",\"file_name\":");
		(void)buf_add_json_str(out, span_str(json_string_value(name)));
	}
	if (!strcmp(kind, "sticker"))
		(void)buf_add_str(out, ",\"type\":\"regular\",\"is_animated\":false,\"is_video\":false");
	(void)buf_add_str(out, photo ? "}]" : "}");
}

void media_safe_name(const json_t *media, char *out, size_t n)
{
	static const struct { const char *kind, *ext; } exts[] = {
		{ "photo", "jpg" }, { "voice", "ogg" }, { "audio", "mp3" }, { "video", "mp4" },
		{ "animation", "mp4" }, { "video_note", "mp4" }, { "sticker", "webp" },
	};
	const char *name = json_string_value(json_object_get(media, "name"));
	const char *kind = json_string_value(json_object_get(media, "kind"));
	const char *ext = "bin";
	size_t k = 0;

	for (size_t i = 0; name && name[i] && k + 1 < n; i++) {
		char ch = name[i];

		if ((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
		    (k > 0 && memchr("._- ", ch, 4)))
			out[k++] = ch;
		else if (ch == '/' || ch == '\\')
			k = 0;	/* only what is behind the last slash */
		else
			out[k++] = '_';
	}
	out[k] = '\0';
	if (k)
		return;
	for (size_t i = 0; kind && i < CL_ARRAY_LEN(exts); i++)
		if (!strcmp(kind, exts[i].kind))
			ext = exts[i].ext;
	(void)snprintf(out, n, "file.%s", ext);
}

/* ---- getFile: fetched from the messenger when it is first asked for ------------------------ */

struct fetching {
	struct wait w;		/* first: r->ctx is a wait */
	struct fetching *next, **at;	/* of conv's list */
	void *call;
	struct conv *c;
	uint32_t no;
	char handle[MEDIA_HANDLE], secret[65], api_root[256];
};

static const char *ext_of(const char *mime)
{
	static const struct { const char *mime, *ext; } exts[] = {
		{ "image/jpeg", ".jpg" }, { "image/png", ".png" }, { "image/webp", ".webp" }, { "image/gif", ".gif" },
		{ "audio/ogg", ".oga" }, { "audio/mpeg", ".mp3" }, { "audio/mp4", ".m4a" }, { "video/mp4", ".mp4" },
		{ "application/pdf", ".pdf" }, { "text/plain", ".txt" },
	};

	for (size_t i = 0; i < CL_ARRAY_LEN(exts); i++)
		if (!strcmp(mime, exts[i].mime))
			return exts[i].ext;
	return "";
}

static void answer_file(struct conv *c, uint32_t no, struct span handle, struct httpd_req *r)
{
	CL_BUF struct buf b = { 0 };
	struct row row;

	if (get_row(c, no, handle, &row)) {
		answer_error(r, 400, "Bad Request: invalid file_id");
		return;
	}
	buf_init(&b, 1024);
	(void)buf_printf(&b, "{\"file_id\":\"%.*s\",\"file_unique_id\":\"%.16s\",\"file_size\":%lld,"
			 "\"file_path\":\"files/%.*s%s\"}", SPAN_FMT(handle), handle.p, (long long)row.size,
			 SPAN_FMT(handle), ext_of(row.mime));
	answer_result(r, buf_span(&b));
}

static void fetching_free(struct fetching *f)
{
	*f->at = f->next;
	if (f->next)
		f->next->at = f->at;
	free(f);
}

/* A fetch outlives its request: the file is stored for the next time it is asked for. */
static void fetching_end(struct fetching *f, const char *problem)
{
	struct httpd_req *r = f->w.r;

	if (r) {
		r->ctx = NULL;
		if (problem)
			answer_error(r, 502, "Bad Gateway: %s", problem);
		else
			answer_file(f->c, f->no, span_str(f->handle), r);
	}
	fetching_free(f);
}

void media_done(struct conv *c)
{
	while (c->fetches) {
		struct fetching *f = c->fetches;

		c->h.fetch_cancel(c->h.ctx, f->call);
		fetching_free(f);
	}
}

static void on_bytes(void *ctx, int status, bool reached, struct span body)
{
	struct fetching *f = ctx;
	struct cl_err err = { 0 };
	char path[64];

	(void)reached;
	if (status != 200) {
		fetching_end(f, "the messenger did not give the file");
		return;
	}
	if (body.n > MEDIA_MAX || !conv_tenant(f->c, f->no)) {
		fetching_end(f, "the file is too large");
		return;
	}
	file_path(span_str(f->handle), path);
	if (write_sealed(f->c, f->no, span_str(f->handle), body, &err) ||
	    cvs_media_file(f->c->store, f->no, span_str(f->handle), span_str(path), (int64_t)body.n, &err)) {
		cl_log(CL_ERROR, "media.store", "outcome=failed error=%s", cl_kvs(cl_err_str(&err)));
		fetching_end(f, "the file could not be stored");
		return;
	}
	fetching_end(f, NULL);
}

/* path_plain - the messenger's file path goes into a request line: plain characters only */
static bool path_plain(const char *p)
{
	if (!p || !*p || strlen(p) > 200 || strstr(p, ".."))
		return false;
	for (; *p; p++)
		if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') ||
		      strchr("._-/", *p)))
			return false;
	return true;
}

static void on_file(void *ctx, int status, bool reached, struct span body)
{
	struct fetching *f = ctx;
	const struct conv_host *h = &f->c->h;
	json_t *doc = status == 200 ? json_loadb(body.p, body.n, JSON_REJECT_DUPLICATES, NULL) : NULL;
	const char *p = json_string_value(json_object_get(json_object_get(doc, "result"), "file_path"));
	struct conv_fetch get = { .api_root = f->api_root, .secret = f->secret, .file = true, .timeout_ms = 60000,
				  .answer_max = MEDIA_MAX + 1 };
	struct cl_err err = { 0 };
	char path[240];

	(void)reached;
	f->call = NULL;
	if (!path_plain(p)) {
		json_decref(doc);
		fetching_end(f, "the messenger does not have this file any more");
		return;
	}
	(void)snprintf(path, sizeof(path), "/%s", p);
	get.path = path;
	if (h->fetch(h->ctx, &get, on_bytes, f, &f->call, &err))
		fetching_end(f, "the messenger cannot be reached");
	json_decref(doc);
}

static int fetch_start(struct conv *c, uint32_t no, struct span handle, const char *upstream,
		       const struct channel *ch, struct httpd_req *r)
{
	struct fetching *f = calloc(1, sizeof(*f));
	CL_BUF struct buf b = { 0 };
	struct conv_fetch get = { .path = "/getFile", .content_type = "application/json", .timeout_ms = 20000,
				  .answer_max = 64 * 1024 };
	struct cl_err err = { 0 };
	int rc;

	if (!f)
		return -ENOMEM;
	f->next = c->fetches;
	f->at = &c->fetches;
	if (f->next)
		f->next->at = &f->next;
	c->fetches = f;
	f->c = c;
	f->no = no;
	f->w = (struct wait){ .c = c, .no = no, .r = r, .media = true };
	(void)span_copy(handle, f->handle, sizeof(f->handle));	/* checked by handle_ok */
	(void)snprintf(f->secret, sizeof(f->secret), "%s", ch->secret);
	(void)snprintf(f->api_root, sizeof(f->api_root), "%s", ch->api_root);
	buf_init(&b, 2048);
	(void)buf_add_str(&b, "{\"file_id\":");
	(void)buf_add_json_str(&b, span_str(upstream));
	(void)buf_add_ch(&b, '}');
	get.api_root = f->api_root;
	get.secret = f->secret;
	get.body = buf_span(&b);
	rc = c->h.fetch(c->h.ctx, &get, on_file, f, &f->call, &err);
	if (rc)
		fetching_free(f);
	else
		r->ctx = f;
	return rc;
}

void media_get_file(struct conv *c, struct ctenant *t, struct httpd_req *r, struct span file_id)
{
	struct row row;

	if (get_row(c, t->no, file_id, &row)) {
		/* nobody else's handle can be told from one that never was */
		answer_error(r, 400, "Bad Request: invalid file_id");
		return;
	}
	if (row.fetched) {
		answer_file(c, t->no, file_id, r);
		return;
	}
	if (row.size > MEDIA_MAX) {
		answer_error(r, 400, "Bad Request: file is too big");
		return;
	}
	/* files wait at the channel that brought them; there is one kind of channel that has files */
	if (!row.upstream[0] || !c->channels || fetch_start(c, t->no, file_id, row.upstream, c->channels, r))
		answer_error(r, 502, "Bad Gateway: the messenger cannot be reached");
}

void media_serve(struct conv *c, struct ctenant *t, struct httpd_req *r, struct span path)
{
	CL_BUF struct buf out = { 0 };
	struct cl_err err = { 0 };
	struct span handle;

	buf_init(&out, MEDIA_MAX + 1);
	if (!span_starts(path, SPAN("files/")) || path.n < 6 + MEDIA_HANDLE - 1) {
		answer_error(r, 404, "Not Found");
		return;
	}
	handle = (struct span){ path.p + 6, MEDIA_HANDLE - 1 };
	if (path.n > 6 + MEDIA_HANDLE - 1 && path.p[6 + MEDIA_HANDLE - 1] != '.') {
		answer_error(r, 404, "Not Found");
		return;
	}
	if (media_read(c, t->no, handle, &out, &err)) {
		answer_error(r, 404, "Not Found");
		return;
	}
	httpd_respond(r, 200, "application/octet-stream", NULL, buf_span(&out));
}

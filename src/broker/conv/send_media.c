/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pictures, voice and files of the agent: uploaded or named by a handle that
 * it has; never fetched from an address, which would be a way out. Runs in: broker.
 */
#include "broker/conv/entities.h"
#include "broker/conv/outgoing.h"
#include "broker/media/media.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GROUP_MAX 10

/* The field of each method that holds the file: the part of its name after "send". */
static const struct { const char *method, *kind, *mime; } kinds[] = {
	{ "sendPhoto", "photo", "image/jpeg" }, { "sendAudio", "audio", "audio/mpeg" },
	{ "sendDocument", "document", "application/octet-stream" }, { "sendVideo", "video", "video/mp4" },
	{ "sendAnimation", "animation", "video/mp4" }, { "sendVoice", "voice", "audio/ogg" },
	{ "sendVideoNote", "video_note", "video/mp4" }, { "sendSticker", "sticker", "image/webp" },
};

struct given {
	const char *kind, *mime;
	struct span data, filename, type, handle;	/* data or handle */
};

static struct param_file *file_named(struct params *p, struct span name)
{
	for (size_t i = 0; i < p->nfiles; i++)
		if (span_eq(p->files[i].name, name))
			return &p->files[i];
	return NULL;
}

/*
 * resolve - what @value means: attach://part, a part of that very name, a handle
 * Return: 0; -EACCES answered (an address); -ENOENT answered
 */
static int resolve(struct conv *c, struct ctenant *t, struct httpd_req *r, struct params *p, struct span value,
		   const char *field, struct given *g)
{
	struct span part = value.p ? value : span_str(field);
	struct param_file *f;

	if (span_starts(value, SPAN("attach://")))
		part = (struct span){ value.p + 9, value.n - 9 };
	f = file_named(p, part);
	if (f) {
		f->used = true;
		g->data = f->data;
		g->filename = f->filename;
		g->type = f->type;
		if (f->data.n == 0) {
			answer_error(r, 400, "Bad Request: file must be non-empty");
			return -ENOENT;
		}
		return 0;
	}
	if (value.n && memmem(value.p, value.n, "://", 3)) {
		answer_denied(c, t, r, 403, "conversation.media_url", "media by address is not sent: the messenger's "
			      "servers would fetch it, which is a way out of the sandbox",
			      "upload the file itself (multipart/form-data)", p->method->name);
		return -EACCES;
	}
	if (media_known(c, t->no, value)) {
		g->handle = value;
		return 0;
	}
	answer_error(r, 400, "Bad Request: wrong file identifier specified");
	return -ENOENT;
}

/* stopped - a secret in the file or its name; answered */
static bool stopped(struct conv *c, struct ctenant *t, struct httpd_req *r, const struct given *g, const char *method)
{
	char what[80] = "", reason[200];

	if (!c->h.leaks(c->h.ctx, t->no, g->data, what, sizeof(what)) &&
	    !c->h.leaks(c->h.ctx, t->no, g->filename, what, sizeof(what)))
		return false;
	(void)snprintf(reason, sizeof(reason), "the file contains a secret (%s)", what);
	answer_denied(c, t, r, 403, "conversation.leak", reason,
		      "leave the secret out; the operator was told and should rotate it", method);
	(void)conv_notice(c, t->no, "A file of your assistant was stopped because it contained a secret of this "
				    "service. The people who run it have been told.");
	return true;
}

static json_t *describe(const struct given *g, const char *handle, size_t size)
{
	json_t *m = json_pack("{s:s, s:s, s:s, s:I}", "kind", g->kind, "handle", handle, "mime", g->mime, "size",
			      (json_int_t)size);

	if (g->filename.n && g->filename.n <= 200 && utf8_ok(g->filename))
		(void)json_object_set_new(m, "name", json_stringn(g->filename.p, g->filename.n));
	return m;
}

/* take - the file into the store, or the known handle; the document goes beside the message */
static int take(struct conv *c, struct ctenant *t, struct httpd_req *r, const struct given *g, struct outgoing *o)
{
	CL_BUF struct buf data = { 0 };
	struct given again = *g;
	char handle[MEDIA_HANDLE];
	struct cl_err err = { 0 };
	int rc = 0;

	if (g->handle.p) {	/* sent again: it becomes a file of its own */
		buf_init(&data, MEDIA_MAX + 1);
		rc = media_read(c, t->no, g->handle, &data, &err);
		again.data = buf_span(&data);
	}
	if (rc == 0)
		rc = media_put(c, t->no, g->kind, span_str(g->mime), again.filename, again.data, handle, &err);
	if (rc) {
		answer_error(r, rc == -EFBIG ? 413 : rc == -ENODATA ? 400 : 500, "%s: %s", rc == -EFBIG ?
			     "Request Entity Too Large" : rc == -ENODATA ? "Bad Request" : "Internal Server Error", err.text);
		return rc;
	}
	(void)json_object_set_new(o->extra, "media", describe(&again, handle, again.data.n));
	return 0;
}

static void send_one(struct conv *c, struct ctenant *t, struct httpd_req *r, struct params *p, struct given *g)
{
	struct outgoing o;

	outgoing_init(&o);
	if (outgoing_text(&o, p, "caption", CAPTION_UNITS_MAX, r) == 0 &&
	    resolve(c, t, r, p, params_text(p, g->kind), g->kind, g) == 0 && !stopped(c, t, r, g, p->method->name) &&
	    take(c, t, r, g, &o) == 0)
		outgoing_finish(c, t, r, &o, p, g->kind);
	outgoing_done(&o);
}

/* ---- groups: one message each, in order --------------------------------------------------- */

struct group {
	struct outgoing items[GROUP_MAX];
	int64_t ids[GROUP_MAX];
	size_t n;
};

/* group_item - one of the list, with its caption */
static int group_item(struct conv *c, struct ctenant *t, struct httpd_req *r, struct params *p, const json_t *item,
		      struct outgoing *o)
{
	const char *type = json_string_value(json_object_get(item, "type"));
	const json_t *media = json_object_get(item, "media"), *caption = json_object_get(item, "caption");
	const json_t *mode = json_object_get(item, "parse_mode");
	struct given g = { 0 };
	char why[160];

	for (size_t i = 0; type && i < CL_ARRAY_LEN(kinds); i++)
		if (!strcmp(type, kinds[i].kind)) {
			g.kind = kinds[i].kind;
			g.mime = kinds[i].mime;
		}
	if (!g.kind || !json_is_string(media)) {
		answer_error(r, 400, "Bad Request: a group holds photos, videos, audio and documents");
		return -EINVAL;
	}
	why[0] = '\0';
	if (json_is_string(caption) &&
	    (entities_read((struct span){ json_string_value(caption), json_string_length(caption) },
			   (struct span){ json_string_value(mode), json_string_length(mode) },
			   json_object_get(item, "caption_entities"), &o->text, &o->entities, why, sizeof(why)) ||
	     utf16_len(buf_span(&o->text)) > CAPTION_UNITS_MAX)) {
		answer_error(r, 400, "Bad Request: %s", why[0] ? why : "message caption is too long");
		return -EINVAL;
	}
	if (resolve(c, t, r, p, (struct span){ json_string_value(media), json_string_length(media) }, "", &g) ||
	    stopped(c, t, r, &g, p->method->name))
		return -EACCES;
	if (outgoing_leaks(c, t, o, r, p->method->name))
		return -EACCES;
	return take(c, t, r, &g, o);
}

static void send_group(struct conv *c, struct ctenant *t, struct httpd_req *r, struct params *p)
{
	const json_t *list = params_json(p, "media");
	struct group *g = calloc(1, sizeof(*g));
	CL_BUF struct buf b = { 0 };
	struct cl_err err = { 0 };
	struct delivery *d;
	int rc = g ? 0 : -ENOMEM;

	if (rc || json_array_size(list) < 1 || json_array_size(list) > GROUP_MAX) {
		answer_error(r, 400, "Bad Request: a group has 1 to %d files", GROUP_MAX);
		free(g);
		return;
	}
	for (; g->n < json_array_size(list) && rc == 0; g->n++) {
		outgoing_init(&g->items[g->n]);
		rc = group_item(c, t, r, p, json_array_get(list, g->n), &g->items[g->n]);
	}
	buf_init(&b, 1 << 20);
	(void)buf_add_ch(&b, '[');
	for (size_t i = 0; i < g->n && rc == 0; i++) {
		d = NULL;
		if (outgoing_store(c, t, &g->items[i], "group", &g->ids[i], &d, &err)) {
			answer_error(r, 500, "Internal Server Error: the message could not be stored");
			rc = -EIO;
			break;
		}
		if (d)
			deliver_start(d);
		if (i)
			(void)buf_add_ch(&b, ',');
		(void)message_json_by_id(c, t, g->ids[i], &b);	/* just stored */
	}
	(void)buf_add_ch(&b, ']');
	if (rc == 0)
		answer_result(r, buf_span(&b));
	for (size_t i = 0; i < g->n; i++)
		outgoing_done(&g->items[i]);
	free(g);
}

void send_media(struct conv *c, struct ctenant *t, struct httpd_req *r, struct params *p)
{
	struct given g = { 0 };

	if (p->method->what == DO_SEND_GROUP) {
		send_group(c, t, r, p);
		return;
	}
	for (size_t i = 0; i < CL_ARRAY_LEN(kinds); i++)
		if (!strcmp(p->method->name, kinds[i].method)) {
			g.kind = kinds[i].kind;
			g.mime = kinds[i].mime;
		}
	if (g.kind)
		send_one(c, t, r, p, &g);
	else
		answer_error(r, 404, "Not Found");
}

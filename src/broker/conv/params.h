/* SPDX-License-Identifier: Apache-2.0 */
/*
 * params - the parameters of one Bot API call, read strictly.
 *
 * How this works: a call carries its parameters in the query, or as a form,
 * as JSON, or as multipart, but in one of them only. Each name may be given
 * once, must be a field of the method, and everything that can name a chat
 * or a person (also nested in JSON) must be one's own. What passes is a list
 * of values; the request itself is never passed on. Pure: no I/O.
 */
#ifndef CL_CONV_PARAMS_H
#define CL_CONV_PARAMS_H

#include "broker/conv/methods.h"

#include <jansson.h>

#define CONV_CHAT 1001		/* the owner, in every sandbox */
#define CONV_BOT 8377		/* the virtual bot */
#define PARAMS_MAX 40
#define PARAM_FILES_MAX 12

struct param {
	const struct method_field *field;
	struct span text;	/* the value as text (numbers and true/false spelled out) */
	json_t *json;		/* parsed, for FK_JSON, FK_REPLY, FK_MARKUP; owned */
	bool is_number;		/* JSON number, not a string */
};

struct param_file {
	struct span name;	/* of the part: what attach:// names */
	struct span filename;
	struct span type;	/* as declared, or empty */
	struct span data;
	bool used;
};

struct params {
	const struct method *method;
	struct param list[PARAMS_MAX];
	size_t n;
	struct param_file files[PARAM_FILES_MAX];
	size_t nfiles;
	struct buf text;	/* decoded values that do not stand in the request as they are */
	json_t *root;		/* of a JSON body; list points into it */
};

/* Why a call was refused, in Telegram's terms and ours. */
struct param_refusal {
	int code;		/* 400, 403, 413, 415 */
	const char *rule;	/* "conversation.recipient" …: boundary event when not NULL */
	char reason[CL_ERR_TEXT_MAX];
	char field[64];
};

/*
 * params_read - @content_type as in the header (p NULL: none). @query and @body as received.
 * Return: 0 with @p filled (params_done() it), or -EACCES with @why filled (@p is empty then).
 */
int params_read(struct params *p, const struct method *m, struct span content_type, struct span query,
		struct span body, struct param_refusal *why);
void params_done(struct params *p);

const struct param *params_get(const struct params *p, const char *name);
/* text of a parameter, or an empty span with p NULL */
struct span params_text(const struct params *p, const char *name);
/* an integer: 0; -ENOENT not given; -EINVAL not an integer */
int params_i64(const struct params *p, const char *name, int64_t *out);
json_t *params_json(const struct params *p, const char *name);	/* borrowed, or NULL */

/* own_chat_ok - the canonical spelling of CONV_CHAT and nothing else */
bool own_chat_ok(struct span s);
/* json_ids_ok - every chat and person named anywhere in @v is one's own */
bool json_ids_ok(const json_t *v, char *field, size_t field_size);

/* for params.c: multipart.c */
typedef int param_add_fn(struct params *p, struct span name, struct span value, struct param_refusal *why);
int multipart_read(struct params *p, struct span content_type, struct span body, param_add_fn *add,
		   struct param_refusal *why);
int param_refuse(struct param_refusal *why, int code, const char *rule, struct span field,
		 const char *fmt, ...) CL_PRINTF(5, 6);

#endif

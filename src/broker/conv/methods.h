/* SPDX-License-Identifier: Apache-2.0 */
/* methods - the table of the Telegram Bot API (methods.def): what a method and a field are. */
#ifndef CL_CONV_METHODS_H
#define CL_CONV_METHODS_H

#include "base/base.h"

enum field_kind {
	FK_CHAT, FK_USER,	/* name a chat or a person */
	FK_DENY,		/* name a place outside of the one conversation */
	FK_IGN,			/* known, harmless, not used */
	FK_STR, FK_INT, FK_BOOL, FK_FLOAT, FK_FILE, FK_REPLY, FK_MARKUP, FK_JSON
};

enum method_do {
	DO_REFUSED, DO_TRUE, DO_GET_UPDATES, DO_SET_WEBHOOK, DO_WEBHOOK_INFO, DO_GET_ME,
	DO_SEND_TEXT, DO_SEND_MEDIA, DO_SEND_GROUP, DO_SEND_LOCATION, DO_COPY, DO_ACTION,
	DO_REACT, DO_GET_FILE, DO_GET_CHAT, DO_MEMBER_COUNT, DO_MEMBER, DO_ADMINS,
	DO_ANSWER_CALLBACK, DO_SET_COMMANDS, DO_RM_COMMANDS, DO_GET_COMMANDS, DO_GET_NAME,
	DO_GET_ABOUT, DO_GET_SHORT, DO_GET_MENU, DO_NO_PHOTOS, DO_EDIT_TEXT, DO_EDIT_CAPTION,
	DO_EDIT_MARKUP, DO_DELETE, DO_DELETE_MANY, DO_COUNT
};

struct method_field {
	const char *name;
	enum field_kind kind;
	bool required;
};

struct method {
	const char *name;
	enum method_do what;
	const struct method_field *fields;
	size_t nfields;
};

extern const struct method methods[];
extern const size_t nmethods;

/* method_find - names are compared without case, as Telegram does; NULL when unknown */
const struct method *method_find(struct span name);
const struct method_field *method_field(const struct method *m, struct span name);

#endif

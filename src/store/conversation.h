/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conversation - the broker's store: what persons and agents said, what still
 * has to reach an agent (updates) or a person (outbound), who is bound to which
 * tenant, invitations, media handles.
 *
 * How this works: SQLite in WAL mode with synchronous=FULL, so that what a
 * function here has stored is on the disk when it returns (inside cvs_begin …
 * cvs_commit: when cvs_commit returns). One writer, the broker. Everything is
 * keyed by the tenant's number; no function returns rows of two tenants but
 * those that say so. Spans in rows point into SQLite's memory and live until
 * the callback returns. Times are ms since 1970.
 *
 * Errors of all functions: 0 or a count; -ENOENT no such row; -EEXIST there is
 * one already; -EIO the database (words in @err); -ENOSPC the disk is full.
 */
#ifndef CL_STORE_CONVERSATION_H
#define CL_STORE_CONVERSATION_H

#include "base/base.h"

#define CVS_HASH 32		/* bytes of a hashed code or session */
#define CVS_TEXT_MAX 16384	/* bytes of one message's text (4096 UTF-16 units) */

struct cvs;

int cvs_open(struct cvs **out, const char *path, struct cl_err *err);
void cvs_close(struct cvs *s);
/* Transactions do not nest: the caller that began one ends it. */
int cvs_begin(struct cvs *s, struct cl_err *err);
int cvs_commit(struct cvs *s, struct cl_err *err);
void cvs_rollback(struct cvs *s);

/* ---- tenants ------------------------------------------------------------- */

struct cvs_tenant {
	uint32_t no;
	struct span id;
	struct span channel, address;	/* where the person last wrote; empty: nowhere yet */
};
int cvs_tenant_put(struct cvs *s, uint32_t no, struct span id, struct cl_err *err);
/* cvs_tenant_rm - the tenant with all its rows */
int cvs_tenant_rm(struct cvs *s, uint32_t no, struct cl_err *err);
typedef void cvs_tenant_fn(void *ctx, const struct cvs_tenant *t);
int cvs_tenants(struct cvs *s, cvs_tenant_fn *fn, void *ctx, struct cl_err *err);
int cvs_tenant_last(struct cvs *s, uint32_t no, struct span channel, struct span address,
		    struct cl_err *err);
/* small settings of a tenant (commands of its bot, its media key) by name */
int cvs_setting_put(struct cvs *s, uint32_t no, const char *name, struct span value,
		    struct cl_err *err);
int cvs_setting_rm(struct cvs *s, uint32_t no, const char *name, struct cl_err *err);
int cvs_setting_get(struct cvs *s, uint32_t no, const char *name, struct buf *out,
		    struct cl_err *err);

/* ---- messages --------------------------------------------------------------- */

enum cvs_from { CVS_OWNER, CVS_AGENT, CVS_NOTICE };	/* notice: Cloister itself to the person */
enum cvs_state {
	CVS_WAITING,	/* owner's: stored, the agent has not confirmed it */
	CVS_DELIVERED,	/* owner's: confirmed by the agent */
	CVS_QUEUED,	/* agent's: stored, not yet tried */
	CVS_SENDING,	/* agent's: a request went out, its outcome is not known yet */
	CVS_SENT, CVS_FAILED,
	CVS_UNKNOWN,	/* agent's: the broker ended while it was sending; never sent again */
	CVS_STATES
};
const char *cvs_state_name(int state);

struct cvs_message {
	uint32_t no;
	int64_t id;		/* the tenant's own numbering, from 1; cvs_message_add fills it */
	int from, state;	/* enum cvs_from, enum cvs_state */
	int64_t at_ms, edited_ms;
	struct span text;
	struct span entities;	/* JSON array in Telegram's form, or empty */
	struct span extra;	/* JSON object: media, buttons, reply_to …, or empty */
	struct span client_id;	/* the page's own id of it: two sends with one id are one */
	struct span channel, address, upstream;	/* where it came from or went, and its id there */
};
/* cvs_message_add - -EEXIST: this client_id is known, m->id says which message it is */
int cvs_message_add(struct cvs *s, struct cvs_message *m, struct cl_err *err);
typedef void cvs_message_fn(void *ctx, const struct cvs_message *m);
/* messages with id > @after, oldest first; after < 0: the last @limit ones. Returns a count */
int cvs_history(struct cvs *s, uint32_t no, int64_t after, int limit, cvs_message_fn *fn, void *ctx,
		struct cl_err *err);
int cvs_message_get(struct cvs *s, uint32_t no, int64_t id, cvs_message_fn *fn, void *ctx,
		    struct cl_err *err);
int cvs_message_by_upstream(struct cvs *s, uint32_t no, struct span channel, struct span address,
			    struct span upstream, int64_t *out_id, struct cl_err *err);
int cvs_message_state(struct cvs *s, uint32_t no, int64_t id, int state, struct cl_err *err);
int cvs_message_sent_as(struct cvs *s, uint32_t no, int64_t id, struct span channel,
			struct span address, struct span upstream, struct cl_err *err);
int cvs_message_edit(struct cvs *s, uint32_t no, int64_t id, struct span text, struct span entities,
		     struct span extra, int64_t at_ms, struct cl_err *err);
int cvs_message_rm(struct cvs *s, uint32_t no, int64_t id, struct cl_err *err);
/* number of messages of the owner that wait for the agent */
int cvs_waiting(struct cvs *s, uint32_t no, struct cl_err *err);

/* ---- updates: what the agent has yet to fetch ----------------------------------- */

/* @kind "message", "callback_query" …; @body its JSON object; @message_id 0 = none */
int cvs_update_add(struct cvs *s, uint32_t no, const char *kind, struct span body,
		   int64_t message_id, int64_t *out_update_id, struct cl_err *err);
/* cvs_update_confirm - the agent has all updates below @offset; their messages become
 * delivered. Returns how many there were */
int cvs_update_confirm(struct cvs *s, uint32_t no, int64_t offset, struct cl_err *err);
typedef void cvs_update_fn(void *ctx, int64_t id, const char *kind, struct span body);
int cvs_updates(struct cvs *s, uint32_t no, int64_t offset, int limit, cvs_update_fn *fn, void *ctx,
		struct cl_err *err);
/* for a negative offset: the id of the @n-th update from the end, 0 = none */
int cvs_update_from_end(struct cvs *s, uint32_t no, int64_t n, int64_t *out_id, struct cl_err *err);

/* ---- outbound: what has to reach a person through a messenger --------------------- */

struct cvs_out {
	int64_t id;
	uint32_t no;
	int64_t message_id;
	struct span op;		/* "send", "edit", "delete", "react" */
	struct span channel, address;
	int state;		/* CVS_QUEUED … CVS_UNKNOWN */
	int attempts;
};
int cvs_out_add(struct cvs *s, struct cvs_out *o, int64_t at_ms, struct cl_err *err);
/* cvs_out_state - also of its message when the op is "send"; @why: words for the fate, or empty */
int cvs_out_state(struct cvs *s, int64_t id, int state, struct span why, int64_t at_ms,
		  struct cl_err *err);
/* fate of the last outbound row of a message */
int cvs_out_fate(struct cvs *s, uint32_t no, int64_t message_id, int *out_state, struct buf *why,
		 struct cl_err *err);
typedef void cvs_out_fn(void *ctx, const struct cvs_out *o);
/* all rows (of all tenants) in @state, oldest first */
int cvs_outs(struct cvs *s, int state, cvs_out_fn *fn, void *ctx, struct cl_err *err);

/* ---- bindings, invitations, channels ------------------------------------------------ */

struct cvs_binding {
	struct span channel, address, name;
	uint32_t no;
	int64_t since_ms;
};
/* -EEXIST: that address is bound (also when to this very tenant) */
int cvs_binding_add(struct cvs *s, const struct cvs_binding *b, struct cl_err *err);
int cvs_binding_rm(struct cvs *s, uint32_t no, struct span channel, struct span address,
		   struct cl_err *err);
int cvs_binding_owner(struct cvs *s, struct span channel, struct span address, uint32_t *out_no,
		      struct cl_err *err);
typedef void cvs_binding_fn(void *ctx, const struct cvs_binding *b);
int cvs_bindings(struct cvs *s, uint32_t no, cvs_binding_fn *fn, void *ctx, struct cl_err *err);

int cvs_invite_add(struct cvs *s, const uint8_t hash[CVS_HASH], uint32_t no, struct span channel,
		   int64_t expires_ms, struct cl_err *err);
/* cvs_invite_use - one-time: -ENOENT unknown (or of another channel), -EALREADY used, -ETIME expired */
int cvs_invite_use(struct cvs *s, const uint8_t hash[CVS_HASH], struct span channel, int64_t now_ms,
		   uint32_t *out_no, struct cl_err *err);

/* where a bot's long poll goes on; stored in the transaction that stores its updates */
int cvs_channel_offset(struct cvs *s, struct span channel, int64_t *out, struct cl_err *err);
int cvs_channel_offset_put(struct cvs *s, struct span channel, int64_t offset, struct cl_err *err);

/* ---- media ---------------------------------------------------------------------------- */

struct cvs_media {
	struct span handle;	/* random; what the agent or the page calls it */
	uint32_t no;
	struct span kind, mime, name;	/* kind: "photo", "voice", "document" … */
	struct span upstream;	/* the messenger's own file id while it is still there, or empty */
	struct span file;	/* name of the encrypted file, empty: not fetched yet */
	int64_t size_bytes, at_ms;
};
int cvs_media_add(struct cvs *s, const struct cvs_media *m, struct cl_err *err);
int cvs_media_file(struct cvs *s, uint32_t no, struct span handle, struct span file,
		   int64_t size_bytes, struct cl_err *err);
typedef void cvs_media_fn(void *ctx, const struct cvs_media *m);
int cvs_media_get(struct cvs *s, uint32_t no, struct span handle, cvs_media_fn *fn, void *ctx,
		  struct cl_err *err);
/* bytes of a tenant's files on the disk */
int cvs_media_bytes(struct cvs *s, uint32_t no, int64_t *out, struct cl_err *err);
/* all of one tenant (to delete the files) */
int cvs_media_all(struct cvs *s, uint32_t no, cvs_media_fn *fn, void *ctx, struct cl_err *err);

#endif

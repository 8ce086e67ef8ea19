/* SPDX-License-Identifier: Apache-2.0 */
/* conv_impl - what the files of conv/, channel/ and media/ share. */
#ifndef CL_CONV_IMPL_H
#define CL_CONV_IMPL_H

#include "broker/conv/conv.h"
#include "broker/conv/params.h"
#include "store/conversation.h"

#define TENANT_SLOTS 1024
#define TEXT_UNITS_MAX 4096	/* UTF-16 units, Telegram's limit */
#define CAPTION_UNITS_MAX 1024
#define WAITING_MAX 500		/* messages of a person that wait for the agent */
#define PATH_PREFIX "/telegram/"

/* A long poll of an agent, or an agent's request whose message is on its way. */
struct wait {
	struct conv *c;
	struct ctenant *t;		/* of a poll; NULL for others, which may outlive the tenant */
	uint32_t no;
	struct httpd_req *r;
	struct loop_timer timer;
	struct delivery *delivery;	/* NULL: a poll */
	int64_t offset, message_id;
	int limit;
	json_t *allowed;		/* owned; NULL = all */
	bool answer_true;		/* deletes, reactions: result true, no message */
	bool media;			/* owned by a fetch that goes on (media.c) */
	bool upload;			/* a large body is still coming in */
};

struct ctenant {
	struct ctenant *next;		/* of the slot */
	uint32_t no;
	char id[TENANT_ID_MAX + 1];
	char person[65];		/* first name of the owner, as the messenger gave it */
	char last_channel[33], last_address[129];
	uint32_t state;			/* enum tenant_state as cloisterd last said */
	bool listening, ready_told;
	struct wait *poll;
	int64_t typing_until_us;	/* monotonic */
	struct loop_timer slow;		/* the person waits: say that the agent is being woken */
	bool slow_told, failed_told;
	uint32_t uploads;		/* requests whose large body is held in memory */
	struct buf tail;		/* end of what was said lately, for the outbound scan */
	int64_t sends_left_us, sends_at_us;	/* of the agent: see send_room() */
};

struct conv {
	struct conv_host h;
	struct cvs *store;
	struct ctenant *slots[TENANT_SLOTS];
	struct channel *channels;
	struct lane *lanes;
	struct fetching *fetches;	/* of media.c */
	struct loop_timer pump;
};

struct ctenant *conv_tenant(struct conv *c, uint32_t no);
int64_t conv_now_ms(void);

/* ---- answers in Telegram's shape (answer.c) ------------------------------------ */

void answer_result(struct httpd_req *r, struct span json);	/* {"ok":true,"result":…} */
void answer_true(struct httpd_req *r);
/* {"ok":false,"error_code":…,"description":…} */
void answer_error(struct httpd_req *r, int code, const char *fmt, ...) CL_PRINTF(3, 4);
/* answer_denied - recorded, with rule, reason, fix and id beside Telegram's fields */
void answer_denied(struct conv *c, struct ctenant *t, struct httpd_req *r, int code, const char *rule,
		   const char *reason, const char *fix, const char *method);
int message_json(struct conv *c, struct ctenant *t, const struct cvs_message *m, struct buf *out);
/* message_json_by_id - -ENOENT */
int message_json_by_id(struct conv *c, struct ctenant *t, int64_t id, struct buf *out);
void bot_json(struct buf *out);
void owner_json(const struct ctenant *t, struct buf *out);
void chat_json(const struct ctenant *t, struct buf *out);

/* ---- one method each ------------------------------------------------------------- */

void do_get_updates(struct conv *c, struct ctenant *t, struct httpd_req *r, struct params *p);
void poll_wake(struct conv *c, struct ctenant *t);	/* something is there: answer the poll */
void poll_drop(struct conv *c, struct ctenant *t);	/* forget it; its request is gone */
/* send_room - may the agent say one more thing now? false: answered with 429 */
bool send_room(struct ctenant *t, struct httpd_req *r);
void do_send(struct conv *c, struct ctenant *t, struct httpd_req *r, struct params *p);
void do_edit(struct conv *c, struct ctenant *t, struct httpd_req *r, struct params *p);
void do_delete(struct conv *c, struct ctenant *t, struct httpd_req *r, struct params *p);
void do_small(struct conv *c, struct ctenant *t, struct httpd_req *r, struct params *p);

/* ---- from the person (inbound.c) ---------------------------------------------------- */

struct inbound {
	struct span channel, address, upstream, client_id;	/* upstream: the messenger's message id */
	struct span text, entities, extra;
	int64_t at_ms;		/* 0: now */
};
/*
 * inbound_store - as message and update; inside the caller's transaction if
 * there is one, else in one of its own. -EEXIST: client_id known, @out_id says which;
 * -ENOBUFS: WAITING_MAX messages wait for the agent already.
 */
int inbound_store(struct conv *c, struct ctenant *t, const struct inbound *in, int64_t *out_id,
		  struct cl_err *err);
/* inbound_told - after the commit: wake the agent, tell the page, record */
void inbound_told(struct conv *c, struct ctenant *t, int64_t id);
/* text_problem - why a text cannot be taken, in words for the person; NULL: fine. @out_status 413 or 422 */
const char *text_problem(struct span text, int *out_status);
/* page_message_json - a message as the page and the CLI see it */
int page_message_json(struct conv *c, struct ctenant *t, const struct cvs_message *m, struct buf *out);
void page_event(struct conv *c, struct ctenant *t, int64_t id);

/* ---- to the person (deliver.c) ------------------------------------------------------- */

enum delivery_op { OP_SEND, OP_EDIT, OP_DELETE, OP_REACT };
enum outcome { OUT_SENT, OUT_FAILED, OUT_RETRY, OUT_UNKNOWN };

struct delivery {
	struct delivery *next;
	struct conv *c;
	struct lane *lane;
	uint32_t no;
	int64_t out_id, message_id;
	enum delivery_op op;
	int tries;
	struct wait *wait;	/* an agent waits for the fate, or NULL */
	void *adapter;		/* the adapter's own while it delivers */
};
int deliver_load(struct conv *c, struct cl_err *err);	/* at start: queued goes on, sending becomes unknown */
/*
 * deliver_add - note what has to be done where the person last wrote, in the
 * caller's transaction. *out NULL: nothing to do (the page shows it anyway).
 * After the commit: deliver_start().
 */
int deliver_add(struct conv *c, struct ctenant *t, int64_t message_id, enum delivery_op op,
		struct delivery **out, struct cl_err *err);
void deliver_start(struct delivery *d);
void deliver_forget(struct delivery *d);	/* the transaction failed */
/*
 * deliver_done - the adapter says what became of it. @code: the messenger's
 * error code; @retry_ms for OUT_RETRY; @upstream: its message id, may be empty
 */
void deliver_done(struct delivery *d, enum outcome o, int code, struct span upstream, const char *why,
		  int64_t retry_ms);
void deliver_tenant_rm(struct conv *c, uint32_t no);
void deliver_free(struct conv *c);
void deliver_kick(struct conv *c);
/* wait_for - answer @r when @d is done (or after a while) */
void wait_for(struct conv *c, struct ctenant *t, struct httpd_req *r, struct delivery *d, int64_t message_id,
	      bool answer_true);

/* ---- calls.c, channels ------------------------------------------------------------------ */

int call_fail(struct buf *out, int status, const char *fmt, ...) CL_PRINTF(3, 4);
#define BASE32_CODE 26		/* 130 bits */
void hash_code(struct span code, uint8_t out[CVS_HASH]);
int bind_event(struct conv *c, struct ctenant *t, struct span channel, struct span address, struct span name);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conv - the conversation of each tenant with its one person.
 *
 * How this works: towards the sandbox it is a Telegram Bot API with one chat
 * (1001) and one bot (8377). Behind it stands the durable store: what the
 * person wrote waits there as updates until the agent has confirmed it; what
 * the agent says is stored before it is given to the messenger, tried once,
 * and its fate noted. Messengers are channel adapters (channel/channel.h).
 *
 * Everything that conv needs of the broker is struct conv_host, so that
 * tests run it without one. Runs in: broker, on its loop.
 */
#ifndef CL_CONV_H
#define CL_CONV_H

#include "base/base.h"
#include "httpd/httpd.h"
#include "loop/loop.h"
#include "record/record.h"

struct conv;

/* One call to a messenger. The broker puts the credential in. */
struct conv_fetch {
	const char *api_root;	/* "https://api.telegram.org"; http only on loopback */
	const char *secret;	/* name of the vault's secret */
	const char *path;	/* after "<api_root>/bot<secret>" or, with @file, "<api_root>/file/bot<secret>" */
	bool file;
	const char *content_type;
	struct span body;	/* copied; empty: GET */
	int timeout_ms;
	size_t answer_max;
};
/*
 * @status 0: no whole answer came; then @reached says whether the request may
 * have arrived there (false: certainly not), and @body is words.
 */
typedef void conv_fetched_fn(void *ctx, int status, bool reached, struct span body);

struct conv_host {
	void *ctx;
	struct loop *loop;
	const char *store_path;		/* "conversation.db": relative to the state directory */
	int state_dirfd;		/* the same directory: media files lie below */
	/* is @token the bot token of tenant @no and its generation? */
	bool (*token_ok)(void *ctx, uint32_t no, struct span token);
	void (*ready)(void *ctx, uint32_t no);		/* first getUpdates: TENANT_READY */
	void (*wake)(void *ctx, uint32_t no);		/* a message waits: TENANT_WAKE */
	void (*event)(void *ctx, const char *name, struct span json);	/* EVENT to the api */
	void (*record)(void *ctx, const struct record *r);		/* to the ledger */
	/* a refusal: recorded, told to the api; @out_id gets its id (at least 40 bytes) */
	void (*denied)(void *ctx, uint32_t no, const char *rule, const char *reason, const char *fix,
		       const char *method, int status, char *out_id, size_t out_size);
	/* is a live secret or a canary in @bytes, in any encoding? @what gets its name */
	bool (*leaks)(void *ctx, uint32_t no, struct span bytes, char *what, size_t what_size);
	/* -errno when it cannot even start (then @fn is not called); -ENOKEY: no such secret.
	 * @out_call is for fetch_cancel: after it @fn is not called any more */
	int (*fetch)(void *ctx, const struct conv_fetch *f, conv_fetched_fn *fn, void *fn_ctx,
		     void **out_call, struct cl_err *err);
	void (*fetch_cancel)(void *ctx, void *call);
};

int conv_new(struct conv **out, const struct conv_host *host, struct cl_err *err);
void conv_free(struct conv *c);

/* ---- what the broker tells ------------------------------------------------- */

int conv_tenant_put(struct conv *c, uint32_t no, struct span id, struct cl_err *err);
int conv_tenant_rm(struct conv *c, uint32_t no, struct cl_err *err);
void conv_tenant_listen(struct conv *c, uint32_t no);	/* a new sandbox: the next getUpdates means ready */
void conv_tenant_gone(struct conv *c, uint32_t no);	/* its sandbox is no more */
/* @state: enum tenant_state of wire/tenant.h; @reason for people, may be empty */
void conv_tenant_state(struct conv *c, uint32_t no, uint32_t state, struct span reason);
void conv_secret_changed(struct conv *c, const char *name);	/* put, rotated or removed */
/* conv_notice - Cloister itself says something to the person (model failed, budget spent …) */
int conv_notice(struct conv *c, uint32_t no, const char *text);

/* ---- requests from the sandbox: below /telegram/ (and /bot…, /file/bot…) ------------ */

bool conv_path_ok(struct span path);	/* is it the conversation's? */
/* as httpd_ops.on_head … on_gone; @no from the listener (I5). Uses r->ctx. */
int conv_head(struct conv *c, struct httpd_req *r, uint32_t no, uint64_t *body_max);
void conv_request(struct conv *c, struct httpd_req *r, uint32_t no);
void conv_gone(struct conv *c, struct httpd_req *r);
void conv_drain(struct conv *c, struct httpd_req *r);

/* ---- CALL from the api ----------------------------------------------------------- */

/*
 * conv_call - channel.put, invite.new, invite.use, web.send, web.history,
 * chat.send, chat.history, bindings, binding.rm, web.media, chat.media.
 * Return: HTTP-like status with the answer's JSON in @out, or 0: not a method
 * of ours. @out_fd (-1, or a memfd that the caller now owns) goes with it.
 */
int conv_call(struct conv *c, struct span method, struct span body, struct buf *out, int *out_fd);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* telegram - shared by the files of the Telegram adapter. */
#ifndef CL_CHANNEL_TELEGRAM_H
#define CL_CHANNEL_TELEGRAM_H

#include "broker/channel/channel.h"

#define REFUSED_CHATS 256

struct telegram;

/* One call to the Bot API that is under way. */
struct tg_call {
	struct tg_call *next, **at;	/* of the adapter's list */
	struct telegram *tg;
	void *fetch;
	void (*done)(struct tg_call *k, int status, bool reached, struct span body);
	struct delivery *delivery;	/* of a send, edit …; NULL for others */
	void *ctx;
};

struct telegram {
	struct channel ch;		/* first: a channel is a telegram */
	char bot[65];			/* its user name, from getMe; "" = not known yet */
	int64_t offset;			/* of the next getUpdates; in the store as well */
	struct tg_call *calls;
	struct loop_timer again;		/* getMe, after a failure */
	struct loop_timer pause;		/* the next poll, when the last came back at once */
	int64_t polled_us;			/* when the last one was sent */
	int failures;
	bool polling, alerted;
	/* chats that were refused lately, so that a stranger cannot make us talk */
	struct { int64_t chat, at_us; } refused[REFUSED_CHATS];
	size_t refused_at;
};

/* tg_call - POST (GET without @body). @done is called once, unless this fails or the call is cancelled */
int tg_call(struct telegram *tg, const char *method, const char *content_type, struct span body, int timeout_ms,
	    void (*done)(struct tg_call *, int, bool, struct span), struct delivery *d, void *ctx);
/* tg_say - a sentence of ours to a chat, tried once; @text is plain */
void tg_say(struct telegram *tg, int64_t chat, const char *text);
/* tg_updates - store all of one answer; -errno: nothing may be acknowledged, try again */
int tg_updates(struct telegram *tg, const json_t *updates, struct cl_err *err);
/* tg_ignore - for calls whose fate nobody waits for */
void tg_ignore(struct tg_call *k, int status, bool reached, struct span body);
void tg_deliver(struct channel *ch, struct delivery *d, const char *address, const struct channel_message *m);

#endif

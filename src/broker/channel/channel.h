/* SPDX-License-Identifier: Apache-2.0 */
/*
 * channel - an adapter to one messenger.
 *
 * How this works: the built-in web chat needs none, since its page reads the
 * conversation itself. Any other messenger is a struct channel with its ops:
 * it brings what persons write through inbound_store(), and carries out one
 * delivery after the other. It knows addresses of its messenger; who is bound
 * to which address is the store's business, looked up each time.
 */
#ifndef CL_CHANNEL_H
#define CL_CHANNEL_H

#include "broker/conv/conv_impl.h"

struct channel;

/* What a delivery carries; spans are the caller's and copied where needed. */
struct channel_message {
	int64_t id;
	int from;
	struct span text, entities, upstream;	/* upstream: its id there, for edits */
	json_t *extra;				/* borrowed; may be NULL */
	struct span reply_upstream;		/* the message it answers, in this very chat, or empty */
};

struct channel_ops {
	const char *kind;
	/* carry out @d for @address; ends with deliver_done(), at once or later */
	void (*deliver)(struct channel *ch, struct delivery *d, const char *address,
			const struct channel_message *m);
	void (*cancel)(struct channel *ch, struct delivery *d);	/* deliver_done() must not come any more */
	void (*typing)(struct channel *ch, const char *address, const char *action);
	void (*restart)(struct channel *ch);	/* its credential changed */
	/* the link that an invitation's code becomes; false: the bot's name is not known yet */
	bool (*invite_url)(struct channel *ch, const char *code, char *url, size_t n);
	void (*free)(struct channel *ch);
	/* limits of the messenger */
	int64_t address_gap_us;		/* between two messages to one address */
	int per_second;			/* over all addresses */
};

struct channel {
	struct channel *next;
	struct conv *c;
	const struct channel_ops *ops;
	char name[33], secret[65], api_root[256];
	int64_t second_us;		/* for per_second */
	int second_n;
};

struct channel *channel_find(struct conv *c, struct span name);
void channel_typing(struct conv *c, struct span name, struct span address, const char *action);
void channels_free(struct conv *c);
/* channel_bind - somebody at @address presents an invitation's @code.
 * Return: 0; -ENOENT, -EALREADY, -ETIME as cvs_invite_use; -EEXIST bound to another tenant */
int channel_bind(struct conv *c, struct span channel, struct span address, struct span name, struct span code,
		 struct ctenant **out, struct cl_err *err);

int telegram_new(struct conv *c, const char *name, const char *api_root, const char *secret,
		 struct channel **out, struct cl_err *err);

#endif

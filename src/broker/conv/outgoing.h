/* SPDX-License-Identifier: Apache-2.0 */
/* outgoing - a message of the agent while it is read and checked; for send.c, send_media.c, edit.c. */
#ifndef CL_CONV_OUTGOING_H
#define CL_CONV_OUTGOING_H

#include "broker/conv/conv_impl.h"

struct outgoing {
	struct buf text, entities;
	json_t *extra;		/* owned */
};

void outgoing_init(struct outgoing *o);
void outgoing_done(struct outgoing *o);
/* outgoing_text - parameter @name as text; -EINVAL: answered */
int outgoing_text(struct outgoing *o, struct params *p, const char *name, size_t units_max,
		  struct httpd_req *r);
void outgoing_buttons(struct outgoing *o, const struct params *p);
/* outgoing_leaks - true: there was a secret in it, and the request is answered */
bool outgoing_leaks(struct conv *c, struct ctenant *t, struct outgoing *o, struct httpd_req *r,
		    const char *method);
void outgoing_said(struct ctenant *t, struct span text);
/* outgoing_store - message and what has to be delivered, in one transaction */
int outgoing_store(struct conv *c, struct ctenant *t, struct outgoing *o, const char *form, int64_t *out_id,
		   struct delivery **out, struct cl_err *err);
/* outgoing_finish - buttons, reply, scan, store, start, answer */
void outgoing_finish(struct conv *c, struct ctenant *t, struct httpd_req *r, struct outgoing *o,
		     const struct params *p, const char *form);
void send_media(struct conv *c, struct ctenant *t, struct httpd_req *r, struct params *p);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* links - who may ask cloisterd what: one const table a peer. */
#ifndef CL_CLOISTERD_LINKS_H
#define CL_CLOISTERD_LINKS_H

#include "cloisterd/daemon.h"

int links_rules(enum program_id id, const struct chan_rule **out_rules, size_t *out_n);
/* links_chan - the channel of a program that serves; NULL while it does not */
struct chan *links_chan(struct daemon *d, enum program_id id);
/* a program said READY: it is told what it must know */
void links_program_up(struct daemon *d, enum program_id id);
/* its channel is gone */
void links_program_down(struct daemon *d, enum program_id id);
struct program *links_program(struct chan *c);

#endif

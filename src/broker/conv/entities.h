/* SPDX-License-Identifier: Apache-2.0 */
/*
 * entities - formatted text as plain text plus entities in Telegram's form
 * ([{"type":"bold","offset":0,"length":4}], UTF-16 units).
 *
 * How this works: whatever an agent sends (HTML, MarkdownV2, Markdown, entities of its
 * own) is read once into plain text and a list of known entities; each messenger gets
 * what it can show, written anew. Links keep only http, https, mailto and tel. Pure.
 */
#ifndef CL_CONV_ENTITIES_H
#define CL_CONV_ENTITIES_H

#include "base/base.h"

#include <jansson.h>

/* utf16_len - length of valid UTF-8 in UTF-16 code units, as Telegram counts */
size_t utf16_len(struct span utf8);

/*
 * entities_read - @mode: "", "HTML", "MarkdownV2" or "Markdown" (no case). @given: the agent's own
 * entities, used when @mode is empty; may be NULL. Appends the plain text to @text and a
 * JSON array to @entities (nothing when there are none).
 * Return: 0; -EINVAL with @why ("can't parse entities: …", as Telegram says it); -ENOMEM
 */
int entities_read(struct span in, struct span mode, const json_t *given, struct buf *text,
		  struct buf *entities, char *why, size_t why_size);
/* entities_filter - known types, inside of @text, harmless links; for what a messenger sent */
int entities_filter(const json_t *given, struct span text, struct buf *entities);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json - bounded, duplicate-refusing access to a JSON document (RFC 8259).
 *
 * How this works: json_check() walks the bytes once and refuses whatever two
 * parsers could read differently: bad UTF-8, a byte-order mark, duplicate
 * keys (compared after decoding), lone surrogates, a NUL in a key, numbers
 * that overflow a double, trailing text, more than JSON_DEPTH levels. All
 * other functions work on spans of a document that json_check() accepted;
 * they allocate nothing and build no tree.
 */
#ifndef CL_JSON_H
#define CL_JSON_H

#include "base/base.h"

#define JSON_DEPTH 64		/* nested arrays and objects */
#define JSON_KEYS 4096		/* keys of all objects that are open at one time */

enum json_type {
	JSON_NONE, JSON_OBJECT, JSON_ARRAY, JSON_STRING, JSON_NUMBER, JSON_TRUE, JSON_FALSE, JSON_NULL
};

/* One value: its bytes in the document, blanks around it left out. */
struct json_val {
	enum json_type type;
	struct span raw;
};

/*
 * json_check - is @doc one strict JSON value?
 * @out_why, @out_at: static words and the byte offset on failure; may be NULL
 * Return: 0; -EBADMSG; -E2BIG too deep or too many keys.
 */
int json_check(struct span doc, const char **out_why, size_t *out_at);

/* json_root - the value of a checked document */
struct json_val json_root(struct span doc);

/*
 * json_at - follow a JSON pointer (RFC 6901, "/a/0/b", "" = itself); member
 * names are compared after decoding. Return: 0, -ENOENT, -EINVAL bad pointer.
 */
int json_at(struct json_val v, const char *pointer, struct json_val *out);
/* json_get - a member by its plain name; type JSON_NONE when not there */
struct json_val json_get(struct json_val object, const char *name);

/* Members of an object or elements of an array, in order. */
struct json_it { struct span rest; bool object; };
struct json_it json_each(struct json_val v);
/* @out_key: raw bytes between the quotes (undecoded; empty for arrays) */
bool json_next(struct json_it *it, struct span *out_key, struct json_val *out);

/* json_is - a string that decodes to exactly @s */
bool json_is(struct json_val v, const char *s);
/* json_text - decoded string appended to @out. -EINVAL not a string, -E2BIG */
int json_text(struct json_val v, struct buf *out);
/* json_text_copy - NUL-terminated; -EINVAL not a string or NUL inside, -ENAMETOOLONG */
int json_text_copy(struct json_val v, char *buf, size_t n);
/* key of json_next compared after decoding */
bool json_key_is(struct span raw_key, const char *s);
/* whole numbers only ("1e3" and "1.0" are -EINVAL); -ERANGE */
int json_u64(struct json_val v, uint64_t *out);
int json_i64(struct json_val v, int64_t *out);
/* any number */
int json_double(struct json_val v, double *out);

/*
 * json_splice - copy @doc to @out with the value at @v (a span inside @doc)
 * replaced by @with (JSON bytes). Return 0 or -E2BIG/-ENOMEM.
 */
int json_splice(struct span doc, struct json_val v, struct span with, struct buf *out);

#endif

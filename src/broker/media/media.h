/* SPDX-License-Identifier: Apache-2.0 */
/*
 * media - files of a conversation, as handles of one tenant.
 *
 * How this works: a file is known by a random handle and belongs to one row
 * with its tenant's number: another tenant's handle is not found, and the file
 * itself is encrypted with the tenant's own key (libsodium secretstream, the
 * handle as additional data), so that it would not open either. A file that a
 * person sent is fetched from the messenger when the agent first asks for it.
 * Removing the tenant removes its key. Runs in: broker.
 */
#ifndef CL_MEDIA_H
#define CL_MEDIA_H

#include "broker/conv/conv_impl.h"

#define MEDIA_MAX (20u << 20)		/* bytes of one file */
#define MEDIA_HANDLE 33			/* 32 characters and NUL */

int media_init(struct conv *c, struct cl_err *err);
void media_done(struct conv *c);
/* media_tenant_rm - delete the files of a tenant (its rows and key go with it) */
int media_tenant_rm(struct conv *c, uint32_t no, struct cl_err *err);

/* media_note - a file that waits at the messenger as @upstream */
int media_note(struct conv *c, uint32_t no, const char *kind, struct span mime, struct span name,
	       struct span upstream, int64_t size_bytes, char out_handle[MEDIA_HANDLE], struct cl_err *err);
/* media_put - store @data. -EFBIG above MEDIA_MAX */
int media_put(struct conv *c, uint32_t no, const char *kind, struct span mime, struct span name,
	      struct span data, char out_handle[MEDIA_HANDLE], struct cl_err *err);
/* media_read - -ENOENT not one of this tenant's; -ENODATA not fetched yet; -EBADMSG damaged */
int media_read(struct conv *c, uint32_t no, struct span handle, struct buf *out, struct cl_err *err);
bool media_known(struct conv *c, uint32_t no, struct span handle);

/* media_json - ",\"photo\":[…]" and the like for the agent, from the document beside a message */
void media_json(const json_t *media, struct buf *out);
/* media_safe_name - a file name for a messenger: no path, no quotes, no control characters */
void media_safe_name(const json_t *media, char *out, size_t n);

/* getFile and the download of the virtual Bot API */
void media_get_file(struct conv *c, struct ctenant *t, struct httpd_req *r, struct span file_id);
void media_serve(struct conv *c, struct ctenant *t, struct httpd_req *r, struct span path);

#endif

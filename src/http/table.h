/* SPDX-License-Identifier: Apache-2.0 */
/* Character classes of RFC 9110 and 3986, shared by the files of http/. */
#ifndef CL_HTTP_TABLE_H
#define CL_HTTP_TABLE_H

#include <stdint.h>

#define HTTP_C_TOKEN 1u		/* tchar */
#define HTTP_C_VALUE 2u		/* field value: visible, blank, tab, obs-text */
#define HTTP_C_TARGET 4u	/* may stand in a request target */

extern const uint8_t http_class[256];

#endif

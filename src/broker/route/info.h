/* SPDX-License-Identifier: Apache-2.0 */
/* info - /whoami and /capabilities. */
#ifndef CL_BROKER_INFO_H
#define CL_BROKER_INFO_H

#include "broker/broker.h"

bool info_path(struct span path);
void info_request(struct broker_tenant *t, struct httpd_req *r);

#endif

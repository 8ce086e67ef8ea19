/* SPDX-License-Identifier: Apache-2.0 */
/* netns - a sandbox's network namespace, made before there is a sandbox. */
#ifndef CL_SANDBOX_NETNS_H
#define CL_SANDBOX_NETNS_H

#include "sandbox/engine.h"

/*
 * netns_make - lo up, and a listening socket on 127.0.0.1:8377 in it
 * The caller stands in the new namespace for a moment and is back in @host_fd's
 * when this returns; when it cannot get back it aborts. Single-threaded callers only.
 * Return: 0; -errno. Runs in: spawner.
 */
int netns_make(int proc_fd, int host_fd, struct engine_net *out, struct cl_err *err);
void netns_done(struct engine_net *n);

#endif

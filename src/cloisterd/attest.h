/* SPDX-License-Identifier: Apache-2.0 */
/* attest - what is about to run is what the plan says (layer 7). */
#ifndef CL_CLOISTERD_ATTEST_H
#define CL_CLOISTERD_ATTEST_H

#include "sandbox/plan.h"

/*
 * attest_image - the rootfs of images/<plan.image>
 * The image's list of files must have the digest that the plan demands, and
 * image directory, list and rootfs must be root's own, writable by nobody
 * else. A list is read once and again when it changed (inode, size, times).
 * Return: descriptor of rootfs; -ENOENT no such image; -EPERM writable by
 * others; -EBADMSG another digest; else -errno.
 */
int attest_image(int images_dirfd, const struct plan *p, struct cl_err *err);

/*
 * attest_config - seal the memfd @fd (no writing, growing, shrinking, ever)
 * and compare its bytes with the plan's digest
 * Return: 0; -EINVAL not a memfd or too big; -EBADMSG another digest.
 */
int attest_config(int fd, const struct plan *p, uint64_t max_bytes, struct cl_err *err);

#endif

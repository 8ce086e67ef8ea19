/* SPDX-License-Identifier: Apache-2.0 */
/* proc - judge a process by more than its number. */
#ifndef CL_CLOISTERD_PROC_H
#define CL_CLOISTERD_PROC_H

#include "base/base.h"

/* proc_start_ticks - field 22 of /proc/PID/stat; -ESRCH none such */
int proc_start_ticks(pid_t pid, uint64_t *out);
/*
 * proc_hold - a pidfd of the process @pid that was started at @ticks
 * Return: pidfd; -ESRCH it is gone or another has the number now
 */
int proc_hold(pid_t pid, uint64_t ticks);
int proc_pidfd_open(pid_t pid);
int proc_signal(int pidfd, int signo);
/* proc_gone - wait up to @wait_ms for its end; true when it ended */
bool proc_gone(int pidfd, int wait_ms);
/* proc_boot_id - the kernel's id of this boot, 36 characters */
int proc_boot_id(char *buf, size_t n, struct cl_err *err);

#endif

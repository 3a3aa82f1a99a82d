/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/process.h"

/*
 * Children that look at bytes which an attacker may have chosen: file systems and maps on a disk. They
 * have no capability, a user id that nobody else has, a short list of system calls, no sockets, little
 * memory, and, where the kernel has Landlock, may write one device and nothing else. Only for processes
 * without threads, because they are forked.
 */

/* The device's name in the child. Its descriptor has no other name in the file system. */
#define CONFINE_DEVICE "/proc/self/fd/3"

struct confinement {
    const char *device_path; /* a block device, which the child may read and write; or NULL */
    /* Growing a mounted file system needs the device's owner and one capability (CAPABILITY()): then the
     * child keeps user 0. 0: none, and the child becomes another user. */
    uint64_t capability;
};

/* As process_must. The program's arguments name the device CONFINE_DEVICE. A process that is not root
 * has nothing to give up: the child keeps its user. */
MUST_USE bool confine_must(const char *const *argv, const struct confinement *how,
                           uint32_t timeout_ms, int max_ok_exit, struct error *err);

/* Runs a function in a child that may read device_fd and can open nothing. Its exit code is what the
 * function returns (0 to 99), its output what the function wrote to stdout. */
MUST_USE bool confine_call(int (*run)(int device_fd, void *cookie), void *cookie, int device_fd,
                           struct process_result *out, struct error *err);

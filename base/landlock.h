/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stddef.h>

/*
 * Landlock: what the process may reach of the file system, whoever it is. It comes on top of users and
 * modes. A process that has it cannot mount. Kernels from 5.13 on have it, when CONFIG_SECURITY_LANDLOCK
 * is set and "landlock" is among the LSMs.
 */
enum landlock_right {
    LANDLOCK_READ = 1, /* files and folders */
    LANDLOCK_RUN = 2,
    LANDLOCK_WRITE = 4,  /* write, make and remove files and folders, and make sockets */
    LANDLOCK_DEVICE = 8, /* one device, or file: read, write, ioctl */
};

struct landlock_rule {
    const char *path; /* NULL: fd counts */
    int fd;           /* may be O_PATH */
    unsigned rights;
};

/* From now on, this thread, those that it starts, and all their children reach only what the rules name.
 * Set no_new_privs before. A path that does not exist is skipped. *limited is false when the kernel has
 * no Landlock. */
MUST_USE bool landlock_limit(const struct landlock_rule *rules, size_t n, bool *limited,
                             struct error *err);

/* For the log, when it is not limited. */
#define LANDLOCK_MISSING \
    "the kernel has no Landlock: users and modes alone limit which files are reached"

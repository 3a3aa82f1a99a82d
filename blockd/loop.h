/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <sys/stat.h>

/*
 * Loop devices: 4096-byte sectors, direct I/O where the file system below can, and autoclear, so
 * that a device goes with its last user (a mapping, or a worker that died half-way) and none is
 * ever left over. Recognised by the device and inode of the file, never by path.
 */
#define LOOP_PATH_LEN 32
struct loop_device {
    int fd; /* keeps it attached until something else holds it */
    char path[LOOP_PATH_LEN];
};
#define LOOP_DEVICE_INIT \
    {                    \
        .fd = -1         \
    }

/* FAILED_PRECONDITION when the file is already behind a loop device. */
MUST_USE bool loop_attach(int file_fd, bool read_only, struct loop_device *out, struct error *err);
void loop_release(struct loop_device *loop);
#define auto_loop CLEANUP(loop_release)

MUST_USE bool loop_find(const struct stat *file, bool *found, char path[static LOOP_PATH_LEN],
                        struct error *err);

/* The device takes over the file's size, as it is now. Not attached: nothing to do. */
MUST_USE bool loop_refresh(const struct stat *file, struct error *err);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <sys/stat.h>

/*
 * Loop devices: 4096-byte sectors, direct I/O where the file system below can, and autoclear. With
 * autoclear a device goes away with its last user (a mapping, or a worker that died half-way), so
 * that none is left over. A file's device is found by the file's device and inode, never by its
 * path.
 */
#define LOOP_PATH_LEN 32
struct loop_device {
    int fd; /* keeps the device attached until a mapping holds it */
    char path[LOOP_PATH_LEN];
};
#define LOOP_DEVICE_INIT \
    {                    \
        .fd = -1         \
    }

/* FAILED_PRECONDITION when the file has a loop device already. */
MUST_USE bool loop_attach(int file_fd, bool read_only, struct loop_device *out, struct error *err);
/* Memory of this many bytes, for read-only opens (struct volume_opening). It is allocated as it is
 * written, and freed when the last user closes the device. */
MUST_USE bool loop_attach_memory(uint64_t bytes, struct loop_device *out, struct error *err);
void loop_release(struct loop_device *loop);
#define auto_loop CLEANUP(loop_release)

MUST_USE bool loop_find(const struct stat *file, bool *found, char path[static LOOP_PATH_LEN],
                        struct error *err);

/* Makes the device take over the file's present size. Does nothing when the file has no device. */
MUST_USE bool loop_refresh(const struct stat *file, struct error *err);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "migrate/old_header.h"
#include "record/volume_name.h"

#include <sys/types.h>

/*
 * The volume that is copied. Its disk is only read, whoever writes to it:
 *
 *   disk > linear, read-only > dm-crypt, read-only
 *   disk > dm-snapshot, writes go to memory > dm-integrity > dm-crypt
 *
 * dm-integrity replays its journal when it is opened, and the second form takes these writes. The
 * layers go when this process ends, unless it is killed while they are made.
 */
struct source {
    const char *path; /* as the user named it */
    dev_t number;
    int disk_fd;
    uint64_t disk_bytes;
    struct old_header header;
    struct old_integrity integrity; /* with integrity only */
    uint8_t *superblock;            /* likewise, as it was checked; locked memory is not needed */
    struct secret volume_key;
    struct volume_name name; /* of the layers: one name for one disk */
    int fd;                  /* the open volume, O_DIRECT; -1 before source_open() */
    uint64_t bytes;          /* that the volume has */
};
#define SOURCE_INIT                                                                   \
    {                                                                                 \
        .disk_fd = -1, .header = OLD_HEADER_INIT, .volume_key = SECRET_INIT, .fd = -1 \
    }
void source_close(struct source *source);
#define auto_source CLEANUP(source_close)

/* Reads and checks header and superblock, and tries the passphrase. Nothing is mapped. */
MUST_USE bool source_check(struct source *source, const char *path, const struct secret *passphrase,
                           struct error *err);

/* Removes what a killed process left of the same disk, and puts the layers up. ABORTED when another
 * process copies this disk, or has it open for itself. */
MUST_USE bool source_open(struct source *source, struct error *err);

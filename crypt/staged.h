/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"
#include "crypt/record.h"
#include "crypt/volume.h"

#include <linux/limits.h>

/*
 * What is staged on this node, in small files below the state folder (a tmpfs: gone after a boot,
 * like the mappings themselves):
 *   <name>.lock    flock'ed by a worker for its whole life, and by programs it started
 *   <name>.volume  struct staged
 * The kernel is the authority for what is mapped and mounted; this adds the names it does not
 * know, so that closing, finishing and listing need no broker.
 */
#define STAGED_VERSION   1
#define STAGED_FLAGS_MAX 4096

struct staged {
    uint32_t version;
    bool complete; /* false: a worker is at it, or died at it */
    bool read_only;
    char volume_id[VOLUME_ID_MAX + 1];
    uint8_t record_id[RECORD_ID_LEN];
    char fs_type[FS_TYPE_MAX + 1];
    char staging_path[PATH_MAX]; /* "" for raw block */
    char mount_flags[STAGED_FLAGS_MAX];
    char device_path[64]; /* the raw device below, when it was attached */
};

/* *locked=false when another worker holds it. The descriptor is left to programs that the worker
 * starts, so that mkfs or fsck keep the volume locked when they outlive a killed worker. */
MUST_USE bool staged_try_lock(const char *folder, const struct volume_name *name, bool *locked,
                              int *out_fd, struct error *err);

/* Removes the lock's file when nothing is staged. Before the lock is released. */
void staged_tidy_lock(const char *folder, const struct volume_name *name);

MUST_USE bool staged_read(const char *folder, const struct volume_name *name, bool *found,
                          struct staged *out, struct error *err);
MUST_USE bool staged_write(const char *folder, const struct volume_name *name,
                           const struct staged *staged, struct error *err);
MUST_USE bool staged_remove(const char *folder, const struct volume_name *name, struct error *err);

/* Every readable state file; those that are damaged are left out. */
MUST_USE bool staged_each(const char *folder,
                          bool (*each)(void *cookie, const struct volume_name *name,
                                       const struct staged *staged, struct error *err),
                          void *cookie, struct error *err);

/* At start, before any worker: waits (up to wait_ms) for what a former instance left running, and
 * removes locks nobody holds and temporary files. */
MUST_USE bool staged_reap(const char *folder, uint32_t wait_ms, struct error *err);

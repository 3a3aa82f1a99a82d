/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"
#include "crypt/volume.h"
#include "record/record.h"

#include <linux/limits.h>

/*
 * What is staged on this node, in small files below the state folder (a tmpfs: gone after a boot,
 * like the mappings themselves):
 *   <name>.lock    flock'ed by a worker for its whole life, and by programs it started
 *   <name>.volume  struct stage_file
 * The kernel is the authority for what is mapped and mounted; this adds the names it does not
 * know, so that closing, finishing and listing need no broker.
 */
#define STAGE_FILE_VERSION   1
#define STAGE_FILE_FLAGS_MAX 4096

struct stage_file {
    uint32_t version;
    bool complete; /* false: a worker is at it, or died at it */
    bool read_only;
    char volume_id[VOLUME_ID_MAX + 1];
    uint8_t record_id[RECORD_ID_LEN];
    char fs_type[FS_TYPE_MAX + 1];
    char staging_path[PATH_MAX]; /* "" for raw block */
    char mount_flags[STAGE_FILE_FLAGS_MAX];
};

/* *locked=false when another worker holds it. The descriptor is left to programs that the worker
 * starts, so that mkfs or fsck keep the volume locked when they outlive a killed worker. */
MUST_USE bool stage_file_try_lock(const char *folder, const struct volume_name *name, bool *locked,
                                  int *out_fd, struct error *err);

/* Removes the lock's file when nothing is staged. Before the lock is released. */
void stage_file_tidy_lock(const char *folder, const struct volume_name *name);

MUST_USE bool stage_file_read(const char *folder, const struct volume_name *name, bool *found,
                              struct stage_file *out, struct error *err);
MUST_USE bool stage_file_write(const char *folder, const struct volume_name *name,
                               const struct stage_file *staged, struct error *err);
MUST_USE bool stage_file_remove(const char *folder, const struct volume_name *name,
                                struct error *err);

/* Every readable state file; those that are damaged are left out. */
MUST_USE bool stage_file_each(const char *folder,
                              bool (*each)(void *cookie, const struct volume_name *name,
                                           const struct stage_file *staged, struct error *err),
                              void *cookie, struct error *err);

/* At start, before any worker: waits (up to wait_ms) for what a former instance left running, and
 * removes locks nobody holds and temporary files. */
MUST_USE bool stage_file_reap(const char *folder, uint32_t wait_ms, struct error *err);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "blockd/loop.h"
#include "blockd/worker.h"

/* A volume's raw space as a block device of this node. */
struct raw_device {
    int fd;                   /* keeps the device until a mapping holds it */
    char path[LOOP_PATH_LEN]; /* opens this device, and no other, as long as fd is open */
    char name[32];            /* for people: "/dev/loop3", "device 8:16" */
};
#define RAW_DEVICE_INIT \
    {                   \
        .fd = -1        \
    }
void raw_device_release(struct raw_device *device);

/*
 * Where a volume's raw space comes from, on the root side. The volume's record names the kind (enum
 * backing_kind). In the front the same kind is a struct backing (plugin/backing.h), which makes and
 * removes space. Each operation may be repeated.
 */
struct space {
    const char *name;

    /* Gives the space as a block device. The caller holds it until raw_device_release(); a mapping
     * may keep it longer. NOT_FOUND when there is no space. */
    MUST_USE bool (*attach)(const struct worker *worker, bool read_only, struct raw_device *out,
                            struct error *err);

    /* Call after the space has grown: its device takes over the new size. Nothing to do without a
     * device. */
    MUST_USE bool (*grown)(const struct worker *worker, struct error *err);

    /* Whether a device uses the space, and which one. *found is false when there is no space. */
    MUST_USE bool (*find_user)(const struct worker *worker, bool *found,
                               char path[static LOOP_PATH_LEN], struct error *err);

    /* each_rest() calls each() for every volume with half-made space that a killed worker left.
     * remove_rest() removes that space; the caller holds the volume's lock. */
    MUST_USE bool (*each_rest)(const struct worker_config *config,
                               bool (*each)(void *cookie, const char *volume_id, struct error *err),
                               void *cookie, struct error *err);
    MUST_USE bool (*remove_rest)(const struct worker_config *config, const char *volume_id,
                                 struct error *err);
};

/* FAILED_PRECONDITION for a kind that this version does not know. */
MUST_USE bool space_find(enum backing_kind kind, const struct space **out, struct error *err);

/* All kinds, one after the other: space_at(0), space_at(1), ... until NULL. */
const struct space *space_at(size_t i);

extern const struct space space_file;   /* for BACKING_FILE */
extern const struct space space_device; /* for BACKING_DEVICE */

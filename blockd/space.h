/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "blockd/loop.h"
#include "blockd/worker.h"

/*
 * Where a volume's raw space comes from, on the root side. Which one a volume has is in its record
 * (enum backing_kind); its counterpart in the front is struct backing (csi/backing.h), which makes
 * and removes space. One row per kind; each operation may be repeated.
 */
struct space {
    const char *name;

    /* The space as a block device, held until release; something else may hold it by then. NOT_FOUND
     * when there is none. */
    MUST_USE bool (*attach)(const struct worker *worker, bool read_only, struct loop_device *out,
                            struct error *err);
    void (*release)(struct loop_device *device);

    /* The space has grown: its device takes over the new size. Not attached: nothing to do. */
    MUST_USE bool (*grown)(const struct worker *worker, struct error *err);

    /* Whether a device stands on it, and which. No space: *found is false. */
    MUST_USE bool (*find_user)(const struct worker *worker, bool *found,
                               char path[static LOOP_PATH_LEN], struct error *err);

    /* Calls each for every volume of which a killed worker left half-made space; remove_rest takes it
     * away, under the volume's lock. */
    MUST_USE bool (*each_rest)(const struct worker_config *config,
                               bool (*each)(void *cookie, const char *volume_id, struct error *err),
                               void *cookie, struct error *err);
    MUST_USE bool (*remove_rest)(const struct worker_config *config, const char *volume_id,
                                 struct error *err);
};

/* FAILED_PRECONDITION for a kind that this version does not know. */
MUST_USE bool space_find(enum backing_kind kind, const struct space **out, struct error *err);

/* Every kind there is, for what is done to all: space_at(0), ... until NULL. */
const struct space *space_at(size_t i);

extern const struct space space_file; /* of BACKING_FILE */

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "crypt/state_block.h"
#include "crypt/volume.h"

/* Counts openings: in the state block on the disk, and in the record. Notes there what is inside. */

/* A new state on its way to the disk and to the record. */
struct counting {
    int mapping_fd;
    const struct secret *key;
    const struct record_keeper *keeper;
    struct record *record;
    struct state_block *state;
    uint32_t slot; /* the copy that holds the newest state */
};

/* Writes the next count to the disk, to the record, and to the other copy on the disk. */
MUST_USE bool count_state(struct counting *c, struct error *err);
/* Records what the disk says already. */
MUST_USE bool count_record(const struct counting *c, uint64_t counter, struct error *err);

/* Makes the block for the clean close that ends this opening. */
MUST_USE bool closing_make(const struct state_block *state, const struct secret *key,
                           struct volume_closing *out, struct error *err);

/*
 * Notes in the state block that the file system is made, or has grown, to the volume's size, so that
 * it is never made again. Call it before the user can write anything; for raw block at once. It counts as one more
 * open, on the disk and through the keeper. So an older state block, which asks for a file system,
 * is seen as rolled back when somebody puts it back later. *closing replaces the one that
 * volume_activate() made.
 */
MUST_USE bool volume_filesystem_made(const struct volume_name *name, struct record *record,
                                     const struct secret *secret,
                                     const struct record_keeper *keeper,
                                     struct volume_closing *closing, struct error *err);

/* The same for a volume that is made for a file system and given out as raw block: somebody brings a
 * file system along, of a size that nobody knows. It is never made again either, and made as large as
 * the volume when it is mounted next. */
MUST_USE bool volume_filesystem_brought(const struct volume_name *name, struct record *record,
                                        const struct secret *secret,
                                        const struct record_keeper *keeper,
                                        struct volume_closing *closing, struct error *err);

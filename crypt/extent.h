/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "crypt/layer.h"
#include "record/record.h"

/*
 * Extents of the user area while they are initialised. dm-clone over dm-zero makes sectors that
 * were never written read as zeros. dm-crypt alone could not read them: they have no authentication
 * tag. The record says whether an extent needs this, never the disk.
 */

/* Plans the extents of a new volume: one, or none without authentication. */
void extents_plan(const struct volume_spec *spec, struct record *record);

bool extents_are_done(const struct record *record);

/* Checks that the map of each running extent is valid. dm-clone reads a map of zeros as a new
 * volume, and would show zeros where data is. DATA_LOSS "MapChanged". */
MUST_USE bool extents_check_maps(const struct record *record, int mapping_fd, struct error *err);

/* SHA-256 of both map slots, read through dm-crypt. The state blocks are not part of it: they have
 * a MAC and a counter of their own. */
MUST_USE bool extents_hash_maps(int mapping_fd, uint8_t out[static SHA256_LEN], struct error *err);

/* Puts up dm-clone for each running extent. Where the map is all zeros, the kernel creates it.
 * FAILED_PRECONDITION when the kernel has no dm-clone. */
MUST_USE bool extents_up(const struct volume_name *name, const struct record *record, dev_t mapping,
                         struct error *err);

/* Fills in the table of the exposed device, over mapping and over the layers that extents_up()
 * made. */
MUST_USE bool extents_table(const struct volume_name *name, const struct record *record,
                            dev_t mapping, struct table *out, struct error *err);

/* Starts hydration in the background. */
MUST_USE bool extents_hydrate(const struct volume_name *name, const struct record *record,
                              struct error *err);

struct extent_progress {
    bool exists;
    bool failed; /* the kernel cannot write its map any more: do not trust the numbers */
    uint64_t regions_done, regions_total;
};
MUST_USE bool extent_get_progress(const struct volume_name *name, uint32_t slot,
                                  struct extent_progress *out, struct error *err);

/* Makes the kernel write the map of a slot to the disk. */
MUST_USE bool extent_flush(const struct volume_name *name, uint32_t slot, struct error *err);
MUST_USE bool extent_down(const struct volume_name *name, uint32_t slot, struct error *err);

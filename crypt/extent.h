/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "crypt/layer.h"
#include "record/record.h"

/*
 * Extents of the user area while they are initialised: dm-clone over dm-zero, so that a sector
 * which was never written reads as zeros though dm-crypt could not read it. Whether an extent
 * needs this is said by the record, never by the disk.
 */

/* The extents of a new volume: one, or none without authentication. */
void extents_plan(const struct volume_spec *spec, struct record *record);

bool extents_are_done(const struct record *record);

/* Whether the map of each running extent is one: dm-clone takes zeros for a new volume and would
 * show zeros where data is. DATA_LOSS "MapChanged". */
MUST_USE bool extents_check_maps(const struct record *record, int mapping_fd, struct error *err);

/* SHA-256 of both map slots, read through dm-crypt. The state blocks have their own MAC and count. */
MUST_USE bool extents_hash_maps(int mapping_fd, uint8_t out[static SHA256_LEN], struct error *err);

/* Puts up dm-clone for each running extent; where the map is zeros, the kernel makes it.
 * FAILED_PRECONDITION when the kernel has no dm-clone. */
MUST_USE bool extents_up(const struct volume_name *name, const struct record *record, dev_t mapping,
                         struct error *err);

/* The exposed device over mapping and what extents_up made. */
MUST_USE bool extents_table(const struct volume_name *name, const struct record *record,
                            dev_t mapping, struct table *out, struct error *err);

/* Starts hydration in the background. */
MUST_USE bool extents_hydrate(const struct volume_name *name, const struct record *record,
                              struct error *err);

struct extent_progress {
    bool exists;
    bool failed; /* its map cannot be written any more: what it says is not to be trusted */
    uint64_t regions_done, regions_total;
};
MUST_USE bool extent_get_progress(const struct volume_name *name, uint32_t slot,
                                  struct extent_progress *out, struct error *err);

/* Commits the map of a slot. */
MUST_USE bool extent_flush(const struct volume_name *name, uint32_t slot, struct error *err);
MUST_USE bool extent_down(const struct volume_name *name, uint32_t slot, struct error *err);

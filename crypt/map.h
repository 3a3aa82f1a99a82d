/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/digest.h"
#include "base/error.h"

/*
 * The map of an authenticated volume on the disk: the metadata of a dm-thin pool, in the format of
 * the kernel's drivers/md/dm-thin-metadata.c and drivers/md/persistent-data. It says which blocks
 * were written. Everything here only reads, and nothing may use the map meanwhile. map_fd: the
 * device LAYER_MAP (crypt/pool.h), so each block was authenticated before it is looked at.
 */

struct map_info {
    bool needs_check; /* the kernel could not write the map once, and demands a check */
    uint64_t
        data_bytes; /* of the blocks that the map is for: less than the volume's after a growth */
};

/* Checks that there is a map for volumes of this layout. The kernel takes a map of zeros for a new
 * one and would show zeros where data is. So call this before the pool is put up. DATA_LOSS
 * "MapChanged". */
MUST_USE bool map_check(int map_fd, struct map_info *out, struct error *err);

/* SHA-256 over the numbers and the content of all blocks in use. Blocks that are not in use were
 * perhaps never written and so cannot be read. DATA_LOSS "MapChanged" when the map contradicts
 * itself. */
MUST_USE bool map_hash(int map_fd, uint8_t out[static SHA256_LEN], struct error *err);

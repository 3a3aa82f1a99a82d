/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "crypt/layer.h"
#include "record/layout.h"

/*
 * The layers of an authenticated volume above dm-crypt: a dm-thin pool with one thin volume, which
 * is the exposed device. dm-crypt cannot read a sector that was never written, because it has no
 * authentication tag. The pool knows which blocks were written. It shows all others as zeros, and
 * fills a block with zeros before its first partial write. So a volume of any size is ready at
 * once, and so is what is added to it later.
 *
 * LAYER_MAP and LAYER_DATA are the map parts and the data parts of all groups (record/layout.h).
 */

/* Puts up LAYER_MAP, over the mapping of dm-crypt. */
MUST_USE bool pool_map_up(const struct volume_name *name, uint64_t size_bytes, dev_t mapping,
                          struct error *err);

/* Makes the kernel create a new map when the pool is put up. map_fd: LAYER_MAP, for writing. */
MUST_USE bool pool_map_clear(int map_fd, struct error *err);

/* Has thin_check (of LVM's thin-provisioning-tools) look through the map, and takes the kernel's
 * mark off when it is sound. DATA_LOSS "MapDamaged". */
MUST_USE bool pool_map_repair(const struct volume_name *name, struct error *err);

/* Puts up LAYER_DATA and LAYER_POOL. map_data_bytes: of a map that was checked (crypt/map.h), or 0
 * for a map that is clear; then also creates the thin volume. FAILED_PRECONDITION when the kernel has
 * no dm-thin. */
MUST_USE bool pool_up(const struct volume_name *name, uint64_t size_bytes, dev_t mapping,
                      uint64_t map_data_bytes, struct error *err);

/* Adds the thin volume to the table of the exposed device. */
MUST_USE bool pool_table(const struct volume_name *name, uint64_t size_bytes, struct table *out,
                         struct error *err);

/* Makes the live layers longer. The mapping has its new length already. */
MUST_USE bool pool_grow(const struct volume_name *name, uint64_t size_bytes, dev_t mapping,
                        struct error *err);

struct pool_state {
    bool exists;
    bool failed; /* the kernel cannot write the map any more */
};
MUST_USE bool pool_get_state(const struct volume_name *name, struct pool_state *out,
                             struct error *err);

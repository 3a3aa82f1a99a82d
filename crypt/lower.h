/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "crypt/layer.h"

/*
 * LAYER_LOWER: what the encrypted layers stand on. A window of exactly the record's size on the raw
 * device, which may be larger; or, for read-only opens, a throw-away dm-snapshot in memory: a copy
 * of an attached disk has journals to replay, and they are replayed into memory, never onto the
 * disk.
 */
MUST_USE bool lower_window_up(const struct volume_name *name, dev_t raw, uint64_t bytes,
                              struct error *err);
MUST_USE bool lower_snapshot_up(const struct volume_name *name, dev_t raw,
                                const struct volume_spec *spec, struct error *err);
/* A longer window on the same device; nothing when it is as long. */
MUST_USE bool lower_window_grow(const struct volume_name *name, uint64_t bytes, struct error *err);

struct lower_state {
    bool is_snapshot;
    bool is_full; /* the snapshot, and so invalid: every access fails */
};
MUST_USE bool lower_get_state(const struct volume_name *name, struct lower_state *out,
                              struct error *err);

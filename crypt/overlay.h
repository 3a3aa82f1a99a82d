/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "crypt/layer.h"

/*
 * LAYER_LOWER: what stands between the raw device and the encrypted layers when that is needed.
 * Either a window of exactly the record's size on a raw device that is larger, or, for read-only
 * opens, a throw-away dm-snapshot in memory: a copy of an attached disk has journals to replay, and
 * they are replayed into memory, never onto the disk.
 */
MUST_USE bool overlay_window_up(const struct volume_name *name, dev_t raw, uint64_t bytes,
                                struct error *err);
MUST_USE bool overlay_snapshot_up(const struct volume_name *name, dev_t raw,
                                  const struct volume_spec *spec, struct error *err);

struct overlay_state {
    bool is_snapshot;
    bool is_full; /* and so invalid: every access fails */
};
MUST_USE bool overlay_get_state(const struct volume_name *name, struct overlay_state *out,
                                struct error *err);

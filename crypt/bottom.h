/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "crypt/layer.h"
#include "record/record.h"

/*
 * LAYER_BOTTOM: what the encrypted layers stand on. A window of exactly the record's size on the raw
 * device, which may be larger. Or, for read-only opens, a dm-snapshot whose writes go to a device in
 * memory: a copy of an attached disk has journals to replay, and the disk must stay as it is.
 */
MUST_USE bool bottom_window_up(const struct volume_name *name, dev_t raw, uint64_t bytes,
                               struct error *err);
MUST_USE bool bottom_overlay_up(const struct volume_name *name, dev_t raw,
                                const struct volume_spec *spec, const char *overlay_path,
                                struct error *err);
/* A longer window on the same device; nothing when it is as long. */
MUST_USE bool bottom_window_grow(const struct volume_name *name, uint64_t bytes, struct error *err);

struct bottom_state {
    bool is_overlay;
    bool is_full; /* the overlay, and so invalid: every access fails */
};
MUST_USE bool bottom_get_state(const struct volume_name *name, struct bottom_state *out,
                               struct error *err);

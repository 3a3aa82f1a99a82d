/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "crypt/layer.h"
#include "record/record.h"

/*
 * LAYER_BOTTOM: the device below the encrypted layers. For writing it is a window on the raw
 * device, of exactly the record's size; the raw device may be larger. For read-only opens it is a
 * dm-snapshot whose writes go to a device in memory. Reason: the copy of an attached disk has
 * journals to replay, and the disk must stay unchanged.
 */
MUST_USE bool bottom_window_up(const struct volume_name *name, dev_t raw, uint64_t bytes,
                               struct error *err);
MUST_USE bool bottom_overlay_up(const struct volume_name *name, dev_t raw,
                                const struct volume_spec *spec, const char *overlay_path,
                                struct error *err);
/* Makes the window longer, on the same device. Does nothing when it is long enough already. */
MUST_USE bool bottom_window_grow(const struct volume_name *name, uint64_t bytes, struct error *err);

/* The raw device below. NOT_FOUND when there is none. */
MUST_USE bool bottom_find_raw(const struct volume_name *name, dev_t *raw, struct error *err);

struct bottom_state {
    bool is_overlay;
    bool is_full; /* the overlay is full and so invalid: every access fails */
};
MUST_USE bool bottom_get_state(const struct volume_name *name, struct bottom_state *out,
                               struct error *err);

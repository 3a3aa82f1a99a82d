/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "crypt/table.h"
#include "crypt/volume_name.h"

/*
 * The device-mapper layers of one volume, by name alone: whoever closes, suspends or fails a
 * volume needs neither record nor key.
 */
enum layer {
    LAYER_TOP, /* what is exposed */
    LAYER_CLONE1,
    LAYER_CLONE0,
    LAYER_DEST1,
    LAYER_DEST0,
    LAYER_ZERO1,
    LAYER_ZERO0,
    LAYER_MAP1,
    LAYER_MAP0,
    LAYER_CRYPT,
    LAYER_INTEGRITY, /* libcryptsetup's own, below LAYER_CRYPT */
    LAYER_BOTTOM,    /* window on the raw device, or the read-only overlay */
    LAYER_COUNT
};

struct layer_name {
    char text[TABLE_NAME_MAX];
};
struct layer_name layer_name(const struct volume_name *name, enum layer layer);
struct layer_name layer_path(const struct volume_name *name, enum layer layer); /* in /dev */

MUST_USE bool layer_info(const struct volume_name *name, enum layer layer, struct table_info *out,
                         struct error *err);

/* Removes those of from..to that exist, top first, and what a worker killed in the middle of a
 * format left on LAYER_BOTTOM. ABORTED when one is in use. */
MUST_USE bool layers_remove(const struct volume_name *name, enum layer from, enum layer to,
                            struct error *err);
/* Top first, the file system on it flushed and frozen. On failure all are resumed. */
MUST_USE bool layers_suspend(const struct volume_name *name, struct error *err);
/* Bottom first; those that are not suspended are left alone. */
MUST_USE bool layers_resume(const struct volume_name *name, struct error *err);
/* The error target for every one, top first, then the lowest, so that nothing waits for a device
 * which is gone. */
MUST_USE bool layers_fail(const struct volume_name *name, struct error *err);

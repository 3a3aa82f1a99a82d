/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "crypt/table.h"
#include "record/volume_name.h"

/*
 * The device-mapper layers of one volume, found by name alone. So closing, suspending or failing a
 * volume needs neither record nor key.
 */
enum layer {
    LAYER_TOP,  /* the exposed device */
    LAYER_POOL, /* authenticated volumes only, as the next two (crypt/pool.h) */
    LAYER_DATA,
    LAYER_MAP,
    LAYER_CRYPT,
    LAYER_INTEGRITY, /* made by libcryptsetup, below LAYER_CRYPT */
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

/* The first target's type and status line of a layer that exists. Both are "" for a layer that does
 * not exist, and for one without a table: a worker died while it made the layer. */
MUST_USE bool layer_find_status(const struct volume_name *name, enum layer layer, bool *exists,
                                struct table_target *out, struct error *err);

/* Removes the layers from..to that exist, top first. Also removes the temporary device that a
 * worker left on LAYER_BOTTOM when it was killed during a format. ABORTED when a layer is in
 * use. */
MUST_USE bool layers_remove(const struct volume_name *name, enum layer from, enum layer to,
                            struct error *err);
/* Suspends top first; flushes and freezes the file system on the top. On failure all are
 * resumed. */
MUST_USE bool layers_suspend(const struct volume_name *name, struct error *err);
/* Resumes the suspended layers, lowest first, and the devices that were left behind. A worker that died
 * while it changed a layer also left the new table in the kernel, perhaps with a key in it. In a suspended
 * layer it becomes live, in any other it is dropped. */
MUST_USE bool layers_resume(const struct volume_name *name, struct error *err);
/*
 * Leaves the exposed device to who still has it open, and takes it out of the volume. The file system on it
 * is frozen, which brings to the disk what was written; then each access to the device fails. The kernel
 * removes it after its last user. So the layers below are free.
 *
 * Nothing is brought to the disk of a top that is the error target already, nor of a file system that
 * cannot write any more. NOT_FOUND when there is no exposed device. ABORTED when the file system cannot be
 * frozen now, because somebody else has frozen it; then all is as before. When the process dies in
 * between, layers_resume() goes on.
 */
MUST_USE bool layers_leave_behind(const struct volume_name *name, struct error *err);
/* Replaces the layers by the error target: the top first, then the lowest, then the rest, but not the
 * pool and dm-integrity. Once the lowest is replaced, nothing waits for a device that is gone. */
MUST_USE bool layers_fail(const struct volume_name *name, struct error *err);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "crypt/volume.h"

/* From a raw device to an exposed one: format, or open. */

/* What is opened, and with what. All pointers are the caller's. */
struct volume_opening {
    const char *device_path; /* the raw device */
    /* NULL: for writing. Else the volume opens read-only: writes, such as those of a journal that is
     * replayed, go to this device of volume_overlay_bytes(), which is overwritten, and the raw device
     * stays as it is. Needed until volume_activate returns: dm-snapshot holds it from then on. */
    const char *overlay_path;
    struct record *record; /* updated through the keeper */
    const struct secret *secret;
    const struct record_keeper *keeper;
};

/* Room for what journals and file systems write while they are replayed: twice the integrity
 * journal, and 128 MiB. */
uint64_t volume_overlay_bytes(const struct volume_spec *spec);

/*
 * Formats (record->phase FORMATTING) or opens (READY) the volume and exposes it. The record is updated
 * through the keeper, at each moment the design demands it: READY after both header copies are on
 * disk and read back, before the device is exposed; OPENED after the state block is written.
 * Read-only opening writes nothing and needs READY.
 *
 * FORMATTING refuses a device that carries a known signature or one of our headers
 * (FAILED_PRECONDITION). Errors on a READY volume name the fault by reason:
 * "HeaderChanged", "RolledBack", "WrongVolume", "MapChanged", "StateDamaged" (DATA_LOSS) and
 * "KeyMismatch" (FAILED_PRECONDITION); nothing is ever formatted then. "DeviceNotEmpty"
 * (FAILED_PRECONDITION) when FORMATTING was refused. On failure nothing stays mapped.
 */
MUST_USE bool volume_activate(const struct volume_name *name, const struct volume_opening *opening,
                              struct volume_device *out, struct error *err);

/*
 * The file system is made and flushed: written into the state block, so that it is never made again.
 * Call it before anything of the user's can be written; for raw block right away. Counts as one
 * more open, on the disk and through the keeper: an older state block, which asks for a file
 * system, put back later is then seen as rolled back.
 */
MUST_USE bool volume_filesystem_made(const struct volume_name *name, struct record *record,
                                     const struct secret *secret,
                                     const struct record_keeper *keeper, struct error *err);

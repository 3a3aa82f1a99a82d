/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "crypt/volume.h"
#include "record/layout.h"

/* Brings a volume from the raw device to the exposed device: formats it or opens it. */

/* Which volume is opened, and with what. The caller owns everything the pointers refer to. */
struct volume_opening {
    const char *device_path; /* the raw device */
    const char *device_name; /* what errors call it; NULL: by its path */
    /* NULL: open for writing. Otherwise the volume opens read-only and this is the path of a device
     * with volume_overlay_bytes(). It is overwritten: writes, such as a journal replay, go there,
     * and the raw device stays unchanged. The caller may close it when volume_activate() returns:
     * dm-snapshot holds it from then on. */
    const char *overlay_path;
    struct record *record; /* updated through the keeper */
    const struct secret *secret;
    const struct secret *next_secret; /* of a record with a rotation; otherwise not read */
    const struct record_keeper *keeper;
    /*
     * Not NULL: the volume is opened without its broker. This is the passphrase of its header, in place of
     * secret and keeper, and the record is one of crypt/recover.h. The state block is neither checked nor
     * written: it needs the secret. The exposed device can be written, also over an overlay.
     */
    const struct secret *recovery_key;
};

/* Loads what every activation needs. A process that forks calls it once, so that no child need do
 * it. */
MUST_USE bool volume_prepare(struct error *err);

/* The size of an overlay: room for what is written during journal replay, which is twice the
 * integrity journal, and 128 MiB for the file system. */
uint64_t volume_overlay_bytes(const struct volume_spec *spec);

/*
 * Formats the volume (record->phase FORMATTING) or opens it (READY), and exposes it. In place of a format
 * a volume with spec.taken_over is taken over (crypt/take_over.h): it is never formatted. A READY volume
 * whose record has a rotation gets its next secret when it is opened for writing (crypt/rotation.h). The record is
 * updated through the keeper at fixed moments: READY after both header copies are on disk and read
 * back, before the device is exposed; OPENED after the state block is written. Read-only opening
 * writes nothing and needs READY.
 *
 * FORMATTING refuses a device that carries a known signature or a foreign LUKS header
 * (FAILED_PRECONDITION "DeviceNotEmpty"), and one on which this volume was exposed before
 * ("UsedBefore"). Errors on a READY volume name the fault by reason:
 * "HeaderChanged", "RolledBack", "WrongVolume", "MapChanged", "StateDamaged" (DATA_LOSS) and
 * "KeyMismatch" (FAILED_PRECONDITION). A READY volume is never formatted, whatever the error. After
 * a failure nothing stays mapped.
 */
MUST_USE bool volume_activate(const struct volume_name *name, const struct volume_opening *opening,
                              struct volume_device *out, struct volume_closing *closing,
                              struct error *err);

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
    const struct record_keeper *keeper;
    /*
     * Not NULL: the volume is opened without its broker. This is the passphrase of its header, in place of
     * secret and keeper, and the record is one of crypt/recover.h. The state block is neither checked nor
     * written: it needs the secret. The exposed device can be written, also over an overlay.
     */
    const struct secret *recovery_key;
};

/* The block that a clean close writes (volume_stop()). It is made while the key is at hand, so
 * that closing needs none. */
struct volume_closing {
    bool is_set; /* false: opened read-only */
    uint8_t block[LAYOUT_STATE_BYTES];
};

/* Loads what every activation needs. A process that forks calls it once, so that no child need do
 * it. */
MUST_USE bool volume_prepare(struct error *err);

/* The size of an overlay: room for what is written during journal replay, which is twice the
 * integrity journal, and 128 MiB for the file system. */
uint64_t volume_overlay_bytes(const struct volume_spec *spec);

/*
 * Formats the volume (record->phase FORMATTING) or opens it (READY), and exposes it. In place of a format
 * a volume with spec.taken_over is taken over (crypt/take_over.h): it is never formatted. The record is
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

/*
 * Notes in the state block that the file system is made, or has grown, to the volume's size, so that
 * it is never made again. Call it before the user can write anything; for raw block at once. It counts as one more
 * open, on the disk and through the keeper. So an older state block, which asks for a file system,
 * is seen as rolled back when somebody puts it back later. *closing replaces the one that
 * volume_activate() made.
 */
MUST_USE bool volume_filesystem_made(const struct volume_name *name, struct record *record,
                                     const struct secret *secret,
                                     const struct record_keeper *keeper,
                                     struct volume_closing *closing, struct error *err);

/* The same for a volume that is made for a file system and given out as raw block: somebody brings a
 * file system along, of a size that nobody knows. It is never made again either, and made as large as
 * the volume when it is mounted next. */
MUST_USE bool volume_filesystem_brought(const struct volume_name *name, struct record *record,
                                        const struct secret *secret,
                                        const struct record_keeper *keeper,
                                        struct volume_closing *closing, struct error *err);

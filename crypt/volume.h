/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/secret.h"
#include "crypt/volume_name.h"
#include "record/record.h"

#include <sys/types.h>

/*
 * One encrypted volume: from a raw block device to an exposed device-mapper device and back.
 *
 *   raw device (> dm-snapshot overlay in RAM, read-only opens) > dm-integrity > dm-crypt >
 *   dm-clone while initialising > dm-linear "tdvol-...", which is exposed
 *
 * Runs inside a one-shot worker that holds the volume's lock. Not thread-safe (libcryptsetup,
 * libdevmapper). The names of all inner layers begin with the volume's name. So deactivation needs
 * neither key, nor header, nor broker.
 */

struct volume_device {
    char path[64]; /* "/dev/mapper/tdvol-..." */
    dev_t number;
    uint64_t size_bytes;
    bool read_only;
    bool needs_filesystem; /* no file system was made yet (state block): there is no user data */
};

/* *found: the exposed device exists, in whatever state. */
MUST_USE bool volume_find(const struct volume_name *name, bool *found, struct volume_device *out,
                          struct error *err);

/*
 * Removes all layers that exist, top first, suspended or not. Idempotent. ABORTED when a layer is
 * in use (mounted or held open). clean_hash (may be NULL) gets the hash of the initialisation maps.
 * It is taken after the upper layers are gone and before dm-crypt is removed. *has_hash: there is
 * such a hash. There is one only while the volume is being initialised and its map is valid.
 */
MUST_USE bool volume_deactivate(const struct volume_name *name, bool *has_hash,
                                uint8_t clean_hash[SHA256_LEN], struct error *err);

/* Replaces everything above the raw device by the error target, at once. For a device that is gone,
 * or when dm-clone's map failed. So acknowledged data never reads as zeros. */
MUST_USE bool volume_fail(const struct volume_name *name, struct error *err);

/* For each extent that is fully hydrated: flushes its map, records EXTENT_DONE through the keeper,
 * and then loads the linear table. Returns true with *finished false while hydration still runs. */
MUST_USE bool volume_finish(const struct volume_name *name, const struct record *record,
                            const struct record_keeper *keeper, bool *finished, struct error *err);

/* Grows a volume with integrity=none while it is in use. Before the call the raw device has grown
 * to the record's new device size, and the caller has recorded GROWN. Loads longer tables and
 * exposes the new size. */
MUST_USE bool volume_grow(const struct volume_name *name, const struct record *record,
                          struct volume_device *out, struct error *err);

/* What the kernel reports about an active volume. */
struct volume_status {
    bool is_active;
    bool is_read_only;
    bool is_suspended;
    bool is_initialising;
    uint64_t regions_done, regions_total; /* while initialising */
    bool map_failed;       /* dm-clone's map is not "rw", or the error target is in place */
    bool overlay_overflow; /* the overlay of a read-only open is full */
    uint64_t size_bytes;
};
MUST_USE bool volume_status(const struct volume_name *name, struct volume_status *out,
                            struct error *err);

/* Suspends or resumes all layers. Suspending goes from the top down and flushes the file system;
 * until resume nothing reaches the raw device. Between the two calls the caller must not touch the
 * volume, allocate much memory, or die. */
MUST_USE bool volume_suspend(const struct volume_name *name, struct error *err);
MUST_USE bool volume_resume(const struct volume_name *name, struct error *err);

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
 *   dm-clone while initialising > dm-linear "tdvol-..." which is exposed
 *
 * Runs inside a one-shot worker that holds the volume's lock; not thread-safe (libcryptsetup,
 * libdevmapper). All names of inner layers begin with the volume's name, so that deactivation needs
 * neither key, nor header, nor broker.
 */

struct volume_device {
    char path[64]; /* "/dev/mapper/tdvol-..." */
    dev_t number;
    uint64_t size_bytes;
    bool read_only;
    bool needs_filesystem; /* the state block says that none was made yet: user data cannot exist */
};

/* True with *found when the exposed device is there, whatever its state. */
MUST_USE bool volume_find(const struct volume_name *name, bool *found, struct volume_device *out,
                          struct error *err);

/*
 * Removes all layers that exist, top first, suspended or not. Idempotent. ABORTED when a layer is in use (mounted or
 * held open). clean_hash (may be NULL) gets the hash of the initialisation maps, taken after the upper
 * layers are gone and before dm-crypt is removed; *has_hash tells whether there is one (only while
 * the volume is being initialised, and its map is sound).
 */
MUST_USE bool volume_deactivate(const struct volume_name *name, bool *has_hash,
                                uint8_t clean_hash[SHA256_LEN], struct error *err);

/* Puts the error target in place of everything above the raw device, at once: the device below is
 * gone or dm-clone's map failed. Acknowledged data never turns into zeros. */
MUST_USE bool volume_fail(const struct volume_name *name, struct error *err);

/* All extents hydrated and the map flushed: EXTENT_DONE through the keeper, then the linear
 * table. true with *finished=false when hydration still runs. */
MUST_USE bool volume_finish(const struct volume_name *name, const struct record *record,
                            const struct record_keeper *keeper, bool *finished, struct error *err);

/* integrity=none, online: the raw device has already grown to new_spec's device size. Loads
 * longer tables and exposes the new size. GROWN is recorded by the caller before. */
MUST_USE bool volume_grow(const struct volume_name *name, const struct record *record,
                          struct volume_device *out, struct error *err);

/* What the kernel says of an active volume. */
struct volume_status {
    bool is_active;
    bool is_read_only;
    bool is_suspended;
    bool is_initialising;
    uint64_t regions_done, regions_total; /* while initialising */
    bool map_failed;       /* dm-clone is not "rw", or the error target is in place */
    bool overlay_overflow; /* read-only overlay ran full */
    uint64_t size_bytes;
};
MUST_USE bool volume_status(const struct volume_name *name, struct volume_status *out,
                            struct error *err);

/* All layers, top first, with file systems flushed; nothing reaches the raw device in between.
 * Between the two calls the caller may not touch the volume, allocate much, or die. */
MUST_USE bool volume_suspend(const struct volume_name *name, struct error *err);
MUST_USE bool volume_resume(const struct volume_name *name, struct error *err);

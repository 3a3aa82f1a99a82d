/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/secret.h"
#include "record/layout.h"
#include "record/record.h"
#include "record/volume_name.h"

#include <sys/types.h>

/*
 * One encrypted volume: from a raw block device to an exposed device-mapper device and back.
 *
 *   raw device (> dm-snapshot overlay in RAM, read-only opens) > dm-integrity > dm-crypt >
 *   a dm-thin pool > its thin volume "tdvol-...", which is exposed
 *
 * Without integrity: raw device > dm-crypt > dm-linear "tdvol-...".
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
    /* The size for which a file system was made or grown last (volume_filesystem_made()). 0: none was
     * made yet, so there is no user data. */
    uint64_t filesystem_bytes;
};

/* *found: the exposed device exists, in whatever state. */
MUST_USE bool volume_find(const struct volume_name *name, bool *found, struct volume_device *out,
                          struct error *err);

/* What a volume leaves behind when it is closed, for the record. */
struct volume_end {
    bool is_marked; /* the closing block is on the disk */
    /* The hash of the map of written blocks. A volume without integrity has none, and none is taken
     * of a map that failed. */
    bool has_hash;
    uint8_t hash[SHA256_LEN];
};

/* The block that a clean close writes (volume_stop()). It is made while the key is at hand, so
 * that closing needs none. */
struct volume_closing {
    bool is_set; /* false: opened read-only */
    uint8_t block[LAYOUT_STATE_BYTES];
};

/*
 * A volume is closed in two steps, so that the caller can keep *out before the second one. Both are
 * idempotent, and ABORTED when a layer is in use (mounted or held open).
 *
 * volume_stop() removes the exposed device and the pool, suspended or not. Nothing can change any
 * more then. It takes the hash of the map and writes closing, a block of struct volume_closing; NULL:
 * the volume shall not look as if it was closed cleanly. Both are best effort. A repeated call takes
 * no hash.
 *
 * volume_deactivate() removes all layers that exist, top first, suspended or not.
 */
MUST_USE bool volume_stop(const struct volume_name *name, const uint8_t *closing,
                          struct volume_end *out, struct error *err);
MUST_USE bool volume_deactivate(const struct volume_name *name, struct error *err);

/* The raw device of a volume. NOT_FOUND when the volume has none, because nothing is mapped or
 * volume_fail() has let it go. */
MUST_USE bool volume_find_raw(const struct volume_name *name, dev_t *number, struct error *err);

/* Whether the raw device of a volume has left this node. *surely: no disk has its number, or the kernel
 * has given it up. Otherwise a disk has the number that does not know of this volume: another disk,
 * or the volume was being closed at this moment. False also for a volume without a raw device. */
bool volume_raw_is_gone(const struct volume_name *name, bool *surely);

/* Replaces everything above the raw device by the error target, at once. For a device that is gone,
 * or when the pool cannot write its map. So data that the pod wrote never reads as zeros. */
MUST_USE bool volume_fail(const struct volume_name *name, struct error *err);

/* Takes the exposed device away from who still has it open, as layers_leave_behind() says. What was written
 * is brought to the disk first. Then volume_stop() can go on. */
MUST_USE bool volume_leave_behind(const struct volume_name *name, struct error *err);

/* Grows a volume while it is in use. Before the call the raw device has grown to the record's new
 * device size, and the caller has recorded GROWN. Loads longer tables, from the bottom to the top,
 * and exposes the new size. What is already long enough stays as it is: so a call that died is
 * simply made again. When the volume is closed instead, the next open ends the growth. */
MUST_USE bool volume_grow(const struct volume_name *name, const struct record *record,
                          struct volume_device *out, struct error *err);

/* What the kernel reports about an active volume. */
struct volume_status {
    bool is_active;
    bool is_read_only;
    bool is_suspended;
    bool map_failed;       /* the pool cannot write its map, or the error target is in place */
    bool is_replaced;      /* by the error target (volume_fail) */
    bool overlay_overflow; /* the overlay of a read-only open is full */
    uint64_t size_bytes;
};
MUST_USE bool volume_status(const struct volume_name *name, struct volume_status *out,
                            struct error *err);

/* Suspends or resumes all layers. Suspending goes from the top down and flushes the file system;
 * until resume nothing reaches the raw device. Between the two calls the caller must not touch the
 * volume, allocate much memory, or die. Resuming also clears up what a worker left that died in the
 * middle of a growth. FAILED_PRECONDITION with LEASE_LOST_REASON for a volume that is withheld
 * (crypt/withhold.h). */
MUST_USE bool volume_suspend(const struct volume_name *name, struct error *err);
MUST_USE bool volume_resume(const struct volume_name *name, struct error *err);

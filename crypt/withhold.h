/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/secret.h"
#include "crypt/layer.h"
#include "record/record.h"

/*
 * Stops an open volume without ending it, and lets it go on. Meanwhile its users wait, nothing of theirs
 * reaches the disk, and the kernel does not have the key.
 *
 * The kernel itself holds this: dm-crypt does not resume without a key. What stays in the kernel's memory:
 * pages of the volume's files, in plain text; what was being written; and the map of written blocks.
 */

/*
 * Suspends the layers above the raw device, top first, and takes the key away. New requests wait from the
 * first step on; those under way are ended, so this waits for the disk. It may be repeated, also after a
 * worker died in the middle. When it fails, all that was suspended stays so: volume_fail() is what is left.
 */
MUST_USE bool volume_withhold(const struct volume_name *name, struct error *err);

/* *out: dm-crypt's key was taken away. Such a volume cannot be resumed, only given back, or failed and
 * closed. */
MUST_USE bool volume_find_withheld(const struct volume_name *name, bool *out, struct error *err);

struct giving_back {
    const struct record *record;
    const struct secret *secret;
    const struct secret *next_secret; /* of a record with a rotation */
};
/*
 * Gets the key out of the header on the disk, which the record must know, puts it back, and resumes the
 * layers. DATA_LOSS "HeaderChanged" and FAILED_PRECONDITION "KeyMismatch" as in volume_activate(); then the
 * volume stays withheld. Does nothing but resume when the kernel has the key.
 */
MUST_USE bool volume_give_back(const struct volume_name *name, const struct giving_back *giving,
                               struct error *err);

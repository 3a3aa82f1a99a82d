/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/secret.h"
#include "crypt/signature.h"
#include "record/volume_name.h"

/*
 * Headers of our own on a device that shall be formatted. An attempt that was killed leaves them, and
 * then the device may be formatted again. But the record that says so may be old: somebody put the
 * broker's store back. Then there is data behind these headers. The disk knows: a format writes the
 * headers last, after a state block which says that the volume was never opened, and the volume is
 * exposed only after that block says more.
 */
struct leftover {
    const struct volume_name *name; /* LAYER_BOTTOM is up */
    int raw_fd;                     /* for writing */
    struct signature_found found;
    const struct record *record; /* in phase FORMATTING */
    const struct secret *luks_key, *state_key;
};

/* Erases the headers of a volume that was never exposed. Otherwise it fails with FAILED_PRECONDITION
 * "UsedBefore", and nothing is written, but that dm-integrity replays its journal as at any opening:
 * the newest state block may be in there. */
MUST_USE bool leftover_clear(const struct leftover *leftover, struct error *err);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/secret.h"

#include <stdatomic.h>

/*
 * Copies a LUKS2 volume that tdvol did not make into one of its own:
 *
 *   1. header, key, sizes and the target's content are checked; nothing is written until all of it fits
 *   2. the target gets a marker in the place of a file system
 *   3. everything but the first MiB is made equal, flushed, and compared
 *   4. the first MiB follows, its first block last
 *
 * A run that ends early, in whatever way, is continued by the same call.
 */
struct migration {
    const char *from, *to; /* paths of block devices */
    const struct secret *passphrase;
    bool dry_run;   /* step 1 only */
    bool no_verify; /* do not read again what was written */
    bool overwrite; /* whatever the target holds */
    const atomic_bool *stop;
    /* Called before there is anything that must be removed again: until then a signal may simply end
     * the process. From then on it sets *stop. */
    bool (*catch_signals)(struct error *err);
};

struct migration_result {
    uint64_t bytes;     /* that the volume has */
    uint64_t written;   /* bytes */
    const char *advice; /* what a dry run has found out about the target */
};

MUST_USE bool migration_run(const struct migration *migration, struct migration_result *out,
                            struct error *err);

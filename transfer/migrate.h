/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/secret.h"
#include "store/store.h"

/*
 * Copies everything in one broker's store into a new one. No broker may use the source meanwhile.
 * It may be killed at any time, and goes on when it is run again: what the target has already is
 * compared, and brought up to date. Brokers refuse the target before it is complete, and the source
 * after that: at no moment can both be in use.
 */
struct store_migration {
    struct store_options from, to; /* to.is_migration is set by migrate() */
    const struct secret *master;
    /* Called from time to time with the number of records that were copied or compared. May be
     * NULL. */
    void (*progress)(void *cookie, const char *step, uint64_t records);
    void *cookie;
};

struct migration_report {
    uint64_t records; /* ERASED ones, too */
    uint64_t copied;  /* by this run */
};

/* FAILED_PRECONDITION when the source is in use, or is not what its broker left, or when the target
 * holds something else. */
MUST_USE bool migrate(const struct store_migration *migration, struct migration_report *out,
                      struct error *err);

/* tdvol-broker --migrate FROM TO ...; argv[0] is --migrate. Returns the exit code. */
int migrate_command_run(int argc, char *const *argv);

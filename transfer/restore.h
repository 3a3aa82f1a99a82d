/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/secret.h"
#include "store/backup_file.h"

/*
 * Makes a store out of a backup (store/backup_file.h). The store must be empty; no broker opens it
 * before all is there and was compared. It may be killed at any time, and goes on when it is run again
 * with the same backup. What the brokers of that store refuse from then on, broker/restored.h says.
 */
struct restoration {
    const char *path;        /* of the backup */
    struct store_options to; /* to.is_migration is set by restore() */
    const struct secret *master;
    uint64_t now_ms; /* since 1970; later than everything in the backup */
    /* Called from time to time with the number of records that were written or compared. May be NULL. */
    void (*progress)(void *cookie, const char *step, uint64_t records);
    void *cookie;
};

struct restoration_report {
    struct backup_head head;
    uint64_t records; /* ERASED ones, too */
    uint64_t written; /* by this run */
};

/* FAILED_PRECONDITION when the store is in use or not empty, when the backup is not of this master key,
 * or the clock is behind it; DATA_LOSS when the backup was changed. */
MUST_USE bool restore(const struct restoration *restoration, struct restoration_report *out,
                      struct error *err);

/* tdvol-broker --restore FILE STORE ...; argv[0] is --restore. Returns the exit code. */
int restore_command_run(int argc, char *const *argv);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "store/store.h"

/*
 * Marks of raise (store/store.h) by which a store says whether it may be used. A broker reads them when it
 * has unlocked the store.
 */
#define MIGRATED_MARK  "migrated" /* 1: another store is used in its place */
#define RESTORED_MARK  "restored" /* when the restore that made this store began, in ms since 1970 */
#define RESTORING_MARK "restoring" /* the same, from the begin of the restore on */

/* When backups of it were made, likewise in ms: when the last one was begun or written, perhaps in vain;
 * and when the last one was begun that has its name. */
#define BACKUP_MARK      "backup"
#define BACKUP_MADE_MARK "backup-made"

/* Of a store that was unlocked. FAILED_PRECONDITION while a restore has not ended. *out_ms: when the
 * restore that made the store began, in ms since 1970; 0: there was none. */
MUST_USE bool marks_read_restored(struct store *store, uint64_t *out_ms, struct error *err);

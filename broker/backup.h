/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "broker/broker.h"

/*
 * Backups of the store, written while the broker serves. The broker does it itself: it has a SQLite
 * store for itself alone, and its folder is the only place where it may write. A thread of its own
 * writes, so no call waits for a disk; calls that need a SQLite store wait while it is read.
 */
struct backups;

struct backups_options {
    struct broker *broker; /* outlives the backups */
    const char *folder;    /* made when it is needed */
    const char *replica;   /* of the broker; NULL: it has no name */
};
MUST_USE bool backups_new(const struct backups_options *options, struct backups **out,
                          struct error *err);
/* Waits for a backup that is being written. The store must still be open. */
void backups_free(struct backups **backups);

/* Takes the time of the last backup out of an unlocked store, for the metrics. */
MUST_USE bool backups_read_time(struct broker *broker, struct error *err);

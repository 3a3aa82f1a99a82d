/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stddef.h>

/* Which volumes are being worked on: one operation per volume id at a time. Thread-safe. */
struct inflight;

/* waiting_max: how many calls may wait at the same time; each of them keeps a thread. */
MUST_USE bool inflight_new(size_t waiting_max, struct inflight **out, struct error *err);
void inflight_free(struct inflight *set);

/* The right to work on one volume; given back when the hold leaves scope. */
struct inflight_hold {
    struct inflight *set;
    struct inflight_entry *entry; /* NULL: nothing is held */
};
#define INFLIGHT_HOLD_INIT \
    {                      \
        .entry = NULL      \
    }

/* ABORTED when the volume is busy; the text names the operation that holds it, and for how long it
 * has. what: the name of the operation. */
MUST_USE bool inflight_take(struct inflight *set, const char *id, const char *what,
                            struct inflight_hold *out, struct error *err);
void inflight_release(struct inflight_hold *hold);

/* Waits until an operation on the volume ends, or until_ms. False at once when too many calls wait.
 * The caller must not hold the volume: what it waits for could never begin. */
MUST_USE bool inflight_wait(struct inflight *set, const char *id, uint64_t until_ms);
#define auto_inflight CLEANUP(inflight_release)

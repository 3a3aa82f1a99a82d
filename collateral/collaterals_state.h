/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "collateral/collateral_life.h"
#include "collateral/collaterals.h"

#include <pthread.h>
#include <stdatomic.h>

/* The inside of struct collaterals. Only collaterals.c and collaterals_take.c include this. */

/* One verified set. It lives as long as there is a reference to it. */
struct collaterals_held {
    struct collateral collateral; /* first: callers only see this */
    atomic_uint references;
    int64_t issued, next_update;
    char *bundle; /* with this one set, as it was received */
};

struct collaterals_known {
    uint8_t fmspc[FMSPC_LEN];
    enum pck_ca ca;
    struct collaterals_held *held; /* NULL: not known yet */
    int64_t fetched;
    uint64_t not_before_ms; /* of the next attempt */
    unsigned failures;
    bool is_wanted; /* a client asked for it; matters only while held is NULL */
    enum collateral_age said;
    uint64_t said_ms;
    char problem[256];
};

struct collaterals {
    struct collaterals_options options;
    struct pcs_options pcs;    /* with our own is_cancelled */
    pthread_mutex_t accepting; /* one candidate at a time; taken before lock */
    pthread_mutex_t lock;      /* for all below */
    pthread_cond_t wake;
    pthread_t thread;
    bool has_thread;
    atomic_bool is_stopping;
    struct collaterals_known entries[COLLATERALS_MAX];
    size_t n;
    uint64_t minute; /* the last minute in which clients asked for unknown platforms */
    unsigned unknown_in_minute;
    uint64_t clock_recorded_s, clock_highest_s;
};

static inline void collaterals_unlock_at(pthread_mutex_t **mutex)
{
    pthread_mutex_unlock(*mutex);
}
#define COLLATERALS_LOCKED(mutex)                                             \
    CLEANUP(collaterals_unlock_at) pthread_mutex_t *locked_ UNUSED = (mutex); \
    pthread_mutex_lock(locked_)

void collaterals_held_put(struct collaterals_held *held);

#define COLLATERALS_NAME_BYTES 32 /* "90c06f000000-platform" */
void collaterals_name(const uint8_t *fmspc, enum pck_ca ca,
                      char out[static COLLATERALS_NAME_BYTES]);
int64_t collaterals_now_s(const struct collaterals *c);

/* The caller holds the lock. NULL: there is no entry, or no free place for one. */
struct collaterals_known *collaterals_find(struct collaterals *c, const uint8_t *fmspc,
                                           enum pck_ca ca);
struct collaterals_known *collaterals_add(struct collaterals *c, const uint8_t *fmspc,
                                          enum pck_ca ca);

/* Verifies a set and keeps it when it is newer (*is_new). Logs a line in both cases. */
MUST_USE bool collaterals_take(struct collaterals *c, const struct collateral_set *set,
                               const char *source, bool *is_new, struct error *err);

/* Reads the sets that earlier runs fetched, and writes a set for later runs. Failures are only
 * logged. */
void collaterals_load_cache(struct collaterals *c);
void collaterals_write_cache(struct collaterals *c, const struct collateral_set *set);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/collateral_set.h"
#include "store/store.h"

/*
 * The collateral that the broker verifies with: one verified set for each kind of platform (FMSPC
 * and PCK CA), from a folder, a bundle file or a PCS/PCCS. The sets are cached in files below the
 * broker's own folder, so that a restart needs no network. A thread refreshes a set when half of
 * its life is over. Marks in the store keep an older set from replacing a newer one. Only the
 * thread waits for the network. Thread-safe.
 */
struct collaterals;

#define COLLATERALS_MAX 64 /* kinds of platforms that one broker knows */

struct collaterals_options {
    struct store *store;           /* for the marks */
    const char *replica;           /* whose clock now_ms is; NULL: the store has one broker */
    const struct trust_root *root; /* Intel's, except in simulator builds */
    const char *cache_dir;         /* made when missing */
    const char *folder;            /* holds one set, or folders with one set each; NULL: none */
    const char *bundle;            /* NULL: none */
    const struct pcs_options *pcs; /* NULL: none; its is_cancelled is not used */
    uint64_t (*now_ms)(void);      /* since 1970 */
};

/* Fails when folder or bundle cannot be read. A refused set is logged and left out, also in the
 * cache. What options point to must outlive *out. */
MUST_USE bool collaterals_new(const struct collaterals_options *options, struct collaterals **out,
                              struct error *err);
/* Starts the thread that refreshes. The other functions work without the thread. */
MUST_USE bool collaterals_start(struct collaterals *c, struct error *err);
void collaterals_free(struct collaterals *c); /* NULL is allowed */

/* Reads folder and bundle again (SIGHUP). */
MUST_USE bool collaterals_reload(struct collaterals *c, struct error *err);

/* One round of the thread's work: fetches the sets that are due and warns of old ones. */
void collaterals_refresh(struct collaterals *c);

/*
 * The set for a quote's platform; give it back with collaterals_put. An expired set is returned,
 * too: verification refuses it. When there is no set:
 * - with a PCS: UNAVAILABLE with the reason CollateralMissing, and a fetch begins. Before that, the
 *   quote's PCK chain must be signed up to the root; otherwise the error is the chain's refusal.
 *   Only a few fetches per minute begin for unknown platforms.
 * - without a PCS: FAILED_PRECONDITION.
 */
MUST_USE bool collaterals_get(struct collaterals *c, const struct quote *quote,
                              const struct collateral **out, struct error *err);
void collaterals_put(struct collaterals *c, const struct collateral *collateral);
/* What collaterals_get gave, as a bundle with that one set. Good until it is given back. */
const char *collaterals_bundle(const struct collateral *collateral);

/* The state of one set, for health and metrics; times are seconds since 1970. */
struct collaterals_entry {
    uint8_t fmspc[FMSPC_LEN];
    enum pck_ca ca;
    int64_t issued, next_update, fetched; /* all 0 when there is no set yet */
    uint32_t evaluation_number;
    char problem[256]; /* of the last refresh; "" when it succeeded */
};
void collaterals_visit(struct collaterals *c,
                       void (*visit)(void *cookie, const struct collaterals_entry *entry),
                       void *cookie);

/* UNAVAILABLE ClockRolledBack when the clock is more than 5 minutes behind the latest time that this
 * replica recorded.
 * Records the time at most once a minute. */
MUST_USE bool collaterals_check_clock(struct collaterals *c, struct error *err);

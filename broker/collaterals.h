/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/collateral_set.h"
#include "broker/store.h"

/*
 * The collateral that the broker verifies with: one verified set for each kind of platform (FMSPC
 * and PCK CA), from a folder, a bundle file or a PCS/PCCS. Kept in files below the broker's own
 * folder, so that a restart needs no network; refreshed in the background when half of its life is
 * over; never taken back to an older one (marks in the store). Nothing here waits for the network
 * but its own thread. Thread-safe.
 */
struct collaterals;

#define COLLATERALS_MAX 64 /* kinds of platforms that one broker knows */

struct collaterals_options {
    struct store *store;           /* for the marks */
    const struct trust_root *root; /* Intel's, but for simulators */
    const char *cache_dir;         /* made when missing */
    const char *folder;            /* one set, or folders with one each; NULL: none */
    const char *bundle;            /* NULL: none */
    const struct pcs_options *pcs; /* NULL: none; its is_cancelled is not used */
    uint64_t (*now_ms)(void);      /* since 1970 */
};

/* Fails when folder or bundle cannot be read. A set of theirs that is refused is logged and left
 * out, as are files of the cache. What options point to must outlive it. */
MUST_USE bool collaterals_new(const struct collaterals_options *options, struct collaterals **out,
                              struct error *err);
/* Starts the thread that refreshes; without it everything else works. */
MUST_USE bool collaterals_start(struct collaterals *c, struct error *err);
void collaterals_free(struct collaterals *c); /* NULL is allowed */

/* Reads folder and bundle again (SIGHUP). */
MUST_USE bool collaterals_reload(struct collaterals *c, struct error *err);

/* One round of what the thread does: fetches what is due, warns of what gets old. */
void collaterals_refresh(struct collaterals *c);

/*
 * The set for a quote's platform; give it back with collaterals_put. It may be expired: verification
 * says so. Without one: UNAVAILABLE with the reason CollateralMissing, and a fetch begins when there
 * is a PCS and the quote's PCK chain is signed up to the root (else that chain's refusal), but at most
 * a few a minute for platforms never heard of; FAILED_PRECONDITION when nobody can provide it.
 */
MUST_USE bool collaterals_get(struct collaterals *c, const struct quote *quote,
                              const struct collateral **out, struct error *err);
void collaterals_put(struct collaterals *c, const struct collateral *collateral);

/* What is there, for health and metrics; times are seconds since 1970. */
struct collaterals_entry {
    uint8_t fmspc[FMSPC_LEN];
    enum pck_ca ca;
    int64_t issued, next_update, fetched; /* all 0 when there is none yet */
    uint32_t evaluation_number;
    char problem[256]; /* of the last refresh; "" when it went well */
};
void collaterals_visit(struct collaterals *c,
                       void (*visit)(void *cookie, const struct collaterals_entry *entry),
                       void *cookie);

/* False with DENIED ClockRolledBack when the clock is more than 5 minutes behind the latest time on
 * record. Puts the time on record now and then. */
MUST_USE bool collaterals_check_clock(struct collaterals *c, struct error *err);

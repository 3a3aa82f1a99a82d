/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "audit/audit.h"
#include "erasure/clock.h"
#include "store/keyring.h"

/*
 * Destroys the keys of deleted volumes when their time is over. A thread of its own. It may be killed at any
 * moment: what it had not destroyed is found again. Each broker of a store has one: of those that come at the
 * same time one destroys, because each change compares the record's version.
 */
struct sweep;

/* All of it must outlive the thread. */
struct sweep_options {
    struct store *store; /* unlocked */
    struct keyring *keyring;
    struct audit *audit;
    const char *replica;         /* as in struct erasure_place */
    uint64_t (*now_ms)(void);    /* since 1970; only for what people read */
    uint64_t (*steady_ms)(void); /* never goes back */
};
MUST_USE bool sweep_start(const struct sweep_options *options, struct sweep **out,
                          struct error *err);
void sweep_stop(struct sweep **sweep);

/* A key is kept from now on: its time may be short. */
void sweep_wake(struct sweep *sweep);

struct sweep_state {
    uint64_t waiting;     /* deleted records with their keys, of all tenants */
    uint64_t oldest_ms;   /* when the one that waits longest was deleted; 0: none waits */
    struct error problem; /* of the last look; it is repeated */
};
void sweep_state(struct sweep *sweep, struct sweep_state *out);

/* One look, without the thread, for tests: *clock is the caller's. */
MUST_USE bool sweep_look(const struct sweep_options *options, struct retention_clock *clock,
                         struct sweep_state *out, struct error *err);

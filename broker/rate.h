/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

/*
 * Rate limits: a token bucket for each name, in a table of fixed size. A new name in a full row
 * takes the slot of the name that was quiet longest. The forgotten name later starts with a full
 * bucket. Thread-safe.
 */
struct rate_limit {
    uint32_t per_minute;
    uint32_t burst; /* at least 1 */
};

struct rates;

/* now_ms: a clock that never goes back. */
MUST_USE bool rates_new(uint64_t (*now_ms)(void), struct rates **out, struct error *err);
void rates_free(struct rates **rates);
#define auto_rates CLEANUP(rates_free)

/* False when less than cost is left; then nothing is taken. */
bool rate_take(struct rates *rates, const char *name, const struct rate_limit *limit,
               uint32_t cost);

/* Takes cost, or the rest when less is left: for a call that turned out to cost more. */
void rate_charge(struct rates *rates, const char *name, const struct rate_limit *limit,
                 uint32_t cost);

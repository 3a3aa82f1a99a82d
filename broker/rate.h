/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

/*
 * How often somebody may do something: a token bucket for each name, in a table of fixed size. Whom
 * it forgets when it is crowded is whoever has been quiet longest, who then starts with a full bucket.
 * Thread-safe.
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

/* False when less than cost is left; nothing is taken then. */
bool rate_take(struct rates *rates, const char *name, const struct rate_limit *limit,
               uint32_t cost);

/* Takes cost, or what is left: for what turned out to be dearer. */
void rate_charge(struct rates *rates, const char *name, const struct rate_limit *limit,
                 uint32_t cost);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

/* When to fetch collateral again, and when to warn that it was not renewed. Pure functions. */

enum collateral_age {
    COLLATERAL_FRESH,
    COLLATERAL_HALF,   /* half of its life is over: fetch it again */
    COLLATERAL_LATE,   /* three quarters are over, so fetching fails: warn */
    COLLATERAL_EXPIRED /* no quote is accepted with it */
};

/* All in seconds since 1970. */
enum collateral_age collateral_age_at(int64_t issued, int64_t next_update, int64_t now);

/* How long to wait after that many failures in a row. The time doubles up to an hour. It varies by
 * up to a quarter, so that brokers do not all ask at the same moment. */
uint64_t collateral_retry_ms(unsigned failures, uint32_t random);

/* How long to wait when the service answered but had nothing newer. */
uint64_t collateral_settle_ms(int64_t next_update, int64_t now);

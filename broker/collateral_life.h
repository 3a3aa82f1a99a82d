/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

/* When to fetch collateral again, and when to say that nobody did. Pure. */

enum collateral_age {
    COLLATERAL_FRESH,
    COLLATERAL_HALF,   /* of its life is over: fetch anew */
    COLLATERAL_LATE,   /* three quarters: something keeps it from being fetched */
    COLLATERAL_EXPIRED /* no quote is accepted with it */
};

/* All in seconds since 1970. */
enum collateral_age collateral_age_at(int64_t issued, int64_t next_update, int64_t now);

/* How long to wait after that many failures in a row: doubles up to an hour, give or take a
 * quarter, so that brokers do not all come at once. */
uint64_t collateral_retry_ms(unsigned failures, uint32_t random);

/* How long to wait when the service answered, but with nothing newer. */
uint64_t collateral_settle_ms(int64_t next_update, int64_t now);

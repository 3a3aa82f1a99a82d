/* SPDX-License-Identifier: Apache-2.0 */
#include "collateral/collateral_life.h"

#define RETRY_FIRST_MS 30000u
#define RETRY_MAX_MS   3600000u
#define SETTLE_MIN_MS  10000u
#define MS_PER_S       1000u

enum collateral_age collateral_age_at(int64_t issued, int64_t next_update, int64_t now)
{
    if (now > next_update)
        return COLLATERAL_EXPIRED;
    if (issued >= next_update || now <= issued)
        return COLLATERAL_FRESH;
    /* all times are between 0 and the year 9999: no overflow */
    int64_t life = next_update - issued, age = now - issued;
    if (4 * age >= 3 * life)
        return COLLATERAL_LATE;
    return 2 * age >= life ? COLLATERAL_HALF : COLLATERAL_FRESH;
}

uint64_t collateral_retry_ms(unsigned failures, uint32_t random)
{
    uint64_t wait_ms = RETRY_FIRST_MS;

    for (unsigned i = 1; i < failures && wait_ms < RETRY_MAX_MS; i++)
        wait_ms *= 2;
    if (wait_ms > RETRY_MAX_MS)
        wait_ms = RETRY_MAX_MS;
    return wait_ms - wait_ms / 4 + random % (wait_ms / 2);
}

uint64_t collateral_settle_ms(int64_t next_update, int64_t now)
{
    uint64_t left_ms = next_update > now ? (uint64_t)(next_update - now) * MS_PER_S : 0;
    uint64_t wait_ms = left_ms / 8;

    if (wait_ms > RETRY_MAX_MS)
        return RETRY_MAX_MS;
    return wait_ms < SETTLE_MIN_MS ? SETTLE_MIN_MS : wait_ms;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "erasure/clock.h"

bool retention_clock_read(struct store *store, uint64_t *out_ms, struct error *err)
{
    return store->ops->raise(store, RETENTION_MARK, 0, out_ms, err);
}

bool retention_clock_bound(struct store *store, uint64_t *out_ms, struct error *err)
{
    uint64_t mark_ms = 0;

    if (!retention_clock_read(store, &mark_ms, err))
        return false;
    *out_ms = mark_ms + RETENTION_STEP_MAX_MS;
    return true;
}

/* The mark had the value before this moment. */
static void see(struct retention_clock *clock, uint64_t value_ms, uint64_t now_ms)
{
    *clock = (struct retention_clock){ .has_seen = true, .value_ms = value_ms, .seen_ms = now_ms };
}

bool retention_clock_tick(struct retention_clock *clock, struct store *store,
                          uint64_t (*steady_ms)(void), uint64_t *out_ms, struct error *err)
{
    const uint64_t now_ms = steady_ms();
    uint64_t mark_ms = 0, wanted_ms = 0;

    if (clock->has_seen && now_ms >= clock->seen_ms &&
        now_ms - clock->seen_ms <= RETENTION_STEP_MAX_MS)
        wanted_ms = clock->value_ms + (now_ms - clock->seen_ms);
    clock->has_seen = false; /* after an error it looks again */
    if (!store->ops->raise(store, RETENTION_MARK, wanted_ms, &mark_ms, err))
        return false;
    /* Its own value was true when it began to ask. Another broker's may be as new as the answer. */
    see(clock, mark_ms, wanted_ms > 0 && mark_ms == wanted_ms ? now_ms : steady_ms());
    *out_ms = mark_ms;
    return true;
}

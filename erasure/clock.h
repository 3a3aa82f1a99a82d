/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "store/store.h"

/*
 * The clock by which keys of deleted volumes are kept. It counts the time in which at least one broker of the
 * store runs and asks, and no wall clock: those can be turned by years, and differ from broker to broker.
 *
 * It is one mark of the store that only rises. A broker that has seen the mark at a value raises it by the
 * time that has passed since on a clock of its own that never goes back. So the mark never runs faster than
 * time, however many brokers raise it: whoever saw the value saw it at or after the moment when it was true.
 * What a broker has seen counts for RETENTION_STEP_MAX_MS. Then it looks again, and the time between is lost,
 * as is that in which no broker runs: keys are kept longer.
 *
 * So at each moment no broker can be further than the mark and one step: from that a deletion counts.
 */
#define RETENTION_STEP_MAX_MS 30000u
#define RETENTION_MARK        "retention-clock" /* of raise, in ms */

/* What one broker has seen. For one thread. */
struct retention_clock {
    bool has_seen;
    uint64_t value_ms;
    uint64_t seen_ms; /* by its own clock */
};

/* Raises the mark, and says what it is then. steady_ms never goes back. */
MUST_USE bool retention_clock_tick(struct retention_clock *clock, struct store *store,
                                   uint64_t (*steady_ms)(void), uint64_t *out_ms,
                                   struct error *err);

/* The mark, without raising it. */
MUST_USE bool retention_clock_read(struct store *store, uint64_t *out_ms, struct error *err);

/* What no broker's clock is beyond at this moment. */
MUST_USE bool retention_clock_bound(struct store *store, uint64_t *out_ms, struct error *err);

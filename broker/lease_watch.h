/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "record/record.h"

/*
 * Which contested leases are over, as far as this broker can tell. A mark has no time on record, because
 * other replicas have other clocks, and clocks can be turned. Each broker measures for itself, by a clock
 * that never goes back, how long it has seen one and the same mark. So it is never too early; a broker that
 * starts anew begins anew. Thread-safe.
 */
struct lease_watch;

/* steady_ms: a clock that never goes back. */
MUST_USE bool lease_watch_new(uint64_t (*steady_ms)(void), struct lease_watch **out,
                              struct error *err);
void lease_watch_free(struct lease_watch **watch);

/* How long the mark must have been seen: what the holder has, and a margin, because clocks do not run equally
 * fast, and a machine takes its time to suspend a volume. */
uint64_t lease_watch_wait_ms(uint64_t lease_ms);

/* True when the lease of r is contested and its holder has been silent for long enough. Call it with each
 * record that somebody wants, after it was read from the store: the first call for a mark starts its time. */
bool lease_watch_is_silent(struct lease_watch *watch, const struct record *r);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "record/record.h"

/*
 * How long this broker has seen a record in one state. Several brokers over one store have several
 * clocks, and each of them may be wrong. So a time that one of them wrote down must not decide what
 * another one does: each measures for itself, by a clock that never goes back. It is never too early.
 * A broker that starts anew begins anew, as it does when the table had no room. Thread-safe.
 */
struct sightings;

/* steady_ms: a clock that never goes back. */
MUST_USE bool sightings_new(uint64_t (*steady_ms)(void), struct sightings **out, struct error *err);
void sightings_free(struct sightings **sightings);

/* Milliseconds since the first call with this record and state. */
uint64_t sightings_age_ms(struct sightings *sightings,
                          const uint8_t record_id[static RECORD_ID_LEN], uint64_t state);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "record/record.h"

/*
 * How long this broker has seen a record in one state. Several brokers over one store have several
 * clocks, and each of them may be wrong or be turned. So a time that one of them wrote down must not
 * decide what another one does: each measures for itself, by a clock that never goes back. It is never
 * too early. A broker that starts anew begins anew. Thread-safe.
 *
 * A record keeps its place as long as somebody asks for it: two that push each other out would both
 * wait for ever. So a table can be full of others; then the time of a record does not begin yet.
 */
struct sightings;

#define SIGHTINGS_PLACES      8192u
#define SIGHTINGS_PATIENCE_MS (UINT64_C(10) * 60 * 1000) /* whoever waits asks more often */

/* steady_ms: a clock that never goes back. */
MUST_USE bool sightings_new(uint64_t (*steady_ms)(void), struct sightings **out, struct error *err);
void sightings_free(struct sightings **sightings);

/* Milliseconds since the first call with this record and state; 0 while there is no place. Call it after the
 * record was read from the store: the state was there before its time begins. */
uint64_t sightings_age_ms(struct sightings *sightings,
                          const uint8_t record_id[static RECORD_ID_LEN], uint64_t state);

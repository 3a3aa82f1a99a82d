/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/quote.h"
#include "base/error.h"

#include <stddef.h>

/*
 * The firmware's event log (ACPI table CCEL; TCG PC Client Platform Firmware Profile, "crypto
 * agile" format). A replay computes the values that the RTMRs must have. A replay that matches
 * proves only the digests. An event's data proves nothing unless its digest was made from it.
 */
#define EVENT_LOG_LEN_MAX (1024u * 1024)
#define EVENT_COUNT_MAX   4096u

#define EVENT_NO_ACTION 3u /* type of events that are not extended */

struct event {
    uint32_t register_index; /* 0 MRTD, 1 to 4 RTMR0 to RTMR3 */
    uint32_t type;
    const uint8_t *digest; /* SHA-384, 48 bytes */
    const uint8_t *data;
    size_t data_len;
};

/* Called for each event in order; false stops the walk, with the error set. */
typedef bool event_visit(void *cookie, const struct event *event, struct error *err);

/* Strict: INVALID_ARGUMENT for a log that is cut or too long, or uses an unknown algorithm. */
MUST_USE bool event_log_walk(const uint8_t *bytes, size_t len, event_visit *visit, void *cookie,
                             struct error *err);

/* Computes RTMR0 to RTMR3 after all events. */
MUST_USE bool event_log_replay(const uint8_t *bytes, size_t len, uint8_t rtmr[4][MEASUREMENT_LEN],
                               struct error *err);

/* DENIED unless the log replays to this report's RTMRs: EventLogMalformed, EventLogMismatch. */
MUST_USE bool event_log_check(const uint8_t *bytes, size_t len, const struct td_report *td,
                              struct error *err);

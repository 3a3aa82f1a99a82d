/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stdint.h>
#include <stdio.h>

/* Latency histograms by method and status code, and how attestation goes. Thread-safe. */
struct metrics;

enum metrics_family { METRICS_RPC, METRICS_BROKER, METRICS_FAMILY_COUNT };

MUST_USE bool metrics_new(struct metrics **out, struct error *err);
void metrics_free(struct metrics *metrics);

/* method: as in the .proto file, without its service. Best effort. */
void metrics_observe(struct metrics *metrics, enum metrics_family family, const char *method,
                     enum error_code code, uint64_t elapsed_ms);

/* result: "ok" or the word of a refusal. What others say, so that only so many are told apart. */
void metrics_attested(struct metrics *metrics, const char *result);
/* Until when (clock_now_ms() scale) the session at this address is good; 0: there is none. */
void metrics_session(struct metrics *metrics, const char *address, uint64_t expires_ms);

/* In Prometheus' text format. */
void metrics_print(struct metrics *metrics, FILE *out);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stdint.h>
#include <stdio.h>

/* Latency histograms by method and status code, the results of attestations, and when sessions
 * and certificates expire. Thread-safe. */
struct metrics;

enum metrics_family { METRICS_RPC, METRICS_BROKER, METRICS_UPSTREAM, METRICS_FAMILY_COUNT };

MUST_USE bool metrics_new(struct metrics **out, struct error *err);
void metrics_free(struct metrics *metrics);

/* method: its name in the .proto file, without the service. Best effort. */
void metrics_observe(struct metrics *metrics, enum metrics_family family, const char *method,
                     enum error_code code, uint64_t elapsed_ms);

/* result: "ok" or the reason of a refusal. A reason may come from the broker, so the number of
 * different results is limited (COUNTER_VALUES_MAX). */
void metrics_attested(struct metrics *metrics, const char *result);
/* expires_ms: when the session at this address ends (clock_now_ms() scale); 0: there is none. */
void metrics_session(struct metrics *metrics, const char *address, uint64_t expires_ms);

/* Certificates whose time ends: until_s is in seconds since 1970. */
enum metrics_certificate { METRICS_BROKER_CA, METRICS_CLIENT_CERT, METRICS_CERTIFICATE_COUNT };
void metrics_certificate(struct metrics *metrics, enum metrics_certificate which, int64_t until_s);

/* In Prometheus' text format. */
void metrics_print(struct metrics *metrics, FILE *out);

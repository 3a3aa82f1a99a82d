/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stdint.h>
#include <stdio.h>

/* Latency histograms and counters in Prometheus' text format. Thread-safe; counting is best effort
 * and never fails a call. */

/* Labels: method_name, grpc_status_code. Buckets are those of the CSI sidecars. */
struct histogram_family {
    const char *name, *help; /* of a name that ends in _seconds; help without its full stop */
};
struct histograms;
MUST_USE bool histograms_new(const struct histogram_family *families, size_t n,
                             struct histograms **out, struct error *err);
void histograms_free(struct histograms *h); /* NULL is allowed */
/* method: from a table of ours, so that the number of series is bounded. */
void histograms_observe(struct histograms *h, size_t family, const char *method,
                        enum error_code code, uint64_t elapsed_ms);
void histograms_print(struct histograms *h, FILE *out);

/* One counter for each value of one label. Values beyond COUNTER_VALUES_MAX count as "Other", and so
 * do those that are no plain word. */
#define COUNTER_VALUES_MAX 99
struct counter;
MUST_USE bool counter_new(const char *name, const char *label, const char *help,
                          struct counter **out, struct error *err);
void counter_free(struct counter *c); /* NULL is allowed */
void counter_add(struct counter *c, const char *value);
void counter_print(struct counter *c, FILE *out);

/* process_resident_memory_bytes of this process. */
void metrics_print_memory(FILE *out);

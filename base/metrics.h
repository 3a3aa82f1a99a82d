/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stdint.h>
#include <stdio.h>

/* Latency histograms and counters in Prometheus' text format. Thread-safe; counting is best effort
 * and never fails a call. */

/* The labels are method_name and grpc_status_code. The CSI sidecars have the same buckets. */
struct histogram_family {
    const char *name, *help; /* name ends in _seconds; help has no full stop */
};
struct histograms;
MUST_USE bool histograms_new(const struct histogram_family *families, size_t n,
                             struct histograms **out, struct error *err);
void histograms_free(struct histograms *h); /* NULL is allowed */
/* method must be from a fixed table, which bounds the number of series. */
void histograms_observe(struct histograms *h, size_t family, const char *method,
                        enum error_code code, uint64_t elapsed_ms);
void histograms_print(struct histograms *h, FILE *out);

/* One counter for each value of one label. A value counts as "Other" when there are
 * COUNTER_VALUES_MAX others already, or when it is not a plain word. */
#define COUNTER_VALUES_MAX 99
struct counter;
MUST_USE bool counter_new(const char *name, const char *label, const char *help,
                          struct counter **out, struct error *err);
void counter_free(struct counter *c); /* NULL is allowed */
void counter_add(struct counter *c, const char *value);
void counter_print(struct counter *c, FILE *out);

/* process_resident_memory_bytes of this process. */
void metrics_print_memory(FILE *out);

/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/metrics.h"

#include "base/metrics.h"

#include <stdlib.h>

static const struct histogram_family families[METRICS_FAMILY_COUNT] = {
    [METRICS_RPC] = { "csi_plugin_operations_seconds", "CSI calls served" },
    [METRICS_BROKER] = { "tdvol_broker_request_seconds", "Calls to the key broker" },
};

struct metrics {
    struct histograms *calls;
};

bool metrics_new(struct metrics **out, struct error *err)
{
    auto_free struct metrics *metrics = calloc(1, sizeof(*metrics));

    if (!metrics)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for metrics");
    if (!histograms_new(families, ARRAY_LEN(families), &metrics->calls, err))
        return false;
    *out = TAKE_PTR(metrics);
    return true;
}

void metrics_free(struct metrics *metrics)
{
    if (!metrics)
        return;
    histograms_free(metrics->calls);
    free(metrics);
}

void metrics_observe(struct metrics *metrics, enum metrics_family family, const char *method,
                     enum error_code code, uint64_t elapsed_ms)
{
    histograms_observe(metrics->calls, family, method, code, elapsed_ms);
}

void metrics_print(struct metrics *metrics, FILE *out)
{
    histograms_print(metrics->calls, out);
}

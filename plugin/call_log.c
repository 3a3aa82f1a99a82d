/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/call_log.h"

#include "base/log.h"
#include "base/macro.h"
#include "keys/call_metrics.h"
#include "plugin/plugin.h"

#include <stdatomic.h>
#include <string.h>

/* Calls that kubelet, sidecars and monitoring make all the time. */
static bool is_routine(const char *method)
{
    static const char *const names[] = {
        "Probe",
        "GetInfo",
        "GetPluginInfo",
        "GetPluginCapabilities",
        "ControllerGetCapabilities",
        "NodeGetCapabilities",
        "NodeGetInfo",
        "NodeGetVolumeStats",
        "NodeGetVolumeHealth",
        "NodeGetStorageHealth",
        "GetCapacity",
    };

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(names[i], method) == 0)
            return true;
    return false;
}

static atomic_uint_fast64_t calls;

uint64_t call_log_count(void)
{
    return atomic_load(&calls);
}

void call_log_write(void *cookie, const struct rpc_call *call, const struct error *err,
                    uint64_t elapsed_ms)
{
    struct metrics *metrics = cookie;
    const char *method = plugin_operation(call);
    bool ok = err->code == ERROR_NONE;
    uint64_t number = atomic_fetch_add(&calls, 1) + 1;

    metrics_observe(metrics, METRICS_RPC, method, err->code, elapsed_ms);
    const struct log_field fields[] = {
        TEXT("method", call->method), NUMBER("call", number), TEXT("volume", call->subject),
        NUMBER("ms", elapsed_ms),     ERROR_FIELDS(err),
    };
    log_write(ok && is_routine(method) ? LOG_DEBUG : LOG_INFO, "rpc", fields,
              ARRAY_LEN(fields) - (ok ? 2 : 0)); /* reason and text are empty */
}

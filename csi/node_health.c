/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "csi/controller.h"
#include "csi/node.h"

/* Also works for a volume that failed to stage, and while the broker is out of reach. */
bool node_get_volume_health(struct plugin *plugin, struct rpc_call *call,
                            const Csi__V1__NodeGetVolumeHealthRequest *request,
                            Csi__V1__NodeGetVolumeHealthResponse *response, struct error *err)
{
    const char *id = request->volume_id;
    struct health_report report;
    struct record record;

    if (!plugin_require(id, "volume_id", err))
        return false;
    health_get(plugin->health, id, &report);
    /* When nothing is known, the volume is healthy or does not exist. What is known of a volume that
     * somebody deleted elsewhere is of no use. */
    if (!plugin_find(plugin, call, RECORD_VOLUME, id, &record, err)) {
        if (err->code == ERROR_NOT_FOUND)
            health_forget(plugin->health, id);
        if (err->code == ERROR_NOT_FOUND || (report.n == 0 && err->code != ERROR_UNAVAILABLE))
            return false;
    }
    plugin_subject(call, id);
    return controller_health(call->arena, &report, &response->volume_health, err);
}

/* The worker of an unstage asks for one change: that the volume was closed, and how. */
void node_note_close(const struct plugin *plugin, const struct worker_answers *answers,
                     const struct block_result *result)
{
    static const char not_recorded[] =
        "the broker does not know yet that the volume was closed: it "
        "is told when the volume is staged next",
                      not_marked[] = "the disk does not say that the volume was closed: until it "
                                     "is staged again, an older copy of the disk would be accepted";
    const struct record *record = &answers->record;
    bool was_told = answers->has_record;

    if (result->already || result->status.is_read_only ||
        (was_told && (record->is_closed || record->phase != RECORD_READY)))
        return;
    const char *message = was_told ? not_marked : not_recorded;
    log_warning(message, TEXT("volume", answers->volume_id));
    health_note(plugin->health, answers->volume_id,
                was_told ? HEALTH_CLOSE_NOT_MARKED : HEALTH_CLOSE_NOT_RECORDED, message);
}

typedef Csi__V1__NodeGetStorageHealthResponse__StorageBackendHealth backend_health;

static bool add(struct arena *arena, Csi__V1__NodeGetStorageHealthResponse *response,
                const char *reason, const char *message)
{
    backend_health *health =
        PLUGIN_MESSAGE(arena, backend_health,
                       csi__v1__node_get_storage_health_response__storage_backend_health__init);

    if (!health)
        return false;
    health->status = CSI__V1__STORAGE_HEALTH_ERROR_TYPE__STORAGE_DEGRADED;
    health->reason = arena_strdup(arena, reason);
    health->message = arena_strdup(arena, message);
    response->backend_health[response->n_backend_health++] = health;
    return health->reason && health->message;
}

bool node_get_storage_health(struct plugin *plugin, struct rpc_call *call,
                             const Csi__V1__NodeGetStorageHealthRequest *request UNUSED,
                             Csi__V1__NodeGetStorageHealthResponse *response, struct error *err)
{
    struct error broker = ERROR_INIT;

    response->backend_health = arena_alloc(call->arena, 2 * sizeof(*response->backend_health));
    if (!response->backend_health)
        return arena_exhausted(err);
    if (plugin->probe.missing[0] != '\0' &&
        !add(call->arena, response, "KernelIncomplete", plugin->probe.missing))
        return arena_exhausted(err);
    /* Staged volumes go on working, but no new volume can be staged. */
    if (!plugin->keys->ops->status(plugin->keys, plugin_operation(call), &broker) &&
        !add(call->arena, response,
             broker.reason[0] != '\0' ? broker.reason
                                      : health_reason_name(HEALTH_BROKER_UNREACHABLE),
             broker.text))
        return arena_exhausted(err);
    return true;
}

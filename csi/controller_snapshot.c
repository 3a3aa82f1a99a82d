/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/controller.h"
#include "csi/topology.h"
#include "plugin/volume_id.h"

#include <string.h>

/* This driver has no parameters for snapshots. Those that external-snapshotter adds are ignored. */
static bool check_request(const Csi__V1__CreateSnapshotRequest *request, struct error *err)
{
    static const char ignored[] = "csi.storage.k8s.io/volumesnapshot";

    if (!plugin_require(request->name, "name", err) ||
        !plugin_require(request->source_volume_id, "source_volume_id", err))
        return false;
    for (size_t i = 0; i < request->n_parameters; i++)
        if (strncmp(request->parameters[i]->key, ignored, strlen(ignored)) != 0)
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "parameters: \"%s\" is not known; snapshots have none",
                             request->parameters[i]->key);
    return true;
}

bool controller_check_same_snapshot(const struct record *record,
                                    const Csi__V1__CreateSnapshotRequest *request,
                                    struct error *err)
{
    if (record->phase == RECORD_DELETING)
        return error_set(err, ERROR_ABORTED, "the snapshot of this name is being deleted; retry");
    if (record->kind == RECORD_SNAPSHOT &&
        strcmp(record->source_volume_id, request->source_volume_id) == 0)
        return true;
    return error_set(err, ERROR_ALREADY_EXISTS, "a snapshot of this name exists, but of volume %s",
                     record->source_volume_id);
}

static bool take_snapshot(const struct plugin *plugin, struct rpc_call *call, const char *id,
                          const Csi__V1__CreateSnapshotRequest *request, struct record *out,
                          struct error *err)
{
    auto_inflight struct inflight_hold hold = INFLIGHT_HOLD_INIT;
    struct record source;
    const struct keys_copy copy = {
        .source = &source, .kind = RECORD_SNAPSHOT, .id = id, .name = request->name
    };

    if (!plugin_take_patiently(plugin, call, request->source_volume_id, &hold, err) ||
        !plugin_find(plugin, call, RECORD_VOLUME, request->source_volume_id, &source, err) ||
        !topology_check_location(plugin, &source, ERROR_FAILED_PRECONDITION, err))
        return error_wrap(err, "source_volume_id");
    plugin_subject(call, id);
    return controller_copy(plugin, call, &copy, out, err);
}

bool controller_create_snapshot(struct plugin *plugin, struct rpc_call *call,
                                const Csi__V1__CreateSnapshotRequest *request,
                                Csi__V1__CreateSnapshotResponse *response, struct error *err)
{
    auto_inflight struct inflight_hold hold = INFLIGHT_HOLD_INIT;
    char id[VOLUME_ID_LEN + 1];
    struct record record;

    if (!check_request(request, err) ||
        !volume_id_make(VOLUME_ID_SNAPSHOT, plugin->driver, request->name, id, err) ||
        !plugin_take(plugin, call, id, &hold, err))
        return false;
    bool found =
        plugin->keys->ops->get(plugin->keys, plugin_operation(call), id, NULL, &record, err);
    if (!found && err->code != ERROR_NOT_FOUND)
        return false;
    if (!(found ? controller_check_same_snapshot(&record, request, err)
                : take_snapshot(plugin, call, id, request, &record, err)))
        return false;
    return controller_snapshot(call->arena, &record, &response->snapshot, err);
}

bool controller_get_snapshot(struct plugin *plugin, struct rpc_call *call,
                             const Csi__V1__GetSnapshotRequest *request,
                             Csi__V1__GetSnapshotResponse *response, struct error *err)
{
    struct record record;

    return plugin_require(request->snapshot_id, "snapshot_id", err) &&
           plugin_find(plugin, call, RECORD_SNAPSHOT, request->snapshot_id, &record, err) &&
           controller_snapshot(call->arena, &record, &response->snapshot, err);
}

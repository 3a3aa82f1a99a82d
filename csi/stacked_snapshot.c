/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/stacked.h"
#include "upstream/upstream.h"

#include <string.h>

/* As far as it is known before the driver is asked. */
static struct keys_copy copy_of(const Csi__V1__CreateSnapshotRequest *request)
{
    return (struct keys_copy){ .kind = RECORD_SNAPSHOT, .name = request->name };
}

static struct stacked_made made_for(const Csi__V1__CreateSnapshotRequest *request, const char *id)
{
    return (struct stacked_made){ .kind = RECORD_SNAPSHOT,
                                  .id = id,
                                  .secrets = { request->n_secrets, request->secrets },
                                  .name = request->name,
                                  .source_id = request->source_volume_id };
}

static bool record_snapshot(const struct plugin *plugin, struct rpc_call *call,
                            const Csi__V1__CreateSnapshotRequest *request,
                            const struct record *source, const char *id, struct record *out,
                            struct error *err)
{
    const struct keys_copy copy = {
        .source = source, .kind = RECORD_SNAPSHOT, .id = id, .name = request->name
    };
    const struct stacked_made made = made_for(request, id);

    if (plugin->keys->ops->get(plugin->keys, plugin_operation(call), id, NULL, out, err))
        return controller_check_same_snapshot(out, request, err) &&
               (stacked_end_copy(plugin, call, request->source_volume_id, &copy, err) ||
                stacked_keep(err));
    if (err->code != ERROR_NOT_FOUND)
        return stacked_keep(err);
    return plugin->keys->ops->copy(plugin->keys, plugin_operation(call), &copy, out, err) ||
           stacked_drop_unrecorded(plugin, call, &made, err);
}

static bool check_answer(const struct plugin *plugin, const Csi__V1__Snapshot *snapshot,
                         struct error *err)
{
    if (!snapshot)
        return error_set(err, ERROR_INTERNAL, "%s answers without a snapshot",
                         upstream_name(plugin->upstream));
    return stacked_check_id(plugin, snapshot->snapshot_id, err);
}

/* external-snapshotter calls again until the snapshot is ready. */
bool stacked_create_snapshot(struct plugin *plugin, struct rpc_call *call,
                             const Csi__V1__CreateSnapshotRequest *request,
                             Csi__V1__CreateSnapshotResponse *response, struct error *err)
{
    auto_inflight struct inflight_hold hold = INFLIGHT_HOLD_INIT, snapshot = INFLIGHT_HOLD_INIT;
    const struct stacked_map given = { request->n_parameters, request->parameters };
    struct stacked_map ignored;
    Csi__V1__CreateSnapshotResponse *answer = NULL;
    struct record source, record;

    if (!plugin_require(request->name, "name", err) ||
        !plugin_require(request->source_volume_id, "source_volume_id", err) ||
        !stacked_take_parameters(call->arena, given, NULL, &ignored, err) ||
        !plugin_take_patiently(plugin, call, request->source_volume_id, &hold, err))
        return false;
    const struct keys_copy copy = copy_of(request);

    if (!stacked_begin_copy(plugin, call, RECORD_VOLUME, request->source_volume_id, &copy, &source,
                            err))
        return error_wrap(err, "source_volume_id");
    if (!stacked_ask(plugin, call, "CreateSnapshot", request, &answer, err))
        return false;
    const char *id = answer->snapshot ? answer->snapshot->snapshot_id : "";
    const struct stacked_made made = made_for(request, id);

    if (!check_answer(plugin, answer->snapshot, err))
        return id[0] != '\0' && stacked_drop(plugin, call, &made, err);

    plugin_subject(call, id);
    if ((strcmp(id, request->source_volume_id) != 0 &&
         !plugin_take(plugin, call, id, &snapshot, err) && !stacked_keep(err)) ||
        !record_snapshot(plugin, call, request, &source, id, &record, err))
        return error_wrap(err, "snapshot %s", id);
    *response = *answer;
    response->snapshot->size_bytes = (int64_t)record.spec.size_bytes;
    return true;
}

bool stacked_get_snapshot(struct plugin *plugin, struct rpc_call *call,
                          const Csi__V1__GetSnapshotRequest *request,
                          Csi__V1__GetSnapshotResponse *response, struct error *err)
{
    Csi__V1__GetSnapshotResponse *answer = NULL;
    struct record record;

    if (!plugin_require(request->snapshot_id, "snapshot_id", err) ||
        !stacked_find(plugin, call, RECORD_SNAPSHOT, request->snapshot_id, &record, err) ||
        !stacked_ask(plugin, call, "GetSnapshot", request, &answer, err) ||
        !check_answer(plugin, answer->snapshot, err))
        return false;
    *response = *answer;
    response->snapshot->size_bytes = (int64_t)record.spec.size_bytes;
    return true;
}

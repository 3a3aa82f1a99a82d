/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/stacked.h"
#include "upstream/upstream.h"

#include <string.h>

/* Group snapshots: the driver takes them, and each snapshot of a group gets a record of its own. */

static bool ask(const struct plugin *plugin, struct rpc_call *call, const char *method,
                const void *request, void *out_response, struct error *err)
{
    return stacked_ask_service(plugin, call, &csi__v1__group_controller__descriptor, method,
                               request, out_response, err);
}

/* As far as it is known before the driver is asked. */
static struct keys_copy copy_of(const Csi__V1__CreateVolumeGroupSnapshotRequest *request)
{
    return (struct keys_copy){ .kind = RECORD_SNAPSHOT, .name = request->name };
}

static bool end_copies(const struct plugin *plugin, const struct rpc_call *call,
                       const Csi__V1__CreateVolumeGroupSnapshotRequest *request, struct error *err)
{
    const struct keys_copy copy = copy_of(request);

    for (size_t i = 0; i < request->n_source_volume_ids; i++)
        if (!stacked_end_copy(plugin, call, request->source_volume_ids[i], &copy, err))
            return false;
    return true;
}

static bool find_sources(const struct plugin *plugin, struct rpc_call *call,
                         const Csi__V1__CreateVolumeGroupSnapshotRequest *request,
                         struct record **out, struct error *err)
{
    struct record *sources =
        arena_alloc(call->arena, request->n_source_volume_ids * sizeof(*sources));

    const struct keys_copy copy = copy_of(request);

    if (!sources)
        return arena_exhausted(err);
    for (size_t i = 0; i < request->n_source_volume_ids; i++)
        if (!stacked_begin_copy(plugin, call, RECORD_VOLUME, request->source_volume_ids[i], &copy,
                                &sources[i], err))
            return error_wrap(err, "source_volume_ids");
    *out = sources;
    return true;
}

static const struct record *source_of(const struct record *sources, size_t n, const char *id)
{
    for (size_t i = 0; sources && i < n; i++)
        if (strcmp(sources[i].volume_id, id) == 0)
            return &sources[i];
    return NULL;
}

static bool check_same(const struct record *record, const struct record *source, struct error *err)
{
    if (record->phase == RECORD_DELETING)
        return error_set(err, ERROR_ABORTED, "snapshot %s is being deleted; retry",
                         record->volume_id);
    if (record->kind == RECORD_SNAPSHOT && strcmp(record->source_volume_id, source->volume_id) == 0)
        return true;
    return error_set(err, ERROR_ALREADY_EXISTS, "%s exists, but is no snapshot of volume %s",
                     record->volume_id, source->volume_id);
}

static bool record_one(const struct plugin *plugin, struct rpc_call *call, const char *name,
                       const struct record *source, Csi__V1__Snapshot *snapshot, struct error *err)
{
    struct record record;
    const struct keys_copy copy = {
        .source = source, .kind = RECORD_SNAPSHOT, .id = snapshot->snapshot_id, .name = name
    };

    if (!stacked_check_id(plugin, copy.id, err))
        return false;
    if (!source)
        return error_set(err, ERROR_INTERNAL, "%s answers with a snapshot of volume %s",
                         upstream_name(plugin->upstream), snapshot->source_volume_id);
    bool found =
        plugin->keys->ops->get(plugin->keys, plugin_operation(call), copy.id, NULL, &record, err);
    if (found ? !check_same(&record, source, err) ||
                    !stacked_end_copy(plugin, call, source->volume_id, &copy, err)
              : err->code != ERROR_NOT_FOUND ||
                    !plugin->keys->ops->copy(plugin->keys, plugin_operation(call), &copy, &record,
                                             err))
        return false;
    snapshot->size_bytes = (int64_t)record.spec.size_bytes;
    return true;
}

/* --- deletion --- */

/* Which snapshots have a record. */
struct ours {
    struct arena *arena;
    size_t n;
    char **ids;
};

static bool take_id(void *cookie, const struct record *record, struct error *err)
{
    struct ours *ours = cookie;

    if (record->kind != RECORD_SNAPSHOT)
        return true;
    ours->ids[ours->n] = arena_strdup(ours->arena, record->volume_id);
    return ours->ids[ours->n++] || arena_exhausted(err);
}

static bool find_ours(const struct plugin *plugin, struct rpc_call *call, char *const *ids,
                      size_t n, struct ours *out, struct error *err)
{
    struct ours ours = { .arena = call->arena,
                         .ids = arena_alloc(call->arena, (n + 1) * sizeof(char *)) };

    if (!ours.ids)
        return arena_exhausted(err);
    if (!stacked_find_all(plugin, call, (const char *const *)ids, n, take_id, &ours, err))
        return false;
    *out = ours;
    return true;
}

/* A repeated step finds records that are erased already. */
static bool step_all(const struct plugin *plugin, const struct rpc_call *call,
                     const struct ours *ours, enum keys_deletion step, struct error *err)
{
    for (size_t i = 0; i < ours->n; i++)
        if (!plugin->keys->ops->remove(plugin->keys, plugin_operation(call), ours->ids[i], step,
                                       err) &&
            err->code != ERROR_NOT_FOUND)
            return false;
    return true;
}

static bool delete_all(const struct plugin *plugin, struct rpc_call *call,
                       const Csi__V1__DeleteVolumeGroupSnapshotRequest *request,
                       const struct ours *ours, struct error *err)
{
    Csi__V1__DeleteVolumeGroupSnapshotResponse *answer = NULL;
    struct error ignored = ERROR_INIT;

    if (!step_all(plugin, call, ours, KEYS_BEGIN_DELETE, err))
        return false;
    if (!ask(plugin, call, "DeleteVolumeGroupSnapshot", request, &answer, err) &&
        err->code != ERROR_NOT_FOUND) {
        if (stacked_is_refusal(err) && !step_all(plugin, call, ours, KEYS_CANCEL_DELETE, &ignored))
            error_wrap(err, "its snapshots stay marked for deletion (%s)", ignored.text);
        return false;
    }
    return step_all(plugin, call, ours, KEYS_FINISH_DELETE, err);
}

/* --- creation --- */

/* A source changed while the snapshots were taken, or went. No group
 * with a snapshot that has no record was ever answered with, so nobody uses its other snapshots. */
static bool drop_group(const struct plugin *plugin, struct rpc_call *call,
                       const Csi__V1__CreateVolumeGroupSnapshotRequest *request,
                       const Csi__V1__VolumeGroupSnapshot *group, struct error *err)
{
    Csi__V1__DeleteVolumeGroupSnapshotRequest below =
        CSI__V1__DELETE_VOLUME_GROUP_SNAPSHOT_REQUEST__INIT;
    struct error problem = ERROR_INIT;
    struct ours ours = { .n = 0 };

    if (!stacked_made_no_record(err))
        return false;
    below.group_snapshot_id = group->group_snapshot_id;
    below.snapshot_ids = arena_alloc(call->arena, group->n_snapshots * sizeof(char *));
    if (!below.snapshot_ids)
        return arena_exhausted(err);
    for (size_t i = 0; i < group->n_snapshots; i++)
        below.snapshot_ids[below.n_snapshot_ids++] = group->snapshots[i]->snapshot_id;
    below.n_secrets = request->n_secrets;
    below.secrets = (void *)request->secrets;
    if (find_ours(plugin, call, below.snapshot_ids, below.n_snapshot_ids, &ours, &problem) &&
        delete_all(plugin, call, &below, &ours, &problem) &&
        end_copies(plugin, call, request, &problem))
        return false;
    error_wrap(err, "group %s could not be removed (%s)", group->group_snapshot_id, problem.text);
    return false;
}

static bool record_all(const struct plugin *plugin, struct rpc_call *call,
                       const Csi__V1__CreateVolumeGroupSnapshotRequest *request,
                       const struct record *sources, Csi__V1__VolumeGroupSnapshot *group,
                       struct error *err)
{
    for (size_t i = 0; i < group->n_snapshots; i++) {
        Csi__V1__Snapshot *snapshot = group->snapshots[i];
        const struct record *source =
            source_of(sources, request->n_source_volume_ids, snapshot->source_volume_id);

        if (!record_one(plugin, call, request->name, source, snapshot, err))
            return drop_group(plugin, call, request, group, err);
    }
    return true;
}

static bool create_group(struct plugin *plugin, struct rpc_call *call,
                         const Csi__V1__CreateVolumeGroupSnapshotRequest *request,
                         Csi__V1__CreateVolumeGroupSnapshotResponse *response, struct error *err)
{
    auto_inflight struct inflight_hold hold = INFLIGHT_HOLD_INIT;
    const struct stacked_map given = { request->n_parameters, request->parameters };
    Csi__V1__CreateVolumeGroupSnapshotResponse *answer = NULL;
    struct stacked_map ignored;
    struct record *sources = NULL;

    if (!plugin_require(request->name, "name", err) ||
        !stacked_take_parameters(call->arena, given, NULL, &ignored, err))
        return false;
    if (request->n_source_volume_ids == 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "source_volume_ids is missing");
    if (!plugin_take(plugin, call, request->name, &hold, err) ||
        !find_sources(plugin, call, request, &sources, err) ||
        !ask(plugin, call, "CreateVolumeGroupSnapshot", request, &answer, err))
        return false;
    if (!answer->group_snapshot)
        return error_set(err, ERROR_INTERNAL, "%s answers without a group snapshot",
                         upstream_name(plugin->upstream));
    *response = *answer;
    return record_all(plugin, call, request, sources, answer->group_snapshot, err);
}

/* Nothing is deleted that was not made through us. */
static bool delete_unrecorded(const struct plugin *plugin, struct rpc_call *call,
                              const Csi__V1__DeleteVolumeGroupSnapshotRequest *request,
                              struct error *err)
{
    Csi__V1__GetVolumeGroupSnapshotRequest below = CSI__V1__GET_VOLUME_GROUP_SNAPSHOT_REQUEST__INIT;
    Csi__V1__GetVolumeGroupSnapshotResponse *answer = NULL;

    below.group_snapshot_id = request->group_snapshot_id;
    below.n_snapshot_ids = request->n_snapshot_ids;
    below.snapshot_ids = request->snapshot_ids;
    below.n_secrets = request->n_secrets;
    below.secrets = (void *)request->secrets;
    if (!ask(plugin, call, "GetVolumeGroupSnapshot", &below, &answer, err))
        return err->code == ERROR_NOT_FOUND || err->code == ERROR_INVALID_ARGUMENT;
    return error_set(err, ERROR_FAILED_PRECONDITION,
                     "%s has group %s, but the key broker has no record of its snapshots: they "
                     "were not made through this driver, so delete them there",
                     upstream_name(plugin->upstream), request->group_snapshot_id);
}

static bool delete_group(struct plugin *plugin, struct rpc_call *call,
                         const Csi__V1__DeleteVolumeGroupSnapshotRequest *request,
                         Csi__V1__DeleteVolumeGroupSnapshotResponse *response UNUSED,
                         struct error *err)
{
    auto_inflight struct inflight_hold hold = INFLIGHT_HOLD_INIT;
    struct ours ours = { .n = 0 };

    if (!plugin_require(request->group_snapshot_id, "group_snapshot_id", err) ||
        !plugin_take(plugin, call, request->group_snapshot_id, &hold, err) ||
        !find_ours(plugin, call, request->snapshot_ids, request->n_snapshot_ids, &ours, err))
        return false;
    return ours.n > 0 ? delete_all(plugin, call, request, &ours, err)
                      : delete_unrecorded(plugin, call, request, err);
}

static bool get_group(struct plugin *plugin, struct rpc_call *call,
                      const Csi__V1__GetVolumeGroupSnapshotRequest *request,
                      Csi__V1__GetVolumeGroupSnapshotResponse *response, struct error *err)
{
    Csi__V1__GetVolumeGroupSnapshotResponse *answer = NULL;
    struct record record;

    if (!plugin_require(request->group_snapshot_id, "group_snapshot_id", err) ||
        !ask(plugin, call, "GetVolumeGroupSnapshot", request, &answer, err))
        return false;
    *response = *answer;
    for (size_t i = 0; answer->group_snapshot && i < answer->group_snapshot->n_snapshots; i++) {
        Csi__V1__Snapshot *snapshot = answer->group_snapshot->snapshots[i];

        if (!stacked_find(plugin, call, RECORD_SNAPSHOT, snapshot->snapshot_id, &record, err))
            return false;
        snapshot->size_bytes = (int64_t)record.spec.size_bytes;
    }
    return true;
}

static bool get_group_capabilities(struct plugin *plugin, struct rpc_call *call,
                                   const Csi__V1__GroupControllerGetCapabilitiesRequest *request,
                                   Csi__V1__GroupControllerGetCapabilitiesResponse *response,
                                   struct error *err)
{
    Csi__V1__GroupControllerGetCapabilitiesResponse *answer = NULL;

    if (!ask(plugin, call, "GroupControllerGetCapabilities", request, &answer, err))
        return false;
    *response = *answer;
    response->n_capabilities = 0;
    for (size_t i = 0; i < answer->n_capabilities; i++) {
        const Csi__V1__GroupControllerServiceCapability *item = answer->capabilities[i];

        if (item->type_case == CSI__V1__GROUP_CONTROLLER_SERVICE_CAPABILITY__TYPE_RPC &&
            item->rpc->type ==
                CSI__V1__GROUP_CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT)
            response->capabilities[response->n_capabilities++] = answer->capabilities[i];
    }
    return true;
}

#define HANDLER(fn, Method) \
    RPC_HANDLER(fn, struct plugin, Csi__V1__##Method##Request, Csi__V1__##Method##Response)

HANDLER(create_group, CreateVolumeGroupSnapshot)
HANDLER(delete_group, DeleteVolumeGroupSnapshot)
HANDLER(get_group, GetVolumeGroupSnapshot)
HANDLER(get_group_capabilities, GroupControllerGetCapabilities)

static const struct rpc_method methods[] = {
    { "GroupControllerGetCapabilities", get_group_capabilities_untyped, 0 },
    { "CreateVolumeGroupSnapshot", create_group_untyped, RPC_SECRET },
    { "DeleteVolumeGroupSnapshot", delete_group_untyped, RPC_SECRET },
    { "GetVolumeGroupSnapshot", get_group_untyped, RPC_SECRET },
};

const struct rpc_service stacked_group_service = {
    .descriptor = &csi__v1__group_controller__descriptor,
    .methods = methods,
    .n_methods = ARRAY_LEN(methods),
};

/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/stacked_group.h"

#include "upstream/upstream.h"

#include <string.h>

/* Deletion, and what else concerns groups that are there. */

bool stacked_group_ask(const struct plugin *plugin, struct rpc_call *call, const char *method,
                       const void *request, void *out_response, struct error *err)
{
    return stacked_ask_service(plugin, call, &csi__v1__group_controller__descriptor, method,
                               request, out_response, err);
}

static bool take_snapshot(void *cookie, const struct record *record, struct error *err)
{
    struct stacked_ours *ours = cookie;

    if (record->kind != RECORD_SNAPSHOT)
        return true;
    ours->snapshots[ours->n] =
        (struct our_snapshot){ .id = arena_strdup(ours->arena, record->volume_id),
                               .is_deleting = record->phase == RECORD_DELETING };
    return ours->snapshots[ours->n++].id || arena_exhausted(err);
}

bool stacked_group_find(const struct plugin *plugin, struct rpc_call *call, char *const *ids,
                        size_t n, struct stacked_ours *out, struct error *err)
{
    struct stacked_ours ours = { .arena = call->arena,
                                 .snapshots =
                                     arena_alloc(call->arena, (n + 1) * sizeof(*ours.snapshots)) };

    if (!ours.snapshots)
        return arena_exhausted(err);
    if (!plugin->keys->ops->find(plugin->keys, plugin_operation(call), (const char *const *)ids, n,
                                 take_snapshot, &ours, err))
        return false;
    *out = ours;
    return true;
}

/* A repeated step finds records that are erased already. */
static bool take_step(const struct plugin *plugin, const struct rpc_call *call, const char *id,
                      enum keys_deletion step, struct error *err)
{
    return plugin->keys->ops->remove(plugin->keys, plugin_operation(call), id, step, err) ||
           err->code == ERROR_NOT_FOUND;
}

static bool step_all(const struct plugin *plugin, const struct rpc_call *call,
                     const struct stacked_ours *ours, enum keys_deletion step, struct error *err)
{
    for (size_t i = 0; i < ours->n; i++)
        if (!take_step(plugin, call, ours->snapshots[i].id, step, err))
            return false;
    return true;
}

/* The first n. Always false, with the error of the call. */
static bool take_marks_back(const struct plugin *plugin, const struct rpc_call *call,
                            const struct stacked_ours *ours, size_t n, struct error *err)
{
    struct error problem = ERROR_INIT;

    for (size_t i = 0; i < n; i++)
        if (!ours->snapshots[i].is_deleting &&
            !take_step(plugin, call, ours->snapshots[i].id, KEYS_CANCEL_DELETE, &problem))
            return error_wrap(err, "its snapshots stay marked for deletion (%s)", problem.text);
    return false;
}

bool stacked_group_unmark(const struct plugin *plugin, const struct rpc_call *call,
                          const struct stacked_ours *ours, struct error *err)
{
    return take_marks_back(plugin, call, ours, ours->n, err);
}

bool stacked_group_mark(const struct plugin *plugin, const struct rpc_call *call,
                        const struct stacked_ours *ours, struct error *err)
{
    size_t n = 0;

    while (n < ours->n && take_step(plugin, call, ours->snapshots[n].id, KEYS_BEGIN_DELETE, err))
        n++;
    if (n == ours->n)
        return true;
    /* Also of the one whose mark failed: perhaps only the answer got lost. */
    return take_marks_back(plugin, call, ours, n + 1, err);
}

bool stacked_group_delete(const struct plugin *plugin, struct rpc_call *call,
                          const Csi__V1__DeleteVolumeGroupSnapshotRequest *request,
                          const struct stacked_ours *ours, struct error *err)
{
    Csi__V1__DeleteVolumeGroupSnapshotResponse *answer = NULL;
    struct error ignored = ERROR_INIT;

    if (!stacked_group_ask(plugin, call, "DeleteVolumeGroupSnapshot", request, &answer, err) &&
        err->code != ERROR_NOT_FOUND) {
        if (stacked_has_decided(err, DECIDED_NOT_DELETED) &&
            !step_all(plugin, call, ours, KEYS_CANCEL_DELETE, &ignored))
            error_wrap(err, "its snapshots stay marked for deletion (%s)", ignored.text);
        return false;
    }
    return step_all(plugin, call, ours, KEYS_FINISH_DELETE, err);
}

/* --- DeleteVolumeGroupSnapshot --- */

/* NOT_FOUND when the driver has no such group. */
static bool get_below(const struct plugin *plugin, struct rpc_call *call,
                      const Csi__V1__DeleteVolumeGroupSnapshotRequest *request,
                      const Csi__V1__VolumeGroupSnapshot **out, struct error *err)
{
    Csi__V1__GetVolumeGroupSnapshotRequest below = CSI__V1__GET_VOLUME_GROUP_SNAPSHOT_REQUEST__INIT;
    Csi__V1__GetVolumeGroupSnapshotResponse *answer = NULL;

    below.group_snapshot_id = request->group_snapshot_id;
    below.n_snapshot_ids = request->n_snapshot_ids;
    below.snapshot_ids = request->snapshot_ids;
    below.n_secrets = request->n_secrets;
    below.secrets = (void *)request->secrets;
    if (!stacked_group_ask(plugin, call, "GetVolumeGroupSnapshot", &below, &answer, err))
        return false;
    *out = answer->group_snapshot;
    return *out || error_set(err, ERROR_INTERNAL, "%s answers without a group snapshot",
                             upstream_name(plugin->upstream));
}

static bool is_listed(const Csi__V1__DeleteVolumeGroupSnapshotRequest *request, const char *id)
{
    for (size_t i = 0; i < request->n_snapshot_ids; i++)
        if (strcmp(request->snapshot_ids[i], id) == 0)
            return true;
    return false;
}

static bool has_snapshot(const Csi__V1__VolumeGroupSnapshot *group, const char *id)
{
    for (size_t i = 0; group && i < group->n_snapshots; i++)
        if (strcmp(group->snapshots[i]->snapshot_id, id) == 0)
            return true;
    return false;
}

/* A snapshot that is not of the group, but has a record: part of the group may be deleted already, or
 * all of it. Where the driver cannot be asked, the mark of an earlier call says so. */
static bool check_gone(const struct plugin *plugin, struct rpc_call *call,
                       const struct our_snapshot *snapshot, const char *group_id, struct error *err)
{
    bool lists = false, exists = !snapshot->is_deleting;

    if (!stacked_can(plugin, call,
                     CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__LIST_SNAPSHOTS, &lists,
                     err) ||
        (lists && !stacked_snapshot_exists(plugin, call, snapshot->id, &exists, err)))
        return false;
    return !exists ||
           error_set(err, ERROR_INVALID_ARGUMENT, "snapshot_ids: snapshot %s is not of group %s",
                     snapshot->id, group_id);
}

/* The caller's list decides which keys are destroyed, so it must be that of the driver. group: NULL when
 * it is gone. */
static bool check_list(const struct plugin *plugin, struct rpc_call *call,
                       const Csi__V1__DeleteVolumeGroupSnapshotRequest *request,
                       const Csi__V1__VolumeGroupSnapshot *group, const struct stacked_ours *ours,
                       struct error *err)
{
    for (size_t i = 0; group && i < group->n_snapshots; i++)
        if (!is_listed(request, group->snapshots[i]->snapshot_id))
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "snapshot_ids: snapshot %s of group %s is missing",
                             group->snapshots[i]->snapshot_id, request->group_snapshot_id);
    for (size_t i = 0; i < ours->n; i++)
        if (!has_snapshot(group, ours->snapshots[i].id) &&
            !check_gone(plugin, call, &ours->snapshots[i], request->group_snapshot_id, err))
            return false;
    return true;
}

static bool were_erased(const struct plugin *plugin, const struct rpc_call *call,
                        const Csi__V1__DeleteVolumeGroupSnapshotRequest *request, bool *yes,
                        struct error *err)
{
    struct record record;

    *yes = request->n_snapshot_ids > 0;
    for (size_t i = 0; *yes && i < request->n_snapshot_ids; i++) {
        bool found = plugin->keys->ops->get(plugin->keys, plugin_operation(call),
                                            request->snapshot_ids[i], NULL, &record, err);

        if (!found && err->code != ERROR_NOT_FOUND)
            return false;
        *yes = !found && stacked_was_erased(err);
    }
    return true;
}

/* Nothing is deleted that was not made through us. What was erased, a driver may still show. */
static bool check_erased(const struct plugin *plugin, const struct rpc_call *call,
                         const Csi__V1__DeleteVolumeGroupSnapshotRequest *request,
                         struct error *err)
{
    bool erased = false;

    if (!were_erased(plugin, call, request, &erased, err))
        return false;
    return erased ||
           error_set(err, ERROR_FAILED_PRECONDITION,
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
    const Csi__V1__VolumeGroupSnapshot *group = NULL;
    struct stacked_ours ours = { .n = 0 };

    if (!plugin_require(request->group_snapshot_id, "group_snapshot_id", err) ||
        !plugin_take(plugin, call, request->group_snapshot_id, &hold, err) ||
        !stacked_group_find(plugin, call, request->snapshot_ids, request->n_snapshot_ids, &ours,
                            err))
        return false;
    if (!get_below(plugin, call, request, &group, err) && err->code != ERROR_NOT_FOUND)
        return ours.n == 0 && err->code == ERROR_INVALID_ARGUMENT; /* it cannot have made the id */
    if (!check_list(plugin, call, request, group, &ours, err))
        return false;
    if (ours.n > 0)
        return stacked_group_mark(plugin, call, &ours, err) &&
               stacked_group_delete(plugin, call, request, &ours, err);
    return !group || check_erased(plugin, call, request, err);
}

static bool get_group(struct plugin *plugin, struct rpc_call *call,
                      const Csi__V1__GetVolumeGroupSnapshotRequest *request,
                      Csi__V1__GetVolumeGroupSnapshotResponse *response, struct error *err)
{
    Csi__V1__GetVolumeGroupSnapshotResponse *answer = NULL;
    struct record record;

    if (!plugin_require(request->group_snapshot_id, "group_snapshot_id", err) ||
        !stacked_group_ask(plugin, call, "GetVolumeGroupSnapshot", request, &answer, err))
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

    if (!stacked_group_ask(plugin, call, "GroupControllerGetCapabilities", request, &answer, err))
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

HANDLER(stacked_create_group, CreateVolumeGroupSnapshot)
HANDLER(delete_group, DeleteVolumeGroupSnapshot)
HANDLER(get_group, GetVolumeGroupSnapshot)
HANDLER(get_group_capabilities, GroupControllerGetCapabilities)

static const struct rpc_method methods[] = {
    { "GroupControllerGetCapabilities", get_group_capabilities_untyped, 0 },
    { "CreateVolumeGroupSnapshot", stacked_create_group_untyped, RPC_SECRET },
    { "DeleteVolumeGroupSnapshot", delete_group_untyped, RPC_SECRET },
    { "GetVolumeGroupSnapshot", get_group_untyped, RPC_SECRET },
};

const struct rpc_service stacked_group_service = {
    .descriptor = &csi__v1__group_controller__descriptor,
    .methods = methods,
    .n_methods = ARRAY_LEN(methods),
};

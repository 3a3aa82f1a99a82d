/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/controller.h"

#include "record/layout.h"

bool controller_capacity(const Csi__V1__CapacityRange *range, struct capacity *out,
                         struct error *err)
{
    struct capacity capacity = { .required_bytes = 0, .limit_bytes = UINT64_MAX };

    if (range && (range->required_bytes < 0 || range->limit_bytes < 0))
        return error_set(err, ERROR_INVALID_ARGUMENT, "capacity_range is negative");
    if (range)
        capacity.required_bytes = (uint64_t)range->required_bytes;
    if (range && range->limit_bytes > 0)
        capacity.limit_bytes = (uint64_t)range->limit_bytes;
    if (capacity.required_bytes > capacity.limit_bytes)
        return error_set(err, ERROR_OUT_OF_RANGE,
                         "capacity_range: required_bytes is more than limit_bytes");
    *out = capacity;
    return true;
}

/* Checks only the capabilities, and so confirms only them. */
static bool validate_volume_capabilities(struct plugin *plugin, struct rpc_call *call,
                                         const Csi__V1__ValidateVolumeCapabilitiesRequest *request,
                                         Csi__V1__ValidateVolumeCapabilitiesResponse *response,
                                         struct error *err)
{
    Csi__V1__ValidateVolumeCapabilitiesResponse__Confirmed *confirmed =
        PLUGIN_MESSAGE(call->arena, Csi__V1__ValidateVolumeCapabilitiesResponse__Confirmed,
                       csi__v1__validate_volume_capabilities_response__confirmed__init);
    struct capability capability = { .fs_type = "" };
    struct record record;
    struct error reason = ERROR_INIT;

    if (!confirmed)
        return arena_exhausted(err);
    if (!plugin_require(request->volume_id, "volume_id", err))
        return false;
    if (request->n_volume_capabilities == 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "volume_capabilities is missing");
    if (!plugin_find(plugin, call, RECORD_VOLUME, request->volume_id, &record, err))
        return false;
    if (!capability_read_all(request->volume_capabilities, request->n_volume_capabilities,
                             &capability, &reason) ||
        !capability_fits(&capability, &record.spec, &reason)) {
        response->message = arena_strdup(call->arena, reason.text);
        return response->message || arena_exhausted(err);
    }
    confirmed->n_volume_capabilities = request->n_volume_capabilities;
    confirmed->volume_capabilities = request->volume_capabilities;
    response->confirmed = confirmed;
    return true;
}

static bool controller_get_volume(struct plugin *plugin, struct rpc_call *call,
                                  const Csi__V1__ControllerGetVolumeRequest *request,
                                  Csi__V1__ControllerGetVolumeResponse *response, struct error *err)
{
    struct record record;

    if (!plugin_require(request->volume_id, "volume_id", err) ||
        !plugin_find(plugin, call, RECORD_VOLUME, request->volume_id, &record, err))
        return false;
    response->status =
        PLUGIN_MESSAGE(call->arena, Csi__V1__ControllerGetVolumeResponse__VolumeStatus,
                       csi__v1__controller_get_volume_response__volume_status__init);
    if (!response->status)
        return arena_exhausted(err);
    return controller_volume(plugin, call->arena, &record, &response->volume, err);
}

/* Decides whether the expansion can succeed. The node then does the work. */
static bool controller_expand_volume(struct plugin *plugin, struct rpc_call *call,
                                     const Csi__V1__ControllerExpandVolumeRequest *request,
                                     Csi__V1__ControllerExpandVolumeResponse *response,
                                     struct error *err)
{
    struct capability capability = { .fs_type = "" };
    struct capacity capacity = { .required_bytes = 0 };
    struct record record;

    if (!plugin_require(request->volume_id, "volume_id", err))
        return false;
    if (!request->capacity_range)
        return error_set(err, ERROR_INVALID_ARGUMENT, "capacity_range is missing");
    if (!controller_capacity(request->capacity_range, &capacity, err) ||
        (request->volume_capability &&
         !capability_read(request->volume_capability, &capability, err)) ||
        !plugin_find(plugin, call, RECORD_VOLUME, request->volume_id, &record, err))
        return false;

    struct volume_spec spec = record.spec;
    if (capacity.required_bytes <= spec.size_bytes) {
        if (spec.size_bytes > capacity.limit_bytes)
            return error_set(err, ERROR_OUT_OF_RANGE, "the volume has %llu bytes already",
                             (unsigned long long)spec.size_bytes);
        response->capacity_bytes = (int64_t)spec.size_bytes;
        response->node_expansion_required = true;
        return true;
    }
    if (!layout_plan_growth(&spec, capacity.required_bytes, err))
        return false;
    if (spec.size_bytes > capacity.limit_bytes)
        return error_set(err, ERROR_OUT_OF_RANGE,
                         "sizes are multiples of %u bytes: none is "
                         "between required_bytes and limit_bytes",
                         VOLUME_SECTOR_BYTES);
    response->capacity_bytes = (int64_t)spec.size_bytes;
    response->node_expansion_required = true;
    return true;
}

static const Csi__V1__ControllerServiceCapability__RPC__Type capabilities[] = {
    CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__CREATE_DELETE_VOLUME,
    CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__LIST_VOLUMES,
    CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__GET_CAPACITY,
    CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__CREATE_DELETE_SNAPSHOT,
    CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__LIST_SNAPSHOTS,
    CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__CLONE_VOLUME,
    CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__EXPAND_VOLUME,
    CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__GET_VOLUME,
    CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__SINGLE_NODE_MULTI_WRITER,
    CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__GET_SNAPSHOT,
    CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__GET_VOLUME_HEALTH,
    CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__LIST_VOLUME_HEALTH,
};

Csi__V1__ControllerServiceCapability *controller_capability(
    struct arena *arena, Csi__V1__ControllerServiceCapability__RPC__Type type)
{
    Csi__V1__ControllerServiceCapability *item = PLUGIN_MESSAGE(
        arena, Csi__V1__ControllerServiceCapability, csi__v1__controller_service_capability__init);
    Csi__V1__ControllerServiceCapability__RPC *rpc =
        PLUGIN_MESSAGE(arena, Csi__V1__ControllerServiceCapability__RPC,
                       csi__v1__controller_service_capability__rpc__init);

    if (!item || !rpc)
        return NULL;
    rpc->type = type;
    item->type_case = CSI__V1__CONTROLLER_SERVICE_CAPABILITY__TYPE_RPC;
    item->rpc = rpc;
    return item;
}

static bool controller_get_capabilities(
    struct plugin *plugin UNUSED, struct rpc_call *call,
    const Csi__V1__ControllerGetCapabilitiesRequest *request UNUSED,
    Csi__V1__ControllerGetCapabilitiesResponse *response, struct error *err)
{
    size_t n = ARRAY_LEN(capabilities);
    Csi__V1__ControllerServiceCapability **list = arena_alloc(call->arena, n * sizeof(*list));

    for (size_t i = 0; list && i < n; i++) {
        list[i] = controller_capability(call->arena, capabilities[i]);
        if (!list[i])
            return arena_exhausted(err);
    }
    response->capabilities = list;
    response->n_capabilities = n;
    return list || arena_exhausted(err);
}

#define HANDLER(fn, Method) \
    RPC_HANDLER(fn, struct plugin, Csi__V1__##Method##Request, Csi__V1__##Method##Response)

HANDLER(controller_create_volume, CreateVolume)
HANDLER(controller_delete_volume, DeleteVolume)
HANDLER(validate_volume_capabilities, ValidateVolumeCapabilities)
HANDLER(controller_list_volumes, ListVolumes)
HANDLER(controller_list_volume_health, ControllerListVolumeHealth)
HANDLER(controller_get_volume_health, ControllerGetVolumeHealth)
HANDLER(controller_get_capacity, GetCapacity)
HANDLER(controller_get_capabilities, ControllerGetCapabilities)
HANDLER(controller_create_snapshot, CreateSnapshot)
HANDLER(controller_delete_snapshot, DeleteSnapshot)
HANDLER(controller_list_snapshots, ListSnapshots)
HANDLER(controller_get_snapshot, GetSnapshot)
HANDLER(controller_expand_volume, ControllerExpandVolume)
HANDLER(controller_get_volume, ControllerGetVolume)

static const struct rpc_method methods[] = {
    { "CreateVolume", controller_create_volume_untyped, RPC_SECRET },
    { "DeleteVolume", controller_delete_volume_untyped, RPC_SECRET },
    { "ValidateVolumeCapabilities", validate_volume_capabilities_untyped, RPC_SECRET },
    { "ListVolumes", controller_list_volumes_untyped, 0 },
    { "ControllerListVolumeHealth", controller_list_volume_health_untyped, RPC_SECRET },
    { "ControllerGetVolumeHealth", controller_get_volume_health_untyped, RPC_SECRET },
    { "GetCapacity", controller_get_capacity_untyped, 0 },
    { "ControllerGetCapabilities", controller_get_capabilities_untyped, 0 },
    { "CreateSnapshot", controller_create_snapshot_untyped, RPC_SECRET },
    { "DeleteSnapshot", controller_delete_snapshot_untyped, RPC_SECRET },
    { "ListSnapshots", controller_list_snapshots_untyped, RPC_SECRET },
    { "GetSnapshot", controller_get_snapshot_untyped, RPC_SECRET },
    { "ControllerExpandVolume", controller_expand_volume_untyped, RPC_SECRET },
    { "ControllerGetVolume", controller_get_volume_untyped, 0 },
};

const struct rpc_service controller_service = {
    .descriptor = &csi__v1__controller__descriptor,
    .methods = methods,
    .n_methods = ARRAY_LEN(methods),
};

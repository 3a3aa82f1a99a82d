/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/controller.h"

#include "csi/topology.h"
#include "record/fs_type.h"
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

/* A question for free space, as far as it is understood. */
struct capacity_question {
    struct volume_spec spec;
    uint64_t least_bytes; /* the smallest volume of this kind */
    bool has_unknown;     /* parameters that CreateVolume refuses */
};

/* Kubernetes hands on the parameters of a StorageClass as they are, also those for its sidecars. With
 * an error here, or no space, the pod's events would say that there is not enough free storage. So
 * parameters that are wrong do not count: CreateVolume gets the claim, and says what is wrong. */
static void read_capacity_question(const struct plugin *plugin,
                                   const Csi__V1__GetCapacityRequest *request,
                                   const struct capability *capability,
                                   struct capacity_question *out)
{
    struct parameters parameters = PARAMETERS_INIT;
    struct error ignored = ERROR_INIT;
    enum fs_type type;

    *out = (struct capacity_question){ .least_bytes = VOLUME_SIZE_MIN };
    for (size_t i = 0; i < request->n_parameters; i++)
        if (!parameters_set(&parameters, request->parameters[i]->key, request->parameters[i]->value,
                            &ignored))
            out->has_unknown = true;
    out->has_unknown = out->has_unknown || !parameters_check(&parameters, &ignored);
    out->spec = parameters_spec(&parameters, plugin->default_integrity);
    const char *fs = capability->fs_type[0] != '\0' ? capability->fs_type : parameters.fs_type;
    if (!capability->is_block && fs_type_find(fs, &type))
        out->least_bytes = fs_type_min_bytes(type);
}

static bool set_limits(struct arena *arena, uint64_t usable_bytes, uint64_t least_bytes,
                       Csi__V1__GetCapacityResponse *response)
{
    Google__Protobuf__Int64Value *most =
        PLUGIN_MESSAGE(arena, Google__Protobuf__Int64Value, google__protobuf__int64_value__init);
    Google__Protobuf__Int64Value *least =
        PLUGIN_MESSAGE(arena, Google__Protobuf__Int64Value, google__protobuf__int64_value__init);

    if (!most || !least)
        return false;
    most->value = (int64_t)(usable_bytes < VOLUME_SIZE_MAX ? usable_bytes : VOLUME_SIZE_MAX);
    least->value = (int64_t)least_bytes;
    response->maximum_volume_size = most;
    response->minimum_volume_size = least;
    return true;
}

/* The size that one volume in the free space could have, as its pod sees it. */
static bool get_capacity(struct plugin *plugin, struct rpc_call *call,
                         const Csi__V1__GetCapacityRequest *request,
                         Csi__V1__GetCapacityResponse *response, struct error *err)
{
    struct backing_job job = plugin_backing_job(plugin, call);
    struct capability capability = { .fs_type = "" };
    struct error unsupported = ERROR_INIT;
    struct capacity_question question;
    uint64_t free_bytes = 0;

    bool is_elsewhere =
        request->accessible_topology && !topology_is_here(plugin, request->accessible_topology);
    bool is_impossible =
        request->n_volume_capabilities > 0 &&
        !capability_read_all(request->volume_capabilities, request->n_volume_capabilities,
                             &capability, &unsupported);
    read_capacity_question(plugin, request, &capability, &question);
    if (is_elsewhere || is_impossible ||
        (!question.has_unknown &&
         !topology_check_mode(plugin, question.spec.integrity, &unsupported)))
        return true; /* no capacity for such a volume */
    if (!plugin->backing->capacity(&job, &free_bytes, err))
        return false;
    uint64_t usable_bytes = layout_usable_bytes(&question.spec, free_bytes);
    if (usable_bytes < question.least_bytes)
        usable_bytes = 0;
    response->available_capacity = (int64_t)usable_bytes;
    return set_limits(call->arena, usable_bytes, question.least_bytes, response) ||
           arena_exhausted(err);
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

static bool controller_get_capabilities(
    struct plugin *plugin UNUSED, struct rpc_call *call,
    const Csi__V1__ControllerGetCapabilitiesRequest *request UNUSED,
    Csi__V1__ControllerGetCapabilitiesResponse *response, struct error *err)
{
    size_t n = ARRAY_LEN(capabilities);
    Csi__V1__ControllerServiceCapability **list = arena_alloc(call->arena, n * sizeof(*list));

    for (size_t i = 0; list && i < n; i++) {
        Csi__V1__ControllerServiceCapability *item =
            PLUGIN_MESSAGE(call->arena, Csi__V1__ControllerServiceCapability,
                           csi__v1__controller_service_capability__init);
        Csi__V1__ControllerServiceCapability__RPC *rpc =
            PLUGIN_MESSAGE(call->arena, Csi__V1__ControllerServiceCapability__RPC,
                           csi__v1__controller_service_capability__rpc__init);

        if (!item || !rpc)
            return arena_exhausted(err);
        rpc->type = capabilities[i];
        item->type_case = CSI__V1__CONTROLLER_SERVICE_CAPABILITY__TYPE_RPC;
        item->rpc = rpc;
        list[i] = item;
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
HANDLER(get_capacity, GetCapacity)
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
    { "GetCapacity", get_capacity_untyped, 0 },
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

/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/parameters.h"
#include "csi/stacked.h"
#include "record/fs_type.h"
#include "record/layout.h"
#include "upstream/driver_quirks.h"

static bool reject(const char *why, struct arena *arena,
                   Csi__V1__ValidateVolumeCapabilitiesResponse *response, struct error *err)
{
    response->message = arena_strdup(arena, why);
    return response->message || arena_exhausted(err);
}

/* Confirms what was asked for, not what the driver was asked in its place. */
static bool validate_capabilities(struct plugin *plugin, struct rpc_call *call,
                                  const Csi__V1__ValidateVolumeCapabilitiesRequest *request,
                                  Csi__V1__ValidateVolumeCapabilitiesResponse *response,
                                  struct error *err)
{
    const struct stacked_map given = { request->n_parameters, request->parameters };
    Csi__V1__ValidateVolumeCapabilitiesRequest below = *request;
    Csi__V1__ValidateVolumeCapabilitiesResponse *answer = NULL;
    struct parameters parameters = PARAMETERS_INIT;
    struct capability capability = { .fs_type = "" };
    struct stacked_map others;
    struct record record;
    struct error reason = ERROR_INIT;

    if (!plugin_require(request->volume_id, "volume_id", err))
        return false;
    if (request->n_volume_capabilities == 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "volume_capabilities is missing");
    if (!stacked_find(plugin, call, RECORD_VOLUME, request->volume_id, &record, err))
        return false;
    if (!capability_read_all(request->volume_capabilities, request->n_volume_capabilities,
                             &capability, &reason) ||
        !capability_fits(&capability, &record.spec, &reason) ||
        !stacked_take_parameters(call->arena, given, &parameters, &others, &reason))
        return reject(reason.text, call->arena, response, err);
    below.n_parameters = others.n;
    below.parameters = others.entries;
    if (!stacked_all_as_block(plugin, call, request->volume_capabilities,
                              request->n_volume_capabilities, &below.volume_capabilities, err) ||
        !stacked_ask(plugin, call, "ValidateVolumeCapabilities", &below, &answer, err))
        return false;
    *response = *answer;
    if (!answer->confirmed)
        return true;
    answer->confirmed->n_volume_capabilities = request->n_volume_capabilities;
    answer->confirmed->volume_capabilities = request->volume_capabilities;
    if (answer->confirmed->n_parameters > 0) {
        answer->confirmed->n_parameters = request->n_parameters;
        answer->confirmed->parameters = (void *)request->parameters;
    }
    return true;
}

/* The driver makes the device larger; the node then grows what lies on it. */
static bool expand_below(const struct plugin *plugin, struct rpc_call *call,
                         const Csi__V1__ControllerExpandVolumeRequest *request,
                         uint64_t device_bytes, struct error *err)
{
    Csi__V1__ControllerExpandVolumeRequest below = *request;
    Csi__V1__ControllerExpandVolumeResponse *answer = NULL;
    Csi__V1__CapacityRange range = CSI__V1__CAPACITY_RANGE__INIT;

    const struct quirks *quirks = NULL;

    below.capacity_range = &range;
    return stacked_quirks(plugin, call, &quirks, err) &&
           quirks_size(quirks, device_bytes, &range.required_bytes, err) &&
           stacked_as_block(plugin, call, request->volume_capability, &below.volume_capability,
                            err) &&
           stacked_ask(plugin, call, "ControllerExpandVolume", &below, &answer, err);
}

static bool expand_volume(struct plugin *plugin, struct rpc_call *call,
                          const Csi__V1__ControllerExpandVolumeRequest *request,
                          Csi__V1__ControllerExpandVolumeResponse *response, struct error *err)
{
    auto_inflight struct inflight_hold hold = INFLIGHT_HOLD_INIT;
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
        !plugin_take_patiently(plugin, call, request->volume_id, &hold, err) ||
        !stacked_find(plugin, call, RECORD_VOLUME, request->volume_id, &record, err))
        return false;

    struct volume_spec spec = record.spec;
    bool grows = capacity.required_bytes > spec.size_bytes;

    if (grows && !layout_plan_growth(&spec, capacity.required_bytes, err))
        return false;
    if (spec.size_bytes > capacity.limit_bytes)
        return error_set(err, ERROR_OUT_OF_RANGE,
                         "the volume would have %llu bytes, more than limit_bytes",
                         (unsigned long long)spec.size_bytes);
    if (grows && !expand_below(plugin, call, request, spec.device_bytes, err))
        return false;
    response->capacity_bytes = (int64_t)spec.size_bytes;
    response->node_expansion_required = true;
    return true;
}

static bool modify_volume(struct plugin *plugin, struct rpc_call *call,
                          const Csi__V1__ControllerModifyVolumeRequest *request,
                          Csi__V1__ControllerModifyVolumeResponse *response, struct error *err)
{
    const struct stacked_map given = { request->n_mutable_parameters, request->mutable_parameters };
    Csi__V1__ControllerModifyVolumeResponse *answer = NULL;
    struct stacked_map ignored;
    struct record record;

    if (!plugin_require(request->volume_id, "volume_id", err) ||
        !stacked_take_parameters(call->arena, given, NULL, &ignored, err) ||
        !stacked_find(plugin, call, RECORD_VOLUME, request->volume_id, &record, err) ||
        !stacked_ask(plugin, call, "ControllerModifyVolume", request, &answer, err))
        return false;
    *response = *answer;
    return true;
}

/* --- capacity --- */

static uint64_t usable(const struct volume_spec *spec, int64_t device_bytes)
{
    return device_bytes > 0 ? layout_usable_bytes(spec, (uint64_t)device_bytes) : 0;
}

/* Parameters that CreateVolume would refuse have no capacity. */
static bool get_capacity(struct plugin *plugin, struct rpc_call *call,
                         const Csi__V1__GetCapacityRequest *request,
                         Csi__V1__GetCapacityResponse *response, struct error *err)
{
    const struct stacked_map given = { request->n_parameters, request->parameters };
    Csi__V1__GetCapacityRequest below = *request;
    Csi__V1__GetCapacityResponse *answer = NULL;
    struct parameters parameters = PARAMETERS_INIT;
    struct capability capability = { .fs_type = "" };
    struct error unsupported = ERROR_INIT;
    struct stacked_map others;

    if ((request->n_volume_capabilities > 0 &&
         !capability_read_all(request->volume_capabilities, request->n_volume_capabilities,
                              &capability, &unsupported)) ||
        !stacked_take_parameters(call->arena, given, &parameters, &others, &unsupported) ||
        !parameters_check(&parameters, &unsupported))
        return true;
    below.n_parameters = others.n;
    below.parameters = others.entries;
    if (!stacked_all_as_block(plugin, call, request->volume_capabilities,
                              request->n_volume_capabilities, &below.volume_capabilities, err) ||
        !stacked_ask(plugin, call, "GetCapacity", &below, &answer, err))
        return false;
    const struct volume_spec spec = parameters_spec(&parameters, plugin->default_integrity);

    *response = *answer;
    response->available_capacity = (int64_t)usable(&spec, answer->available_capacity);
    if (answer->maximum_volume_size)
        answer->maximum_volume_size->value =
            (int64_t)usable(&spec, answer->maximum_volume_size->value);
    response->minimum_volume_size = NULL; /* smaller volumes leave a part of their device unused */
    return true;
}

/* --- capabilities --- */

static bool passes_on(const Csi__V1__ControllerServiceCapability *capability)
{
    if (capability->type_case != CSI__V1__CONTROLLER_SERVICE_CAPABILITY__TYPE_RPC)
        return false;
    switch ((int)capability->rpc->type) {
    case CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__CREATE_DELETE_VOLUME:
    case CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__PUBLISH_UNPUBLISH_VOLUME:
    case CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__LIST_VOLUMES:
    case CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__GET_CAPACITY:
    case CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__CREATE_DELETE_SNAPSHOT:
    case CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__LIST_SNAPSHOTS:
    case CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__CLONE_VOLUME:
    case CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__PUBLISH_READONLY:
    case CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__EXPAND_VOLUME:
    case CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__LIST_VOLUMES_PUBLISHED_NODES:
    case CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__GET_VOLUME:
    case CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__MODIFY_VOLUME:
    case CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__GET_SNAPSHOT:
    case CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__GET_VOLUME_HEALTH:
    case CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__LIST_VOLUME_HEALTH:
        return true;
    default: /* one that we do not know, or give ourselves */
        return false;
    }
}

static bool get_capabilities(struct plugin *plugin, struct rpc_call *call,
                             const Csi__V1__ControllerGetCapabilitiesRequest *request,
                             Csi__V1__ControllerGetCapabilitiesResponse *response,
                             struct error *err)
{
    Csi__V1__ControllerGetCapabilitiesResponse *answer = NULL;

    if (!stacked_ask(plugin, call, "ControllerGetCapabilities", request, &answer, err))
        return false;
    response->capabilities =
        arena_alloc(call->arena, (answer->n_capabilities + 1) * sizeof(*response->capabilities));
    if (!response->capabilities)
        return arena_exhausted(err);
    for (size_t i = 0; i < answer->n_capabilities; i++)
        if (passes_on(answer->capabilities[i]))
            response->capabilities[response->n_capabilities++] = answer->capabilities[i];
    /* How many writers there are on one node is our matter. */
    Csi__V1__ControllerServiceCapability *own = controller_capability(
        call->arena, CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__SINGLE_NODE_MULTI_WRITER);

    response->capabilities[response->n_capabilities++] = own;
    return own || arena_exhausted(err);
}

#define HANDLER(fn, Method) \
    RPC_HANDLER(fn, struct plugin, Csi__V1__##Method##Request, Csi__V1__##Method##Response)

HANDLER(stacked_create_volume, CreateVolume)
HANDLER(stacked_delete_volume, DeleteVolume)
HANDLER(stacked_publish_volume, ControllerPublishVolume)
HANDLER(stacked_unpublish_volume, ControllerUnpublishVolume)
HANDLER(validate_capabilities, ValidateVolumeCapabilities)
HANDLER(stacked_list_volumes, ListVolumes)
HANDLER(stacked_list_volume_health, ControllerListVolumeHealth)
HANDLER(stacked_get_volume_health, ControllerGetVolumeHealth)
HANDLER(get_capacity, GetCapacity)
HANDLER(get_capabilities, ControllerGetCapabilities)
HANDLER(stacked_create_snapshot, CreateSnapshot)
HANDLER(stacked_delete_snapshot, DeleteSnapshot)
HANDLER(stacked_list_snapshots, ListSnapshots)
HANDLER(stacked_get_snapshot, GetSnapshot)
HANDLER(expand_volume, ControllerExpandVolume)
HANDLER(stacked_get_volume, ControllerGetVolume)
HANDLER(modify_volume, ControllerModifyVolume)

static const struct rpc_method methods[] = {
    { "CreateVolume", stacked_create_volume_untyped, RPC_SECRET },
    { "DeleteVolume", stacked_delete_volume_untyped, RPC_SECRET },
    { "ControllerPublishVolume", stacked_publish_volume_untyped, RPC_SECRET },
    { "ControllerUnpublishVolume", stacked_unpublish_volume_untyped, RPC_SECRET },
    { "ValidateVolumeCapabilities", validate_capabilities_untyped, RPC_SECRET },
    { "ListVolumes", stacked_list_volumes_untyped, 0 },
    { "ControllerListVolumeHealth", stacked_list_volume_health_untyped, RPC_SECRET },
    { "ControllerGetVolumeHealth", stacked_get_volume_health_untyped, RPC_SECRET },
    { "GetCapacity", get_capacity_untyped, 0 },
    { "ControllerGetCapabilities", get_capabilities_untyped, 0 },
    { "CreateSnapshot", stacked_create_snapshot_untyped, RPC_SECRET },
    { "DeleteSnapshot", stacked_delete_snapshot_untyped, RPC_SECRET },
    { "ListSnapshots", stacked_list_snapshots_untyped, RPC_SECRET },
    { "GetSnapshot", stacked_get_snapshot_untyped, RPC_SECRET },
    { "ControllerExpandVolume", expand_volume_untyped, RPC_SECRET },
    { "ControllerGetVolume", stacked_get_volume_untyped, 0 },
    { "ControllerModifyVolume", modify_volume_untyped, RPC_SECRET },
};

const struct rpc_service stacked_controller_service = {
    .descriptor = &csi__v1__controller__descriptor,
    .methods = methods,
    .n_methods = ARRAY_LEN(methods),
};

/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "tests/unit/csi/fake_upstream_parts.h"

/* Each call is noted, and made to fail where a test says so. */

#define SERVES(fn, Method)                                                                         \
    static bool fn##_served(struct fake_upstream *u, struct rpc_call *call,                        \
                            const Csi__V1__##Method##Request *request,                             \
                            Csi__V1__##Method##Response *response, struct error *err)              \
    {                                                                                              \
        struct error fault = ERROR_INIT;                                                           \
                                                                                                   \
        (void)pthread_mutex_lock(&u->fake->lock);                                                  \
        u->time_left_ms = call->deadline_ms - clock_now_ms();                                      \
        fake_note(u->fake, #Method);                                                               \
        bool is_faulty = fake_is_faulty(u->fake, #Method, &fault);                                 \
        bool done = (!is_faulty || u->fake->fault.is_lost) && fn(u, call, request, response, err); \
        if (u->served)                                                                             \
            u->served(#Method);                                                                    \
        if (is_faulty && u->fake->fault.is_single)                                                 \
            u->fake->fault.at = NULL;                                                              \
        if (is_faulty)                                                                             \
            *err = fault;                                                                          \
        (void)pthread_mutex_unlock(&u->fake->lock);                                                \
        return done && !is_faulty;                                                                 \
    }                                                                                              \
    RPC_HANDLER(fn##_served, struct fake_upstream, Csi__V1__##Method##Request,                     \
                Csi__V1__##Method##Response)

SERVES(serve_get_plugin_info, GetPluginInfo)
SERVES(serve_create_volume, CreateVolume)
SERVES(serve_delete_volume, DeleteVolume)
SERVES(serve_publish_volume, ControllerPublishVolume)
SERVES(serve_unpublish_volume, ControllerUnpublishVolume)
SERVES(serve_validate, ValidateVolumeCapabilities)
SERVES(serve_list_volumes, ListVolumes)
SERVES(serve_get_volume, ControllerGetVolume)
SERVES(serve_get_capacity, GetCapacity)
SERVES(serve_expand_volume, ControllerExpandVolume)
SERVES(serve_modify_volume, ControllerModifyVolume)
SERVES(serve_create_snapshot, CreateSnapshot)
SERVES(serve_delete_snapshot, DeleteSnapshot)
SERVES(serve_list_snapshots, ListSnapshots)
SERVES(serve_get_snapshot, GetSnapshot)
SERVES(serve_get_volume_health, ControllerGetVolumeHealth)
SERVES(serve_list_volume_health, ControllerListVolumeHealth)
SERVES(serve_get_capabilities, ControllerGetCapabilities)
SERVES(serve_create_group, CreateVolumeGroupSnapshot)
SERVES(serve_delete_group, DeleteVolumeGroupSnapshot)
SERVES(serve_get_group, GetVolumeGroupSnapshot)
SERVES(serve_get_group_capabilities, GroupControllerGetCapabilities)

static const struct rpc_method identity_methods[] = {
    { "GetPluginInfo", serve_get_plugin_info_served_untyped, 0 },
};
static const struct rpc_method controller_methods[] = {
    { "CreateVolume", serve_create_volume_served_untyped, RPC_SECRET },
    { "DeleteVolume", serve_delete_volume_served_untyped, RPC_SECRET },
    { "ControllerPublishVolume", serve_publish_volume_served_untyped, RPC_SECRET },
    { "ControllerUnpublishVolume", serve_unpublish_volume_served_untyped, RPC_SECRET },
    { "ValidateVolumeCapabilities", serve_validate_served_untyped, RPC_SECRET },
    { "ListVolumes", serve_list_volumes_served_untyped, 0 },
    { "ControllerGetVolume", serve_get_volume_served_untyped, 0 },
    { "GetCapacity", serve_get_capacity_served_untyped, 0 },
    { "ControllerExpandVolume", serve_expand_volume_served_untyped, RPC_SECRET },
    { "ControllerModifyVolume", serve_modify_volume_served_untyped, RPC_SECRET },
    { "CreateSnapshot", serve_create_snapshot_served_untyped, RPC_SECRET },
    { "DeleteSnapshot", serve_delete_snapshot_served_untyped, RPC_SECRET },
    { "ListSnapshots", serve_list_snapshots_served_untyped, RPC_SECRET },
    { "GetSnapshot", serve_get_snapshot_served_untyped, RPC_SECRET },
    { "ControllerGetVolumeHealth", serve_get_volume_health_served_untyped, RPC_SECRET },
    { "ControllerListVolumeHealth", serve_list_volume_health_served_untyped, RPC_SECRET },
    { "ControllerGetCapabilities", serve_get_capabilities_served_untyped, 0 },
};
static const struct rpc_method group_methods[] = {
    { "CreateVolumeGroupSnapshot", serve_create_group_served_untyped, RPC_SECRET },
    { "DeleteVolumeGroupSnapshot", serve_delete_group_served_untyped, RPC_SECRET },
    { "GetVolumeGroupSnapshot", serve_get_group_served_untyped, RPC_SECRET },
    { "GroupControllerGetCapabilities", serve_get_group_capabilities_served_untyped, 0 },
};

const struct rpc_service fake_upstream_identity = { .descriptor = &csi__v1__identity__descriptor,
                                                    .methods = identity_methods,
                                                    .n_methods = ARRAY_LEN(identity_methods) };
const struct rpc_service fake_upstream_controller = {
    .descriptor = &csi__v1__controller__descriptor,
    .methods = controller_methods,
    .n_methods = ARRAY_LEN(controller_methods),
};
const struct rpc_service fake_upstream_group = {
    .descriptor = &csi__v1__group_controller__descriptor,
    .methods = group_methods,
    .n_methods = ARRAY_LEN(group_methods),
};

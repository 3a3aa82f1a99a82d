/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/csi/fake_upstream_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- questions about volumes --- */

static bool list_nodes(struct arena *arena, struct fake_disk *disk, size_t *n, char ***out)
{
    char **list = arena_alloc(arena, FAKE_NODES_MAX * sizeof(*list));

    for (size_t i = 0; list && i < FAKE_NODES_MAX; i++)
        if (disk->nodes[i][0] != '\0')
            list[(*n)++] = disk->nodes[i];
    *out = list;
    return list;
}

bool serve_validate(struct fake_upstream *u, struct rpc_call *call,
                    const Csi__V1__ValidateVolumeCapabilitiesRequest *request,
                    Csi__V1__ValidateVolumeCapabilitiesResponse *response, struct error *err)
{
    Csi__V1__ValidateVolumeCapabilitiesResponse__Confirmed *confirmed =
        arena_alloc(call->arena, sizeof(*confirmed));
    struct error why = ERROR_INIT;
    char ignored[256];

    if (!fake_require(request->volume_id, "volume_id", err))
        return false;
    if (!u->validates_blindly && !fake_disk(u, request->volume_id))
        return fake_not_found("volume", request->volume_id, err);
    if (!fake_check_capabilities(u, request->n_volume_capabilities, request->volume_capabilities,
                                 &why) ||
        !fake_check_parameters(request->n_parameters, request->parameters, fake_create_keys,
                               ignored, sizeof(ignored), &why)) {
        response->message = arena_strdup(call->arena, why.text);
        return response->message || arena_exhausted(err);
    }
    if (!confirmed)
        return arena_exhausted(err);
    csi__v1__validate_volume_capabilities_response__confirmed__init(confirmed);
    confirmed->n_volume_capabilities = request->n_volume_capabilities;
    confirmed->volume_capabilities = request->volume_capabilities;
    confirmed->n_parameters = request->n_parameters;
    confirmed->parameters = (void *)request->parameters;
    response->confirmed = confirmed;
    return true;
}

static bool start_of_page(const char *token, size_t *at, struct error *err)
{
    *at = 0;
    return token[0] == '\0' || sscanf(token, "p-%zu", at) == 1 ||
           error_set(err, ERROR_ABORTED, "starting_token is not known");
}

bool serve_list_volumes(struct fake_upstream *u, struct rpc_call *call,
                        const Csi__V1__ListVolumesRequest *request,
                        Csi__V1__ListVolumesResponse *response, struct error *err)
{
    size_t i = 0, limit = request->max_entries > 0 ? (size_t)request->max_entries : FAKE_MAX;

    if (!start_of_page(request->starting_token, &i, err))
        return false;
    response->entries = arena_alloc(call->arena, FAKE_MAX * sizeof(*response->entries));
    for (; response->entries && i < FAKE_MAX; i++) {
        Csi__V1__ListVolumesResponse__Entry *entry = arena_alloc(call->arena, sizeof(*entry));
        Csi__V1__ListVolumesResponse__VolumeStatus *status =
            arena_alloc(call->arena, sizeof(*status));

        if (!u->disks[i].is_present)
            continue;
        if (response->n_entries == limit) {
            response->next_token = arena_printf(call->arena, "p-%zu", i);
            break;
        }
        if (!entry || !status)
            return arena_exhausted(err);
        csi__v1__list_volumes_response__entry__init(entry);
        csi__v1__list_volumes_response__volume_status__init(status);
        if (!fake_describe(u, call->arena, &u->disks[i], &entry->volume, err) ||
            !list_nodes(call->arena, &u->disks[i], &status->n_published_node_ids,
                        &status->published_node_ids))
            return false;
        entry->status = status;
        response->entries[response->n_entries++] = entry;
    }
    return response->entries || arena_exhausted(err);
}

bool serve_get_volume(struct fake_upstream *u, struct rpc_call *call,
                      const Csi__V1__ControllerGetVolumeRequest *request,
                      Csi__V1__ControllerGetVolumeResponse *response, struct error *err)
{
    struct fake_disk *disk = fake_disk(u, request->volume_id);
    Csi__V1__ControllerGetVolumeResponse__VolumeStatus *status =
        arena_alloc(call->arena, sizeof(*status));

    if (!disk)
        return fake_not_found("volume", request->volume_id, err);
    if (!status)
        return arena_exhausted(err);
    csi__v1__controller_get_volume_response__volume_status__init(status);
    response->status = status;
    return fake_describe(u, call->arena, disk, &response->volume, err) &&
           list_nodes(call->arena, disk, &status->n_published_node_ids,
                      &status->published_node_ids);
}

bool serve_get_capacity(struct fake_upstream *u, struct rpc_call *call,
                        const Csi__V1__GetCapacityRequest *request,
                        Csi__V1__GetCapacityResponse *response, struct error *err)
{
    Google__Protobuf__Int64Value *most = arena_alloc(call->arena, sizeof(*most));
    Google__Protobuf__Int64Value *least = arena_alloc(call->arena, sizeof(*least));
    char ignored[256];

    if (!fake_check_parameters(request->n_parameters, request->parameters, fake_create_keys,
                               ignored, sizeof(ignored), err) ||
        (request->n_volume_capabilities > 0 &&
         !fake_check_capabilities(u, request->n_volume_capabilities, request->volume_capabilities,
                                  err)))
        return false;
    if (!most || !least)
        return arena_exhausted(err);
    google__protobuf__int64_value__init(most);
    google__protobuf__int64_value__init(least);
    most->value = 1ll << 30;
    least->value = 1ll << 20;
    response->available_capacity = 3ll << 30;
    response->maximum_volume_size = most;
    response->minimum_volume_size = least;
    return true;
}

/* --- the rest --- */

bool serve_get_volume_health(struct fake_upstream *u, struct rpc_call *call,
                             const Csi__V1__ControllerGetVolumeHealthRequest *request,
                             Csi__V1__ControllerGetVolumeHealthResponse *response,
                             struct error *err)
{
    Csi__V1__VolumeHealth *health = arena_alloc(call->arena, sizeof(*health));

    if (!fake_disk(u, request->volume_id))
        return fake_not_found("volume", request->volume_id, err);
    if (!health)
        return arena_exhausted(err);
    csi__v1__volume_health__init(health);
    health->volume_id = arena_strdup(call->arena, request->volume_id);
    response->volume_health = health;
    return true;
}

bool serve_list_volume_health(struct fake_upstream *u, struct rpc_call *call,
                              const Csi__V1__ControllerListVolumeHealthRequest *request UNUSED,
                              Csi__V1__ControllerListVolumeHealthResponse *response,
                              struct error *err)
{
    response->entries = arena_alloc(call->arena, FAKE_MAX * sizeof(*response->entries));
    for (size_t i = 0; response->entries && i < FAKE_MAX; i++) {
        Csi__V1__VolumeHealth *health = arena_alloc(call->arena, sizeof(*health));

        if (!u->disks[i].is_present)
            continue;
        if (!health)
            return arena_exhausted(err);
        csi__v1__volume_health__init(health);
        health->volume_id = u->disks[i].id;
        response->entries[response->n_entries++] = health;
    }
    return response->entries || arena_exhausted(err);
}

bool serve_get_plugin_info(struct fake_upstream *u, struct rpc_call *call,
                           const Csi__V1__GetPluginInfoRequest *request UNUSED,
                           Csi__V1__GetPluginInfoResponse *response, struct error *err)
{
    response->name =
        arena_strdup(call->arena, u->driver_name ? u->driver_name : FAKE_UPSTREAM_NAME);
    return response->name || arena_exhausted(err);
}

bool serve_get_capabilities(struct fake_upstream *u, struct rpc_call *call,
                            const Csi__V1__ControllerGetCapabilitiesRequest *request UNUSED,
                            Csi__V1__ControllerGetCapabilitiesResponse *response, struct error *err)
{
    response->capabilities = arena_alloc(call->arena, 32 * sizeof(*response->capabilities));
    for (unsigned type = 1; response->capabilities && type <= 20; type++) {
        Csi__V1__ControllerServiceCapability *item = arena_alloc(call->arena, sizeof(*item));
        Csi__V1__ControllerServiceCapability__RPC *rpc = arena_alloc(call->arena, sizeof(*rpc));

        if (!fake_has(u, type))
            continue;
        if (!item || !rpc)
            return arena_exhausted(err);
        csi__v1__controller_service_capability__init(item);
        csi__v1__controller_service_capability__rpc__init(rpc);
        rpc->type = (Csi__V1__ControllerServiceCapability__RPC__Type)type;
        item->type_case = CSI__V1__CONTROLLER_SERVICE_CAPABILITY__TYPE_RPC;
        item->rpc = rpc;
        response->capabilities[response->n_capabilities++] = item;
    }
    return response->capabilities || arena_exhausted(err);
}

bool serve_get_group_capabilities(
    struct fake_upstream *u UNUSED, struct rpc_call *call,
    const Csi__V1__GroupControllerGetCapabilitiesRequest *request UNUSED,
    Csi__V1__GroupControllerGetCapabilitiesResponse *response, struct error *err)
{
    response->capabilities = arena_alloc(call->arena, 2 * sizeof(*response->capabilities));
    for (unsigned type = 1; response->capabilities && type <= 2; type++) {
        Csi__V1__GroupControllerServiceCapability *item = arena_alloc(call->arena, sizeof(*item));
        Csi__V1__GroupControllerServiceCapability__RPC *rpc =
            arena_alloc(call->arena, sizeof(*rpc));

        if (!item || !rpc)
            return arena_exhausted(err);
        csi__v1__group_controller_service_capability__init(item);
        csi__v1__group_controller_service_capability__rpc__init(rpc);
        rpc->type = (Csi__V1__GroupControllerServiceCapability__RPC__Type)type;
        item->type_case = CSI__V1__GROUP_CONTROLLER_SERVICE_CAPABILITY__TYPE_RPC;
        item->rpc = rpc;
        response->capabilities[response->n_capabilities++] = item;
    }
    return response->capabilities || arena_exhausted(err);
}

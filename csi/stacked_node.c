/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/stacked_node.h"

#include "csi/stacked.h"
#include "record/publication.h"
#include "upstream/upstream.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* --- node --- */

static bool no_record(const char *id, struct error *err)
{
    return error_set(err, ERROR_NOT_FOUND,
                     "the key broker has no record of volume %s; if it exists, an administrator "
                     "can take it in: tdvolctl volume adopt %s",
                     id, id);
}

static bool not_published(const struct plugin *plugin, const char *id, struct error *err)
{
    return error_set(err, ERROR_FAILED_PRECONDITION,
                     "volume %s is not published to node %s: its attachment (kubectl get "
                     "volumeattachments) comes first",
                     id, plugin->node_id);
}

bool stacked_check_stage(const struct plugin *plugin, struct rpc_call *call, const char *id,
                         bool *read_only, struct error *err)
{
    struct record record;

    if (!plugin_find(plugin, call, RECORD_VOLUME, id, &record, err))
        return err->code == ERROR_NOT_FOUND ? no_record(id, err) : false;
    if (!record.spec.needs_publication)
        return true;
    switch (publication_of_node(&record.published, plugin->node_id)) {
    case PUBLICATION_WRITE:
        return true;
    case PUBLICATION_READ:
        *read_only = true;
        return true;
    case PUBLICATION_LEAVING:
    case PUBLICATION_NONE:
    default:
        return not_published(plugin, id, err);
    }
}

static bool make_node_id(const struct plugin *plugin, struct arena *arena, const char *below,
                         char **out, struct error *err)
{
    char id[2 * NODE_ID_MAX];
    bool is_same = strcmp(plugin->node_id, below) == 0;
    int len =
        is_same ? snprintf(id, sizeof(id), "%s", below)
                : snprintf(id, sizeof(id), "%s%c%s", plugin->node_id, PUBLICATION_SEPARATOR, below);

    if (len < 0 || len > NODE_ID_MAX)
        return error_set(
            err, ERROR_INTERNAL,
            "the node id %s~%.64s... is longer than the %d bytes of CSI: give a shorter "
            "--node-id",
            plugin->node_id, below, NODE_ID_MAX);
    *out = arena_strdup(arena, id);
    return *out || arena_exhausted(err);
}

/* 0: no limit. */
static int64_t smaller_limit(int64_t below, uint64_t own)
{
    return below == 0 || (own != 0 && own < (uint64_t)below) ? (int64_t)own : below;
}

bool stacked_node_get_info(const struct plugin *plugin, struct rpc_call *call,
                           Csi__V1__NodeGetInfoResponse *response, struct error *err)
{
    const Csi__V1__NodeGetInfoRequest request = CSI__V1__NODE_GET_INFO_REQUEST__INIT;
    const Csi__V1__NodeGetInfoResponse *below = NULL;

    if (!stacked_ask_service(plugin, call, &csi__v1__node__descriptor, "NodeGetInfo", &request,
                             &below, err))
        return false;
    *response = *below;
    response->max_volumes_per_node =
        smaller_limit(below->max_volumes_per_node, plugin->max_volumes);
    return make_node_id(plugin, call->arena, below->node_id, &response->node_id, err);
}

bool stacked_may_register(const struct plugin *plugin, struct rpc_call *call, struct error *err)
{
    static atomic_bool has_answered;
    Csi__V1__NodeGetInfoResponse ignored = CSI__V1__NODE_GET_INFO_RESPONSE__INIT;

    if (!plugin->upstream || !plugin->serves_node || atomic_load(&has_answered))
        return true;
    if (!stacked_node_get_info(plugin, call, &ignored, err))
        return false;
    atomic_store(&has_answered, true);
    return true;
}

/* --- identity --- */

static bool passes_on(const struct plugin *plugin, const Csi__V1__PluginCapability *capability)
{
    if (capability->type_case != CSI__V1__PLUGIN_CAPABILITY__TYPE_SERVICE)
        return capability->type_case == CSI__V1__PLUGIN_CAPABILITY__TYPE_VOLUME_EXPANSION;
    switch ((int)capability->service->type) {
    case CSI__V1__PLUGIN_CAPABILITY__SERVICE__TYPE__CONTROLLER_SERVICE:
    case CSI__V1__PLUGIN_CAPABILITY__SERVICE__TYPE__GROUP_CONTROLLER_SERVICE:
        return plugin->serves_controller;
    case CSI__V1__PLUGIN_CAPABILITY__SERVICE__TYPE__VOLUME_ACCESSIBILITY_CONSTRAINTS:
        return true;
    default: /* the metadata of snapshots is about encrypted blocks, which nobody can use */
        return false;
    }
}

bool stacked_get_plugin_capabilities(const struct plugin *plugin, struct rpc_call *call,
                                     Csi__V1__GetPluginCapabilitiesResponse *response,
                                     struct error *err)
{
    const Csi__V1__GetPluginCapabilitiesRequest request =
        CSI__V1__GET_PLUGIN_CAPABILITIES_REQUEST__INIT;
    Csi__V1__GetPluginCapabilitiesResponse *below = NULL;

    if (!stacked_ask_service(plugin, call, &csi__v1__identity__descriptor, "GetPluginCapabilities",
                             &request, &below, err))
        return false;
    for (size_t i = 0; i < below->n_capabilities; i++)
        if (passes_on(plugin, below->capabilities[i]))
            below->capabilities[response->n_capabilities++] = below->capabilities[i];
    response->capabilities = below->capabilities;
    return true;
}

bool stacked_probe(const struct plugin *plugin, struct rpc_call *call,
                   Csi__V1__ProbeResponse *response, struct error *err)
{
    const Csi__V1__ProbeRequest request = CSI__V1__PROBE_REQUEST__INIT;
    const Csi__V1__ProbeResponse *below = NULL;

    if (!stacked_ask_service(plugin, call, &csi__v1__identity__descriptor, "Probe", &request,
                             &below, err))
        return false;
    *response = *below;
    return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/stacked_node.h"
#include "plugin/plugin.h"

typedef Csi__V1__PluginCapability capability_message;

static bool get_plugin_info(struct plugin *plugin, struct rpc_call *call,
                            const Csi__V1__GetPluginInfoRequest *request UNUSED,
                            Csi__V1__GetPluginInfoResponse *response, struct error *err)
{
    response->name = arena_strdup(call->arena, plugin->driver);
    response->vendor_version = arena_strdup(call->arena, plugin->version);
    return (response->name && response->vendor_version) || arena_exhausted(err);
}

static capability_message *service(struct arena *arena,
                                   Csi__V1__PluginCapability__Service__Type type)
{
    capability_message *capability =
        PLUGIN_MESSAGE(arena, capability_message, csi__v1__plugin_capability__init);
    Csi__V1__PluginCapability__Service *inner = PLUGIN_MESSAGE(
        arena, Csi__V1__PluginCapability__Service, csi__v1__plugin_capability__service__init);

    if (!capability || !inner)
        return NULL;
    inner->type = type;
    capability->type_case = CSI__V1__PLUGIN_CAPABILITY__TYPE_SERVICE;
    capability->service = inner;
    return capability;
}

static capability_message *expansion(struct arena *arena)
{
    capability_message *capability =
        PLUGIN_MESSAGE(arena, capability_message, csi__v1__plugin_capability__init);
    Csi__V1__PluginCapability__VolumeExpansion *inner =
        PLUGIN_MESSAGE(arena, Csi__V1__PluginCapability__VolumeExpansion,
                       csi__v1__plugin_capability__volume_expansion__init);

    if (!capability || !inner)
        return NULL;
    inner->type = CSI__V1__PLUGIN_CAPABILITY__VOLUME_EXPANSION__TYPE__ONLINE;
    capability->type_case = CSI__V1__PLUGIN_CAPABILITY__TYPE_VOLUME_EXPANSION;
    capability->volume_expansion = inner;
    return capability;
}

static bool get_plugin_capabilities(struct plugin *plugin, struct rpc_call *call,
                                    const Csi__V1__GetPluginCapabilitiesRequest *request UNUSED,
                                    Csi__V1__GetPluginCapabilitiesResponse *response,
                                    struct error *err)
{
    if (plugin->upstream)
        return stacked_get_plugin_capabilities(plugin, call, response, err);
    struct arena *arena = call->arena;
    capability_message **list = arena_alloc(arena, 3 * sizeof(*list));
    size_t n = 0;

    if (!list)
        return arena_exhausted(err);
    list[n++] =
        service(arena, CSI__V1__PLUGIN_CAPABILITY__SERVICE__TYPE__VOLUME_ACCESSIBILITY_CONSTRAINTS);
    list[n++] = expansion(arena);
    if (plugin->serves_controller)
        list[n++] = service(arena, CSI__V1__PLUGIN_CAPABILITY__SERVICE__TYPE__CONTROLLER_SERVICE);
    for (size_t i = 0; i < n; i++)
        if (!list[i])
            return arena_exhausted(err);
    response->capabilities = list;
    response->n_capabilities = n;
    return true;
}

/* The plugin stays healthy when the key broker is out of reach: staged volumes go on working. */
static bool probe(struct plugin *plugin, struct rpc_call *call,
                  const Csi__V1__ProbeRequest *request UNUSED, Csi__V1__ProbeResponse *response,
                  struct error *err)
{
    return plugin_check_usable(plugin, err) &&
           (!plugin->upstream || stacked_probe(plugin, call, response, err));
}

RPC_HANDLER(get_plugin_info, struct plugin, Csi__V1__GetPluginInfoRequest,
            Csi__V1__GetPluginInfoResponse)
RPC_HANDLER(get_plugin_capabilities, struct plugin, Csi__V1__GetPluginCapabilitiesRequest,
            Csi__V1__GetPluginCapabilitiesResponse)
RPC_HANDLER(probe, struct plugin, Csi__V1__ProbeRequest, Csi__V1__ProbeResponse)

static const struct rpc_method methods[] = {
    { "GetPluginInfo", get_plugin_info_untyped, 0 },
    { "GetPluginCapabilities", get_plugin_capabilities_untyped, 0 },
    { "Probe", probe_untyped, 0 },
};

const struct rpc_service identity_service = {
    .descriptor = &csi__v1__identity__descriptor,
    .methods = methods,
    .n_methods = ARRAY_LEN(methods),
};

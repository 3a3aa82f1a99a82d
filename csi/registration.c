/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "csi/stacked_node.h"

#include "pluginregistration.pb-c.h"

/* What node-driver-registrar reports: the version of kubelet's plugin protocol, not of CSI. */
static const char *const supported_versions[] = { "1.0.0" };

/* Newer kubelets also call this periodically. Without an answer they take the plugin for gone. */
static bool get_info(struct plugin *plugin, struct rpc_call *call,
                     const Pluginregistration__InfoRequest *request UNUSED,
                     Pluginregistration__PluginInfo *response, struct error *err)
{
    char **versions = arena_alloc(call->arena, sizeof(*versions));

    if (!stacked_may_register(plugin, call, err))
        return false;
    response->type = arena_strdup(call->arena, "CSIPlugin");
    response->name = arena_strdup(call->arena, plugin->driver);
    response->endpoint = arena_strdup(call->arena, plugin->kubelet_endpoint);
    if (!versions || !response->type || !response->name || !response->endpoint)
        return arena_exhausted(err);
    versions[0] = arena_strdup(call->arena, supported_versions[0]);
    response->supported_versions = versions;
    response->n_supported_versions = 1;
    return versions[0] || arena_exhausted(err);
}

/* The log tells an administrator why it refused. */
static bool notify_registration_status(
    struct plugin *plugin, struct rpc_call *call UNUSED,
    const Pluginregistration__RegistrationStatus *request,
    Pluginregistration__RegistrationStatusResponse *response UNUSED, struct error *err UNUSED)
{
    if (request->plugin_registered)
        log_info("registered with kubelet", TEXT("driver", plugin->driver));
    else
        log_error("kubelet refused the plugin", TEXT("error", request->error));
    return true;
}

RPC_HANDLER(get_info, struct plugin, Pluginregistration__InfoRequest,
            Pluginregistration__PluginInfo)
RPC_HANDLER(notify_registration_status, struct plugin, Pluginregistration__RegistrationStatus,
            Pluginregistration__RegistrationStatusResponse)

static const struct rpc_method methods[] = {
    { "GetInfo", get_info_untyped, 0 },
    { "NotifyRegistrationStatus", notify_registration_status_untyped, 0 },
};

const struct rpc_service registration_service = {
    .descriptor = &pluginregistration__registration__descriptor,
    .methods = methods,
    .n_methods = ARRAY_LEN(methods),
};

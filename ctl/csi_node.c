/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "ctl/csi_call.h"

#include <string.h>

/* The calls that kubelet makes on a node, and those that describe the plugin. */

static const ProtobufCServiceDescriptor *identity = &csi__v1__identity__descriptor;
static const ProtobufCServiceDescriptor *controller = &csi__v1__controller__descriptor;
static const ProtobufCServiceDescriptor *node = &csi__v1__node__descriptor;

/* The CSI specification lets the caller make the staging folder and the target's parent. */
static bool make_parent(const char *path, struct error *err)
{
    auto_free char *parent = strdup(path);
    char *slash = parent ? strrchr(parent, '/') : NULL;

    if (!slash || slash == parent)
        return true;
    *slash = '\0';
    return file_make_dirs(parent, 0750, err);
}

json_t *csi_stage(struct csi_session *session, struct error *err)
{
    const struct csi_arguments *args = session->args;
    Csi__V1__NodeStageVolumeRequest request;
    struct csi_entry **context = NULL;

    csi__v1__node_stage_volume_request__init(&request);
    if (!file_make_dirs(args->staging, 0750, err) ||
        !csi_entries(session, "context", &args->context,
                     &csi__v1__node_stage_volume_request__volume_context_entry__descriptor,
                     &context, err))
        return NULL;
    request.volume_id = csi_text(args->rest.items[0]);
    request.staging_target_path = csi_text(args->staging);
    request.volume_capability = csi_capability(session);
    request.n_volume_context = args->context.n;
    request.volume_context = (void *)context;
    return csi_call(session, node, "NodeStageVolume", &request.base, err);
}

json_t *csi_unstage(struct csi_session *session, struct error *err)
{
    Csi__V1__NodeUnstageVolumeRequest request;

    csi__v1__node_unstage_volume_request__init(&request);
    request.volume_id = csi_text(session->args->rest.items[0]);
    request.staging_target_path = csi_text(session->args->staging);
    return csi_call(session, node, "NodeUnstageVolume", &request.base, err);
}

json_t *csi_publish(struct csi_session *session, struct error *err)
{
    const struct csi_arguments *args = session->args;
    Csi__V1__NodePublishVolumeRequest request;
    struct csi_entry **context = NULL;

    csi__v1__node_publish_volume_request__init(&request);
    if (!make_parent(args->target, err) ||
        !csi_entries(session, "context", &args->context,
                     &csi__v1__node_publish_volume_request__volume_context_entry__descriptor,
                     &context, err))
        return NULL;
    request.volume_id = csi_text(args->rest.items[0]);
    request.staging_target_path = csi_text(args->staging);
    request.target_path = csi_text(args->target);
    request.volume_capability = csi_capability(session);
    request.readonly = args->read_only;
    request.n_volume_context = args->context.n;
    request.volume_context = (void *)context;
    return csi_call(session, node, "NodePublishVolume", &request.base, err);
}

json_t *csi_unpublish(struct csi_session *session, struct error *err)
{
    Csi__V1__NodeUnpublishVolumeRequest request;

    csi__v1__node_unpublish_volume_request__init(&request);
    request.volume_id = csi_text(session->args->rest.items[0]);
    request.target_path = csi_text(session->args->target);
    return csi_call(session, node, "NodeUnpublishVolume", &request.base, err);
}

json_t *csi_stats(struct csi_session *session, struct error *err)
{
    Csi__V1__NodeGetVolumeStatsRequest request;

    csi__v1__node_get_volume_stats_request__init(&request);
    request.volume_id = csi_text(session->args->rest.items[0]);
    request.volume_path = csi_text(session->args->path);
    request.staging_target_path = csi_text(session->args->staging);
    return csi_call(session, node, "NodeGetVolumeStats", &request.base, err);
}

/* Puts the answer under its name; false when the call failed. */
static bool put(json_t *into, const char *name, json_t *answer)
{
    return answer && json_object_set_new(into, name, answer) == 0;
}

static json_t *all_or_nothing(bool ok, json_t *out)
{
    if (ok)
        return out;
    json_decref(out);
    return NULL;
}

/* All abnormal volumes, and the health of the node's storage. */
static json_t *health_of_all(struct csi_session *session, struct error *err)
{
    Csi__V1__ControllerListVolumeHealthRequest list;
    Csi__V1__NodeGetStorageHealthRequest storage;
    json_t *out = json_object();

    csi__v1__controller_list_volume_health_request__init(&list);
    csi__v1__node_get_storage_health_request__init(&storage);
    return all_or_nothing(
        put(out, "volumes",
            csi_call_if_served(session, controller, "ControllerListVolumeHealth", &list.base,
                               err)) &&
            put(out, "storage",
                csi_call_if_served(session, node, "NodeGetStorageHealth", &storage.base, err)),
        out);
}

json_t *csi_health(struct csi_session *session, struct error *err)
{
    const struct csi_arguments *args = session->args;
    Csi__V1__ControllerGetVolumeHealthRequest by_controller;
    Csi__V1__NodeGetVolumeHealthRequest by_node;

    csi__v1__controller_get_volume_health_request__init(&by_controller);
    csi__v1__node_get_volume_health_request__init(&by_node);
    if (args->rest.n == 0)
        return health_of_all(session, err);
    if (!args->path && !args->staging) {
        by_controller.volume_id = csi_text(args->rest.items[0]);
        return csi_call(session, controller, "ControllerGetVolumeHealth", &by_controller.base, err);
    }
    by_node.volume_id = csi_text(args->rest.items[0]);
    by_node.volume_publish_path = csi_text(args->path);
    by_node.staging_target_path = csi_text(args->staging);
    return csi_call(session, node, "NodeGetVolumeHealth", &by_node.base, err);
}

json_t *csi_info(struct csi_session *session, struct error *err)
{
    Csi__V1__GetPluginInfoRequest plugin;
    Csi__V1__NodeGetInfoRequest info;
    json_t *out = json_object();

    csi__v1__get_plugin_info_request__init(&plugin);
    csi__v1__node_get_info_request__init(&info);
    return all_or_nothing(
        put(out, "plugin", csi_call(session, identity, "GetPluginInfo", &plugin.base, err)) &&
            put(out, "node", csi_call_if_served(session, node, "NodeGetInfo", &info.base, err)),
        out);
}

json_t *csi_capabilities(struct csi_session *session, struct error *err)
{
    Csi__V1__GetPluginCapabilitiesRequest of_plugin;
    Csi__V1__ControllerGetCapabilitiesRequest of_controller;
    Csi__V1__NodeGetCapabilitiesRequest of_node;
    json_t *out = json_object();

    csi__v1__get_plugin_capabilities_request__init(&of_plugin);
    csi__v1__controller_get_capabilities_request__init(&of_controller);
    csi__v1__node_get_capabilities_request__init(&of_node);
    return all_or_nothing(
        put(out, "plugin",
            csi_call(session, identity, "GetPluginCapabilities", &of_plugin.base, err)) &&
            put(out, "controller",
                csi_call_if_served(session, controller, "ControllerGetCapabilities",
                                   &of_controller.base, err)) &&
            put(out, "node",
                csi_call_if_served(session, node, "NodeGetCapabilities", &of_node.base, err)),
        out);
}

json_t *csi_probe(struct csi_session *session, struct error *err)
{
    Csi__V1__ProbeRequest request;

    csi__v1__probe_request__init(&request);
    return csi_call(session, identity, "Probe", &request.base, err);
}

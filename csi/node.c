/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/node.h"

#include "addons/rotate.h"
#include "base/log.h"
#include "csi/capability.h"
#include "csi/stacked_node.h"
#include "csi/topology.h"
#include "plugin/plugin.h"

#include <stdio.h>
#include <string.h>

static bool set_path(char out[static BLOCK_PATH_MAX], const char *path, const char *name,
                     struct error *err)
{
    size_t len = strlen(path);

    if (len >= BLOCK_PATH_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s is longer than %d bytes", name,
                         BLOCK_PATH_MAX - 1);
    memcpy(out, path, len + 1);
    return true;
}

/* A worker knows only the kernel. When it reports a wrong path or a volume that is not staged, the
 * reason may be that the volume does not exist: then the error becomes NOT_FOUND. */
static bool explain_missing(const struct plugin *plugin, struct rpc_call *call, const char *id,
                            struct error *err)
{
    bool may_be_missing =
        err->code == ERROR_FAILED_PRECONDITION || err->code == ERROR_INVALID_ARGUMENT;
    struct record record;
    struct error reason = ERROR_INIT;

    if (may_be_missing && !plugin_find(plugin, call, RECORD_VOLUME, id, &record, &reason) &&
        reason.code == ERROR_NOT_FOUND)
        *err = reason;
    return false;
}

/* --- stage --- */

/* A capability may name no file system: the record then decides. */
static void set_fs_type(const struct capability *capability, struct block_request *out)
{
    const char *fs_type = capability->fs_type[0] != '\0' ? capability->fs_type : BLOCK_FS_ANY;

    (void)snprintf(out->fs_type, sizeof(out->fs_type), "%s", capability->is_block ? "" : fs_type);
}

static bool fill_stage(const Csi__V1__NodeStageVolumeRequest *request,
                       const struct capability *capability, struct block_request *out,
                       struct error *err)
{
    set_fs_type(capability, out);
    return set_path(out->path, request->staging_target_path, "staging_target_path", err) &&
           capability_mount_flags(capability, out->mount_flags, err);
}

static bool attach(const struct plugin *plugin, struct rpc_call *call,
                   const Csi__V1__NodeStageVolumeRequest *request, bool read_only,
                   struct error *err)
{
    struct backing_job job = plugin_backing_job(plugin, call);

    return !plugin->backing->attach || plugin->backing->attach(&job, request, read_only, err);
}

static bool detach(const struct plugin *plugin, struct rpc_call *call, const char *id,
                   struct error *err)
{
    struct backing_job job = plugin_backing_job(plugin, call);

    return !plugin->backing->detach || plugin->backing->detach(&job, id, err);
}

/* After other codes kubelet calls again, and the driver below may still be at work. */
static bool is_final(enum error_code code)
{
    return code != ERROR_UNAVAILABLE && code != ERROR_DEADLINE_EXCEEDED && code != ERROR_ABORTED &&
           code != ERROR_CANCELLED;
}

/* kubelet does not unstage what failed to be staged, except after a code that is not final. So such a
 * code is what it gets while the device cannot be detached. A volume that is open was staged by another
 * call, in another way. */
static bool undo_attach(const struct plugin *plugin, struct rpc_call *call, const char *id,
                        struct error *err)
{
    struct error problem = ERROR_INIT;

    if (!plugin->backing->detach || !is_final(err->code) || plugin_is_open_here(plugin, call, id) ||
        detach(plugin, call, id, &problem))
        return false;
    log_warning("the device of a volume that was not staged stays", TEXT("volume", id),
                ERROR_FIELDS(&problem));
    err->code = ERROR_ABORTED;
    return error_wrap(err, "its device is still attached to this node");
}

/* For the volumes of another driver. kubelet stages again what is staged when it has restarted: that
 * needs neither the driver nor the broker. What an earlier call has attached, of which nobody knew the
 * outcome, goes when the volume may not be staged. */
static bool make_device(const struct plugin *plugin, struct rpc_call *call,
                        const Csi__V1__NodeStageVolumeRequest *request, bool *read_only,
                        struct error *err)
{
    const char *id = request->volume_id;
    struct block_result here = { .already = false };

    if (!plugin->upstream)
        return true;
    if (!plugin_inspect(plugin, call, id, &here, err))
        return false;
    bool is_here = here.status.is_active && here.has_device && !here.is_gone;
    if (is_here && here.status.is_read_only == *read_only)
        return true;
    if (!stacked_check_stage(plugin, call, id, read_only, err))
        return here.has_place ? undo_attach(plugin, call, id, err) : false;
    /* Nothing is attached below an open volume; the worker says whether it can be used this way. */
    return is_here || attach(plugin, call, request, *read_only, err) ||
           undo_attach(plugin, call, id, err);
}

static void tell_holder(const char *id, const struct block_result *result)
{
    if (result->holder[0])
        log_warning("a volume was closed under who had it mounted, too: it gets errors from now on",
                    TEXT("volume", id), TEXT("holder", result->holder));
}

static bool stage(struct plugin *plugin, struct rpc_call *call,
                  const Csi__V1__NodeStageVolumeRequest *request,
                  const struct capability *capability, struct error *err)
{
    const char *id = request->volume_id;
    struct block_request *block = block_request_new(call->arena, BLOCK_STAGE, id);
    struct worker_answers answers = { .keys = plugin->keys,
                                      .operation = plugin_operation(call),
                                      .volume_id = id,
                                      .read_only = capability->read_only };
    struct block_result result = { .already = false };

    if (!block)
        return arena_exhausted(err);
    if (!plugin_may_have(plugin, RECORD_VOLUME, id))
        return error_set(err, ERROR_NOT_FOUND, "there is no volume %s", id);
    if (!fill_stage(request, capability, block, err) ||
        !make_device(plugin, call, request, &answers.read_only, err))
        return false;
    block->read_only = answers.read_only;
    if (!plugin_run(plugin, call, block, PLUGIN_LONG, &answers, &result, err)) {
        explain_missing(plugin, call, id, err);
        error_wrap(err, "stage volume %s", id);
        return undo_attach(plugin, call, id, err);
    }
    tell_holder(id, &result);
    health_staged(plugin->health, id, !result.already);
    return true;
}

/* kubelet stops waiting after two minutes. The work goes on, and repeated calls get ABORTED until
 * it ends. */
static bool node_stage_volume(struct plugin *plugin, struct rpc_call *call,
                              const Csi__V1__NodeStageVolumeRequest *request,
                              Csi__V1__NodeStageVolumeResponse *response UNUSED, struct error *err)
{
    auto_inflight struct inflight_hold hold = INFLIGHT_HOLD_INIT;
    struct capability capability = { .fs_type = "" };

    if (!plugin_require(request->volume_id, "volume_id", err) ||
        !plugin_require(request->staging_target_path, "staging_target_path", err) ||
        !capability_read(request->volume_capability, &capability, err) ||
        !plugin_take(plugin, call, request->volume_id, &hold, err))
        return false;
    if (stage(plugin, call, request, &capability, err))
        return true;
    if (plugin_may_have(plugin, RECORD_VOLUME, request->volume_id))
        health_stage_failed(plugin->health, request->volume_id, err);
    return false;
}

/* Needs neither key nor broker. A broker that is out of reach is told when the volume is used next.
 * CSI NodeUnstageVolume: success for a volume that is not staged or does not exist. */
static bool node_unstage_volume(struct plugin *plugin, struct rpc_call *call,
                                const Csi__V1__NodeUnstageVolumeRequest *request,
                                Csi__V1__NodeUnstageVolumeResponse *response UNUSED,
                                struct error *err)
{
    auto_inflight struct inflight_hold hold = INFLIGHT_HOLD_INIT;
    const char *id = request->volume_id;
    struct worker_answers answers = { .keys = plugin->keys,
                                      .operation = plugin_operation(call),
                                      .volume_id = id };
    struct block_result result;

    if (!plugin_require(id, "volume_id", err) ||
        !plugin_require(request->staging_target_path, "staging_target_path", err))
        return false;
    plugin_subject(call, id);
    if (!plugin_may_have(plugin, RECORD_VOLUME, id))
        return true;
    struct block_request *block = block_request_new(call->arena, BLOCK_UNSTAGE, id);
    if (!block)
        return arena_exhausted(err);
    if (!plugin_take(plugin, call, id, &hold, err) ||
        !set_path(block->path, request->staging_target_path, "staging_target_path", err))
        return false;
    if (!plugin_run(plugin, call, block, PLUGIN_LONG, &answers, &result, err))
        return error_wrap(err, "unstage volume %s", id);
    tell_holder(id, &result);
    if (result.has_place && !detach(plugin, call, id, err))
        return error_wrap(err, "unstage volume %s", id);
    /* Before another driver, another node may have it next, or the controller deletes it: this node hears
     * of neither. */
    if (plugin->upstream)
        health_forget(plugin->health, id);
    else
        health_unstaged(plugin->health, id);
    node_note_close(plugin, &answers, &result);
    /* Another node may open the volume next. Of a local one, this node is the only one. */
    if (result.already && plugin->upstream)
        (void)plugin_give_lease_back(plugin, call, id);
    return true;
}

/* --- publish --- */

static bool fill_publish(const Csi__V1__NodePublishVolumeRequest *request,
                         const struct capability *capability, struct block_request *out,
                         struct error *err)
{
    set_fs_type(capability, out);
    out->read_only = capability->read_only || request->readonly;
    out->exclusive = capability->single_writer;
    return set_path(out->path, request->target_path, "target_path", err) &&
           set_path(out->path2, request->staging_target_path, "staging_target_path", err) &&
           capability_mount_flags(capability, out->mount_flags, err);
}

static bool node_publish_volume(struct plugin *plugin, struct rpc_call *call,
                                const Csi__V1__NodePublishVolumeRequest *request,
                                Csi__V1__NodePublishVolumeResponse *response UNUSED,
                                struct error *err)
{
    auto_inflight struct inflight_hold hold = INFLIGHT_HOLD_INIT;
    const char *id = request->volume_id;
    struct capability capability = { .fs_type = "" };
    struct block_result result;

    if (!plugin_require(id, "volume_id", err) ||
        !plugin_require(request->target_path, "target_path", err) ||
        !capability_read(request->volume_capability, &capability, err))
        return false;
    if (request->staging_target_path[0] == '\0')
        return error_set(err, ERROR_FAILED_PRECONDITION, "staging_target_path is missing");
    plugin_subject(call, id);
    if (!plugin_may_have(plugin, RECORD_VOLUME, id))
        return error_set(err, ERROR_NOT_FOUND, "there is no volume %s", id);
    struct block_request *block = block_request_new(call->arena, BLOCK_PUBLISH, id);
    if (!block)
        return arena_exhausted(err);
    if (!plugin_take(plugin, call, id, &hold, err) ||
        !fill_publish(request, &capability, block, err))
        return false;
    if (plugin_run(plugin, call, block, PLUGIN_CALL, NULL, &result, err)) {
        health_staged(plugin->health, id, false);
        return true;
    }
    if (err->reason[0] != '\0') /* it names what is wrong with the volume */
        health_stage_failed(plugin->health, id, err);
    explain_missing(plugin, call, id, err);
    return error_wrap(err, "publish volume %s", id);
}

static bool node_unpublish_volume(struct plugin *plugin, struct rpc_call *call,
                                  const Csi__V1__NodeUnpublishVolumeRequest *request,
                                  Csi__V1__NodeUnpublishVolumeResponse *response UNUSED,
                                  struct error *err)
{
    auto_inflight struct inflight_hold hold = INFLIGHT_HOLD_INIT;
    const char *id = request->volume_id;
    struct block_result result;

    if (!plugin_require(id, "volume_id", err) ||
        !plugin_require(request->target_path, "target_path", err))
        return false;
    plugin_subject(call, id);
    struct block_request *block = block_request_new(call->arena, BLOCK_UNPUBLISH, id);
    if (!block)
        return arena_exhausted(err);
    if (!plugin_take(plugin, call, id, &hold, err) ||
        !set_path(block->path, request->target_path, "target_path", err))
        return false;
    if (!plugin_run(plugin, call, block, PLUGIN_CALL, NULL, &result, err))
        return error_wrap(err, "unpublish volume %s", id);
    return true;
}

/* --- stats and info --- */

static bool add_usage(struct arena *arena, Csi__V1__NodeGetVolumeStatsResponse *response,
                      Csi__V1__VolumeUsage__Unit unit, const uint64_t values[static 3])
{
    Csi__V1__VolumeUsage *usage =
        PLUGIN_MESSAGE(arena, Csi__V1__VolumeUsage, csi__v1__volume_usage__init);

    if (!usage)
        return false;
    usage->unit = unit;
    usage->total = (int64_t)values[0];
    usage->used = (int64_t)values[1];
    usage->available = (int64_t)values[2];
    response->usage[response->n_usage++] = usage;
    return true;
}

static bool fill_stats(struct arena *arena, const struct block_stats *stats,
                       Csi__V1__NodeGetVolumeStatsResponse *response)
{
    const uint64_t bytes[] = { stats->total_bytes, stats->used_bytes, stats->available_bytes };
    const uint64_t inodes[] = { stats->total_inodes, stats->used_inodes, stats->available_inodes };

    response->usage = arena_alloc(arena, 2 * sizeof(*response->usage));
    return response->usage &&
           add_usage(arena, response, CSI__V1__VOLUME_USAGE__UNIT__BYTES, bytes) &&
           (stats->is_block ||
            add_usage(arena, response, CSI__V1__VOLUME_USAGE__UNIT__INODES, inodes));
}

static bool node_get_volume_stats(struct plugin *plugin, struct rpc_call *call,
                                  const Csi__V1__NodeGetVolumeStatsRequest *request,
                                  Csi__V1__NodeGetVolumeStatsResponse *response, struct error *err)
{
    const char *id = request->volume_id;
    struct block_result result = { .already = false };

    if (!plugin_require(id, "volume_id", err) ||
        !plugin_require(request->volume_path, "volume_path", err))
        return false;
    plugin_subject(call, id);
    /* CSI NodeGetVolumeStats: NOT_FOUND when the volume is not at the path, even if that is no
     * path. */
    if (!plugin_may_have(plugin, RECORD_VOLUME, id) || request->volume_path[0] != '/')
        return error_set(err, ERROR_NOT_FOUND, "volume %s is not at that path", id);
    struct block_request *block = block_request_new(call->arena, BLOCK_STATS, id);
    if (!block)
        return arena_exhausted(err);
    if (!set_path(block->path, request->volume_path, "volume_path", err))
        return false;
    if (!plugin_run(plugin, call, block, PLUGIN_SHORT, NULL, &result, err)) {
        if (err->code == ERROR_INVALID_ARGUMENT)
            err->code = ERROR_NOT_FOUND;
        return error_wrap(err, "volume %s", id);
    }
    rotate_if_due(plugin, call, id);
    return fill_stats(call->arena, &result.stats, response) || arena_exhausted(err);
}

static bool node_get_info(struct plugin *plugin, struct rpc_call *call,
                          const Csi__V1__NodeGetInfoRequest *request UNUSED,
                          Csi__V1__NodeGetInfoResponse *response, struct error *err)
{
    if (plugin->upstream)
        return stacked_node_get_info(plugin, call, response, err);
    response->node_id = arena_strdup(call->arena, plugin->node_id);
    response->max_volumes_per_node = (int64_t)plugin->max_volumes;
    response->accessible_topology = topology_of_node(plugin, call->arena);
    return (response->node_id && response->accessible_topology) || arena_exhausted(err);
}

static const Csi__V1__NodeServiceCapability__RPC__Type capabilities[] = {
    CSI__V1__NODE_SERVICE_CAPABILITY__RPC__TYPE__STAGE_UNSTAGE_VOLUME,
    CSI__V1__NODE_SERVICE_CAPABILITY__RPC__TYPE__GET_VOLUME_STATS,
    CSI__V1__NODE_SERVICE_CAPABILITY__RPC__TYPE__EXPAND_VOLUME,
    CSI__V1__NODE_SERVICE_CAPABILITY__RPC__TYPE__SINGLE_NODE_MULTI_WRITER,
    CSI__V1__NODE_SERVICE_CAPABILITY__RPC__TYPE__GET_VOLUME_HEALTH,
    CSI__V1__NODE_SERVICE_CAPABILITY__RPC__TYPE__GET_STORAGE_HEALTH,
};

static bool node_get_capabilities(struct plugin *plugin UNUSED, struct rpc_call *call,
                                  const Csi__V1__NodeGetCapabilitiesRequest *request UNUSED,
                                  Csi__V1__NodeGetCapabilitiesResponse *response, struct error *err)
{
    size_t n = ARRAY_LEN(capabilities);
    Csi__V1__NodeServiceCapability **list = arena_alloc(call->arena, n * sizeof(*list));

    for (size_t i = 0; list && i < n; i++) {
        Csi__V1__NodeServiceCapability *item = PLUGIN_MESSAGE(
            call->arena, Csi__V1__NodeServiceCapability, csi__v1__node_service_capability__init);
        Csi__V1__NodeServiceCapability__RPC *rpc =
            PLUGIN_MESSAGE(call->arena, Csi__V1__NodeServiceCapability__RPC,
                           csi__v1__node_service_capability__rpc__init);

        if (!item || !rpc)
            return arena_exhausted(err);
        rpc->type = capabilities[i];
        item->type_case = CSI__V1__NODE_SERVICE_CAPABILITY__TYPE_RPC;
        item->rpc = rpc;
        list[i] = item;
    }
    response->capabilities = list;
    response->n_capabilities = n;
    return list || arena_exhausted(err);
}

#define HANDLER(fn, Method) \
    RPC_HANDLER(fn, struct plugin, Csi__V1__##Method##Request, Csi__V1__##Method##Response)

HANDLER(node_stage_volume, NodeStageVolume)
HANDLER(node_unstage_volume, NodeUnstageVolume)
HANDLER(node_publish_volume, NodePublishVolume)
HANDLER(node_unpublish_volume, NodeUnpublishVolume)
HANDLER(node_get_volume_stats, NodeGetVolumeStats)
HANDLER(node_get_volume_health, NodeGetVolumeHealth)
HANDLER(node_get_storage_health, NodeGetStorageHealth)
HANDLER(node_expand_volume, NodeExpandVolume)
HANDLER(node_get_capabilities, NodeGetCapabilities)
HANDLER(node_get_info, NodeGetInfo)

static const struct rpc_method methods[] = {
    { "NodeStageVolume", node_stage_volume_untyped, RPC_SECRET },
    { "NodeUnstageVolume", node_unstage_volume_untyped, 0 },
    { "NodePublishVolume", node_publish_volume_untyped, RPC_SECRET },
    { "NodeUnpublishVolume", node_unpublish_volume_untyped, 0 },
    { "NodeGetVolumeStats", node_get_volume_stats_untyped, 0 },
    { "NodeGetVolumeHealth", node_get_volume_health_untyped, 0 },
    { "NodeGetStorageHealth", node_get_storage_health_untyped, RPC_SECRET },
    { "NodeExpandVolume", node_expand_volume_untyped, RPC_SECRET },
    { "NodeGetCapabilities", node_get_capabilities_untyped, 0 },
    { "NodeGetInfo", node_get_info_untyped, 0 },
};

const struct rpc_service node_service = {
    .descriptor = &csi__v1__node__descriptor,
    .methods = methods,
    .n_methods = ARRAY_LEN(methods),
};

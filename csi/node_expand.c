/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/capability.h"
#include "csi/controller.h"
#include "csi/node.h"
#include "record/layout.h"

/* The space grows first, then the record, then the devices in the kernel. So a repeated call goes
 * on where the last one failed, and the record never promises space that does not exist. */
static bool grow(const struct plugin *plugin, struct rpc_call *call,
                 const Csi__V1__NodeExpandVolumeRequest *expansion, const struct volume_spec *spec,
                 struct record *record, struct error *err)
{
    struct backing_job job = plugin_backing_job(plugin, call);
    bool reserve = backing_is_reserved(spec);
    const struct record_change change = { .kind = RECORD_CHANGE_GROWN,
                                          .size_bytes = spec->size_bytes,
                                          .device_bytes = spec->device_bytes,
                                          .mapping_bytes = spec->mapping_bytes };

    job.expansion = expansion;
    return plugin->backing->grow(&job, record->volume_id, spec->device_bytes, reserve, err) &&
           plugin->keys->ops->change(plugin->keys, job.operation, NULL, &change, record, err);
}

/* Nothing may grow before it is clear that all of it can. */
static bool check_staged(const struct plugin *plugin, struct rpc_call *call, const char *id,
                         struct error *err)
{
    struct block_result here = { .already = false };

    if (!plugin_inspect(plugin, call, id, &here, err))
        return false;
    if (!here.status.is_active)
        return error_set(err, ERROR_NOT_FOUND, "volume %s is not staged here", id);
    return !here.status.is_read_only ||
           error_set(err, ERROR_FAILED_PRECONDITION, "the volume is staged read-only");
}

static bool expand(const struct plugin *plugin, struct rpc_call *call,
                   const Csi__V1__NodeExpandVolumeRequest *expansion, uint64_t wanted_bytes,
                   struct record *record, struct error *err)
{
    const char *id = record->volume_id;
    struct volume_spec spec = record->spec;
    struct block_request *request = block_request_new(call->arena, BLOCK_EXPAND, id);
    struct worker_answers answers = { .keys = plugin->keys,
                                      .operation = plugin_operation(call),
                                      .volume_id = id };
    struct block_result result;

    if (!request)
        return arena_exhausted(err);
    if (!check_staged(plugin, call, id, err))
        return false;
    if (wanted_bytes > spec.size_bytes && (!layout_plan_growth(&spec, wanted_bytes, err) ||
                                           !grow(plugin, call, expansion, &spec, record, err)))
        return false;
    return plugin_run(plugin, call, request, PLUGIN_LONG, &answers, &result, err);
}

/* Finds the volume by its id only: the path may be a device that kubelet made itself. */
bool node_expand_volume(struct plugin *plugin, struct rpc_call *call,
                        const Csi__V1__NodeExpandVolumeRequest *request,
                        Csi__V1__NodeExpandVolumeResponse *response, struct error *err)
{
    auto_inflight struct inflight_hold hold = INFLIGHT_HOLD_INIT;
    struct capability capability = { .fs_type = "" };
    struct capacity capacity;
    struct record *record = arena_alloc(call->arena, sizeof(*record));

    if (!record)
        return arena_exhausted(err);
    if (!plugin_require(request->volume_id, "volume_id", err) ||
        !plugin_require(request->volume_path, "volume_path", err) ||
        (request->volume_capability &&
         !capability_read(request->volume_capability, &capability, err)) ||
        !controller_capacity(request->capacity_range, &capacity, err) ||
        !plugin_take_patiently(plugin, call, request->volume_id, &hold, err) ||
        !plugin_find(plugin, call, RECORD_VOLUME, request->volume_id, record, err))
        return false;
    if (request->volume_path[0] != '/')
        return error_set(err, ERROR_NOT_FOUND, "volume %s is not at that path", request->volume_id);
    if (!expand(plugin, call, request, capacity.required_bytes, record, err))
        return error_wrap(err, "expand volume %s", request->volume_id);
    response->capacity_bytes = (int64_t)record->spec.size_bytes;
    return true;
}

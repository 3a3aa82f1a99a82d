/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/controller.h"
#include "csi/topology.h"
#include "plugin/volume_id.h"

#define DELETE_MS 3000u /* of a call's time: for the deletion itself */

/* Another node's space can only be removed there. Without it, the key would be destroyed and the
 * space stay. *found=false: there is no record. */
static bool find_here(const struct plugin *plugin, struct rpc_call *call, const char *id,
                      bool *found, struct error *err)
{
    struct record record;

    *found = plugin->keys->ops->get(plugin->keys, plugin_operation(call), id, NULL, &record, err);
    return *found ? topology_check_location(plugin, &record, ERROR_FAILED_PRECONDITION, err)
                  : err->code == ERROR_NOT_FOUND;
}

/* *found=false: there is no record. An earlier call may have deleted it. */
static bool begin(const struct plugin *plugin, struct rpc_call *call, const char *id, bool *found,
                  struct error *err)
{
    const char *operation = plugin_operation(call);

    if (!find_here(plugin, call, id, found, err))
        return false;
    if (!*found)
        return true;
    *found = plugin->keys->ops->remove(plugin->keys, operation, id, KEYS_BEGIN_DELETE, err);
    if (*found || err->code == ERROR_NOT_FOUND)
        return true;
    if (err->code != ERROR_FAILED_PRECONDITION || !plugin_give_lease_back(plugin, call, id))
        return false;
    *found = plugin->keys->ops->remove(plugin->keys, operation, id, KEYS_BEGIN_DELETE, err);
    return *found || err->code == ERROR_NOT_FOUND;
}

/* The key is destroyed last: a refusal before that leaves the volume as it was. */
static bool delete_held(const struct plugin *plugin, struct rpc_call *call, const char *id,
                        struct error *err)
{
    struct backing_job job = plugin_backing_job(plugin, call);
    struct error ignored = ERROR_INIT;
    bool found = false;

    if (!controller_check_disk(plugin, call, ERROR_FAILED_PRECONDITION, err) ||
        !begin(plugin, call, id, &found, err))
        return false;
    if (!plugin->backing->remove(&job, id, err)) {
        bool is_refused = err->code == ERROR_FAILED_PRECONDITION;

        if (found && is_refused &&
            !plugin->keys->ops->remove(plugin->keys, job.operation, id, KEYS_CANCEL_DELETE,
                                       &ignored))
            return error_wrap(err, "it stays marked for deletion (%s)", ignored.text);
        return false;
    }
    return !found ||
           plugin->keys->ops->remove(plugin->keys, job.operation, id, KEYS_FINISH_DELETE, err) ||
           err->code == ERROR_NOT_FOUND;
}

static bool try_delete(const struct plugin *plugin, struct rpc_call *call, const char *id,
                       struct error *err)
{
    auto_inflight struct inflight_hold hold = INFLIGHT_HOLD_INIT;

    return plugin_take(plugin, call, id, &hold, err) && delete_held(plugin, call, id, err);
}

/* Whether the volume may be free in a moment. */
static bool is_just_busy(const struct plugin *plugin, struct rpc_call *call, const char *id,
                         const struct error *err)
{
    return err->code == ERROR_ABORTED ||
           (err->code == ERROR_FAILED_PRECONDITION && plugin->serves_node &&
            plugin_is_open_here(plugin, call, id));
}

/* It does not take the volume meanwhile: the unstage has to begin, and kubelet is slow to retry. */
static bool wait_until_free(const struct plugin *plugin, struct rpc_call *call, const char *id,
                            uint64_t until_ms)
{
    do {
        if (!plugin_wait(plugin, id, until_ms))
            return false;
    } while (plugin->serves_node && plugin_is_open_here(plugin, call, id));
    return true;
}

/* When its last pod has gone, a volume is unstaged and deleted at the same time, by two that do not
 * know of each other. Each refusal is a warning in the events, so the deletion waits a little. */
static bool delete_patiently(const struct plugin *plugin, struct rpc_call *call, const char *id,
                             struct error *err)
{
    uint64_t until_ms = plugin_wait_until_ms(call, DELETE_MS);

    while (!try_delete(plugin, call, id, err))
        if (!is_just_busy(plugin, call, id, err) || !wait_until_free(plugin, call, id, until_ms))
            return false;
    return true;
}

/* CSI DeleteVolume, DeleteSnapshot: success for an id that does not exist. */
static bool delete_id(const struct plugin *plugin, struct rpc_call *call, enum volume_id_kind kind,
                      const char *id, struct error *err)
{
    plugin_subject(call, id);
    if (!volume_id_is(kind, id))
        return true;
    if (!delete_patiently(plugin, call, id, err))
        return false;
    health_forget(plugin->health, id);
    return true;
}

bool controller_delete_volume(struct plugin *plugin, struct rpc_call *call,
                              const Csi__V1__DeleteVolumeRequest *request,
                              Csi__V1__DeleteVolumeResponse *response UNUSED, struct error *err)
{
    return plugin_require(request->volume_id, "volume_id", err) &&
           delete_id(plugin, call, VOLUME_ID_VOLUME, request->volume_id, err);
}

bool controller_delete_snapshot(struct plugin *plugin, struct rpc_call *call,
                                const Csi__V1__DeleteSnapshotRequest *request,
                                Csi__V1__DeleteSnapshotResponse *response UNUSED, struct error *err)
{
    return plugin_require(request->snapshot_id, "snapshot_id", err) &&
           delete_id(plugin, call, VOLUME_ID_SNAPSHOT, request->snapshot_id, err);
}

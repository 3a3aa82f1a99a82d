/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/stacked.h"
#include "upstream/upstream.h"

/* Deletes at the driver below. */
typedef bool delete_below(const struct plugin *plugin, struct rpc_call *call, const void *request,
                          struct error *err);

static bool delete_volume_below(const struct plugin *plugin, struct rpc_call *call,
                                const void *request, struct error *err)
{
    Csi__V1__DeleteVolumeResponse *response = NULL;

    return stacked_ask(plugin, call, "DeleteVolume", request, &response, err);
}

static bool delete_snapshot_below(const struct plugin *plugin, struct rpc_call *call,
                                  const void *request, struct error *err)
{
    Csi__V1__DeleteSnapshotResponse *response = NULL;

    return stacked_ask(plugin, call, "DeleteSnapshot", request, &response, err);
}

/* Nothing is deleted that was not made through us: it may be somebody's disk. */
static bool delete_unrecorded(const struct plugin *plugin, struct rpc_call *call,
                              enum record_kind kind, const char *id, struct error *err)
{
    bool exists = false;

    if (!stacked_exists(plugin, call, kind, id, &exists, err))
        return false;
    return !exists ||
           error_set(err, ERROR_FAILED_PRECONDITION,
                     "%s has %s, but the key broker has no record of it: it was not made through "
                     "this driver, so delete it there, or take it in first: tdvolctl volume adopt "
                     "%s",
                     upstream_name(plugin->upstream), id, id);
}

/* The key is destroyed last: a refusal before that leaves the volume as it was. */
static bool delete_recorded(const struct plugin *plugin, struct rpc_call *call, const char *id,
                            delete_below *below, const void *request, struct error *err)
{
    struct keys *keys = plugin->keys;
    const char *operation = plugin_operation(call);
    struct error ignored = ERROR_INIT;

    if (!keys->ops->remove(keys, operation, id, KEYS_BEGIN_DELETE, err))
        return false;
    if (!below(plugin, call, request, err) && err->code != ERROR_NOT_FOUND) {
        if (stacked_has_decided(err, DECIDED_NOT_DELETED) &&
            !keys->ops->remove(keys, operation, id, KEYS_CANCEL_DELETE, &ignored))
            error_wrap(err, "it stays marked for deletion (%s)", ignored.text);
        return false;
    }
    return keys->ops->remove(keys, operation, id, KEYS_FINISH_DELETE, err) ||
           err->code == ERROR_NOT_FOUND;
}

/* CSI DeleteVolume, DeleteSnapshot: success for an id that does not exist. A call that is repeated because
 * the answer to its last step got lost does not ask the driver: it may be slow, or say yes for any id. */
static bool delete_id(const struct plugin *plugin, struct rpc_call *call, enum record_kind kind,
                      const char *id, delete_below *below, const void *request, struct error *err)
{
    auto_inflight struct inflight_hold hold = INFLIGHT_HOLD_INIT;
    struct record record;

    if (!plugin_take(plugin, call, id, &hold, err))
        return false;
    if (plugin_find(plugin, call, kind, id, &record, err))
        return delete_recorded(plugin, call, id, below, request, err);
    if (stacked_was_erased(err))
        return true;
    return err->code == ERROR_NOT_FOUND && delete_unrecorded(plugin, call, kind, id, err);
}

bool stacked_delete_volume(struct plugin *plugin, struct rpc_call *call,
                           const Csi__V1__DeleteVolumeRequest *request,
                           Csi__V1__DeleteVolumeResponse *response UNUSED, struct error *err)
{
    return plugin_require(request->volume_id, "volume_id", err) &&
           delete_id(plugin, call, RECORD_VOLUME, request->volume_id, delete_volume_below, request,
                     err);
}

bool stacked_delete_snapshot(struct plugin *plugin, struct rpc_call *call,
                             const Csi__V1__DeleteSnapshotRequest *request,
                             Csi__V1__DeleteSnapshotResponse *response UNUSED, struct error *err)
{
    return plugin_require(request->snapshot_id, "snapshot_id", err) &&
           delete_id(plugin, call, RECORD_SNAPSHOT, request->snapshot_id, delete_snapshot_below,
                     request, err);
}

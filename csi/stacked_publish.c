/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/stacked.h"
#include "record/publication.h"

#include <string.h>

/* A volume moves from node to node: the driver attaches and detaches its device, and the broker lets
 * the nodes open it that have it published. A node gets the right after the device. Before the device
 * goes, the node may not open the volume any more; other nodes may when the device is gone. The model
 * in tests/unit/broker/two_nodes.h shows why each of these steps is needed. */

/* The driver's own name of the node. */
static char *below_name(const char *node_id)
{
    const char *below = node_id_below(node_id);

    return (char *)(uintptr_t)(below[0] != '\0' ? below : node_id);
}

/* Tells at once what the broker would refuse after the device is attached. */
static bool check_publication(const struct record *record, const char *node_id, bool read_only,
                              struct error *err)
{
    struct record_publications list = record->published;

    return !record->spec.needs_publication || publication_add(&list, node_id, read_only, err);
}

bool stacked_publish_volume(struct plugin *plugin, struct rpc_call *call,
                            const Csi__V1__ControllerPublishVolumeRequest *request,
                            Csi__V1__ControllerPublishVolumeResponse *response, struct error *err)
{
    auto_inflight struct inflight_hold hold = INFLIGHT_HOLD_INIT;
    Csi__V1__ControllerPublishVolumeRequest below = *request;
    Csi__V1__ControllerPublishVolumeResponse *answer = NULL;
    struct capability capability = { .fs_type = "" };
    const char *id = request->volume_id;
    struct record record;

    if (!plugin_require(id, "volume_id", err) ||
        !plugin_require(request->node_id, "node_id", err) ||
        !capability_read(request->volume_capability, &capability, err) ||
        !plugin_take(plugin, call, id, &hold, err) ||
        !stacked_find(plugin, call, RECORD_VOLUME, id, &record, err) ||
        !capability_fits(&capability, &record.spec, err))
        return false;
    bool read_only = request->readonly || capability.read_only;
    if (!check_publication(&record, request->node_id, read_only, err) ||
        !stacked_as_block(plugin, call, request->volume_capability, &below.volume_capability, err))
        return error_wrap(err, "volume %s", id);
    below.node_id = below_name(request->node_id);
    if (!stacked_ask(plugin, call, "ControllerPublishVolume", &below, &answer, err))
        return false;
    if (record.spec.needs_publication &&
        !plugin->keys->ops->publish(plugin->keys, plugin_operation(call), request->node_id,
                                    read_only, &record, err))
        return false;
    *response = *answer;
    return true;
}

bool stacked_unpublish_volume(struct plugin *plugin, struct rpc_call *call,
                              const Csi__V1__ControllerUnpublishVolumeRequest *request,
                              Csi__V1__ControllerUnpublishVolumeResponse *response,
                              struct error *err)
{
    auto_inflight struct inflight_hold hold = INFLIGHT_HOLD_INIT;
    Csi__V1__ControllerUnpublishVolumeRequest below = *request;
    Csi__V1__ControllerUnpublishVolumeResponse *answer = NULL;
    const char *id = request->volume_id;
    struct record record;

    if (!plugin_require(id, "volume_id", err) || !plugin_take(plugin, call, id, &hold, err))
        return false;
    bool found = plugin_find(plugin, call, RECORD_VOLUME, id, &record, err);

    if (!found && err->code != ERROR_NOT_FOUND)
        return false;
    if (found && record.spec.needs_publication &&
        !plugin->keys->ops->retire(plugin->keys, plugin_operation(call), request->node_id, &record,
                                   err))
        return false;
    if (request->node_id[0] != '\0')
        below.node_id = below_name(request->node_id);
    if (!stacked_ask(plugin, call, "ControllerUnpublishVolume", &below, &answer, err))
        return false;
    *response = *answer;
    return !found || !record.spec.needs_publication ||
           plugin->keys->ops->unpublish(plugin->keys, plugin_operation(call), request->node_id,
                                        &record, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/stacked.h"
#include "record/publication.h"
#include "upstream/driver_quirks.h"

#include <string.h>
#include <time.h>

/* A volume moves from node to node: the driver attaches and detaches its device, and the broker lets
 * the nodes open it that have it published. A node gets the right before the device, so the broker, which
 * sees all requests in one order, decides: a late request for a node that had the volume before fails
 * there, also where the storage would attach it twice. Before the device goes, the node may not open the
 * volume any more; other nodes may when the device is gone. The model in tests/unit/broker/two_nodes.h
 * shows why each of these steps is needed. */

/* The driver's own name of the node. */
static char *below_name(const char *node_id)
{
    const char *below = node_id_below(node_id);

    return (char *)(uintptr_t)(below[0] != '\0' ? below : node_id);
}

/* Whether the driver has nothing attached there any more. */
static bool detach_below(const struct plugin *plugin, struct rpc_call *call,
                         const Csi__V1__ControllerUnpublishVolumeRequest *request,
                         bool may_be_nowhere, Csi__V1__ControllerUnpublishVolumeResponse **answer,
                         struct error *err)
{
    return stacked_ask(plugin, call, "ControllerUnpublishVolume", request, answer, err) ||
           (may_be_nowhere && stacked_has_decided(err, DECIDED_NOWHERE));
}

/* The driver detaches the volume from the node; then the broker lets others have it. request: to the
 * driver, by its own names. may_be_nowhere: the driver has said so just now when it was to attach it. */
static bool detach(const struct plugin *plugin, struct rpc_call *call,
                   const Csi__V1__ControllerUnpublishVolumeRequest *request, bool may_be_nowhere,
                   const char *node_id, struct record *record,
                   Csi__V1__ControllerUnpublishVolumeResponse **answer, struct error *err)
{
    const struct keys_ops *ops = plugin->keys->ops;
    const char *operation = plugin_operation(call);
    bool moves = record->spec.needs_publication;

    return (!moves || ops->retire(plugin->keys, operation, node_id, record, err)) &&
           detach_below(plugin, call, request, may_be_nowhere, answer, err) &&
           (!moves || ops->unpublish(plugin->keys, operation, node_id, record, err));
}

static bool wait_out_pause(const struct plugin *plugin, const struct rpc_call *call,
                           struct error *err)
{
    const struct quirks *quirks = NULL;

    if (!stacked_quirks(plugin, call, &quirks, err))
        return false;
    const struct timespec pause = { .tv_sec = quirks->pause_ms / 1000,
                                    .tv_nsec = quirks->pause_ms % 1000 * 1000000L };

    if (quirks->pause_ms > 0)
        (void)nanosleep(&pause, NULL);
    return true;
}

/* A right that this call gave goes with it, so that the volume can go elsewhere or be deleted. It goes
 * after a detach, because another controller may have attached the volume there meanwhile. */
static bool take_back(const struct plugin *plugin, struct rpc_call *call,
                      const Csi__V1__ControllerPublishVolumeRequest *request, const char *node_id,
                      struct record *record, struct error *err)
{
    Csi__V1__ControllerUnpublishVolumeRequest below =
        CSI__V1__CONTROLLER_UNPUBLISH_VOLUME_REQUEST__INIT;
    Csi__V1__ControllerUnpublishVolumeResponse *answer = NULL;
    bool was_nowhere = stacked_has_decided(err, DECIDED_NOWHERE);
    struct error problem = ERROR_INIT;

    below.volume_id = request->volume_id;
    below.node_id = request->node_id;
    below.n_secrets = request->n_secrets;
    below.secrets = (void *)request->secrets;
    if (!stacked_has_decided(err, DECIDED_NOT_ATTACHED)) /* it may still attach it */
        return false;
    if (!wait_out_pause(plugin, call, &problem) ||
        !detach(plugin, call, &below, was_nowhere, node_id, record, &answer, &problem))
        error_wrap(err, "volume %s stays published to node %s (%s)", record->volume_id, node_id,
                   problem.text);
    return false;
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
        !plugin_take_patiently(plugin, call, id, &hold, err) ||
        !stacked_find(plugin, call, RECORD_VOLUME, id, &record, err) ||
        (!capability_can_bring(&capability, &record.spec) &&
         !capability_fits(&capability, &record.spec, err)) ||
        !stacked_as_block(plugin, call, request->volume_capability, &below.volume_capability, err))
        return false;
    bool read_only = request->readonly || capability.read_only;
    enum publication before = publication_of_id(&record.published, request->node_id);
    bool gives_right =
        record.spec.needs_publication && before != PUBLICATION_READ && before != PUBLICATION_WRITE;

    if (record.spec.needs_publication &&
        !plugin->keys->ops->publish(plugin->keys, plugin_operation(call), request->node_id,
                                    read_only, &record, err))
        return error_wrap(err, "volume %s", id);
    below.node_id = below_name(request->node_id);
    if (!stacked_ask(plugin, call, "ControllerPublishVolume", &below, &answer, err))
        return gives_right && take_back(plugin, call, &below, request->node_id, &record, err);
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
    /* Without a record it is none of ours: another driver may use it on that node. */
    if (!plugin_find(plugin, call, RECORD_VOLUME, id, &record, err))
        return err->code == ERROR_NOT_FOUND;
    if (request->node_id[0] != '\0')
        below.node_id = below_name(request->node_id);
    if (!detach(plugin, call, &below, false, request->node_id, &record, &answer, err))
        return false;
    *response = *answer;
    return true;
}

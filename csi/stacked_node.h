/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "plugin/plugin.h"

/* What the Node and Identity services do otherwise when the plugin stands on another driver. */

/* Before the device is attached: the volume has a record, and this node has it published. *read_only
 * becomes true when it is published for reading alone: CSI's NodeStageVolume does not say that. */
MUST_USE bool stacked_check_stage(const struct plugin *plugin, struct rpc_call *call,
                                  const char *id, bool *read_only, struct error *err);

/* The driver's answer; its node id becomes ours (record/publication.h). */
MUST_USE bool stacked_node_get_info(const struct plugin *plugin, struct rpc_call *call,
                                    Csi__V1__NodeGetInfoResponse *response, struct error *err);

/* kubelet asks NodeGetInfo once after the plugin's registration, and never again when that fails. So the
 * plugin must not be registered before the driver has answered once. True for other plugins. */
MUST_USE bool stacked_may_register(const struct plugin *plugin, struct rpc_call *call,
                                   struct error *err);

/* What both we and the driver below can do. */
MUST_USE bool stacked_get_plugin_capabilities(const struct plugin *plugin, struct rpc_call *call,
                                              Csi__V1__GetPluginCapabilitiesResponse *response,
                                              struct error *err);

/* The driver's answer. */
MUST_USE bool stacked_probe(const struct plugin *plugin, struct rpc_call *call,
                            Csi__V1__ProbeResponse *response, struct error *err);

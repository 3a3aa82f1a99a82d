/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "plugin/plugin.h"

/*
 * Where volumes can be used. A node has these segments:
 *
 *   topology.DRIVER/node                                 its id
 *   topology.DRIVER/aegis128, .../hmac-sha256, .../none  "true", if its kernel opens volumes of this
 *                                                        mode of integrity; otherwise not there
 *
 * kubelet refuses a driver whose segment changes its value. So there is no "false": a node that gets
 * another kernel may gain segments. kubelet keeps those that went away, and CreateVolume refuses what
 * the node cannot open. A local volume has the first segment alone.
 */

/* From the arena; NULL when it is exhausted. */
Csi__V1__Topology *topology_of_node(const struct plugin *plugin, struct arena *arena);
/* location: where the volume's record says that its space is. */
Csi__V1__Topology *topology_of_volume(const struct plugin *plugin, const char *location,
                                      struct arena *arena);

/* Fails with code, naming both nodes, when the space of the volume or snapshot is on another node.
 *   RESOURCE_EXHAUSTED   CreateVolume: external-provisioner has the scheduler choose another node
 *   FAILED_PRECONDITION  all others: their callers ask the right node, or somebody must act
 */
MUST_USE bool topology_check_location(const struct plugin *plugin, const struct record *record,
                                      enum error_code code, struct error *err);

/* Whether all segments of this driver hold for this node. Segments of other drivers are ignored. */
bool topology_is_here(const struct plugin *plugin, const Csi__V1__Topology *topology);

/* RESOURCE_EXHAUSTED, naming another mode, when this node's kernel cannot open volumes of the mode.
 * A plugin that serves no node does not know, and accepts it. */
MUST_USE bool topology_check_mode(const struct plugin *plugin, enum integrity integrity,
                                  struct error *err);

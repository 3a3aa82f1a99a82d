/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "plugin/plugin.h"

/* Handlers of the Node service that have files of their own; the table is in node.c. */
#define NODE_HANDLER(fn, Method)                                                              \
    bool fn(struct plugin *plugin, struct rpc_call *call,                                     \
            const Csi__V1__##Method##Request *request, Csi__V1__##Method##Response *response, \
            struct error *err)

/* node_expand.c */
NODE_HANDLER(node_expand_volume, NodeExpandVolume);
/* node_health.c */
NODE_HANDLER(node_get_volume_health, NodeGetVolumeHealth);
NODE_HANDLER(node_get_storage_health, NodeGetStorageHealth);

/* After an unstage: notes a close that is not on the disk, or not on record. */
void node_note_close(const struct plugin *plugin, const struct worker_answers *answers,
                     const struct block_result *result);

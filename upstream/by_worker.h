/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "blockd/client.h"

#include <protobuf-c/protobuf-c.h>

/* Calls of the driver below that a worker makes (blockd/upstream_call.h). Errors have the driver's code
 * and text; UNAVAILABLE when it cannot be reached. limit_ms: what the driver gets. */

/* Methods of the services Identity and Node that are about no volume; their requests are empty. */
MUST_USE bool by_worker_read(const struct workers *workers,
                             const ProtobufCServiceDescriptor *service, const char *method,
                             uint64_t limit_ms, struct arena *arena, ProtobufCMessage **response,
                             struct error *err);

/* A call of the Node service about one volume. message: what goes on of our caller's request. A worker
 * adds the volume, its places, and the capability: they must be empty in message. */
struct upstream_node_call {
    const char *volume_id;
    const char *method;
    const ProtobufCMessage *message;
    int access_mode; /* CSI's number; 0: the message has no capability */
    bool stages;     /* the driver has NodeStageVolume */
};
MUST_USE bool by_worker_call(const struct workers *workers, const struct upstream_node_call *call,
                             uint64_t limit_ms, struct arena *arena, struct error *err);

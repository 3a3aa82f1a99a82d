/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "upstream/upstream.h"

/* Calls of the driver below that a worker makes (blockd/upstream_call.h). Errors have the driver's code
 * and text; UNAVAILABLE when it cannot be reached. limit_ms: what the driver gets. */

/* Methods of the services Identity and Node that are about no volume; their requests are empty. */
MUST_USE bool by_worker_read(const struct workers *workers,
                             const ProtobufCServiceDescriptor *service, const char *method,
                             uint64_t limit_ms, struct arena *arena, ProtobufCMessage **response,
                             struct error *err);

MUST_USE bool by_worker_call(const struct workers *workers, const struct upstream_node_call *call,
                             uint64_t limit_ms, struct arena *arena, struct error *err);

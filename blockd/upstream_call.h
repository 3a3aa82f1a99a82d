/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/secret.h"
#include "blockd/request.h"
#include "record/volume_name.h"

/*
 * Calls of another driver's node plugin. That plugin is root on this node and mounts where it is told,
 * and its socket is open to root alone. The front is not root, and may be an attacker's. So a worker
 * makes the calls: the front says what its caller said (contexts, secrets), and the worker which volume
 * it is about, the places of that volume, and that it is a block device.
 */

/* Takes out of body, the front's request in protobuf, each field that is ours to say, and adds ours.
 * Fields that CSI does not have yet stay. INVALID_ARGUMENT when body is no protobuf: its end could
 * swallow what follows. dir: see blockd/place.h. *len: of the request in out; 0: it is empty, and so is
 * out. */
MUST_USE bool upstream_compose(const struct block_request *request, const struct volume_name *name,
                               const char *dir, const uint8_t *body, struct secret *out,
                               size_t *len, struct error *err);

/* Whether the method takes the device of a volume away. */
bool upstream_takes_away(enum block_upstream_method method);

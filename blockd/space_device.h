/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "blockd/space.h"

/* The root side of the places (blockd/place.h) at which another CSI driver gives us its devices. */

/* Makes the folder of all places. NULL: does nothing. FAILED_PRECONDITION when others than our user
 * can write to it. */
MUST_USE bool space_device_prepare(const char *upstream_dir, struct error *err);

/* Whether the worker's volume has its places. */
MUST_USE bool space_device_find_place(const struct worker *worker, bool *found, struct error *err);

/* Whether a volume that has its places has no device there, or one that has left this node. */
bool space_device_is_lost(const struct worker_config *config, const struct volume_name *name);

/* Whether an open volume lies on the device at its place. */
bool space_device_is_below(const struct worker_config *config, const struct volume_name *name);

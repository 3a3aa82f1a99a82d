/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "upstream/quirks.h"
#include "upstream/upstream.h"

/* The quirks of the driver below, never NULL. Asks it for its name, when it has not said it yet: errors as
 * upstream_call. A guess would do harm: without its quirks, a driver makes devices that are too small. */
MUST_USE bool upstream_quirks(struct upstream *upstream, uint64_t deadline_ms,
                              const struct quirks **out, struct error *err);

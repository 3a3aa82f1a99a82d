/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "blockd/loop.h"

/* Bytes of memory behind a loop device, used as they are written: for read-only opens
 * (struct volume_opening). They go with the last who holds the device. */
MUST_USE bool overlay_make(uint64_t bytes, struct loop_device *out, struct error *err);

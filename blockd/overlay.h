/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "blockd/loop.h"

/* Memory of this many bytes behind a loop device, for read-only opens (struct volume_opening). It
 * is allocated as it is written, and freed when the last user closes the device. */
MUST_USE bool overlay_make(uint64_t bytes, struct loop_device *out, struct error *err);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stdint.h>

/*
 * What known drivers do otherwise than CSI says, as far as it changes what we do. docs/upstreams.md has
 * what else there is to know about them.
 */
struct quirks {
    const char *driver; /* as GetPluginInfo names it; NULL: all others */
    /* ValidateVolumeCapabilities says yes for volumes that do not exist, too. */
    bool validates_blindly;
    /* It cuts sizes down to multiples of this. 0: it makes at least what it is asked for. */
    uint64_t size_step;
    /* Once it has refused to attach a volume, it also refuses to detach it for this long. */
    unsigned pause_ms;
};

/* Never NULL. */
const struct quirks *quirks_of(const char *driver);

/* The size to ask the driver for, so that it makes at least bytes. OUT_OF_RANGE when CSI has no number
 * for it. */
MUST_USE bool quirks_size(const struct quirks *quirks, uint64_t bytes, int64_t *out,
                          struct error *err);

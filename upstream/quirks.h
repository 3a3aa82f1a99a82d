/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

/*
 * What known drivers do otherwise than CSI says, as far as it changes what we do. docs/upstreams.md has
 * what else there is to know about them.
 */
struct quirks {
    const char *driver; /* as GetPluginInfo names it; NULL: all others */
    /* ValidateVolumeCapabilities says yes for volumes that do not exist, too. */
    bool validates_blindly;
};

/* Never NULL. */
const struct quirks *quirks_of(const char *driver);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "record/volume_name.h"

#include <limits.h>

/*
 * Where another CSI driver stages and publishes a volume for us. These are places of our own below
 * kubelet's folder, because both drivers see that folder at the same path, and mounts that one makes
 * there reach the other:
 *
 *   DIR/NAME/stage   a folder: the staging path for the other driver
 *   DIR/NAME/device  its target path: there it publishes the device
 *
 * DIR is --upstream-dir, NAME the one of struct volume_name. The root side makes and removes DIR/NAME
 * and stage (BLOCK_PLACE, BLOCK_UNPLACE); device is the other driver's.
 */
struct device_place {
    char stage[PATH_MAX], device[PATH_MAX];
};

/* INVALID_ARGUMENT when dir is too long. */
MUST_USE bool place_of(const char *dir, const struct volume_name *name, struct device_place *out,
                       struct error *err);

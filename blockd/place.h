/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "record/volume_name.h"

#include <limits.h>
#include <stdio.h>

/*
 * Where another CSI driver stages and publishes a volume for us. These are places of our own below
 * kubelet's folder, because both drivers see that folder at the same path, and mounts that one makes
 * there reach the other:
 *
 *   DIR/NAME/stage   a folder: the staging path for the other driver
 *   DIR/NAME/device  its target path: there it publishes the device
 *
 * DIR is --upstream-dir, NAME the one of struct volume_name. The root side makes and removes DIR/NAME
 * and stage (BLOCK_PLACE, BLOCK_UNPLACE), and names both to the other driver (BLOCK_UPSTREAM_CALL);
 * device is that driver's.
 */
struct device_place {
    char stage[PATH_MAX], device[PATH_MAX];
};

/* INVALID_ARGUMENT when dir is too long. */
MUST_USE static inline bool place_of(const char *dir, const struct volume_name *name,
                                     struct device_place *out, struct error *err)
{
    int stage = snprintf(out->stage, sizeof(out->stage), "%s/%s/stage", dir, name->text);
    int device = snprintf(out->device, sizeof(out->device), "%s/%s/device", dir, name->text);

    return (stage > 0 && device > 0 && (size_t)device < sizeof(out->device)) ||
           error_set(err, ERROR_INVALID_ARGUMENT, "the path %.64s... is too long", dir);
}

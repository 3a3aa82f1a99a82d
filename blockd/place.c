/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/place.h"

#include <stdio.h>

bool place_of(const char *dir, const struct volume_name *name, struct device_place *out,
              struct error *err)
{
    int stage = snprintf(out->stage, sizeof(out->stage), "%s/%s/stage", dir, name->text);
    int device = snprintf(out->device, sizeof(out->device), "%s/%s/device", dir, name->text);

    return (stage > 0 && device > 0 && (size_t)device < sizeof(out->device)) ||
           error_set(err, ERROR_INVALID_ARGUMENT, "the path %.64s... is too long", dir);
}

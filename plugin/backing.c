/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/backing.h"

#include <string.h>

static const struct backing *const backings[] = { &backing_local, &backing_stacked };

const struct backing *backing_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(backings); i++)
        if (strcmp(backings[i]->name, name) == 0)
            return backings[i];
    return NULL;
}

bool backing_is_reserved(const struct volume_spec *spec)
{
    return spec->provisioning == PROVISIONING_THICK && !spec->discard;
}

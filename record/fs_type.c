/* SPDX-License-Identifier: Apache-2.0 */
#include "record/fs_type.h"

#include <string.h>

static const char *const names[FS_TYPE_COUNT] = { [FS_EXT4] = "ext4", [FS_XFS] = "xfs" };

bool fs_type_find(const char *name, enum fs_type *out)
{
    for (enum fs_type i = 0; i < FS_TYPE_COUNT; i++) {
        if (strcmp(names[i], name) == 0) {
            *out = i;
            return true;
        }
    }
    return false;
}

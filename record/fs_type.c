/* SPDX-License-Identifier: Apache-2.0 */
#include "record/fs_type.h"

#include <string.h>

#define MIB (1ull << 20)

static const struct {
    const char *name;
    uint64_t min_bytes;
} rows[FS_TYPE_COUNT] = {
    [FS_EXT4] = { "ext4", 8 * MIB },
    [FS_XFS] = { "xfs", 300 * MIB },
};

bool fs_type_find(const char *name, enum fs_type *out)
{
    for (enum fs_type i = 0; i < FS_TYPE_COUNT; i++) {
        if (strcmp(rows[i].name, name) == 0) {
            *out = i;
            return true;
        }
    }
    return false;
}

uint64_t fs_type_min_bytes(enum fs_type type)
{
    return type < FS_TYPE_COUNT ? rows[type].min_bytes : 0;
}

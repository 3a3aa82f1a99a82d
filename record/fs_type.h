/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* The file systems that volumes may have. What makes and mends them is in blockd/filesystem.c, a row
 * each. */
enum fs_type { FS_EXT4, FS_XFS, FS_TYPE_COUNT };

#define FS_TYPE_DEFAULT "ext4"
#define FS_TYPE_CHOICES "ext4 or xfs" /* for messages */

/* False when there is no such file system; "" is raw block, and none. */
bool fs_type_find(const char *name, enum fs_type *out);

/* The smallest volume that the file system can have: ext4 with a journal, and what mkfs.xfs accepts.
 * Records from before there was this limit may have less. */
uint64_t fs_type_min_bytes(enum fs_type type);

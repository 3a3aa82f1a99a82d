/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stdint.h>

#define EXT4_SUPERBLOCK_OFFSET 1024u
#define EXT4_SUPERBLOCK_BYTES  1024u

/*
 * Whether "e2fsck -p" would find nothing to do: the file system was unmounted cleanly, its journal
 * is empty, it has no errors on record, no check is due, and the superblock has its checksum. Says false for everything it does not
 * know. Fields of the superblock: the kernel's Documentation/filesystems/ext4/super.rst.
 */
bool ext4_superblock_is_clean(const uint8_t superblock[static EXT4_SUPERBLOCK_BYTES]);

/* The same for the device. False also when it cannot be read. */
bool ext4_is_clean(const char *device_path);

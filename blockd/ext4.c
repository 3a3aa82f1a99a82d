/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/ext4.h"

#include "base/digest.h"
#include "base/file.h"
#include "base/reader.h"

#include <fcntl.h>

#define MAGIC 0xef53u

/* s_state has one flag when all is well. */
#define STATE_CLEAN 1u

#define INCOMPAT_JOURNAL_NOT_EMPTY 0x4u
#define RO_COMPAT_CHECKSUMS        0x400u
#define RO_COMPAT_HAS_ORPHANS      0x10000u

#define CHECKSUM_OFFSET 0x3fcu /* CRC-32C of all before it */

static bool check_is_due(const uint8_t *superblock)
{
    int32_t mounts = (int16_t)u16le(superblock + 0x34), most = (int16_t)u16le(superblock + 0x36);

    return (most > 0 && mounts >= most) || u32le(superblock + 0x44) != 0;
}

/* Without checksums nobody knows whether the rest of the superblock is true. mkfs turns them on. */
static bool has_its_checksum(const uint8_t *superblock)
{
    return (u32le(superblock + 0x64) & RO_COMPAT_CHECKSUMS) != 0 &&
           u32le(superblock + CHECKSUM_OFFSET) == crc32c(superblock, CHECKSUM_OFFSET);
}

bool ext4_superblock_is_clean(const uint8_t superblock[static EXT4_SUPERBLOCK_BYTES])
{
    return u16le(superblock + 0x38) == MAGIC && u16le(superblock + 0x3a) == STATE_CLEAN &&
           (u32le(superblock + 0x60) & INCOMPAT_JOURNAL_NOT_EMPTY) == 0 &&
           (u32le(superblock + 0x64) & RO_COMPAT_HAS_ORPHANS) == 0 &&
           u32le(superblock + 0xe8) == 0 &&  /* the first inode that was being deleted */
           u32le(superblock + 0x194) == 0 && /* the number of errors that the kernel saw */
           !check_is_due(superblock) && has_its_checksum(superblock);
}

bool ext4_is_clean(const char *device_path)
{
    auto_close int fd = open(device_path, O_RDONLY | O_CLOEXEC);
    uint8_t superblock[EXT4_SUPERBLOCK_BYTES];
    struct error ignored = ERROR_INIT;

    return fd >= 0 &&
           fd_pread_all(fd, superblock, sizeof(superblock), EXT4_SUPERBLOCK_OFFSET, &ignored) &&
           ext4_superblock_is_clean(superblock);
}

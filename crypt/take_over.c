/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/take_over.h"

#include "base/fault.h"
#include "base/file.h"
#include "base/reader.h"
#include "crypt/device.h"
#include "crypt/header.h"
#include "crypt/luks.h"
#include "crypt/old_header.h"
#include "record/layout.h"
#include "record/old_key.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static bool get_volume_key(const struct take_over *t, struct secret *out, struct error *err)
{
    auto_secret struct secret passphrase = SECRET_INIT;
    auto_close int fd = -1;

    return old_header_read(t->raw_fd, &t->record->spec, &fd, err) &&
           old_key_unwrap(t->record, t->secret, &passphrase, err) &&
           luks_get_volume_key(fd, &passphrase, &t->record->spec, out, err);
}

bool take_over_open(const struct take_over *t, int header_fd, struct error *err)
{
    struct layer_name bottom = layer_path(t->name, LAYER_BOTTOM);
    struct layer_name crypt = layer_name(t->name, LAYER_CRYPT);
    auto_secret struct secret volume_key = SECRET_INIT;

    FAULT_POINT("worker.take-over.begin");
    return get_volume_key(t, &volume_key, err) &&
           luks_make_header(bottom.text, t->record, &volume_key, t->luks_key, header_fd, err) &&
           header_finish(header_fd, &t->record->spec, t->token, err) &&
           luks_open(crypt.text, bottom.text, t->record, t->luks_key, header_fd, err);
}

/* A superblock is at the start of the device. These are the fields that say how large the file system
 * is; see the kernel's Documentation/filesystems/ext4/super.rst and fs/xfs/libxfs/xfs_format.h. */
struct blocks {
    uint64_t n, bytes;
};

static bool find_ext4(const uint8_t *device, struct blocks *out)
{
    const uint8_t *superblock = device + 1024;
    uint32_t shift = u32le(superblock + 0x18);
    bool has_high = (u32le(superblock + 0x60) & 0x80) != 0;

    if (u16le(superblock + 0x38) != 0xef53 || shift > 6)
        return false;
    out->bytes = 1024ull << shift;
    out->n = u32le(superblock + 0x4) | (has_high ? (uint64_t)u32le(superblock + 0x150) << 32 : 0);
    return true;
}

static bool find_xfs(const uint8_t *device, struct blocks *out)
{
    out->bytes = big_endian(device + 4, 4);
    out->n = big_endian(device + 8, 8);
    return bytes_are_equal(device, "XFSB", 4) && out->bytes >= 512 && out->bytes <= 65536;
}

static bool check_size(const struct blocks *blocks, const struct volume_spec *spec,
                       uint64_t *out_bytes, struct error *err)
{
    if (blocks->n == 0 || blocks->n > VOLUME_SIZE_MAX / blocks->bytes)
        return error_set_reason(err, ERROR_FAILED_PRECONDITION, "OldFileSystem",
                                "the old file system has no sound size; nothing was changed");
    *out_bytes = blocks->n * blocks->bytes;
    if (*out_bytes <= spec->size_bytes)
        return true;
    return error_set_reason(err, ERROR_FAILED_PRECONDITION, "OldFileSystem",
                            "the old file system has %" PRIu64 " bytes, the volume only %" PRIu64
                            ": adopt the volume again with the size of its disk; nothing was "
                            "changed",
                            *out_bytes, spec->size_bytes);
}

bool take_over_check_content(int mapping_fd, const struct volume_spec *spec, uint64_t *out_bytes,
                             struct error *err)
{
    auto_free uint8_t *start = NULL;
    struct blocks blocks = { .n = 0 };

    *out_bytes = spec->size_bytes;
    if (spec->fs_type[0] == '\0')
        return true;
    if (!device_buffer(DEVICE_BLOCK_BYTES, &start, err) ||
        !fd_pread_all(mapping_fd, start, DEVICE_BLOCK_BYTES, LAYOUT_RESERVED_BYTES, err))
        return error_wrap(err, "look for the old file system");
    bool is_there =
        strcmp(spec->fs_type, "xfs") == 0 ? find_xfs(start, &blocks) : find_ext4(start, &blocks);
    if (is_there)
        return check_size(&blocks, spec, out_bytes, err);
    return error_set_reason(
        err, ERROR_FAILED_PRECONDITION, "OldFileSystem",
        "the volume was adopted as %s, but holds something else: adopt it again "
        "with the right --fs, or with --block; nothing was changed",
        spec->fs_type);
}

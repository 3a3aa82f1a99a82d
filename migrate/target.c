/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/target.h"

#include "base/digest.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/reader.h"
#include "crypt/device.h"
#include "crypt/signature.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define MARK_FORMAT "tdvol copy-in 1\n%s %" PRIu64 "\n"

#define EXT4_MAGIC_OFFSET 1080u
#define EXT4_MAGIC        0xef53u
#define EXT4_BLOCK_OFFSET 1048u /* log2(block size / 1024) */
#define XFS_SECTOR_OFFSET 102u

void target_close(struct target *target)
{
    close_at(&target->fd);
    close_at(&target->claim_fd);
}

bool target_open(struct target *target, const char *path, struct error *err)
{
    struct stat st;
    int sector_bytes = 0;

    target->path = path;
    if (!device_open(path, true, &target->fd, &target->bytes, err))
        return false;
    target->claim_fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC);
    if (target->claim_fd < 0 && errno == EBUSY)
        return error_set(err, ERROR_ABORTED,
                         "%s is in use: it is mounted, or another process copies to it", path);
    if (target->claim_fd < 0 || fstat(target->fd, &st) != 0 ||
        ioctl(target->fd, BLKSSZGET, &sector_bytes) != 0)
        return error_set_errno(err, errno, "%s", path);
    target->number = st.st_rdev;
    target->sector_bytes = (uint32_t)sector_bytes;
    return true;
}

/* Text in the first sector: it is whole, or it is not there. */
void target_mark_encode(const struct target_mark *mark, uint8_t out[static TARGET_MARKER_BYTES])
{
    bytes_wipe(out, TARGET_MARKER_BYTES);
    (void)snprintf((char *)out, TARGET_MARKER_BYTES, MARK_FORMAT, mark->uuid, mark->bytes);
}

bool target_mark_fits(const uint8_t block[static TARGET_MARKER_BYTES],
                      const struct target_mark *mark)
{
    uint8_t expected[TARGET_MARKER_BYTES];

    target_mark_encode(mark, expected);
    return memcmp(block, expected, sizeof(expected)) == 0;
}

/* The head is neither this copy's nor the source's. */
static bool look_for_content(struct target *target, bool is_zero, enum target_state *out,
                             struct error *err)
{
    char found[SIGNATURE_NAME_LEN];

    if (!signature_find(target->fd, target->path, false, found, err))
        return false;
    *out = is_zero && !found[0] ? TARGET_EMPTY : TARGET_OTHER;
    (void)snprintf(target->found, sizeof(target->found), "%s",
                   found[0] ? found : "bytes of an unknown kind");
    return true;
}

bool target_look(struct target *target, const struct target_mark *mark, const uint8_t *head,
                 size_t head_len, enum target_state *out, struct error *err)
{
    auto_free uint8_t *found = NULL;

    if (!device_buffer(head_len, &found, err) || !fd_pread_all(target->fd, found, head_len, 0, err))
        return error_wrap(err, "read %s", target->path);
    if (target_mark_fits(found, mark)) {
        *out = TARGET_BEGUN;
        return true;
    }
    bool is_zero = bytes_are_zero(found, head_len);
    if (!is_zero && memcmp(found, head, head_len) == 0) {
        *out = TARGET_DONE;
        return true;
    }
    return look_for_content(target, is_zero, out, err);
}

bool target_begin(const struct target *target, const struct target_mark *mark, struct error *err)
{
    auto_free uint8_t *block = NULL;
    uint64_t len = target->bytes < TARGET_HEAD_BYTES ? target->bytes : TARGET_HEAD_BYTES;

    len -= len % TARGET_MARKER_BYTES;
    if (!device_buffer(TARGET_MARKER_BYTES, &block, err))
        return false;
    target_mark_encode(mark, block);
    if (!device_write_zeros(target->fd, 0, len, err) || !device_flush(target->fd, err))
        return error_wrap(err, "%s", target->path);
    FAULT_POINT("copy-in.begin.zeroed");
    return (fd_pwrite_all(target->fd, block, TARGET_MARKER_BYTES, 0, err) &&
            device_flush(target->fd, err)) ||
           error_wrap(err, "%s", target->path);
}

bool target_finish(const struct target *target, const uint8_t *head, size_t head_len,
                   struct error *err)
{
    size_t first = TARGET_MARKER_BYTES;

    if (head_len > first &&
        (!fd_pwrite_all(target->fd, head + first, head_len - first, (off_t)first, err) ||
         !device_flush(target->fd, err)))
        return error_wrap(err, "%s", target->path);
    FAULT_POINT("copy-in.finish.head");
    return (fd_pwrite_all(target->fd, head, first, 0, err) && device_flush(target->fd, err)) ||
           error_wrap(err, "%s", target->path);
}

bool target_check_sectors(uint32_t sector_bytes, const uint8_t *head, size_t head_len,
                          struct error *err)
{
    const char *what = NULL;
    uint64_t unit = 0;

    if (head_len < TARGET_MARKER_BYTES)
        return true;
    if (memcmp(head, "XFSB", 4) == 0) {
        what = "xfs with sectors";
        unit = big_endian(head + XFS_SECTOR_OFFSET, 2);
    } else if (u16le(head + EXT4_MAGIC_OFFSET) == EXT4_MAGIC) {
        what = "ext4 with blocks";
        uint32_t log2 = u32le(head + EXT4_BLOCK_OFFSET);
        unit = log2 <= 6 ? UINT64_C(1024) << log2 : 0;
    }
    return !what || unit == 0 || unit >= sector_bytes ||
           error_set(err, ERROR_FAILED_PRECONDITION,
                     "the old volume holds %s of %" PRIu64 " bytes, and the new one has sectors of "
                     "%" PRIu32 ": it could not be mounted there, so copy the files instead",
                     what, unit, sector_bytes);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/map.h"

#include "base/file.h"
#include "base/reader.h"
#include "crypt/device.h"
#include "record/layout.h"

#include <endian.h>
#include <stdlib.h>

#define BLOCK_BYTES DEVICE_BLOCK_BYTES
#define RUN_BLOCKS  64u /* read at once */

/* struct thin_disk_superblock, little-endian, and in it struct disk_sm_root of two space maps: one
 * counts the blocks of data, the other one the map's own blocks. */
#define SUPER_FLAGS       4
#define SUPER_MAGIC       32
#define SUPER_VERSION     40
#define SUPER_DATA_TOTAL  64
#define SUPER_SPACE_TOTAL 192
#define SUPER_SPACE_INDEX 208
#define SUPER_DATA_BLOCK  336
#define SUPER_BLOCK       340

#define MAGIC            27022010u
#define VERSION          2u
#define FLAG_NEEDS_CHECK 1u

/* struct disk_metadata_index: one entry of 16 bytes for each bitmap block. */
#define INDEX_FIRST      16u
#define INDEX_ENTRY      16u
#define INDEX_MAX        255u
#define BITMAP_FIRST     16u
#define BLOCKS_PER_INDEX ((BLOCK_BYTES - BITMAP_FIRST) * 4u) /* two bits for each block */

static bool changed(struct error *err, const char *what)
{
    return error_set_reason(err, ERROR_DATA_LOSS, "MapChanged",
                            "the map of written blocks on the disk was changed: %s", what);
}

static bool read_blocks(int fd, uint64_t block, uint64_t n, uint8_t *out, struct error *err)
{
    return fd_pread_all(fd, out, n * BLOCK_BYTES, (off_t)(block * BLOCK_BYTES), err) ||
           error_wrap(err, "read the map of written blocks");
}

bool map_check(int map_fd, struct map_info *out, struct error *err)
{
    auto_free uint8_t *super = NULL;

    if (!device_buffer(BLOCK_BYTES, &super, err) || !read_blocks(map_fd, 0, 1, super, err))
        return false;
    if (u64le(super + SUPER_MAGIC) != MAGIC || u32le(super + SUPER_VERSION) != VERSION)
        return changed(err, "it does not begin as a map");
    if (u32le(super + SUPER_DATA_BLOCK) != LAYOUT_BLOCK_BYTES / SECTOR_BYTES ||
        u32le(super + SUPER_BLOCK) != BLOCK_BYTES / SECTOR_BYTES)
        return changed(err, "it has another block size");
    uint64_t blocks = u64le(super + SUPER_DATA_TOTAL);
    if (blocks == 0 || blocks > VOLUME_SIZE_MAX / LAYOUT_BLOCK_BYTES)
        return changed(err, "its number of blocks is not possible");
    *out = (struct map_info){ .needs_check = u32le(super + SUPER_FLAGS) & FLAG_NEEDS_CHECK,
                              .data_bytes = blocks * LAYOUT_BLOCK_BYTES };
    return true;
}

/* The used blocks that follow each other, so that they are read at once. */
struct run {
    int fd;
    uint64_t start, n;
    uint8_t *buffer; /* RUN_BLOCKS */
    struct sha256_stream sha256;
};

static bool run_end(struct run *run, struct error *err)
{
    const uint64_t place[] = { htole64(run->start), htole64(run->n) };
    uint64_t n = run->n;

    run->n = 0;
    return n == 0 || (read_blocks(run->fd, run->start, n, run->buffer, err) &&
                      sha256_add(&run->sha256, place, sizeof(place), err) &&
                      sha256_add(&run->sha256, run->buffer, n * BLOCK_BYTES, err));
}

static bool run_add(struct run *run, uint64_t block, struct error *err)
{
    if (run->n > 0 && (block != run->start + run->n || run->n == RUN_BLOCKS) && !run_end(run, err))
        return false;
    if (run->n == 0)
        run->start = block;
    run->n++;
    return true;
}

static bool is_used(const uint8_t *bitmap, uint64_t i)
{
    return bitmap[BITMAP_FIRST + i / 4] >> (i % 4 * 2) & 3;
}

static bool hash_used(struct run *run, const uint8_t *index, uint64_t total, struct error *err)
{
    auto_free uint8_t *bitmap = NULL;

    if (!device_buffer(BLOCK_BYTES, &bitmap, err))
        return false;
    for (uint64_t first = 0; first < total; first += BLOCKS_PER_INDEX) {
        uint64_t at = u64le(index + INDEX_FIRST + first / BLOCKS_PER_INDEX * INDEX_ENTRY);

        if (at >= total)
            return changed(err, "its space map points outside");
        if (!read_blocks(run->fd, at, 1, bitmap, err))
            return false;
        for (uint64_t i = 0; i < BLOCKS_PER_INDEX && first + i < total; i++) {
            if (is_used(bitmap, i) && !run_add(run, first + i, err))
                return false;
        }
    }
    return run_end(run, err);
}

bool map_hash(int map_fd, uint8_t out[static SHA256_LEN], struct error *err)
{
    auto_free uint8_t *super = NULL, *index = NULL, *buffer = NULL;

    if (!device_buffer(BLOCK_BYTES, &super, err) || !device_buffer(BLOCK_BYTES, &index, err) ||
        !device_buffer((size_t)RUN_BLOCKS * BLOCK_BYTES, &buffer, err) ||
        !read_blocks(map_fd, 0, 1, super, err))
        return false;
    uint64_t total = u64le(super + SUPER_SPACE_TOTAL), at = u64le(super + SUPER_SPACE_INDEX);
    if (total > (uint64_t)INDEX_MAX * BLOCKS_PER_INDEX || at >= total)
        return changed(err, "its space map does not fit");
    if (!read_blocks(map_fd, at, 1, index, err))
        return false;
    struct run run = { .fd = map_fd, .buffer = buffer, .sha256 = { .context = NULL } };
    bool ok = sha256_start(&run.sha256, err) && hash_used(&run, index, total, err) &&
              sha256_finish(&run.sha256, out, err);
    sha256_drop(&run.sha256);
    return ok;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "record/layout.h"

#include <inttypes.h>

/*
 * dm-integrity's area, in 512-byte sectors: a superblock of 4 KiB, then journal sections, then
 * data. Data comes in areas of INTERLEAVE_SECTORS; the tags of an area lie in front of it. A tag
 * has 32 bytes in both authenticated modes (AEGIS-128: 16 bytes of tag and 16 bytes of random
 * nonce).
 */
#define SUPERBLOCK_SECTORS      8u
#define TAG_BYTES               32u
#define INTERLEAVE_SECTORS      32768u
#define RUN_SECTORS             (TAG_BYTES * (INTERLEAVE_SECTORS / 8) / SECTOR_BYTES)
#define JOURNAL_SECTION_SECTORS 264u /* 32 blocks of 4 KiB and their 8 sectors of entries */
#define JOURNAL_MIN_BYTES       (4ull << 20)
#define JOURNAL_MAX_BYTES       (64ull << 20)

/* The size of dm-clone's bitmap: an array block of 4 KiB holds 509 words of 64 bits. */
#define BITS_PER_MAP_BLOCK 32576u
#define MAP_BLOCK_BYTES    4096u
#define REGION_MIN_BYTES   (64u * 1024)

/* A whole number of sections, so that the kernel does not round it to another size. */
static uint32_t journal_sectors_for(uint64_t mapping_bytes)
{
    uint64_t wanted = mapping_bytes / 128;

    if (wanted < JOURNAL_MIN_BYTES)
        wanted = JOURNAL_MIN_BYTES;
    if (wanted > JOURNAL_MAX_BYTES)
        wanted = JOURNAL_MAX_BYTES;
    return (uint32_t)(wanted / SECTOR_BYTES / JOURNAL_SECTION_SECTORS * JOURNAL_SECTION_SECTORS);
}

static uint64_t device_bytes_for(enum integrity integrity, uint64_t mapping_bytes)
{
    if (integrity == INTEGRITY_NONE)
        return LAYOUT_DATA_OFFSET + mapping_bytes;
    uint64_t data = mapping_bytes / SECTOR_BYTES;
    uint64_t areas = (data + INTERLEAVE_SECTORS - 1) / INTERLEAVE_SECTORS;
    uint64_t sectors =
        SUPERBLOCK_SECTORS + journal_sectors_for(mapping_bytes) + data + areas * RUN_SECTORS;
    return LAYOUT_DATA_OFFSET + sectors * SECTOR_BYTES;
}

bool layout_plan(struct volume_spec *spec, uint64_t size_bytes, struct error *err)
{
    if (size_bytes < VOLUME_SIZE_MIN || size_bytes > VOLUME_SIZE_MAX)
        return error_set(err, ERROR_OUT_OF_RANGE,
                         "size %" PRIu64 " bytes: a volume has from 1 MiB to 64 TiB", size_bytes);
    enum integrity integrity = spec->integrity;
    if (integrity != INTEGRITY_AEGIS128 && integrity != INTEGRITY_HMAC_SHA256 &&
        integrity != INTEGRITY_NONE)
        return error_set(err, ERROR_INVALID_ARGUMENT, "unknown integrity mode %" PRIu32,
                         spec->integrity);
    bool authenticated = integrity != INTEGRITY_NONE;
    spec->size_bytes = round_up_u64(size_bytes, VOLUME_SECTOR_BYTES);
    spec->mapping_bytes = LAYOUT_RESERVED_BYTES + spec->size_bytes;
    spec->device_bytes = device_bytes_for(integrity, spec->mapping_bytes);
    spec->sector_bytes = VOLUME_SECTOR_BYTES;
    spec->journal_sectors = authenticated ? journal_sectors_for(spec->mapping_bytes) : 0;
    spec->interleave_sectors = authenticated ? INTERLEAVE_SECTORS : 0;
    spec->layout_version = LAYOUT_VERSION;
    return true;
}

uint64_t layout_usable_bytes(enum integrity integrity, uint64_t device_bytes)
{
    /* A larger volume needs a larger device, so a binary search finds the largest that fits. */
    uint64_t fits = 0, too_large = VOLUME_SIZE_MAX / VOLUME_SECTOR_BYTES + 1;

    while (too_large - fits > 1) {
        uint64_t middle = fits + (too_large - fits) / 2;
        uint64_t mapping = LAYOUT_RESERVED_BYTES + middle * VOLUME_SECTOR_BYTES;

        if (device_bytes_for(integrity, mapping) <= device_bytes)
            fits = middle;
        else
            too_large = middle;
    }
    uint64_t size = fits * VOLUME_SECTOR_BYTES;
    return size < VOLUME_SIZE_MIN ? 0 : size;
}

/* Array blocks, the B-tree over them, and the fixed part of a map: superblock, space map, roots. */
static uint64_t map_blocks(uint64_t regions)
{
    uint64_t arrays = (regions + BITS_PER_MAP_BLOCK - 1) / BITS_PER_MAP_BLOCK;

    return arrays + arrays / 64 + 16;
}

uint32_t layout_region_bytes(uint64_t extent_bytes)
{
    uint32_t region = REGION_MIN_BYTES;

    while (map_blocks(extent_bytes / region + 1) > LAYOUT_SLOT_BYTES / 3 / MAP_BLOCK_BYTES)
        region *= 2;
    return region;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "record/layout.h"

#include <inttypes.h>

/*
 * dm-integrity's area, in 512-byte sectors: a superblock of 4 KiB, then journal sections, then
 * data. Data comes in areas of LAYOUT_INTERLEAVE_SECTORS; the tags of an area lie in front of it. A tag
 * has 32 bytes in both authenticated modes (AEGIS-128: 16 bytes of tag and 16 bytes of random
 * nonce).
 */
#define SUPERBLOCK_SECTORS      8u
#define TAG_BYTES               32u
#define RUN_SECTORS             (TAG_BYTES * (LAYOUT_INTERLEAVE_SECTORS / 8) / SECTOR_BYTES)
#define JOURNAL_SECTION_SECTORS 264u /* 32 blocks of 4 KiB and their 8 sectors of entries */
#define JOURNAL_MIN_BYTES       (4ull << 20)
#define JOURNAL_MAX_BYTES       ((uint64_t)LAYOUT_JOURNAL_SECTORS_MAX * SECTOR_BYTES)

/* The first group. */
#define GROUP_BYTES (64ull << 30)

/* A whole number of sections, so that the kernel does not round it to another size. Space for one
 * section must be there also when it is not used. */
static uint32_t journal_sectors_for(const struct volume_spec *spec, uint64_t mapping_bytes)
{
    uint64_t wanted = mapping_bytes / 128;

    if (spec->integrity == INTEGRITY_NONE)
        return 0;
    if (spec->no_journal)
        return JOURNAL_SECTION_SECTORS;
    if (wanted < JOURNAL_MIN_BYTES)
        wanted = JOURNAL_MIN_BYTES;
    if (wanted > JOURNAL_MAX_BYTES)
        wanted = JOURNAL_MAX_BYTES;
    return (uint32_t)(wanted / SECTOR_BYTES / JOURNAL_SECTION_SECTORS * JOURNAL_SECTION_SECTORS);
}

uint32_t layout_data_offset(const struct volume_spec *spec)
{
    return spec->taken_over ? LAYOUT_OLD_DATA_OFFSET - LAYOUT_RESERVED_BYTES : LAYOUT_DATA_OFFSET;
}

uint64_t layout_iv_offset(const struct volume_spec *spec)
{
    return spec->taken_over ? 0 - (uint64_t)(LAYOUT_RESERVED_BYTES / SECTOR_BYTES) : 0;
}

/* Of like only integrity and taken_over count. */
static uint64_t device_bytes_for(const struct volume_spec *like, uint64_t mapping_bytes,
                                 uint32_t journal_sectors)
{
    if (like->integrity == INTEGRITY_NONE)
        return layout_data_offset(like) + mapping_bytes;
    uint64_t data = mapping_bytes / SECTOR_BYTES;
    uint64_t areas = (data + LAYOUT_INTERLEAVE_SECTORS - 1) / LAYOUT_INTERLEAVE_SECTORS;
    uint64_t sectors = SUPERBLOCK_SECTORS + journal_sectors + data + areas * RUN_SECTORS;
    return LAYOUT_DATA_OFFSET + sectors * SECTOR_BYTES;
}

size_t layout_groups(uint64_t size_bytes, struct layout_group out[static LAYOUT_GROUPS_MAX])
{
    uint64_t left = round_up_u64(size_bytes, LAYOUT_BLOCK_BYTES);
    uint64_t offset = LAYOUT_RESERVED_BYTES;
    size_t n = 0;

    for (; left > 0 && n < LAYOUT_GROUPS_MAX; n++) {
        uint64_t map = (uint64_t)LAYOUT_MAP_BYTES << n;
        uint64_t data = (GROUP_BYTES << n) - map;

        if (data > left)
            data = left;
        out[n] = (struct layout_group){
            .map_offset = offset, .map_bytes = map, .data_offset = offset + map, .data_bytes = data
        };
        offset += map + data;
        left -= data;
    }
    return n;
}

uint64_t layout_mapping_bytes(enum integrity integrity, uint64_t size_bytes)
{
    struct layout_group groups[LAYOUT_GROUPS_MAX];

    if (integrity == INTEGRITY_NONE)
        return LAYOUT_RESERVED_BYTES + size_bytes;
    size_t n = layout_groups(size_bytes, groups);
    return n > 0 ? groups[n - 1].data_offset + groups[n - 1].data_bytes : LAYOUT_RESERVED_BYTES;
}

/* The data of the groups that fit; only the last one may be shorter than its group. */
static uint64_t data_in(uint64_t mapping_bytes)
{
    uint64_t offset = LAYOUT_RESERVED_BYTES, size = 0;

    for (size_t n = 0; n < LAYOUT_GROUPS_MAX && offset < mapping_bytes; n++) {
        uint64_t map = (uint64_t)LAYOUT_MAP_BYTES << n, group = GROUP_BYTES << n;
        uint64_t used = mapping_bytes - offset < group ? mapping_bytes - offset : group;

        size += used > map ? used - map : 0;
        offset += used;
    }
    return size;
}

bool layout_find_size(enum integrity integrity, uint64_t mapping_bytes, uint64_t *size_bytes)
{
    uint64_t size = 0;

    if (mapping_bytes > INT64_MAX || mapping_bytes < LAYOUT_RESERVED_BYTES)
        return false;
    size = integrity == INTEGRITY_NONE ? mapping_bytes - LAYOUT_RESERVED_BYTES
                                       : data_in(mapping_bytes);
    if (size < VOLUME_SIZE_MIN || size > VOLUME_SIZE_MAX || size % VOLUME_SECTOR_BYTES != 0 ||
        layout_mapping_bytes(integrity, size) != mapping_bytes)
        return false;
    *size_bytes = size;
    return true;
}

static bool set_sizes(struct volume_spec *spec, uint64_t size_bytes, struct error *err)
{
    if (size_bytes < VOLUME_SIZE_MIN || size_bytes > VOLUME_SIZE_MAX)
        return error_set(err, ERROR_OUT_OF_RANGE,
                         "size %" PRIu64 " bytes: a volume has from 1 MiB to 64 TiB", size_bytes);
    spec->size_bytes = round_up_u64(size_bytes, VOLUME_SECTOR_BYTES);
    spec->mapping_bytes = layout_mapping_bytes(spec->integrity, spec->size_bytes);
    return true;
}

uint64_t layout_device_bytes(const struct volume_spec *spec)
{
    return device_bytes_for(spec, spec->mapping_bytes, spec->journal_sectors);
}

bool layout_plan(struct volume_spec *spec, uint64_t size_bytes, struct error *err)
{
    enum integrity integrity = spec->integrity;

    if (integrity != INTEGRITY_AEGIS128 && integrity != INTEGRITY_HMAC_SHA256 &&
        integrity != INTEGRITY_NONE)
        return error_set(err, ERROR_INVALID_ARGUMENT, "unknown integrity mode %" PRIu32,
                         spec->integrity);
    if (!set_sizes(spec, size_bytes, err))
        return false;
    spec->sector_bytes = VOLUME_SECTOR_BYTES;
    spec->journal_sectors = journal_sectors_for(spec, spec->mapping_bytes);
    spec->interleave_sectors = integrity != INTEGRITY_NONE ? LAYOUT_INTERLEAVE_SECTORS : 0;
    spec->layout_version = LAYOUT_VERSION;
    spec->device_bytes = layout_device_bytes(spec);
    return true;
}

bool layout_plan_take_over(struct volume_spec *spec, uint64_t device_bytes, struct error *err)
{
    uint32_t sector_bytes = spec->sector_bytes;
    uint64_t behind =
        device_bytes > LAYOUT_OLD_DATA_OFFSET ? device_bytes - LAYOUT_OLD_DATA_OFFSET : 0;

    if (spec->integrity != INTEGRITY_NONE)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "a volume with integrity cannot be taken over in place");
    spec->taken_over = true;
    if (!layout_plan(spec, behind - behind % VOLUME_SECTOR_BYTES, err))
        return error_wrap(err, "a disk of %" PRIu64 " bytes, of which 16 MiB are the old header",
                          device_bytes);
    spec->sector_bytes = sector_bytes;
    return true;
}

bool layout_plan_growth(struct volume_spec *spec, uint64_t size_bytes, struct error *err)
{
    if (size_bytes < spec->size_bytes)
        return error_set(err, ERROR_OUT_OF_RANGE,
                         "size %" PRIu64 " bytes: the volume has %" PRIu64
                         " bytes already and can only grow",
                         size_bytes, spec->size_bytes);
    if (!set_sizes(spec, size_bytes, err))
        return false;
    spec->device_bytes = layout_device_bytes(spec);
    return true;
}

uint64_t layout_usable_bytes(const struct volume_spec *like, uint64_t device_bytes)
{
    /* A larger volume needs a larger device, so a binary search finds the largest that fits. */
    uint64_t fits = 0, too_large = VOLUME_SIZE_MAX / VOLUME_SECTOR_BYTES + 1;

    while (too_large - fits > 1) {
        uint64_t middle = fits + (too_large - fits) / 2;
        uint64_t mapping = layout_mapping_bytes(like->integrity, middle * VOLUME_SECTOR_BYTES);
        uint32_t journal_sectors = journal_sectors_for(like, mapping);

        if (device_bytes_for(like, mapping, journal_sectors) <= device_bytes)
            fits = middle;
        else
            too_large = middle;
    }
    uint64_t size = fits * VOLUME_SECTOR_BYTES;
    return size < VOLUME_SIZE_MIN ? 0 : size;
}

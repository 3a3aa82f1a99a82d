/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/integrity.h"

#include "base/file.h"
#include "base/reader.h"
#include "crypt/device.h"
#include "crypt/luks.h"
#include "record/layout.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/sysmacros.h>

#define JOURNAL_SECTION_SECTORS 264u
#define SUPER_JOURNAL_SECTIONS  12
#define SUPER_DATA_SECTORS      16
#define VERSION_FIXED_PADDING   4u
#define FLAG_FIXED_PADDING      8u

static uint64_t log2_of(uint64_t value)
{
    return 63 - (uint64_t)__builtin_clzll(value);
}

bool integrity_check(const uint8_t *superblock, const struct volume_spec *spec, struct error *err)
{
    /* Fields of struct superblock in the kernel's drivers/md/dm-integrity.c. Other flags turn on
     * the journal MAC, bitmap mode, or recalculation, which would accept whatever is on the disk.
     * We use none of them. */
    const struct {
        const char *name;
        size_t offset, len;
        uint64_t expected;
        bool may_be_less;
    } fields[] = {
        { "magic", 0, 8, 0x0074726765746e69ull },
        { "version", 8, 1, VERSION_FIXED_PADDING },
        { "interleave", 9, 1, log2_of(spec->interleave_sectors | 1) },
        { "tag size", 10, 2, luks_mode_of(spec->integrity)->tag_bytes },
        { "journal sections", SUPER_JOURNAL_SECTIONS, 4,
          spec->journal_sectors / JOURNAL_SECTION_SECTORS },
        /* The volume may have grown since. The kernel works out the number anew. */
        { "data sectors", SUPER_DATA_SECTORS, 8, spec->mapping_bytes / SECTOR_BYTES,
          .may_be_less = true },
        { "flags", 24, 4, FLAG_FIXED_PADDING },
        { "sectors per block", 28, 1, log2_of(spec->sector_bytes / SECTOR_BYTES | 1) },
        { "recalculation position", 32, 8, 0 },
    };

    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        uint64_t found = little_endian(superblock + fields[i].offset, fields[i].len);

        if (found == fields[i].expected || (fields[i].may_be_less && found < fields[i].expected))
            continue;
        return error_set_reason(err, ERROR_DATA_LOSS, "HeaderChanged",
                                "the integrity superblock on the disk was changed: %s is %" PRIu64
                                ", the record says %" PRIu64,
                                fields[i].name, found, fields[i].expected);
    }
    return true;
}

static bool read_superblock(int device_fd, uint8_t **out, struct error *err)
{
    auto_free uint8_t *superblock = NULL;

    if (!device_buffer(INTEGRITY_SUPERBLOCK_BYTES, &superblock, err))
        return false;
    if (!fd_pread_all(device_fd, superblock, INTEGRITY_SUPERBLOCK_BYTES, LAYOUT_DATA_OFFSET, err))
        return error_wrap(err, "read the integrity superblock");
    *out = TAKE_PTR(superblock);
    return true;
}

bool integrity_check_device(int device_fd, const struct volume_spec *spec, struct error *err)
{
    auto_free uint8_t *superblock = NULL;

    return spec->integrity == INTEGRITY_NONE ||
           (read_superblock(device_fd, &superblock, err) && integrity_check(superblock, spec, err));
}

bool integrity_read_sizes(int device_fd, struct volume_spec *spec, struct error *err)
{
    auto_free uint8_t *superblock = NULL;

    if (!read_superblock(device_fd, &superblock, err))
        return false;
    uint64_t sections = little_endian(superblock + SUPER_JOURNAL_SECTIONS, 4);
    uint64_t sectors = little_endian(superblock + SUPER_DATA_SECTORS, 8);

    if (sections == 0 || sections > LAYOUT_JOURNAL_SECTORS_MAX / JOURNAL_SECTION_SECTORS ||
        sectors > INT64_MAX / SECTOR_BYTES ||
        !layout_find_size(spec->integrity, sectors * SECTOR_BYTES, &spec->size_bytes))
        return error_set_reason(
            err, ERROR_DATA_LOSS, "HeaderChanged",
            "the integrity superblock on the disk is not one of a volume: %" PRIu64
            " journal sections, %" PRIu64 " sectors",
            sections, sectors);
    spec->journal_sectors = (uint32_t)sections * JOURNAL_SECTION_SECTORS;
    spec->interleave_sectors = LAYOUT_INTERLEAVE_SECTORS;
    spec->mapping_bytes = sectors * SECTOR_BYTES;
    return integrity_check(superblock, spec, err);
}

/* The kernel formats a device whose superblock is all zeros. Journal mode, as libcryptsetup opens
 * it. */
static bool format_table(const struct volume_name *name, const struct volume_spec *spec,
                         struct table *out, struct error *err)
{
    struct table_info bottom;

    return layer_info(name, LAYER_BOTTOM, &bottom, err) &&
           table_add(out, spec->mapping_bytes / SECTOR_BYTES, err, "integrity",
                     "%u:%u %u %u J 4 journal_sectors:%" PRIu32 " interleave_sectors:%" PRIu32
                     " block_size:%" PRIu32 " fix_padding",
                     major(bottom.number), minor(bottom.number), LAYOUT_DATA_OFFSET / SECTOR_BYTES,
                     luks_mode_of(spec->integrity)->tag_bytes, spec->journal_sectors,
                     spec->interleave_sectors, spec->sector_bytes);
}

bool integrity_format(const struct volume_name *name, int device_fd, const struct volume_spec *spec,
                      struct error *err)
{
    auto_free struct table *table = NULL;

    return device_write_zeros(device_fd, LAYOUT_DATA_OFFSET, INTEGRITY_SUPERBLOCK_BYTES, err) &&
           device_flush(device_fd, err) && table_new(&table, err) &&
           format_table(name, spec, table, err) &&
           table_create(layer_name(name, LAYER_INTEGRITY).text, table, false, err) &&
           layers_remove(name, LAYER_INTEGRITY, LAYER_INTEGRITY, err);
}

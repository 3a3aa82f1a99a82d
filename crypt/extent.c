/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/extent.h"

#include "base/fault.h"
#include "base/file.h"
#include "base/reader.h"
#include "crypt/device.h"
#include "record/layout.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

/* dm-clone copies this many bytes at once, or one region when a region is larger. */
#define HYDRATION_BYTES (1u << 20)

#define HASH_STEP_BYTES (1u << 20)

/* dm-clone's superblock (drivers/md/dm-clone-metadata.c), little-endian. */
#define MAP_MAGIC         0x8af27f64u
#define MAP_MAGIC_OFFSET  32
#define MAP_REGION_OFFSET 172
#define MAP_SIZE_OFFSET   180

static const enum layer clone_layers[LAYOUT_SLOT_COUNT] = { LAYER_CLONE0, LAYER_CLONE1 };
static const enum layer dest_layers[LAYOUT_SLOT_COUNT] = { LAYER_DEST0, LAYER_DEST1 };
static const enum layer zero_layers[LAYOUT_SLOT_COUNT] = { LAYER_ZERO0, LAYER_ZERO1 };
static const enum layer map_layers[LAYOUT_SLOT_COUNT] = { LAYER_MAP0, LAYER_MAP1 };

static uint64_t clone_sectors(const struct volume_extent *extent)
{
    return (extent->length_bytes - LAYOUT_EXTENT_DIRECT_BYTES) / SECTOR_BYTES;
}

/* Converts a place in the user area to its sector in the mapping. */
static uint64_t mapping_sector(uint64_t user_bytes)
{
    return (LAYOUT_RESERVED_BYTES + user_bytes) / SECTOR_BYTES;
}

void extents_plan(const struct volume_spec *spec, struct record *record)
{
    record->n_extents = spec->integrity == INTEGRITY_NONE ? 0 : 1;
    record->extents[0] = (struct volume_extent){
        .length_bytes = spec->size_bytes,
        .region_bytes = layout_region_bytes(spec->size_bytes),
    };
}

bool extents_are_done(const struct record *record)
{
    for (uint32_t i = 0; i < record->n_extents; i++) {
        if (!record->extents[i].done)
            return false;
    }
    return true;
}

static uint64_t map_field(const uint8_t *superblock, size_t offset)
{
    return u64le(superblock + offset);
}

static bool map_is_of(const uint8_t *superblock, const struct volume_extent *extent)
{
    return map_field(superblock, MAP_MAGIC_OFFSET) == MAP_MAGIC &&
           map_field(superblock, MAP_REGION_OFFSET) == extent->region_bytes / SECTOR_BYTES &&
           map_field(superblock, MAP_SIZE_OFFSET) == clone_sectors(extent);
}

bool extents_check_maps(const struct record *record, int mapping_fd, struct error *err)
{
    auto_free uint8_t *superblock = NULL;

    if (!device_buffer(DEVICE_BLOCK_BYTES, &superblock, err))
        return false;
    for (uint32_t i = 0; i < record->n_extents; i++) {
        const struct volume_extent *extent = &record->extents[i];

        if (extent->done)
            continue;
        if (!fd_pread_all(mapping_fd, superblock, DEVICE_BLOCK_BYTES,
                          LAYOUT_SLOT_OFFSET(extent->slot), err))
            return error_wrap(err, "read the initialisation map");
        if (map_is_of(superblock, extent))
            continue;
        return error_set_reason(
            err, ERROR_DATA_LOSS, "MapChanged",
            "the initialisation map of extent %" PRIu32 " does not belong to this volume", i);
    }
    return true;
}

bool extents_hash_maps(int mapping_fd, uint8_t out[static SHA256_LEN], struct error *err)
{
    const uint64_t start = LAYOUT_SLOT_OFFSET(0);
    const uint64_t end = LAYOUT_SLOT_OFFSET(LAYOUT_SLOT_COUNT);
    auto_free uint8_t *buffer = NULL;
    auto_sha256 struct sha256_stream stream = { .context = NULL };

    if (!device_buffer(HASH_STEP_BYTES, &buffer, err) || !sha256_start(&stream, err))
        return false;
    for (uint64_t at = start; at < end; at += HASH_STEP_BYTES) {
        if (!fd_pread_all(mapping_fd, buffer, HASH_STEP_BYTES, (off_t)at, err) ||
            !sha256_add(&stream, buffer, HASH_STEP_BYTES, err))
            return error_wrap(err, "hash the initialisation maps");
    }
    return sha256_finish(&stream, out, err);
}

/* Creates one layer and returns its device number. */
static bool layer_up(const struct volume_name *name, enum layer layer, const struct table *table,
                     dev_t *out_number, struct error *err)
{
    struct table_info info;

    if (!table_create(layer_name(name, layer).text, table, false, err) ||
        !layer_info(name, layer, &info, err))
        return false;
    *out_number = info.number;
    return true;
}

static bool linear_up(const struct volume_name *name, enum layer layer, uint64_t sectors,
                      dev_t lower, uint64_t lower_sector, dev_t *out_number, struct error *err)
{
    auto_free struct table *table = NULL;

    return table_new(&table, err) &&
           table_add(table, sectors, err, "linear", "%u:%u %" PRIu64, major(lower), minor(lower),
                     lower_sector) &&
           layer_up(name, layer, table, out_number, err);
}

static bool zero_up(const struct volume_name *name, enum layer layer, uint64_t sectors,
                    dev_t *out_number, struct error *err)
{
    auto_free struct table *table = NULL;

    return table_new(&table, err) && table_add(table, sectors, err, "zero", "%s", "") &&
           layer_up(name, layer, table, out_number, err);
}

static bool clone_table(const struct volume_extent *extent, dev_t map, dev_t dest, dev_t zero,
                        struct table *out, struct error *err)
{
    uint32_t batch = HYDRATION_BYTES / extent->region_bytes;

    if (batch == 0)
        batch = 1;
    return table_add(out, clone_sectors(extent), err, "clone",
                     "%u:%u %u:%u %u:%u %u 1 no_hydration 4 hydration_threshold %u"
                     " hydration_batch_size %u",
                     major(map), minor(map), major(dest), minor(dest), major(zero), minor(zero),
                     extent->region_bytes / SECTOR_BYTES, batch * 2, batch);
}

static bool clone_failed(struct error *err)
{
    bool has_clone = true;
    struct error ignored = ERROR_INIT;

    if (table_find_target("clone", &has_clone, &ignored) && !has_clone)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "the kernel has no dm-clone (CONFIG_DM_CLONE), which this volume "
                         "needs while it is being initialised");
    return false;
}

static bool extent_up(const struct volume_name *name, const struct volume_extent *extent,
                      dev_t mapping, struct error *err)
{
    uint32_t slot = extent->slot;
    dev_t map = 0, dest = 0, zero = 0, clone = 0;
    auto_free struct table *table = NULL;

    if (!linear_up(name, map_layers[slot], LAYOUT_SLOT_BYTES / SECTOR_BYTES, mapping,
                   LAYOUT_SLOT_OFFSET(slot) / SECTOR_BYTES, &map, err) ||
        !zero_up(name, zero_layers[slot], clone_sectors(extent), &zero, err) ||
        !linear_up(name, dest_layers[slot], clone_sectors(extent), mapping,
                   mapping_sector(extent->start_bytes), &dest, err))
        return false;
    if (!table_new(&table, err) || !clone_table(extent, map, dest, zero, table, err))
        return false;
    FAULT_POINT("worker.open.clone");
    return layer_up(name, clone_layers[slot], table, &clone, err) || clone_failed(err);
}

bool extents_up(const struct volume_name *name, const struct record *record, dev_t mapping,
                struct error *err)
{
    for (uint32_t i = 0; i < record->n_extents; i++) {
        const struct volume_extent *extent = &record->extents[i];

        if (!extent->done && !extent_up(name, extent, mapping, err))
            return error_wrap(err, "initialisation of extent %" PRIu32, i);
    }
    return true;
}

static bool add_linear(struct table *out, uint64_t bytes, dev_t lower, uint64_t lower_sector,
                       struct error *err)
{
    return table_add(out, bytes / SECTOR_BYTES, err, "linear", "%u:%u %" PRIu64, major(lower),
                     minor(lower), lower_sector);
}

static bool add_running(const struct volume_name *name, const struct volume_extent *extent,
                        dev_t mapping, struct table *out, struct error *err)
{
    struct table_info clone;
    uint64_t direct_start = extent->start_bytes + extent->length_bytes - LAYOUT_EXTENT_DIRECT_BYTES;

    return layer_info(name, clone_layers[extent->slot], &clone, err) &&
           add_linear(out, extent->length_bytes - LAYOUT_EXTENT_DIRECT_BYTES, clone.number, 0,
                      err) &&
           add_linear(out, LAYOUT_EXTENT_DIRECT_BYTES, mapping, mapping_sector(direct_start), err);
}

bool extents_table(const struct volume_name *name, const struct record *record, dev_t mapping,
                   struct table *out, struct error *err)
{
    if (extents_are_done(record))
        return add_linear(out, record->spec.size_bytes, mapping, mapping_sector(0), err);
    for (uint32_t i = 0; i < record->n_extents; i++) {
        const struct volume_extent *extent = &record->extents[i];
        bool ok = extent->done ? add_linear(out, extent->length_bytes, mapping,
                                            mapping_sector(extent->start_bytes), err)
                               : add_running(name, extent, mapping, out, err);

        if (!ok)
            return false;
    }
    return true;
}

bool extents_hydrate(const struct volume_name *name, const struct record *record, struct error *err)
{
    for (uint32_t i = 0; i < record->n_extents; i++) {
        const struct volume_extent *extent = &record->extents[i];

        if (!extent->done && !table_message(layer_name(name, clone_layers[extent->slot]).text,
                                            "enable_hydration", err))
            return false;
    }
    return true;
}

bool extent_get_progress(const struct volume_name *name, uint32_t slot, struct extent_progress *out,
                         struct error *err)
{
    struct table_info info;
    struct table_target status;

    *out = (struct extent_progress){ .exists = false };
    if (!layer_info(name, clone_layers[slot], &info, err))
        return false;
    if (!info.exists)
        return true;
    if (!table_get_status(layer_name(name, clone_layers[slot]).text, &status, err))
        return false;
    /* Fields: block size, used/total, region size, hydrated/total, ...; the last word is the map's
     * mode. */
    struct extent_progress progress = { .exists = true };
    const char *mode = strrchr(status.params, ' ');
    progress.failed = strcmp(status.type, "clone") != 0 || !mode || strcmp(mode, " rw") != 0 ||
                      sscanf(status.params, "%*u %*u/%*u %*u %" SCNu64 "/%" SCNu64,
                             &progress.regions_done, &progress.regions_total) != 2;
    *out = progress;
    return true;
}

bool extent_flush(const struct volume_name *name, uint32_t slot, struct error *err)
{
    struct layer_name clone = layer_name(name, clone_layers[slot]);

    return table_suspend(clone.text, TABLE_FLUSH, err) && table_resume(clone.text, err);
}

bool extent_down(const struct volume_name *name, uint32_t slot, struct error *err)
{
    const enum layer layers[] = { clone_layers[slot], dest_layers[slot], zero_layers[slot],
                                  map_layers[slot] };

    for (size_t i = 0; i < ARRAY_LEN(layers); i++) {
        if (!layers_remove(name, layers[i], layers[i], err))
            return false;
    }
    return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/volume.h"

#include "base/fault.h"
#include "crypt/bottom.h"
#include "crypt/device.h"
#include "crypt/extent.h"
#include "crypt/header.h"
#include "crypt/luks.h"
#include "record/layout.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool volume_find(const struct volume_name *name, bool *found, struct volume_device *out,
                 struct error *err)
{
    struct table_info top;
    struct bottom_state bottom;

    if (!layer_info(name, LAYER_TOP, &top, err) || !bottom_get_state(name, &bottom, err))
        return false;
    *found = top.exists;
    *out = (struct volume_device){
        .number = top.number,
        .size_bytes = top.size_sectors * SECTOR_BYTES,
        .read_only = top.read_only || bottom.is_overlay,
    };
    (void)snprintf(out->path, sizeof(out->path), "/dev/mapper/%s", name->text);
    return true;
}

/* The hash is only useful while a map is in use, and when that map is valid. */
static bool wants_hash(const struct volume_name *name, bool *out, struct error *err)
{
    struct bottom_state bottom;
    bool wanted = false;

    if (!bottom_get_state(name, &bottom, err))
        return false;
    for (uint32_t slot = 0; slot < LAYOUT_SLOT_COUNT; slot++) {
        struct extent_progress progress;

        if (!extent_get_progress(name, slot, &progress, err))
            return false;
        if (progress.failed)
            return *out = false, true;
        wanted = wanted || progress.exists;
    }
    *out = wanted && !bottom.is_overlay;
    return true;
}

static bool hash_mapping(const struct volume_name *name, uint8_t out[static SHA256_LEN])
{
    auto_close int fd = -1;
    uint64_t bytes = 0;
    struct error best_effort = ERROR_INIT;

    return device_open(layer_path(name, LAYER_CRYPT).text, false, &fd, &bytes, &best_effort) &&
           extents_hash_maps(fd, out, &best_effort);
}

bool volume_deactivate(const struct volume_name *name, bool *has_hash,
                       uint8_t clean_hash[SHA256_LEN], struct error *err)
{
    bool wanted = false;

    *has_hash = false;
    /* A worker that died may have left layers suspended. A process that reads through them would
     * hang. */
    if (!layers_resume(name, err) || !wants_hash(name, &wanted, err) ||
        !layers_remove(name, LAYER_TOP, LAYER_CRYPT - 1, err))
        return false;
    if (wanted && clean_hash)
        *has_hash = hash_mapping(name, clean_hash);
    return layers_remove(name, LAYER_CRYPT, LAYER_BOTTOM, err);
}

bool volume_fail(const struct volume_name *name, struct error *err)
{
    return layers_fail(name, err);
}

bool volume_suspend(const struct volume_name *name, struct error *err)
{
    return layers_suspend(name, err);
}

bool volume_resume(const struct volume_name *name, struct error *err)
{
    return layers_resume(name, err);
}

static bool record_done(const struct volume_name *name, struct record *record, uint32_t index,
                        const struct record_keeper *keeper, struct error *err)
{
    const struct record_change change = {
        .kind = RECORD_CHANGE_EXTENT_DONE,
        .extent_index = index,
    };

    /* Write the map to the disk before the record changes: after a crash in between only the clone
     * starts once more. */
    if (!extent_flush(name, record->extents[index].slot, err))
        return false;
    FAULT_POINT("worker.finish.record");
    return keeper->change(keeper->cookie, &change, record, err);
}

/* Gives the exposed device the table that follows from the record. */
static bool swap_top(const struct volume_name *name, const struct record *record, struct error *err)
{
    FAULT_POINT("worker.finish.swap");
    struct layer_name top = layer_name(name, LAYER_TOP);
    struct table_info crypt, info;
    auto_free struct table *table = NULL;
    return layer_info(name, LAYER_TOP, &info, err) && layer_info(name, LAYER_CRYPT, &crypt, err) &&
           table_new(&table, err) && extents_table(name, record, crypt.number, table, err) &&
           table_swap(top.text, table, info.read_only, TABLE_FLUSH, err);
}

static bool slot_is_running(const struct record *record, uint32_t slot)
{
    for (uint32_t i = 0; i < record->n_extents; i++) {
        if (!record->extents[i].done && record->extents[i].slot == slot)
            return true;
    }
    return false;
}

/* Removes clones whose extent is done in the record, also those that a dead worker left. */
static bool drop_done_clones(const struct volume_name *name, const struct record *record,
                             struct error *err)
{
    bool swapped = false;

    for (uint32_t slot = 0; slot < LAYOUT_SLOT_COUNT; slot++) {
        struct extent_progress progress;

        if (slot_is_running(record, slot))
            continue;
        if (!extent_get_progress(name, slot, &progress, err))
            return false;
        if (progress.exists && !swapped && !swap_top(name, record, err))
            return false;
        swapped = swapped || progress.exists;
        if (!extent_down(name, slot, err))
            return false;
    }
    return true;
}

bool volume_finish(const struct volume_name *name, const struct record *record,
                   const struct record_keeper *keeper, bool *finished, struct error *err)
{
    auto_free struct record *now = malloc(sizeof(*now));

    if (!now)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for a record");
    *now = *record;
    bool all = true;
    for (uint32_t i = 0; i < record->n_extents; i++) {
        struct extent_progress progress;

        if (record->extents[i].done)
            continue;
        if (!extent_get_progress(name, record->extents[i].slot, &progress, err))
            return false;
        if (progress.failed)
            return error_set_reason(err, ERROR_DATA_LOSS, "MapFailed",
                                    "the initialisation map cannot be written");
        bool complete = progress.exists && progress.regions_done == progress.regions_total;
        if (complete && !record_done(name, now, i, keeper, err))
            return false;
        all = all && complete;
    }
    if (!drop_done_clones(name, now, err))
        return false;
    *finished = all;
    return true;
}

static bool grow_mapping(const struct volume_name *name, const struct record *record,
                         struct error *err)
{
    struct layer_name lower = layer_path(name, LAYER_BOTTOM);
    uint64_t bytes = 0;
    bool needs_repair = false;
    auto_close int fd = -1;
    auto_free uint8_t *header = NULL;

    return device_open(lower.text, false, &fd, &bytes, err) &&
           device_buffer(LAYOUT_HEADER_BYTES, &header, err) &&
           header_read(fd, record, header, &needs_repair, err) &&
           luks_grow(layer_name(name, LAYER_CRYPT).text, lower.text, record, header, err);
}

bool volume_grow(const struct volume_name *name, const struct record *record,
                 struct volume_device *out, struct error *err)
{
    bool found = false;

    if (record->spec.integrity != INTEGRITY_NONE)
        return error_set(err, ERROR_UNIMPLEMENTED, "authenticated volumes cannot grow yet");
    if (!bottom_window_grow(name, record->spec.device_bytes, err) ||
        !grow_mapping(name, record, err) || !swap_top(name, record, err) ||
        !volume_find(name, &found, out, err))
        return false;
    return found || error_set(err, ERROR_NOT_FOUND, "%s is not active", name->text);
}

bool volume_status(const struct volume_name *name, struct volume_status *out, struct error *err)
{
    struct table_info top;
    struct table_target target;
    struct bottom_state bottom;

    *out = (struct volume_status){ .is_active = false };
    if (!layer_info(name, LAYER_TOP, &top, err))
        return false;
    if (!top.exists)
        return true;
    if (!bottom_get_state(name, &bottom, err) ||
        !table_get_status(layer_name(name, LAYER_TOP).text, &target, err))
        return false;
    struct volume_status status = {
        .is_active = true,
        .is_read_only = top.read_only || bottom.is_overlay,
        .is_suspended = top.suspended,
        .map_failed = strcmp(target.type, "error") == 0,
        .overlay_overflow = bottom.is_full,
        .size_bytes = top.size_sectors * SECTOR_BYTES,
    };
    for (uint32_t slot = 0; slot < LAYOUT_SLOT_COUNT; slot++) {
        struct extent_progress progress;

        if (!extent_get_progress(name, slot, &progress, err))
            return false;
        status.is_initialising = status.is_initialising || progress.exists;
        status.map_failed = status.map_failed || progress.failed;
        status.regions_done += progress.regions_done;
        status.regions_total += progress.regions_total;
    }
    *out = status;
    return true;
}

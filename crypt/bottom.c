/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/bottom.h"

#include "crypt/device.h"
#include "record/layout.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#define CHUNK_SECTORS 8u

static bool window_table(dev_t raw, uint64_t bytes, struct table **out, struct error *err)
{
    return table_new(out, err) &&
           table_add(*out, bytes / SECTOR_BYTES, err, "linear", "%u:%u 0", major(raw), minor(raw));
}

bool bottom_window_up(const struct volume_name *name, dev_t raw, uint64_t bytes, struct error *err)
{
    auto_free struct table *table = NULL;

    return window_table(raw, bytes, &table, err) &&
           table_create(layer_name(name, LAYER_BOTTOM).text, table, false, err);
}

bool bottom_window_grow(const struct volume_name *name, uint64_t bytes, struct error *err)
{
    struct layer_name window = layer_name(name, LAYER_BOTTOM);
    struct table_info info;
    struct table_lower raw;
    auto_free struct table *table = NULL;

    if (!table_get_info(window.text, &info, err) || !table_get_lower(window.text, &raw, err))
        return false;
    if (info.size_sectors >= bytes / SECTOR_BYTES)
        return true;
    uint64_t raw_bytes = 0;
    if (!device_size(raw.numbers[0], &raw_bytes, err))
        return false;
    if (raw_bytes < bytes)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "the raw device has %" PRIu64 " bytes, the volume needs %" PRIu64,
                         raw_bytes, bytes);
    return window_table(raw.numbers[0], bytes, &table, err) &&
           table_swap(window.text, table, false, TABLE_FLUSH, err);
}

bool bottom_overlay_up(const struct volume_name *name, dev_t raw, const struct volume_spec *spec,
                       const char *overlay_path, struct error *err)
{
    auto_free struct table *table = NULL;

    return table_new(&table, err) &&
           table_add(table, spec->device_bytes / SECTOR_BYTES, err, "snapshot", "%u:%u %s N %u",
                     major(raw), minor(raw), overlay_path, CHUNK_SECTORS) &&
           table_create(layer_name(name, LAYER_BOTTOM).text, table, false, err);
}

/* The kernel lists the devices of a table with the newest first; dm-snapshot opens the one below before
 * its own. */
bool bottom_find_raw(const struct volume_name *name, dev_t *raw, struct error *err)
{
    struct table_lower lower = { .n = 0 };

    if (!table_get_lower(layer_name(name, LAYER_BOTTOM).text, &lower, err))
        return false;
    if (lower.n == 0)
        return error_set(err, ERROR_NOT_FOUND, "no raw device is below the volume");
    *raw = lower.numbers[lower.n - 1];
    return true;
}

bool bottom_get_state(const struct volume_name *name, struct bottom_state *out, struct error *err)
{
    struct table_target status;
    bool exists = false;

    if (!layer_find_status(name, LAYER_BOTTOM, &exists, &status, err))
        return false;
    bool is_overlay = strcmp(status.type, "snapshot") == 0;
    /* The status is "used/total metadata" in numbers, or one word: Invalid or Overflow. */
    bool is_full = is_overlay && (status.params[0] < '0' || status.params[0] > '9');
    *out = (struct bottom_state){ .is_overlay = is_overlay, .is_full = is_full };
    return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/pool.h"

#include "base/confine.h"
#include "base/fault.h"
#include "crypt/device.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

/* The only thin volume in the pool. */
#define THIN_ID 0u

/* Discards would free blocks, and what lies below cannot discard. When the pool has no space left,
 * which its size rules out, writes fail at once instead of waiting. */
#define POOL_FEATURES "2 ignore_discard error_if_no_space"

#define CHECK_TIMEOUT_MS 60000u

/* The map parts or the data parts of all groups, one after the other: LAYER_MAP or LAYER_DATA. The
 * caller frees the table. */
static bool parts_table(enum layer layer, uint64_t size_bytes, dev_t mapping, struct table **out,
                        struct error *err)
{
    struct layout_group groups[LAYOUT_GROUPS_MAX];
    size_t n = layout_groups(size_bytes, groups);

    if (!table_new(out, err))
        return false;
    for (size_t i = 0; i < n; i++) {
        const struct layout_group *g = &groups[i];
        uint64_t bytes = layer == LAYER_MAP ? g->map_bytes : g->data_bytes;
        uint64_t offset = layer == LAYER_MAP ? g->map_offset : g->data_offset;

        if (!table_add(*out, bytes / SECTOR_BYTES, err, "linear", "%u:%u %" PRIu64, major(mapping),
                       minor(mapping), offset / SECTOR_BYTES))
            return false;
    }
    return true;
}

static bool parts_up(const struct volume_name *name, enum layer layer, uint64_t size_bytes,
                     dev_t mapping, struct error *err)
{
    auto_free struct table *table = NULL;

    return parts_table(layer, size_bytes, mapping, &table, err) &&
           table_create(layer_name(name, layer).text, table, false, err);
}

bool pool_map_up(const struct volume_name *name, uint64_t size_bytes, dev_t mapping,
                 struct error *err)
{
    return parts_up(name, LAYER_MAP, size_bytes, mapping, err);
}

/* The kernel looks at the first block alone, and writes each other block before it reads it. */
bool pool_map_clear(int map_fd, struct error *err)
{
    return device_write_zeros(map_fd, 0, DEVICE_BLOCK_BYTES, err) && device_flush(map_fd, err);
}

bool pool_map_repair(const struct volume_name *name, struct error *err)
{
    struct layer_name map = layer_path(name, LAYER_MAP);
    const char *argv[] = { "thin_check", "--clear-needs-check-flag", CONFINE_DEVICE, NULL };
    const struct confinement how = { .device_path = map.text };

    if (confine_must(argv, &how, CHECK_TIMEOUT_MS, 0, err))
        return true;
    if (err->code != ERROR_INTERNAL)
        return error_wrap(err, "check the map of written blocks");
    return error_set_reason(err, ERROR_DATA_LOSS, "MapDamaged",
                            "thin_check found the map of written blocks damaged: see \"a damaged "
                            "map\" in docs/recovery.md");
}

static bool pool_table_of(const struct volume_name *name, uint64_t data_sectors, struct table *out,
                          struct error *err)
{
    struct table_info map, data;

    return layer_info(name, LAYER_MAP, &map, err) && layer_info(name, LAYER_DATA, &data, err) &&
           table_add(out, data_sectors, err, "thin-pool", "%u:%u %u:%u %u 0 " POOL_FEATURES,
                     major(map.number), minor(map.number), major(data.number), minor(data.number),
                     LAYOUT_BLOCK_BYTES / SECTOR_BYTES);
}

static bool pool_swap(const struct volume_name *name, uint64_t data_sectors, struct error *err)
{
    auto_free struct table *table = NULL;

    return table_new(&table, err) && pool_table_of(name, data_sectors, table, err) &&
           table_swap(layer_name(name, LAYER_POOL).text, table, false, TABLE_FLUSH, err);
}

static bool pool_failed(struct error *err)
{
    bool has_thin = true;
    struct error ignored = ERROR_INIT;

    if (table_find_target("thin-pool", &has_thin, &ignored) && !has_thin)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "the kernel has no dm-thin-pool (CONFIG_DM_THIN_PROVISIONING), which "
                         "authenticated volumes need");
    return false;
}

/* The kernel makes the data longer before the map, and notes the new blocks in the map that is there,
 * which may have no room for them. So a pool that has grown gets its longer map with its old data
 * first. */
bool pool_up(const struct volume_name *name, uint64_t size_bytes, dev_t mapping,
             uint64_t map_data_bytes, struct error *err)
{
    struct layer_name pool = layer_name(name, LAYER_POOL);
    auto_free struct table *table = NULL;
    struct table_info data;

    if (!parts_up(name, LAYER_DATA, size_bytes, mapping, err) ||
        !layer_info(name, LAYER_DATA, &data, err) || !table_new(&table, err))
        return false;
    uint64_t old_sectors = map_data_bytes / SECTOR_BYTES;
    bool is_new = old_sectors == 0, has_grown = !is_new && old_sectors < data.size_sectors;
    if (!pool_table_of(name, has_grown ? old_sectors : data.size_sectors, table, err))
        return false;
    FAULT_POINT("worker.open.pool");
    if (!table_create(pool.text, table, false, err))
        return pool_failed(err);
    char message[32];
    (void)snprintf(message, sizeof(message), "create_thin %u", THIN_ID);
    return (!is_new || table_message(pool.text, message, err)) &&
           (!has_grown || pool_swap(name, data.size_sectors, err));
}

bool pool_table(const struct volume_name *name, uint64_t size_bytes, struct table *out,
                struct error *err)
{
    struct table_info pool;

    return layer_info(name, LAYER_POOL, &pool, err) &&
           table_add(out, size_bytes / SECTOR_BYTES, err, "thin", "%u:%u %u", major(pool.number),
                     minor(pool.number), THIN_ID);
}

static bool parts_grow(const struct volume_name *name, enum layer layer, uint64_t size_bytes,
                       dev_t mapping, struct error *err)
{
    auto_free struct table *table = NULL;

    return parts_table(layer, size_bytes, mapping, &table, err) &&
           table_swap(layer_name(name, layer).text, table, false, TABLE_FLUSH, err);
}

bool pool_grow(const struct volume_name *name, uint64_t size_bytes, dev_t mapping,
               struct error *err)
{
    struct table_info pool, data;

    FAULT_POINT("worker.expand.pool");
    if (!layer_info(name, LAYER_POOL, &pool, err) ||
        !parts_grow(name, LAYER_MAP, size_bytes, mapping, err) ||
        !pool_swap(name, pool.size_sectors, err))
        return false;
    FAULT_POINT("worker.expand.data");
    return parts_grow(name, LAYER_DATA, size_bytes, mapping, err) &&
           layer_info(name, LAYER_DATA, &data, err) && pool_swap(name, data.size_sectors, err);
}

bool pool_get_state(const struct volume_name *name, struct pool_state *out, struct error *err)
{
    struct table_target status;
    bool exists = false;

    if (!layer_find_status(name, LAYER_POOL, &exists, &status, err))
        return false;
    /* "transaction used/total-of-map used/total held mode ...", or "Fail" alone. */
    char mode[24] = "";
    bool is_good =
        sscanf(status.params, "%*u %*u/%*u %*u/%*u %*s %23s", mode) == 1 && strcmp(mode, "rw") == 0;
    *out = (struct pool_state){ .exists = exists, .failed = exists && !is_good };
    return true;
}

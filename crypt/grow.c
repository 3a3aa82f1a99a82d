/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/grow.h"

#include "base/fault.h"
#include "crypt/bottom.h"
#include "crypt/pool.h"
#include "crypt/volume.h"

#include <stdlib.h>
#include <sys/sysmacros.h>

bool exposed_table(const struct volume_name *name, const struct volume_spec *spec,
                   struct table *out, struct error *err)
{
    struct table_info crypt;

    if (spec->integrity != INTEGRITY_NONE)
        return pool_table(name, spec->size_bytes, out, err);
    return layer_info(name, LAYER_CRYPT, &crypt, err) &&
           table_add(out, spec->size_bytes / SECTOR_BYTES, err, "linear", "%u:%u %u",
                     major(crypt.number), minor(crypt.number),
                     LAYOUT_RESERVED_BYTES / SECTOR_BYTES);
}

bool mapping_extend(const struct volume_name *name, const struct volume_spec *spec,
                    struct error *err)
{
    uint64_t sectors = spec->mapping_bytes / SECTOR_BYTES;

    FAULT_POINT("worker.expand.mapping");
    return (spec->integrity == INTEGRITY_NONE ||
            table_extend(layer_name(name, LAYER_INTEGRITY).text, sectors, err)) &&
           table_extend(layer_name(name, LAYER_CRYPT).text, sectors, err);
}

static bool grow_pool(const struct volume_name *name, const struct volume_spec *spec,
                      struct error *err)
{
    struct table_info crypt;

    return spec->integrity == INTEGRITY_NONE ||
           (layer_info(name, LAYER_CRYPT, &crypt, err) &&
            pool_grow(name, spec->size_bytes, crypt.number, err));
}

static bool grow_top(const struct volume_name *name, const struct volume_spec *spec,
                     struct error *err)
{
    struct table_info top;
    auto_free struct table *table = NULL;

    FAULT_POINT("worker.expand.top");
    return layer_info(name, LAYER_TOP, &top, err) && table_new(&table, err) &&
           exposed_table(name, spec, table, err) &&
           table_swap(layer_name(name, LAYER_TOP).text, table, top.read_only, TABLE_FLUSH, err);
}

/* A pool that cannot write its map ignores that it shall grow, and may show zeros where data is. */
static bool check_sound(const struct volume_name *name, struct error *err)
{
    struct volume_status status;

    if (!volume_status(name, &status, err))
        return false;
    return !status.map_failed ||
           error_set_reason(err, ERROR_FAILED_PRECONDITION, "MapFailed",
                            "the volume has failed and cannot grow: unstage it and stage it again");
}

bool volume_grow(const struct volume_name *name, const struct record *record,
                 struct volume_device *out, struct error *err)
{
    const struct volume_spec *spec = &record->spec;
    bool found = false;

    if (!check_sound(name, err) || !bottom_window_grow(name, spec->device_bytes, err) ||
        !mapping_extend(name, spec, err) || !grow_pool(name, spec, err) ||
        !check_sound(name, err) || !grow_top(name, spec, err) ||
        !volume_find(name, &found, out, err))
        return false;
    return found || error_set(err, ERROR_NOT_FOUND, "%s is not active", name->text);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/volume.h"

#include "crypt/bottom.h"
#include "crypt/device.h"
#include "crypt/map.h"
#include "crypt/pool.h"
#include "crypt/state_block.h"
#include "crypt/withhold.h"
#include "record/layout.h"

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

/* Only a volume that was open for writing, and whose map is good, gets a hash of it. */
static bool wants_hash(const struct volume_name *name, bool *out, struct error *err)
{
    struct bottom_state bottom;
    struct pool_state pool;

    if (!bottom_get_state(name, &bottom, err) || !pool_get_state(name, &pool, err))
        return false;
    *out = pool.exists && !pool.failed && !bottom.is_overlay;
    return true;
}

static bool hash_map(const struct volume_name *name, uint8_t out[static SHA256_LEN])
{
    auto_close int fd = -1;
    uint64_t bytes = 0;
    struct error best_effort = ERROR_INIT;

    return device_open(layer_path(name, LAYER_MAP).text, false, &fd, &bytes, &best_effort) &&
           map_hash(fd, out, &best_effort);
}

/* Into both copies of the state block: none of them shall say that the volume is open. */
static bool write_closing(const struct volume_name *name, const uint8_t *closing)
{
    auto_close int fd = -1;
    uint64_t bytes = 0;
    struct error best_effort = ERROR_INIT;

    return device_open(layer_path(name, LAYER_CRYPT).text, true, &fd, &bytes, &best_effort) &&
           state_block_put(fd, closing, 0, &best_effort) &&
           state_block_put(fd, closing, 1, &best_effort);
}

/* A volume of which this cannot be said is treated like any other: the kernel resumes nothing without a key. */
static bool is_withheld(const struct volume_name *name)
{
    struct error ignored = ERROR_INIT;
    bool out = false;

    return volume_find_withheld(name, &out, &ignored) && out;
}

/* Without its key it cannot be resumed, and what its users still wait to write must not be written. */
static bool fail_if_withheld(const struct volume_name *name, struct error *err)
{
    return !is_withheld(name) || layers_fail(name, err);
}

bool volume_stop(const struct volume_name *name, const uint8_t *closing, struct volume_end *out,
                 struct error *err)
{
    bool wanted = false;

    *out = (struct volume_end){ .is_marked = false };
    /* A worker that died may have left layers suspended. A process that reads through them would
     * hang. */
    if (!fail_if_withheld(name, err) || !layers_resume(name, err) ||
        !wants_hash(name, &wanted, err) || !layers_remove(name, LAYER_TOP, LAYER_DATA, err))
        return false;
    if (wanted)
        out->has_hash = hash_map(name, out->hash);
    if (closing)
        out->is_marked = write_closing(name, closing);
    return true;
}

bool volume_deactivate(const struct volume_name *name, struct error *err)
{
    return fail_if_withheld(name, err) && layers_resume(name, err) &&
           layers_remove(name, LAYER_TOP, LAYER_BOTTOM, err);
}

bool volume_fail(const struct volume_name *name, struct error *err)
{
    return layers_fail(name, err);
}

bool volume_leave_behind(const struct volume_name *name, struct error *err)
{
    return layers_leave_behind(name, err);
}

bool volume_find_raw(const struct volume_name *name, dev_t *number, struct error *err)
{
    return bottom_find_raw(name, number, err);
}

bool volume_raw_is_gone(const struct volume_name *name, bool *surely)
{
    struct error none = ERROR_INIT;
    struct table_info bottom;
    dev_t raw = 0;

    *surely = false;
    if (!bottom_find_raw(name, &raw, &none) || !layer_info(name, LAYER_BOTTOM, &bottom, &none) ||
        !bottom.exists)
        return false;
    *surely = device_is_gone(raw);
    return *surely || !device_is_held(raw, bottom.number);
}

bool volume_suspend(const struct volume_name *name, struct error *err)
{
    return layers_suspend(name, err);
}

bool volume_resume(const struct volume_name *name, struct error *err)
{
    if (is_withheld(name))
        return error_set_reason(err, ERROR_FAILED_PRECONDITION, LEASE_LOST_REASON,
                                "the volume is suspended, because this node lost its lease");
    return layers_resume(name, err);
}

bool volume_status(const struct volume_name *name, struct volume_status *out, struct error *err)
{
    struct table_info top;
    struct table_target target;
    struct bottom_state bottom;
    struct pool_state pool;

    *out = (struct volume_status){ .is_active = false };
    if (!layer_info(name, LAYER_TOP, &top, err))
        return false;
    if (!top.exists)
        return true;
    if (!bottom_get_state(name, &bottom, err) || !pool_get_state(name, &pool, err) ||
        !table_get_status(layer_name(name, LAYER_TOP).text, &target, err))
        return false;
    bool is_replaced = strcmp(target.type, "error") == 0;
    *out = (struct volume_status){
        .is_active = true,
        .is_read_only = top.read_only || bottom.is_overlay,
        .is_suspended = top.suspended,
        .map_failed = pool.failed || is_replaced,
        .is_replaced = is_replaced,
        .overlay_overflow = bottom.is_full,
        .size_bytes = top.size_sectors * SECTOR_BYTES,
    };
    return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/withhold.h"

#include "base/fault.h"
#include "base/file.h"
#include "crypt/device.h"
#include "crypt/header.h"
#include "crypt/luks.h"
#include "crypt/volume_keys.h"

#include <string.h>

/* The raw device stays readable: its headers are needed to give the key back. */
#define LOWEST LAYER_INTEGRITY

/* Another process that stops the volume, too, may be faster: suspending waits for the disk. */
static bool suspend(const struct volume_name *name, enum layer layer, struct error *err)
{
    struct error why = ERROR_INIT;
    struct table_info info;

    if (!layer_info(name, layer, &info, err))
        return false;
    if (!info.exists || info.suspended ||
        table_suspend(layer_name(name, layer).text, TABLE_NO_FLUSH, &why))
        return true;
    if (!layer_info(name, layer, &info, err))
        return false;
    if (!info.suspended)
        *err = why;
    return info.suspended;
}

static bool take_key(const struct volume_name *name, struct error *err)
{
    FAULT_POINT("worker.withhold.key");
    return table_message(layer_name(name, LAYER_CRYPT).text, "key wipe", err);
}

bool volume_withhold(const struct volume_name *name, struct error *err)
{
    for (enum layer layer = LAYER_TOP; layer <= LOWEST; layer++) {
        FAULT_POINT("worker.withhold.suspend");
        if (!suspend(name, layer, err) || (layer == LAYER_CRYPT && !take_key(name, err)))
            return false;
    }
    return true;
}

bool volume_find_withheld(const struct volume_name *name, bool *out, struct error *err)
{
    const struct layer_name crypt = layer_name(name, LAYER_CRYPT);
    struct table_info info;
    struct table_target target;
    bool has_key = true;

    if (!table_get_info(crypt.text, &info, err))
        return false;
    /* A key that is in use is not read. */
    if (info.exists && info.suspended && !table_get_status(crypt.text, &target, err))
        return false;
    /* volume_fail() puts another target in its place. */
    if (info.exists && info.suspended && strcmp(target.type, "crypt") == 0 &&
        !table_find_key(crypt.text, &has_key, err))
        return false;
    *out = !has_key;
    return true;
}

static bool find_key(const struct volume_name *name, const struct giving_back *giving,
                     struct secret *out, struct error *err)
{
    auto_volume_keys struct volume_keys keys = VOLUME_KEYS_INIT;
    auto_close int raw_fd = -1, header_fd = -1;
    const struct record *record = giving->record;
    struct header_found found;
    uint64_t bytes = 0;

    if (!device_open(layer_path(name, LAYER_BOTTOM).text, false, &raw_fd, &bytes, err) ||
        !header_new(&header_fd, err) || !header_read(raw_fd, record, header_fd, &found, err) ||
        !volume_keys_derive(found.is_next ? &record->rotation.key : &record->key,
                            found.is_next ? giving->next_secret : giving->secret, &keys, err))
        return false;
    return luks_unlock(header_fd, &keys.luks, out, err) ||
           error_wrap(err, "give volume %s its key back", record->volume_id);
}

bool volume_give_back(const struct volume_name *name, const struct giving_back *giving,
                      struct error *err)
{
    auto_secret struct secret key = SECRET_INIT;
    bool is_withheld = false;

    if (!volume_find_withheld(name, &is_withheld, err))
        return false;
    if (is_withheld && (!find_key(name, giving, &key, err) ||
                        !table_give_key(layer_name(name, LAYER_CRYPT).text, &key, err)))
        return false;
    FAULT_POINT("worker.withhold.given");
    return layers_resume(name, err);
}

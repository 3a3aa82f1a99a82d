/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/layer.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

/* libcryptsetup creates such a device while it formats dm-integrity. */
#define TEMPORARY_PREFIX "temporary-cryptsetup-"

static const char *const suffixes[LAYER_COUNT] = {
    [LAYER_TOP] = "",          [LAYER_POOL] = "-pool",   [LAYER_DATA] = "-data",
    [LAYER_MAP] = "-map",      [LAYER_CRYPT] = "-crypt", [LAYER_INTEGRITY] = "-crypt_dif",
    [LAYER_BOTTOM] = "-lower",
};

struct layer_name layer_name(const struct volume_name *name, enum layer layer)
{
    struct layer_name out = { "" };

    assert((unsigned)layer < LAYER_COUNT);
    (void)snprintf(out.text, sizeof(out.text), "%s%s", name->text, suffixes[layer]);
    return out;
}

struct layer_name layer_path(const struct volume_name *name, enum layer layer)
{
    struct layer_name out = { "" };

    (void)snprintf(out.text, sizeof(out.text), "/dev/mapper/%s%s", name->text, suffixes[layer]);
    return out;
}

bool layer_info(const struct volume_name *name, enum layer layer, struct table_info *out,
                struct error *err)
{
    return table_get_info(layer_name(name, layer).text, out, err);
}

bool layer_find_status(const struct volume_name *name, enum layer layer, bool *exists,
                       struct table_target *out, struct error *err)
{
    struct table_info info;
    struct error why = ERROR_INIT;

    *out = (struct table_target){ .type = "" };
    if (!layer_info(name, layer, &info, err))
        return false;
    *exists = info.exists;
    if (!info.exists || table_get_status(layer_name(name, layer).text, out, &why) ||
        why.code == ERROR_NOT_FOUND)
        return true;
    *err = why;
    return false;
}

static bool remove_if_on(void *cookie, const char *name, uint32_t events UNUSED, struct error *err)
{
    const dev_t *lower = cookie;
    struct table_lower found = { .n = 0 };
    struct error gone = ERROR_INIT;

    if (!table_get_lower(name, &found, &gone) || found.n != 1 || found.numbers[0] != *lower)
        return true;
    return table_remove(name, err);
}

static bool remove_temporary(const struct volume_name *name, struct error *err)
{
    struct table_info lower;

    return layer_info(name, LAYER_BOTTOM, &lower, err) &&
           (!lower.exists || table_each(TEMPORARY_PREFIX, remove_if_on, &lower.number, err));
}

bool layers_remove(const struct volume_name *name, enum layer from, enum layer to,
                   struct error *err)
{
    for (enum layer layer = from; layer <= to; layer++) {
        if ((layer == LAYER_BOTTOM && !remove_temporary(name, err)) ||
            !table_remove(layer_name(name, layer).text, err))
            return false;
    }
    return true;
}

/* The caller frees the table. */
static bool error_table(uint64_t size_sectors, struct table **out, struct error *err)
{
    return table_new(out, err) && table_add(*out, size_sectors, err, "error", "%s", "");
}

static bool layer_fail(const char *name, uint64_t size_sectors, struct error *err)
{
    auto_free struct table *table = NULL;

    return error_table(size_sectors, &table, err) &&
           table_swap(name, table, false, TABLE_NO_FLUSH, err);
}

/* The minor number makes the name one of its own. Not "tdvol-": tdvol-blockd watches what begins so. */
#define LEFT_PREFIX "left-"

/* A worker that died may have left it suspended. And a renewal of the lease, which takes no lock, may have
 * dropped the error target before it was live. */
static bool let_go(void *cookie UNUSED, const char *name, uint32_t events UNUSED, struct error *err)
{
    struct table_info info;
    struct table_target target = { .type = "error" };

    if (!table_get_info(name, &info, err) || (info.suspended && !table_resume(name, err)) ||
        (info.exists && !table_get_status(name, &target, err)))
        return err->code == ERROR_NOT_FOUND; /* its last user closed it */
    return (strcmp(target.type, "error") == 0 || layer_fail(name, info.size_sectors, err)) &&
           table_remove_after_use(name, err);
}

/* Lets each device go that was left behind. */
static bool let_go_of_left(const struct volume_name *name, struct error *err)
{
    char prefix[TABLE_NAME_MAX];

    (void)snprintf(prefix, sizeof(prefix), LEFT_PREFIX "%s-", name->text);
    return table_each(prefix, let_go, NULL, err);
}

static bool leave_behind(const struct volume_name *name, const struct table_info *top,
                         enum table_suspend how, struct error *err)
{
    auto_free struct table *table = NULL;
    struct layer_name left;

    (void)snprintf(left.text, sizeof(left.text), LEFT_PREFIX "%s-%u", name->text,
                   minor(top->number));
    return error_table(top->size_sectors, &table, err) &&
           table_swap_and_rename(layer_name(name, LAYER_TOP).text, left.text, table, how, err) &&
           let_go_of_left(name, err);
}

bool layers_leave_behind(const struct volume_name *name, struct error *err)
{
    struct table_info top;
    struct table_target target;

    if (!layer_info(name, LAYER_TOP, &top, err) ||
        !table_get_status(layer_name(name, LAYER_TOP).text, &target, err))
        return false;
    if (strcmp(target.type, "error") == 0)
        return leave_behind(name, &top, TABLE_NO_FLUSH, err);
    /* A write that failed once makes the first attempt fail, although the next ones may reach the disk. */
    for (int i = 0; i < 2; i++) {
        if (leave_behind(name, &top, TABLE_FREEZE_FLUSH, err))
            return true;
        if (err->sys_errno != EIO && err->sys_errno != EROFS)
            return false;
    }
    return leave_behind(name, &top, TABLE_NO_FLUSH, err);
}

static bool layer_resume(const char *name, const struct table_info *info, struct error *err)
{
    if (info->suspended)
        return table_resume(name, err);
    return !info->has_loaded || table_clear(name, err);
}

bool layers_resume(const struct volume_name *name, struct error *err)
{
    bool ok = true;

    for (enum layer layer = LAYER_COUNT; layer-- > LAYER_TOP;) {
        struct table_info info = { .exists = false };
        /* Go on after a failure: a layer that stays suspended hangs its users. */
        if (!layer_info(name, layer, &info, err) ||
            (info.exists && !layer_resume(layer_name(name, layer).text, &info, err)))
            ok = false;
        /* Only a worker that died without one left something to do here. */
        if (layer == LAYER_TOP && !info.exists && !let_go_of_left(name, err))
            ok = false;
    }
    return ok;
}

bool layers_suspend(const struct volume_name *name, struct error *err)
{
    for (enum layer layer = LAYER_TOP; layer < LAYER_COUNT; layer++) {
        struct table_info info;
        bool ok = layer_info(name, layer, &info, err);
        if (ok && info.exists)
            ok = table_suspend(layer_name(name, layer).text,
                               layer == LAYER_TOP ? TABLE_FREEZE_FLUSH : TABLE_FLUSH, err);
        if (ok)
            continue;
        struct error second = ERROR_INIT;
        return layers_resume(name, &second) ? false
                                            : error_wrap(err, "%s stays suspended", second.text);
    }
    return true;
}

/* A pool never takes another kind of target. Nor does dm-integrity in kernels such as Debian 12's,
 * which refuse a device that loses its integrity profile. Both fail by what is below them. */
static bool fail_one(const struct volume_name *name, enum layer layer, struct error *err)
{
    struct table_info info;

    return layer_info(name, layer, &info, err) &&
           (!info.exists || layer_fail(layer_name(name, layer).text, info.size_sectors, err));
}

/* A suspended pool keeps its thin volumes suspended: the top would wait for it. Nothing reaches it meanwhile, so
 * the top can be the last one. */
static bool wake_pool(const struct volume_name *name, bool is_suspended, struct error *err)
{
    return !is_suspended ||
           (table_resume(layer_name(name, LAYER_POOL).text, err) && fail_one(name, LAYER_TOP, err));
}

bool layers_fail(const struct volume_name *name, struct error *err)
{
    static const enum layer below[] = { LAYER_BOTTOM, LAYER_DATA, LAYER_MAP, LAYER_CRYPT };
    struct table_info pool = { .exists = false };
    bool ok = layer_info(name, LAYER_POOL, &pool, err);
    bool is_suspended = pool.exists && pool.suspended;

    if (!is_suspended && !fail_one(name, LAYER_TOP, err))
        ok = false;
    for (size_t i = 0; i < ARRAY_LEN(below); i++)
        if (!fail_one(name, below[i], err))
            ok = false;
    return wake_pool(name, is_suspended, err) && ok;
}

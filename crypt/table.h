/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <sys/types.h>

/*
 * The door to libdevmapper: devices by name, each a table of targets. Sizes are in 512-byte
 * sectors. Never waits for udev, which may live in another namespace: device nodes are made here.
 */
#define TABLE_NAME_MAX    64
#define TABLE_TARGETS_MAX 130

struct table_target {
    uint64_t start_sectors, length_sectors;
    char type[16];
    char params[192];
};

struct table {
    size_t n;
    struct table_target targets[TABLE_TARGETS_MAX];
};

/* Empty; to be freed. */
MUST_USE bool table_new(struct table **out, struct error *err);

struct table_info {
    bool exists;
    bool suspended;
    bool read_only;
    uint32_t open_count;
    dev_t number;
    uint64_t size_sectors;
};

enum table_suspend {
    TABLE_FLUSH,        /* wait for what is under way */
    TABLE_FREEZE_FLUSH, /* also freeze the file system on it */
    TABLE_NO_FLUSH,     /* the device below may never answer */
};

/* Appends a target behind the last one; nothing when length_sectors is 0. */
MUST_USE bool table_add(struct table *table, uint64_t length_sectors, struct error *err,
                        const char *type, const char *params_fmt, ...) PRINTF(5, 6);

/* Creates name, live at once, with flags which keep blkid, LVM and other rules of the host's udev
 * away: what is inside is the pod's. ABORTED when the name or what it is to stand on is taken. */
MUST_USE bool table_create(const char *name, const struct table *table, bool read_only,
                           struct error *err);
MUST_USE bool table_suspend(const char *name, enum table_suspend how, struct error *err);
MUST_USE bool table_resume(const char *name, struct error *err);
/* Another table for a live device, loaded before it is suspended. The old one stays, live, when the
 * kernel refuses the new one. */
MUST_USE bool table_swap(const char *name, const struct table *table, bool read_only,
                         enum table_suspend how, struct error *err);
/* True also when it does not exist. ABORTED while in use. */
MUST_USE bool table_remove(const char *name, struct error *err);
MUST_USE bool table_message(const char *name, const char *message, struct error *err);

MUST_USE bool table_get_info(const char *name, struct table_info *out, struct error *err);
/* The first target's type and status line; NOT_FOUND when there is no such device. */
MUST_USE bool table_get_status(const char *name, struct table_target *out, struct error *err);
/* The devices which it stands on, at once. */
#define TABLE_LOWER_MAX 4
struct table_lower {
    size_t n;
    dev_t numbers[TABLE_LOWER_MAX];
};
MUST_USE bool table_get_lower(const char *name, struct table_lower *out, struct error *err);

/* Whether the kernel has the target, after loading its module. */
MUST_USE bool table_find_target(const char *type, bool *out, struct error *err);

/* Calls each for every device whose name begins with prefix; each may remove it. */
MUST_USE bool table_each(const char *prefix,
                         bool (*each)(void *cookie, const char *name, struct error *err),
                         void *cookie, struct error *err);

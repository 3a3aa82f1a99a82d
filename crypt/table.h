/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/secret.h"

#include <sys/types.h>

/*
 * The only place that calls libdevmapper: devices by name, each with a table of targets. Sizes are
 * in 512-byte sectors. It makes the device nodes itself and never waits for udev, which may live in
 * another namespace.
 */
#define TABLE_NAME_MAX    64
#define TABLE_TARGETS_MAX 16

struct table_target {
    uint64_t start_sectors, length_sectors;
    char type[16];
    char params[384]; /* a crypt target has a key in it */
};

struct table {
    size_t n;
    struct table_target targets[TABLE_TARGETS_MAX];
};

/* An empty table. The caller frees it. */
MUST_USE bool table_new(struct table **out, struct error *err);

struct table_info {
    bool exists;
    bool suspended;
    bool has_loaded; /* a table was loaded and is not live */
    bool read_only;
    uint32_t open_count;
    dev_t number;
    uint64_t size_sectors;
};

enum table_suspend {
    TABLE_FLUSH,        /* wait for requests under way */
    TABLE_FREEZE_FLUSH, /* also freeze the file system on it */
    TABLE_NO_FLUSH,     /* do not wait: the device below may never answer */
};

/* Appends a target to the table. Does nothing when length_sectors is 0. */
MUST_USE bool table_add(struct table *table, uint64_t length_sectors, struct error *err,
                        const char *type, const char *params_fmt, ...) PRINTF(5, 6);

/* Creates the device, live at once. Its flags keep blkid, LVM and other rules of the host's udev
 * away, because its content belongs to the pod. ABORTED when the name or a device below is in
 * use. */
MUST_USE bool table_create(const char *name, const struct table *table, bool read_only,
                           struct error *err);
MUST_USE bool table_suspend(const char *name, enum table_suspend how, struct error *err);
/* A table that was loaded becomes live. When the kernel refuses it, this fails, but still resumes the
 * device if it can. */
MUST_USE bool table_resume(const char *name, struct error *err);
/* Drops the table that was loaded and is not live. */
MUST_USE bool table_clear(const char *name, struct error *err);
/* Gives a live device another table, which is loaded before the device is suspended. When the
 * kernel refuses the new table, the old one stays live. */
MUST_USE bool table_swap(const char *name, const struct table *table, bool read_only,
                         enum table_suspend how, struct error *err);
/* Gives a live device that can be written another table and another name. It is suspended in between.
 * When it cannot be suspended, it stays as it was. When a later step fails, it may be left suspended, under
 * either name, until table_resume(). */
MUST_USE bool table_swap_and_rename(const char *name, const char *new_name,
                                    const struct table *table, enum table_suspend how,
                                    struct error *err);
/* Makes a live device with a table of one target longer. Its parameters stay, also a key in them.
 * Does nothing when it has length_sectors already. */
MUST_USE bool table_extend(const char *name, uint64_t length_sectors, struct error *err);
/* Gives a live device with a table of one target another word in its parameters; the first one has
 * index 0. The others stay, also a key. */
MUST_USE bool table_set_word(const char *name, size_t index, const char *word, struct error *err);
/* Of a live device with a table of one crypt target: whether the kernel has its key; and the key that it
 * gets back while it is suspended. */
MUST_USE bool table_find_key(const char *name, bool *out, struct error *err);
MUST_USE bool table_give_key(const char *name, const struct secret *key, struct error *err);
/* Also true when the device does not exist. ABORTED while it is in use. */
MUST_USE bool table_remove(const char *name, struct error *err);
/* The kernel removes the device as soon as nobody has it open: now, or when its last user closes it,
 * also one that is killed. Its node is removed now. Also true when the device does not exist. */
MUST_USE bool table_remove_after_use(const char *name, struct error *err);
MUST_USE bool table_message(const char *name, const char *message, struct error *err);

MUST_USE bool table_get_info(const char *name, struct table_info *out, struct error *err);
/* The first target's type and status line; NOT_FOUND when there is no such device. */
MUST_USE bool table_get_status(const char *name, struct table_target *out, struct error *err);
/* The devices directly below. */
#define TABLE_LOWER_MAX 4
struct table_lower {
    size_t n;
    dev_t numbers[TABLE_LOWER_MAX];
};
MUST_USE bool table_get_lower(const char *name, struct table_lower *out, struct error *err);

/* Whether the kernel has the target. Loads the target's module when needed. */
MUST_USE bool table_find_target(const char *type, bool *out, struct error *err);

/* Calls each() for every device whose name begins with prefix. each() may remove the device. events
 * counts what its target reports, such as a pool that failed; another table is no such event. */
MUST_USE bool table_each(const char *prefix,
                         bool (*each)(void *cookie, const char *name, uint32_t events,
                                      struct error *err),
                         void *cookie, struct error *err);

/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/table.h"

#include "base/digest.h"
#include "base/fault.h"
#include "base/secret.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libdevmapper.h>
#include <linux/dm-ioctl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* libdevmapper's log levels, which its header does not define. */
#define LOG_LEVEL_MASK  0x0f
#define LOG_LEVEL_ERROR 3

#define CRYPT_KEY_WORD  1 /* of the parameters of a crypt target */
#define REMOVE_TRIES    20
#define REMOVE_PAUSE_US 50000

static void task_destroy(struct dm_task **task)
{
    if (*task)
        dm_task_destroy(*task);
    *task = NULL;
}
#define auto_task CLEANUP(task_destroy)

/* The last error of libdevmapper, kept instead of printed. The kernel writes its own to its log. */
static char last_message[256];

static void keep_message(int level, const char *file UNUSED, int line UNUSED, int code UNUSED,
                         const char *fmt, ...) PRINTF(5, 6);
static void keep_message(int level, const char *file UNUSED, int line UNUSED, int code UNUSED,
                         const char *fmt, ...)
{
    if ((level & LOG_LEVEL_MASK) > LOG_LEVEL_ERROR)
        return;
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(last_message, sizeof(last_message), fmt, args);
    va_end(args);
}

static struct dm_task *task_new(int type, const char *name)
{
    dm_log_with_errno_init(keep_message);
    dm_udev_set_sync_support(0);
    last_message[0] = '\0';
    auto_task struct dm_task *task = dm_task_create(type);
    if (!task || (name && !dm_task_set_name(task, name)))
        return NULL;
    return TAKE_PTR(task);
}

static bool task_failed(struct dm_task *task, const char *what, const char *name, struct error *err)
{
    int error_number = task ? dm_task_get_errno(task) : ENOMEM;

    if (error_number == ENXIO)
        return error_set(err, ERROR_NOT_FOUND, "%s %s: no such device-mapper device", what, name);
    if (error_number == 0)
        error_number = EINVAL;
    return error_set_errno(err, error_number, "%s %s: %s", what, name, last_message);
}

static bool task_run(struct dm_task *task, const char *what, const char *name, struct error *err)
{
    if (!task || !dm_task_run(task))
        return task_failed(task, what, name, err);
    dm_task_update_nodes();
    return true;
}

bool table_new(struct table **out, struct error *err)
{
    *out = calloc(1, sizeof(**out));
    return *out || error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for a table");
}

bool table_add(struct table *table, uint64_t length_sectors, struct error *err, const char *type,
               const char *params_fmt, ...)
{
    if (length_sectors == 0)
        return true;
    assert(table->n < TABLE_TARGETS_MAX);
    struct table_target *target = &table->targets[table->n];
    const struct table_target *before = table->n > 0 ? target - 1 : NULL;
    target->start_sectors = before ? before->start_sectors + before->length_sectors : 0;
    target->length_sectors = length_sectors;
    va_list args;
    va_start(args, params_fmt);
    int len = vsnprintf(target->params, sizeof(target->params), params_fmt, args);
    va_end(args);
    int type_len = snprintf(target->type, sizeof(target->type), "%s", type);
    if (len < 0 || (size_t)len >= sizeof(target->params) || type_len < 0 ||
        (size_t)type_len >= sizeof(target->type))
        return error_set(err, ERROR_INTERNAL, "parameters of target %s are too long", type);
    table->n++;
    return true;
}

static bool task_add_targets(struct dm_task *task, const struct table *table, bool read_only)
{
    for (size_t i = 0; i < table->n; i++) {
        const struct table_target *t = &table->targets[i];

        if (!dm_task_add_target(task, t->start_sectors, t->length_sectors, t->type, t->params))
            return false;
    }
    return !read_only || dm_task_set_ro(task);
}

bool table_create(const char *name, const struct table *table, bool read_only, struct error *err)
{
    auto_task struct dm_task *task = task_new(DM_DEVICE_CREATE, name);
    char uuid[TABLE_NAME_MAX + 32];
    uint64_t random = 0;

    /* It stays with a device that gets another name. */
    if (!random_bytes(&random, sizeof(random), err))
        return false;
    (void)snprintf(uuid, sizeof(uuid), "TDVOL-%s-%016" PRIx64, name, random);
    const uint16_t flags = DM_UDEV_DISABLE_SUBSYSTEM_RULES_FLAG | DM_UDEV_DISABLE_DISK_RULES_FLAG |
                           DM_UDEV_DISABLE_OTHER_RULES_FLAG;
    uint32_t cookie = 0;
    if (!task || !task_add_targets(task, table, read_only) || !dm_task_set_uuid(task, uuid) ||
        !dm_task_set_cookie(task, &cookie, flags))
        return task_failed(task, "create", name, err);
    if (task_run(task, "create", name, err)) {
        FAULT_POINT("worker.table.created");
        return true;
    }
    return err->sys_errno == EEXIST ? error_set(err, ERROR_ABORTED, "%s exists already", name)
                                    : false;
}

static bool table_load(const char *name, const struct table *table, bool read_only,
                       struct error *err)
{
    auto_task struct dm_task *task = task_new(DM_DEVICE_RELOAD, name);

    if (!task || !task_add_targets(task, table, read_only))
        return task_failed(task, "load a table into", name, err);
    return task_run(task, "load a table into", name, err);
}

bool table_suspend(const char *name, enum table_suspend how, struct error *err)
{
    auto_task struct dm_task *task = task_new(DM_DEVICE_SUSPEND, name);

    if (!task || (how != TABLE_FREEZE_FLUSH && !dm_task_skip_lockfs(task)) ||
        (how == TABLE_NO_FLUSH && !dm_task_no_flush(task)))
        return task_failed(task, "suspend", name, err);
    return task_run(task, "suspend", name, err);
}

static bool resume_once(const char *name, struct error *err)
{
    auto_task struct dm_task *task = task_new(DM_DEVICE_RESUME, name);
    uint32_t cookie = 0;

    if (!task || !dm_task_set_cookie(task, &cookie, 0))
        return task_failed(task, "resume", name, err);
    return task_run(task, "resume", name, err);
}

bool table_resume(const char *name, struct error *err)
{
    if (resume_once(name, err))
        return true;
    /* The kernel accepted the table when it was loaded, but refused it on resume. Which table is live
     * now depends on the target. A device that stays suspended hangs its users, so try once more. */
    struct error second = ERROR_INIT;
    return resume_once(name, &second) ? false : error_wrap(err, "%s stays suspended", name);
}

bool table_clear(const char *name, struct error *err)
{
    auto_task struct dm_task *task = task_new(DM_DEVICE_CLEAR, name);

    return task_run(task, "clear the loaded table of", name, err);
}

/* Puts the table that was loaded in the place of the live one. */
static bool activate_loaded(const char *name, enum table_suspend how, struct error *err)
{
    FAULT_POINT("worker.table.loaded");
    if (!table_suspend(name, how, err))
        return false;
    FAULT_POINT("worker.table.suspended");
    return table_resume(name, err);
}

bool table_swap(const char *name, const struct table *table, bool read_only, enum table_suspend how,
                struct error *err)
{
    return table_load(name, table, read_only, err) && activate_loaded(name, how, err);
}

static bool rename_suspended(const char *name, const char *new_name, struct error *err)
{
    auto_task struct dm_task *task = task_new(DM_DEVICE_RENAME, name);
    uint32_t cookie = 0;

    if (!task || !dm_task_set_newname(task, new_name) || !dm_task_set_cookie(task, &cookie, 0))
        return task_failed(task, "rename", name, err);
    return task_run(task, "rename", name, err);
}

bool table_swap_and_rename(const char *name, const char *new_name, const struct table *table,
                           enum table_suspend how, struct error *err)
{
    if (!table_load(name, table, false, err))
        return false;
    FAULT_POINT("worker.table.loaded");
    if (!table_suspend(name, how, err)) {
        struct error second = ERROR_INIT;

        /* Otherwise whoever suspends and resumes the device next would make the table live. */
        return table_clear(name, &second) ? false
                                          : error_wrap(err, "%s keeps a table", second.text);
    }
    FAULT_POINT("worker.table.suspended");
    if (!rename_suspended(name, new_name, err))
        return false;
    FAULT_POINT("worker.table.renamed");
    return table_resume(new_name, err);
}

/* The kernel's own form of a table with one target, and of the request that has it. */
struct one_target {
    struct dm_ioctl head;
    struct dm_target_spec target;
    char params[1024];
};

static bool one_target_ioctl(struct one_target *request, const char *name, unsigned long command,
                             uint32_t flags, struct error *err)
{
    auto_close int fd = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);

    request->head = (struct dm_ioctl){
        .version = { DM_VERSION_MAJOR, 0, 0 },
        .data_size = sizeof(*request),
        .data_start = offsetof(struct one_target, target),
        .target_count = 1,
        .flags = flags | DM_SECURE_DATA_FLAG, /* the kernel wipes its copy */
    };
    (void)snprintf(request->head.name, sizeof(request->head.name), "%s", name);
    return (fd >= 0 && ioctl(fd, command, request) == 0) ||
           error_set_errno(err, errno, "change the table of %s", name);
}

/* Without libdevmapper, which would copy the key of a crypt target into memory that is not locked. The
 * request lies in memory. */
static bool read_one_target(const char *name, struct secret *memory, struct one_target **out,
                            struct error *err)
{
    if (!secret_alloc(memory, sizeof(struct one_target), err))
        return false;
    struct one_target *request = (void *)memory->bytes;
    if (!one_target_ioctl(request, name, DM_TABLE_STATUS, DM_STATUS_TABLE_FLAG, err))
        return false;
    if (request->head.target_count != 1 || request->head.flags & DM_BUFFER_FULL_FLAG)
        return error_set(err, ERROR_INTERNAL, "%s has no table of one target", name);
    *out = request;
    return true;
}

static bool load_longer(const char *name, uint64_t length_sectors, struct error *err)
{
    auto_secret struct secret memory = SECRET_INIT;
    struct one_target *request = NULL;

    if (!read_one_target(name, &memory, &request, err))
        return false;
    request->target.length = length_sectors;
    return one_target_ioctl(request, name, DM_TABLE_LOAD, 0, err);
}

/* Finds a word among those that single spaces separate. */
static char *find_word(char *params, size_t index, size_t *out_len)
{
    for (; index > 0 && params; index--) {
        char *space = strchr(params, ' ');

        params = space ? space + 1 : NULL;
    }
    *out_len = params ? strcspn(params, " ") : 0;
    return params;
}

bool table_set_word(const char *name, size_t index, const char *word, struct error *err)
{
    auto_secret struct secret memory = SECRET_INIT;
    struct one_target *request = NULL;
    size_t old_len = 0, len = strlen(word);

    if (!read_one_target(name, &memory, &request, err))
        return false;
    char *at = find_word(request->params, index, &old_len);
    if (!at || strlen(request->params) - old_len + len >= sizeof(request->params))
        return error_set(err, ERROR_INTERNAL, "the table of %s has another form", name);
    if (old_len == len && bytes_are_equal(at, word, len))
        return true;
    memmove(at + len, at + old_len, strlen(at + old_len) + 1);
    for (size_t i = 0; i < len; i++)
        at[i] = word[i];
    return one_target_ioctl(request, name, DM_TABLE_LOAD, 0, err) &&
           activate_loaded(name, TABLE_FLUSH, err);
}

/* A key that was wiped is shown as zeros. */
bool table_find_key(const char *name, bool *out, struct error *err)
{
    auto_secret struct secret memory = SECRET_INIT;
    struct one_target *request = NULL;
    size_t len = 0;

    if (!read_one_target(name, &memory, &request, err))
        return false;
    const char *key = find_word(request->params, CRYPT_KEY_WORD, &len);
    if (!key || len == 0)
        return error_set(err, ERROR_INTERNAL, "the table of %s has another form", name);
    *out = strspn(key, "0") < len;
    return true;
}

/* A message to a target, with a key in it. */
struct key_message {
    struct dm_ioctl head;
    uint64_t sector; /* this and text: a struct dm_target_msg */
    char text[512];
};

bool table_give_key(const char *name, const struct secret *key, struct error *err)
{
    static const char verb[] = "key set ";
    const size_t verb_len = sizeof(verb) - 1;
    auto_secret struct secret memory = SECRET_INIT;
    auto_close int fd = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);

    if (!secret_alloc(&memory, sizeof(struct key_message), err))
        return false;
    struct key_message *message = (void *)memory.bytes;
    if (verb_len + 2 * key->len >= sizeof(message->text))
        return error_set(err, ERROR_INTERNAL, "the key for %s is too long", name);
    message->head = (struct dm_ioctl){ .version = { DM_VERSION_MAJOR, 0, 0 },
                                       .data_size = sizeof(*message),
                                       .data_start = offsetof(struct key_message, sector),
                                       .flags = DM_SECURE_DATA_FLAG };
    (void)snprintf(message->head.name, sizeof(message->head.name), "%s", name);
    memcpy(message->text, verb, verb_len);
    hex_encode(key->bytes, key->len, message->text + verb_len);
    return (fd >= 0 && ioctl(fd, DM_TARGET_MSG, message) == 0) ||
           error_set_errno(err, errno, "give %s its key", name);
}

bool table_extend(const char *name, uint64_t length_sectors, struct error *err)
{
    struct table_info info;

    if (!table_get_info(name, &info, err))
        return false;
    if (!info.exists)
        return error_set(err, ERROR_NOT_FOUND, "%s is not active", name);
    return info.size_sectors >= length_sectors ||
           (load_longer(name, length_sectors, err) && activate_loaded(name, TABLE_FLUSH, err));
}

static bool remove_once(const char *name, bool after_use, struct error *err)
{
    auto_task struct dm_task *task = task_new(DM_DEVICE_REMOVE, name);
    uint32_t cookie = 0;

    if (!task || !dm_task_set_cookie(task, &cookie, 0) ||
        (after_use && !dm_task_deferred_remove(task)))
        return task_failed(task, "remove", name, err);
    return task_run(task, "remove", name, err);
}

bool table_remove(const char *name, struct error *err)
{
    struct table_info info;

    if (!table_get_info(name, &info, err))
        return false;
    if (!info.exists)
        return true;
    /* The host's udev may open a device for a moment. Only a device that stays open is in use. */
    for (int i = 0; i < REMOVE_TRIES; i++) {
        struct error why = ERROR_INIT;

        if (remove_once(name, false, &why) || why.code == ERROR_NOT_FOUND)
            return true;
        if (why.sys_errno != EBUSY) {
            *err = why;
            return false;
        }
        usleep(REMOVE_PAUSE_US);
    }
    return error_set(err, ERROR_ABORTED, "%s is in use: unmount it, or close what holds it open",
                     name);
}

bool table_remove_after_use(const char *name, struct error *err)
{
    struct error why = ERROR_INIT;

    if (remove_once(name, true, &why) || why.code == ERROR_NOT_FOUND)
        return true;
    *err = why;
    return false;
}

bool table_message(const char *name, const char *message, struct error *err)
{
    auto_task struct dm_task *task = task_new(DM_DEVICE_TARGET_MSG, name);

    if (!task || !dm_task_set_sector(task, 0) || !dm_task_set_message(task, message))
        return task_failed(task, "message", name, err);
    return task_run(task, "message", name, err);
}

static uint64_t table_size(struct dm_task *task)
{
    uint64_t start = 0, length = 0;
    char *type = NULL, *params = NULL;
    void *next = NULL;

    do
        next = dm_get_next_target(task, next, &start, &length, &type, &params);
    while (next);
    return start + length;
}

/* Asks for the status, not for the table: the table of a crypt target holds the key. And without
 * flush: with it dm-thin writes its map first, perhaps to a device that is gone. */
static struct dm_task *status_task(const char *name)
{
    auto_task struct dm_task *task = task_new(DM_DEVICE_STATUS, name);

    if (!task || !dm_task_no_flush(task))
        return NULL;
    return TAKE_PTR(task);
}

bool table_get_info(const char *name, struct table_info *out, struct error *err)
{
    auto_task struct dm_task *task = status_task(name);
    struct error why = ERROR_INIT;

    if (!task_run(task, "status of", name, &why)) {
        *out = (struct table_info){ .exists = false };
        if (why.code == ERROR_NOT_FOUND)
            return true;
        *err = why;
        return false;
    }
    struct dm_info info;
    if (!dm_task_get_info(task, &info))
        return task_failed(task, "status of", name, err);
    *out = (struct table_info){
        .exists = info.exists != 0,
        .suspended = info.suspended != 0,
        .has_loaded = info.inactive_table != 0,
        .read_only = info.read_only != 0,
        .open_count = (uint32_t)info.open_count,
        .number = makedev(info.major, info.minor),
        .size_sectors = info.exists ? table_size(task) : 0,
    };
    return true;
}

bool table_get_status(const char *name, struct table_target *out, struct error *err)
{
    auto_task struct dm_task *task = status_task(name);

    if (!task_run(task, "status of", name, err))
        return false;
    struct table_target target = { .start_sectors = 0 };
    char *type = NULL, *params = NULL;
    dm_get_next_target(task, NULL, &target.start_sectors, &target.length_sectors, &type, &params);
    if (!type)
        return error_set(err, ERROR_NOT_FOUND, "%s has no table", name);
    (void)snprintf(target.type, sizeof(target.type), "%s", type);
    (void)snprintf(target.params, sizeof(target.params), "%s", params ? params : "");
    *out = target;
    return true;
}

bool table_get_lower(const char *name, struct table_lower *out, struct error *err)
{
    auto_task struct dm_task *task = task_new(DM_DEVICE_DEPS, name);

    if (!task_run(task, "dependencies of", name, err))
        return false;
    const struct dm_deps *deps = dm_task_get_deps(task);
    struct table_lower lower = { .n = 0 };
    for (uint32_t i = 0; deps && i < deps->count && i < TABLE_LOWER_MAX; i++)
        lower.numbers[lower.n++] = (dev_t)deps->device[i];
    *out = lower;
    return true;
}

bool table_find_target(const char *type, bool *out, struct error *err)
{
    auto_task struct dm_task *task = task_new(DM_DEVICE_GET_TARGET_VERSION, type);
    struct error why = ERROR_INIT;

    if (!task)
        return task_failed(task, "look for target", type, err);
    *out = task_run(task, "look for target", type, &why);
    return true;
}

/* The number of events lies behind the name, at a multiple of eight bytes (struct dm_name_list in
 * linux/dm-ioctl.h). libdevmapper gives it to nobody. */
static uint32_t events_of(const struct dm_names *names)
{
    const char *end = names->name + strlen(names->name) + 1;
    uint32_t events;

    memcpy(&events, end + (-(uintptr_t)end & 7), sizeof(events));
    return events;
}

bool table_each(const char *prefix,
                bool (*each)(void *cookie, const char *name, uint32_t events, struct error *err),
                void *cookie, struct error *err)
{
    auto_task struct dm_task *task = task_new(DM_DEVICE_LIST, NULL);

    if (!task_run(task, "list", "devices", err))
        return false;
    const struct dm_names *names = dm_task_get_names(task);
    if (!names || names->dev == 0)
        return true;
    for (;;) {
        if (strncmp(names->name, prefix, strlen(prefix)) == 0 &&
            !each(cookie, names->name, events_of(names), err))
            return false;
        if (names->next == 0)
            return true;
        names = (const void *)((const char *)names + names->next);
    }
}

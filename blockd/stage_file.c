/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/stage_file.h"

#include "base/clock.h"
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOCK_END     ".lock"
#define VOLUME_END   ".volume"
#define LEASE_END    ".lease"
#define WAIT_STEP_MS 50

static bool make_path(const char *folder, const char *name, const char *end,
                      char out[static PATH_MAX], struct error *err)
{
    int n = snprintf(out, PATH_MAX, "%s/%s%s", folder, name, end);

    if (n < 0 || n >= PATH_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "state folder: path is too long");
    return true;
}

/* While we waited, another worker may have removed the file. Then others do not see our lock. */
static bool is_current(int fd, const char *path)
{
    struct stat held, named;

    return fstat(fd, &held) == 0 && stat(path, &named) == 0 && held.st_dev == named.st_dev &&
           held.st_ino == named.st_ino;
}

static bool try_lock_path(const char *path, bool *locked, int *out_fd, struct error *err)
{
    for (;;) {
        auto_close int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

        if (fd < 0)
            return error_set_errno(err, errno, "open %s", path);
        *locked = flock(fd, LOCK_EX | LOCK_NB) == 0;
        if (!*locked)
            return errno == EWOULDBLOCK || error_set_errno(err, errno, "lock %s", path);
        if (!is_current(fd, path))
            continue;
        *out_fd = TAKE_FD(fd);
        return true;
    }
}

bool stage_file_try_lock(const char *folder, const struct volume_name *name, bool *locked,
                         int *out_fd, struct error *err)
{
    char path[PATH_MAX];

    if (!make_path(folder, name->text, LOCK_END, path, err))
        return false;
    auto_close int fd = -1;
    if (!try_lock_path(path, locked, &fd, err))
        return false;
    if (*locked && fcntl(fd, F_SETFD, 0) != 0)
        return error_set_errno(err, errno, "lock %s", path);
    if (*locked)
        *out_fd = TAKE_FD(fd);
    return true;
}

void stage_file_tidy_lock(const char *folder, const struct volume_name *name)
{
    char path[PATH_MAX];
    struct error err = ERROR_INIT;

    if (!make_path(folder, name->text, VOLUME_END, path, &err) || access(path, F_OK) == 0)
        return;
    if (make_path(folder, name->text, LOCK_END, path, &err))
        unlink(path);
}

static bool is_terminated(const char *text, size_t size)
{
    return memchr(text, 0, size) != NULL;
}

static bool is_byte_bool(const bool *value)
{
    return *(const unsigned char *)value <= 1;
}

static bool is_staged(const struct stage_file *s)
{
    return s->version == STAGE_FILE_VERSION && is_byte_bool(&s->complete) &&
           is_byte_bool(&s->read_only) && is_byte_bool(&s->has_closing) &&
           is_byte_bool(&s->opening.is_set) && is_byte_bool(&s->ended.is_set) &&
           is_byte_bool(&s->end.is_marked) && is_byte_bool(&s->end.has_hash) &&
           is_terminated(s->volume_id, sizeof(s->volume_id)) &&
           is_terminated(s->fs_type, sizeof(s->fs_type)) &&
           is_terminated(s->staging_path, sizeof(s->staging_path)) &&
           is_terminated(s->mount_flags, sizeof(s->mount_flags));
}

void stage_file_wipe(struct stage_file *staged)
{
    bytes_wipe(staged->opening.close_key, CLOSE_KEY_LEN);
    bytes_wipe(staged->ended.close_key, CLOSE_KEY_LEN);
}

bool stage_file_read(const char *folder, const struct volume_name *name, bool *found,
                     struct stage_file *out, struct error *err)
{
    char path[PATH_MAX];

    if (!make_path(folder, name->text, VOLUME_END, path, err))
        return false;
    auto_free char *bytes = NULL;
    size_t len = 0;
    struct error why = ERROR_INIT;
    if (!file_read(path, sizeof(*out), &bytes, &len, &why)) {
        *found = false;
        if (why.code == ERROR_NOT_FOUND)
            return true;
        *err = why;
        return false;
    }
    /* A file of another version counts as missing: the kernel knows the rest. */
    *found = len == sizeof(*out);
    if (*found)
        memcpy(out, bytes, sizeof(*out));
    bytes_wipe(bytes, len);
    *found = *found && is_staged(out);
    return true;
}

bool stage_file_write(const char *folder, const struct volume_name *name,
                      const struct stage_file *staged, struct error *err)
{
    char path[PATH_MAX];

    return make_path(folder, name->text, VOLUME_END, path, err) &&
           file_write(path, 0600, staged, sizeof(*staged), err);
}

static bool remove_file(const char *folder, const struct volume_name *name, const char *end,
                        struct error *err)
{
    char path[PATH_MAX];

    if (!make_path(folder, name->text, end, path, err))
        return false;
    if (unlink(path) != 0 && errno != ENOENT)
        return error_set_errno(err, errno, "remove %s", path);
    return true;
}

bool stage_file_remove(const char *folder, const struct volume_name *name, struct error *err)
{
    return remove_file(folder, name, LEASE_END, err) && remove_file(folder, name, VOLUME_END, err);
}

bool lease_file_read(const char *folder, const struct volume_name *name, bool *found,
                     struct lease_file *out, struct error *err)
{
    char path[PATH_MAX];
    auto_free char *bytes = NULL;
    size_t len = 0;
    struct error why = ERROR_INIT;

    *found = false;
    if (!make_path(folder, name->text, LEASE_END, path, err))
        return false;
    if (!file_read(path, sizeof(*out), &bytes, &len, &why)) {
        if (why.code == ERROR_NOT_FOUND)
            return true;
        *err = why;
        return false;
    }
    if (len != sizeof(*out))
        return error_set(err, ERROR_INTERNAL, "%s has another size", path);
    memcpy(out, bytes, sizeof(*out));
    *found = true;
    return out->version == LEASE_FILE_VERSION ||
           error_set(err, ERROR_INTERNAL, "%s has another version", path);
}

bool lease_file_write(const char *folder, const struct volume_name *name,
                      const struct lease_file *lease, struct error *err)
{
    char path[PATH_MAX];

    if (lease->lease_ms == 0)
        return remove_file(folder, name, LEASE_END, err);
    return make_path(folder, name->text, LEASE_END, path, err) &&
           file_write(path, 0600, lease, sizeof(*lease), err);
}

bool lease_file_is_over(const char *folder, const struct volume_name *name)
{
    struct lease_file lease = { .until_ms = 0 };
    struct error ignored = ERROR_INIT;
    bool found = false;

    return !lease_file_read(folder, name, &found, &lease, &ignored) ||
           (found && clock_boottime_ms() >= lease.until_ms);
}

static bool has_end(const char *file, const char *end)
{
    size_t len = strlen(file), end_len = strlen(end);

    return len > end_len && strcmp(file + len - end_len, end) == 0;
}

static bool open_folder(const char *folder, DIR **out, struct error *err)
{
    *out = opendir(folder);
    return *out || error_set_errno(err, errno, "state folder %s", folder);
}

bool stage_file_each(const char *folder,
                     bool (*each)(void *cookie, const struct volume_name *name,
                                  const struct stage_file *staged, struct error *err),
                     void *cookie, struct error *err)
{
    auto_dir DIR *stream = NULL;

    if (!open_folder(folder, &stream, err))
        return false;
    for (const struct dirent *e; (e = readdir(stream));) {
        if (!has_end(e->d_name, VOLUME_END) ||
            strlen(e->d_name) != VOLUME_NAME_LEN + strlen(VOLUME_END))
            continue;
        struct volume_name name = { .text = "" };
        (void)snprintf(name.text, sizeof(name.text), "%.*s", VOLUME_NAME_LEN, e->d_name);
        static struct stage_file staged;
        bool found = false;
        if (!stage_file_read(folder, &name, &found, &staged, err))
            return false;
        bool goes_on = !found || each(cookie, &name, &staged, err);
        stage_file_wipe(&staged);
        if (!goes_on)
            return false;
    }
    return true;
}

/* Waits until the lock is free, then removes its file when the volume is not staged. */
static bool reap_lock(const char *folder, const char *file, uint64_t deadline_ms, struct error *err)
{
    char path[PATH_MAX];
    struct volume_name name = { .text = "" };

    (void)snprintf(name.text, sizeof(name.text), "%.*s", VOLUME_NAME_LEN, file);
    if (!make_path(folder, file, "", path, err))
        return false;
    bool locked = false;
    auto_close int fd = -1;
    while (try_lock_path(path, &locked, &fd, err)) {
        if (locked) {
            stage_file_tidy_lock(folder, &name);
            return true;
        }
        if (clock_now_ms() >= deadline_ms)
            return true;
        const struct timespec step = { .tv_nsec = WAIT_STEP_MS * 1000000L };
        nanosleep(&step, NULL);
    }
    return false;
}

bool stage_file_reap(const char *folder, uint32_t wait_ms, struct error *err)
{
    uint64_t deadline_ms = clock_now_ms() + wait_ms;
    auto_dir DIR *stream = NULL;

    if (!open_folder(folder, &stream, err))
        return false;
    for (const struct dirent *e; (e = readdir(stream));) {
        char path[PATH_MAX];
        if (strstr(e->d_name, VOLUME_END ".") && make_path(folder, e->d_name, "", path, err))
            unlink(path);
        if (has_end(e->d_name, LOCK_END) && !reap_lock(folder, e->d_name, deadline_ms, err))
            return false;
    }
    return true;
}

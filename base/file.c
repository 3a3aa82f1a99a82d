/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_STEP_BYTES 4096u

static bool open_to_read(const char *path, int *out_fd, struct stat *out_stat, struct error *err)
{
    /* O_NONBLOCK: open() would wait for a FIFO's writer. Regular files ignore the flag. */
    auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0 || fstat(fd, out_stat) != 0)
        return error_set_errno(err, errno, "open %s", path);
    *out_fd = TAKE_FD(fd);
    return true;
}

/* Reads size bytes, or fewer when the file ends. */
static bool read_up_to(int fd, void *bytes, size_t size, size_t *out_len, struct error *err)
{
    size_t len = 0;

    while (len < size) {
        ssize_t n = read(fd, (char *)bytes + len, size - len);

        if (n == 0)
            break;
        if (n > 0)
            len += (size_t)n;
        else if (errno != EINTR)
            return error_set_errno(err, errno, "read");
    }
    *out_len = len;
    return true;
}

static bool too_large(struct error *err, const char *path, size_t max)
{
    return error_set(err, ERROR_OUT_OF_RANGE, "%s is larger than %zu bytes", path, max);
}

/* Grows the buffer step by step, because files in /proc and /sys do not report their size. */
bool file_read(const char *path, size_t max, char **out, size_t *out_len, struct error *err)
{
    auto_close int fd = -1;
    auto_free char *bytes = NULL;
    struct stat st;
    size_t len = 0, size = READ_STEP_BYTES;

    if (!open_to_read(path, &fd, &st, err))
        return false;
    for (;; size *= 2) {
        char *grown = realloc(bytes, size);

        if (!grown)
            return error_set(err, ERROR_RESOURCE_EXHAUSTED, "read %s: no memory", path);
        bytes = grown;

        size_t got = 0;
        if (!read_up_to(fd, bytes + len, size - 1 - len, &got, err))
            return error_wrap(err, "%s", path);
        len += got;
        if (len > max)
            return too_large(err, path, max);
        if (len < size - 1)
            break;
    }
    bytes[len] = '\0';
    *out = TAKE_PTR(bytes);
    *out_len = len;
    return true;
}

static bool read_secret(int fd, const struct stat *st, const char *path, size_t max,
                        struct secret *out, struct error *err)
{
    auto_secret struct secret s = SECRET_INIT;
    size_t size = (size_t)st->st_size;

    if (size > max)
        return too_large(err, path, max);
    /* One byte more, to notice a file that has grown. */
    if (!secret_alloc(&s, size + 1, err) || !read_up_to(fd, s.bytes, size + 1, &s.len, err))
        return error_wrap(err, "%s", path);
    if (s.len > size)
        return too_large(err, path, size);
    if (s.len == 0)
        return error_set(err, ERROR_FAILED_PRECONDITION, "%s is empty", path);
    *out = secret_take(&s);
    return true;
}

static bool read_private(const char *path, size_t max, uid_t uid, mode_t open_to, gid_t gid,
                         struct secret *out, struct error *err)
{
    auto_close int fd = -1;
    struct stat st;

    if (!open_to_read(path, &fd, &st, err))
        return false;
    if (!S_ISREG(st.st_mode))
        return error_set(err, ERROR_FAILED_PRECONDITION, "%s is not a regular file", path);
    if (st.st_uid != geteuid() && st.st_uid != 0 && st.st_uid != uid)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "%s belongs to uid %u, who could change it: chown %u %s", path, st.st_uid,
                         geteuid(), path);
    if (st.st_mode & (S_IRWXG | S_IRWXO) & ~(st.st_gid == gid ? open_to : 0u))
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "%s is open to others (mode %04o): chmod 600 %s", path, st.st_mode & 07777,
                         path);
    return read_secret(fd, &st, path, max, out, err);
}

bool file_read_private(const char *path, size_t max, struct secret *out, struct error *err)
{
    return read_private(path, max, geteuid(), 0, 0, out, err);
}

bool file_read_private_of(const char *path, size_t max, uid_t uid, gid_t gid, struct secret *out,
                          struct error *err)
{
    return read_private(path, max, uid, S_IRGRP, gid, out, err);
}

/* Reads until the end, until there is a line end when one is waited for, or the buffer is full. */
static bool fill(int fd, bool line_only, struct secret *buffer, size_t *out_len, struct error *err)
{
    size_t len = 0;
    ssize_t n = 0;

    do {
        n = read(fd, buffer->bytes + len, buffer->len - len);
        len += n > 0 ? (size_t)n : 0;
        if (line_only && n > 0 && memchr(buffer->bytes + len - n, '\n', (size_t)n))
            break;
    } while (len < buffer->len && (n > 0 || (n < 0 && errno == EINTR)));
    *out_len = len;
    return n >= 0 || error_set_errno(err, errno, "read");
}

static bool read_descriptor(int fd, size_t max, bool line_only, struct secret *out,
                            struct error *err)
{
    auto_secret struct secret buffer = SECRET_INIT;
    size_t len = 0;

    if (!secret_alloc(&buffer, max + 1, err) || !fill(fd, line_only, &buffer, &len, err))
        return false;
    const uint8_t *end = line_only ? memchr(buffer.bytes, '\n', len) : NULL;
    if (end)
        len = (size_t)(end - buffer.bytes);
    if (len == 0 || len > max)
        return error_set(err, ERROR_OUT_OF_RANGE, "the input has %s, not 1 to %zu bytes",
                         len == 0 ? "nothing" : "more", max);
    *out = secret_take(&buffer);
    out->len = len; /* what is mapped is wiped */
    return true;
}

bool fd_read_secret(int fd, size_t max, struct secret *out, struct error *err)
{
    return read_descriptor(fd, max, false, out, err);
}

bool fd_read_secret_line(int fd, size_t max, struct secret *out, struct error *err)
{
    return read_descriptor(fd, max, true, out, err);
}

bool file_sync_folder_of(const char *path, struct error *err)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 0;
    auto_free char *folder = slash ? strndup(path, len > 0 ? len : 1) : strdup(".");

    if (!folder)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory");
    auto_close int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0)
        return error_set_errno(err, errno, "sync folder %s", folder);
    return true;
}

/* Removes the temporary file at the end of scope. *path is NULL once it has its final name. */
static void unlink_at(char **path)
{
    if (*path)
        (void)unlink(*path);
    free_at(path);
}

static bool fill_temporary(char *template, mode_t mode, const void *bytes, size_t len,
                           struct error *err)
{
    auto_close int fd = mkostemp(template, O_CLOEXEC);

    if (fd < 0)
        return error_set_errno(err, errno, "create a temporary file beside it");
    if (fchmod(fd, mode) != 0)
        return error_set_errno(err, errno, "set mode %04o", mode);
    if (!fd_write_all(fd, bytes, len, err))
        return false;
    if (fsync(fd) != 0)
        return error_set_errno(err, errno, "sync");
    if (close(TAKE_FD(fd)) != 0)
        return error_set_errno(err, errno, "close");
    return true;
}

static bool write_beside(const char *path, mode_t mode, const void *bytes, size_t len, bool replace,
                         struct error *err)
{
    char *temporary CLEANUP(unlink_at) = NULL;

    if (asprintf(&temporary, "%s.XXXXXX", path) < 0) {
        temporary = NULL;
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory");
    }
    if (!fill_temporary(temporary, mode, bytes, len, err))
        return false;
    if (!replace) {
        if (link(temporary, path) == 0)
            return file_sync_folder_of(path, err);
        if (errno == EEXIST)
            return error_set(err, ERROR_ALREADY_EXISTS, "the file exists already");
        return error_set_errno(err, errno, "link the temporary file to this name");
    }
    if (rename(temporary, path) != 0)
        return error_set_errno(err, errno, "replace the old file");
    free_at(&temporary);
    return file_sync_folder_of(path, err);
}

bool file_write(const char *path, mode_t mode, const void *bytes, size_t len, struct error *err)
{
    return write_beside(path, mode, bytes, len, true, err) || error_wrap(err, "write %s", path);
}

bool file_create(const char *path, mode_t mode, const void *bytes, size_t len, struct error *err)
{
    return write_beside(path, mode, bytes, len, false, err) || error_wrap(err, "create %s", path);
}

static bool make_dir(const char *path, mode_t mode, struct error *err)
{
    struct stat st;

    if (mkdir(path, mode) == 0)
        return true;
    int sys_errno = errno;
    if (sys_errno != EEXIST)
        return error_set_errno(err, sys_errno, "create folder %s", path);
    if (stat(path, &st) != 0)
        return error_set_errno(err, errno, "look at folder %s", path);
    if (!S_ISDIR(st.st_mode))
        return error_set_errno(err, ENOTDIR, "create folder %s", path);
    return true;
}

bool file_make_dirs(const char *path, mode_t mode, struct error *err)
{
    auto_free char *prefix = strdup(path);

    if (!prefix)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory");
    for (char *slash = strchr(prefix + (*path == '/'), '/'); slash;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (!make_dir(prefix, mode, err))
            return false;
        *slash = '/';
    }
    return make_dir(prefix, mode, err);
}

bool file_lock(const char *path, bool wait, int *out_fd, struct error *err)
{
    auto_close int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0)
        return error_set_errno(err, errno, "open lock file %s", path);
    while (flock(fd, LOCK_EX | (wait ? 0 : LOCK_NB)) != 0) {
        if (errno == EWOULDBLOCK)
            return error_set(err, ERROR_ABORTED, "%s is locked by another process", path);
        if (errno != EINTR)
            return error_set_errno(err, errno, "lock %s", path);
    }
    *out_fd = TAKE_FD(fd);
    return true;
}

static bool ended_early(struct error *err, size_t done, size_t len)
{
    return error_set(err, ERROR_OUT_OF_RANGE, "the data ends after %zu of %zu bytes", done, len);
}

bool fd_write_all(int fd, const void *bytes, size_t len, struct error *err)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = write(fd, (const char *)bytes + done, len - done);

        if (n >= 0)
            done += (size_t)n;
        else if (errno != EINTR)
            return error_set_errno(err, errno, "write");
    }
    return true;
}

bool fd_pread_all(int fd, void *bytes, size_t len, off_t offset, struct error *err)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(fd, (char *)bytes + done, len - done, offset + (off_t)done);

        if (n == 0)
            return ended_early(err, done, len);
        if (n > 0)
            done += (size_t)n;
        else if (errno != EINTR)
            return error_set_errno(err, errno, "read at byte %lld", (long long)offset);
    }
    return true;
}

bool fd_pwrite_all(int fd, const void *bytes, size_t len, off_t offset, struct error *err)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pwrite(fd, (const char *)bytes + done, len - done, offset + (off_t)done);

        if (n >= 0)
            done += (size_t)n;
        else if (errno != EINTR)
            return error_set_errno(err, errno, "write at byte %lld", (long long)offset);
    }
    return true;
}

void folder_close(DIR **folder)
{
    if (*folder)
        (void)closedir(*folder);
    *folder = NULL;
}

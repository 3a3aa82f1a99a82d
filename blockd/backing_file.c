/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/backing_file.h"

#include "base/fault.h"
#include "base/file.h"
#include "base/reader.h"
#include "base/secret.h"
#include "record/layout.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <unistd.h>

#define NAME_LEN         (BACKING_ID_MAX + 16)
#define TEMPORARY_END    ".part"
#define COPY_STEP        (1u << 20)
#define ZERO_TEST_STEP   4096u
#define EXT4_FILE_BLOCKS (uint64_t) UINT32_MAX /* of one file, at most: 16 TiB */

bool backing_check_id(const char *volume_id, struct error *err)
{
    size_t len = strlen(volume_id);

    if (len < 1 || len > BACKING_ID_MAX ||
        strspn(volume_id, "abcdefghijklmnopqrstuvwxyz0123456789-") != len)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "volume id is not 1 to %d characters of a-z, 0-9 and -", BACKING_ID_MAX);
    return true;
}

static bool file_name(const char *volume_id, const char *end, char out[static NAME_LEN],
                      struct error *err)
{
    if (!backing_check_id(volume_id, err))
        return false;
    (void)snprintf(out, NAME_LEN, "%s.img%s", volume_id, end);
    return true;
}

bool backing_open_folder(const char *path, int *out_fd, struct error *err)
{
    auto_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) != 0)
        return error_set_errno(err, errno, "local folder %s", path);
    if (st.st_uid != geteuid() || (st.st_mode & 022))
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "local folder %s: others can write it: chown root and chmod 700 it", path);
    *out_fd = TAKE_FD(fd);
    return true;
}

bool backing_open(int folder_fd, const char *volume_id, bool read_only, int *out_fd,
                  struct stat *st, struct error *err)
{
    char name[NAME_LEN];

    if (!file_name(volume_id, "", name, err))
        return false;
    auto_close int fd =
        openat(folder_fd, name, (read_only ? O_RDONLY : O_RDWR) | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, st) != 0)
        return error_set_errno(err, errno, "backing file %s", name);
    if (!S_ISREG(st->st_mode))
        return error_set(err, ERROR_FAILED_PRECONDITION, "backing file %s is not a regular file",
                         name);
    *out_fd = TAKE_FD(fd);
    return true;
}

static bool allocate(int fd, uint64_t offset, uint64_t len, struct error *err)
{
    int rc;

    do
        rc = fallocate(fd, 0, (off_t)offset, (off_t)len);
    while (rc != 0 && errno == EINTR);
    return rc == 0 || error_set_errno(err, errno, "reserve %llu bytes in the local folder",
                                      (unsigned long long)len);
}

/* When it returns, the new size is durable. */
static bool set_size(int fd, uint64_t old_bytes, uint64_t size_bytes, bool reserve,
                     struct error *err)
{
    if (size_bytes > INT64_MAX)
        return error_set(err, ERROR_OUT_OF_RANGE, "size is out of range");
    if (reserve && !allocate(fd, old_bytes, size_bytes - old_bytes, err))
        return false;
    if (ftruncate(fd, (off_t)size_bytes) != 0 || fsync(fd) != 0)
        return error_set_errno(err, errno, "set the size of the backing file to %llu bytes",
                               (unsigned long long)size_bytes);
    return true;
}

/* Renames the temporary file and makes the new name durable. The file must be flushed before. */
static bool commit_name(int folder_fd, const char *temporary, const char *final, struct error *err)
{
    if (renameat2(folder_fd, temporary, folder_fd, final, RENAME_NOREPLACE) != 0 &&
        (errno != EINVAL || renameat(folder_fd, temporary, folder_fd, final) != 0))
        return error_set_errno(err, errno, "rename %s", temporary);
    if (fsync(folder_fd) != 0)
        return error_set_errno(err, errno, "flush the local folder");
    return true;
}

static bool open_temporary(int folder_fd, const char *name, int *out_fd, struct error *err)
{
    if (unlinkat(folder_fd, name, 0) != 0 && errno != ENOENT)
        return error_set_errno(err, errno, "remove %s", name);
    *out_fd = openat(folder_fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (*out_fd < 0)
        return error_set_errno(err, errno, "create %s", name);
    return true;
}

bool backing_create(int folder_fd, const char *volume_id, uint64_t size_bytes, bool reserve,
                    bool *already, struct error *err)
{
    char final[NAME_LEN], temporary[NAME_LEN];

    if (!file_name(volume_id, "", final, err) ||
        !file_name(volume_id, TEMPORARY_END, temporary, err))
        return false;
    struct stat st;
    *already = fstatat(folder_fd, final, &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (*already && (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != size_bytes))
        return error_set(err, ERROR_ALREADY_EXISTS, "backing file %s has another size", final);
    if (*already)
        return true;

    auto_close int fd = -1;
    if (!open_temporary(folder_fd, temporary, &fd, err))
        return false;
    FAULT_POINT("worker.create.before-allocate");
    bool done = set_size(fd, 0, size_bytes, reserve, err);
    FAULT_POINT("worker.create.before-rename");
    done = done && commit_name(folder_fd, temporary, final, err);
    if (!done)
        unlinkat(folder_fd, temporary, 0);
    return done;
}

bool backing_delete(int folder_fd, const char *volume_id, bool *already, struct error *err)
{
    char name[NAME_LEN];

    if (!file_name(volume_id, "", name, err))
        return false;
    bool removed = unlinkat(folder_fd, name, 0) == 0;
    if (!removed && errno != ENOENT)
        return error_set_errno(err, errno, "remove backing file %s", name);
    if (!backing_remove_rest(folder_fd, volume_id, err))
        return false;
    *already = !removed;
    if (fsync(folder_fd) != 0)
        return error_set_errno(err, errno, "flush the local folder");
    return true;
}

bool backing_grow(int folder_fd, const char *volume_id, uint64_t size_bytes, bool reserve,
                  uint64_t *out_bytes, struct error *err)
{
    auto_close int fd = -1;
    struct stat st;

    if (!backing_open(folder_fd, volume_id, false, &fd, &st, err))
        return false;
    uint64_t old_bytes = (uint64_t)st.st_size;
    if (size_bytes > old_bytes && !set_size(fd, old_bytes, size_bytes, reserve, err)) {
        /* Without space, fallocate() keeps all that it found. */
        if (ftruncate(fd, st.st_size) != 0)
            error_wrap(err, "the space taken so far could not be given back");
        return false;
    }
    *out_bytes = size_bytes > old_bytes ? size_bytes : old_bytes;
    return true;
}

/* The file system needs blocks of its own for a file that takes all that is free: for the list of
 * its extents, and XFS for other maps as well. A few of 4 KiB each are enough, but the more the free
 * space is in pieces, the longer is the list. */
static uint64_t without_maps(uint64_t free_bytes)
{
    uint64_t maps = (1u << 20) + free_bytes / 1024;

    return free_bytes > maps ? free_bytes - maps : 0;
}

bool backing_capacity(int folder_fd, uint64_t *out_bytes, struct error *err)
{
    struct statfs st;

    if (fstatfs(folder_fd, &st) != 0)
        return error_set_errno(err, errno, "free space of the local folder");
    uint64_t block_bytes = (uint64_t)(st.f_frsize ? st.f_frsize : st.f_bsize);
    uint64_t usable_bytes = without_maps((uint64_t)st.f_bavail * block_bytes);
    uint64_t file_max = st.f_type == EXT4_SUPER_MAGIC ? EXT4_FILE_BLOCKS * block_bytes : INT64_MAX;
    *out_bytes = usable_bytes < file_max ? usable_bytes : file_max;
    return true;
}

static bool find_copy(int folder_fd, const char *name, uint64_t size_bytes, bool *already,
                      struct error *err)
{
    struct stat st;

    *already = fstatat(folder_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (*already && (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != size_bytes))
        return error_set(err, ERROR_ALREADY_EXISTS, "%s exists with another size", name);
    return true;
}

bool backing_copy_begin(int folder_fd, const char *from, const char *to, bool *already,
                        struct backing_copy *out, struct error *err)
{
    auto_backing_copy struct backing_copy copy = BACKING_COPY_INIT;

    copy.folder_fd = fcntl(folder_fd, F_DUPFD_CLOEXEC, 0);
    if (copy.folder_fd < 0)
        return error_set_errno(err, errno, "keep the local folder open");
    struct stat st;
    if (!file_name(to, "", copy.final, err) ||
        !backing_open(folder_fd, from, true, &copy.source_fd, &st, err))
        return false;
    copy.size_bytes = (uint64_t)st.st_size;
    copy.allocated_bytes = (uint64_t)st.st_blocks * SECTOR_BYTES;
    if (!find_copy(folder_fd, copy.final, copy.size_bytes, already, err) || *already)
        return *already;

    char temporary[NAME_LEN];
    if (!file_name(to, TEMPORARY_END, temporary, err) ||
        !open_temporary(folder_fd, temporary, &copy.target_fd, err))
        return false;
    (void)snprintf(copy.temporary, sizeof(copy.temporary), "%s", temporary);
    if (ftruncate(copy.target_fd, st.st_size) != 0)
        return error_set_errno(err, errno, "set the size of the copy to %llu bytes",
                               (unsigned long long)copy.size_bytes);
    copy.buffer = aligned_alloc(ZERO_TEST_STEP, COPY_STEP);
    if (!copy.buffer)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the copy");
    /* Touch all pages now: a suspended volume must not wait for memory. */
    bytes_wipe(copy.buffer, COPY_STEP);
    *out = copy;
    copy = (struct backing_copy)BACKING_COPY_INIT;
    return true;
}

bool backing_copy_reflink(struct backing_copy *copy, bool *done, struct error *err)
{
    *done = ioctl(copy->target_fd, FICLONE, copy->source_fd) == 0;
    if (*done || errno == EOPNOTSUPP || errno == ENOTTY || errno == EINVAL || errno == EXDEV ||
        errno == ENOSYS || errno == EPERM)
        return true;
    return error_set_errno(err, errno, "share extents with the copy");
}

bool backing_copy_reserve(struct backing_copy *copy, struct error *err)
{
    return copy->size_bytes == 0 || allocate(copy->target_fd, 0, copy->size_bytes, err);
}

/* Writes those parts of the len bytes at offset that are not zero. */
static bool write_nonzero(int fd, const unsigned char *bytes, size_t len, off_t offset,
                          struct error *err)
{
    for (size_t start = 0; start < len;) {
        size_t end = start;

        while (end < len) {
            size_t step = len - end < ZERO_TEST_STEP ? len - end : ZERO_TEST_STEP;

            if (bytes_are_zero(bytes + end, step))
                break;
            end += step;
        }
        if (end > start &&
            !fd_pwrite_all(fd, bytes + start, end - start, offset + (off_t)start, err))
            return false;
        start = end > start ? end : start + ZERO_TEST_STEP;
    }
    return true;
}

static bool copy_range(struct backing_copy *copy, off_t offset, off_t end, struct error *err)
{
    while (offset < end) {
        size_t len = end - offset < (off_t)COPY_STEP ? (size_t)(end - offset) : COPY_STEP;

        if (!fd_pread_all(copy->source_fd, copy->buffer, len, offset, err) ||
            !write_nonzero(copy->target_fd, copy->buffer, len, offset, err))
            return error_wrap(err, "copy");
        offset += (off_t)len;
    }
    return true;
}

bool backing_copy_data(struct backing_copy *copy, struct error *err)
{
    off_t size = (off_t)copy->size_bytes;

    for (off_t data = 0, hole = 0; hole < size;) {
        data = lseek(copy->source_fd, hole, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            return true;
        hole = data < 0 ? -1 : lseek(copy->source_fd, data, SEEK_HOLE);
        if (hole < 0)
            return error_set_errno(err, errno, "copy: find data");
        if (!copy_range(copy, data, hole < size ? hole : size, err))
            return false;
    }
    return true;
}

bool backing_copy_commit(struct backing_copy *copy, struct error *err)
{
    if (fsync(copy->target_fd) != 0)
        return error_set_errno(err, errno, "flush the copy");
    FAULT_POINT("worker.copy.before-rename");
    if (!commit_name(copy->folder_fd, copy->temporary, copy->final, err))
        return false;
    copy->temporary[0] = 0;
    return true;
}

void backing_copy_drop(struct backing_copy *copy)
{
    if (copy->temporary[0])
        unlinkat(copy->folder_fd, copy->temporary, 0);
    copy->temporary[0] = 0;
    close_at(&copy->folder_fd);
    close_at(&copy->source_fd);
    close_at(&copy->target_fd);
    free_at(&copy->buffer);
}

static bool read_folder(int folder_fd, DIR **out, struct error *err)
{
    auto_close int fd = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    *out = fd < 0 ? NULL : fdopendir(fd);
    if (!*out)
        return error_set_errno(err, errno, "read the local folder");
    fd = -1; /* the stream owns it */
    return true;
}

bool backing_find_any(int folder_fd, bool *found, struct error *err)
{
    auto_dir DIR *folder = NULL;
    bool is_there = false;

    if (!read_folder(folder_fd, &folder, err))
        return false;
    for (const struct dirent *e; !is_there && (e = readdir(folder));)
        is_there = strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
                   strcmp(e->d_name, "lost+found") != 0;
    *found = is_there;
    return true;
}

bool backing_each_rest(int folder_fd,
                       bool (*each)(void *cookie, const char *volume_id, struct error *err),
                       void *cookie, struct error *err)
{
    auto_dir DIR *folder = NULL;

    if (!read_folder(folder_fd, &folder, err))
        return false;
    for (const struct dirent *e; (e = readdir(folder));) {
        static const char end[] = ".img" TEMPORARY_END;
        size_t len = strlen(e->d_name), end_len = sizeof(end) - 1;
        char volume_id[BACKING_ID_MAX + 1];
        if (len <= end_len || len - end_len > BACKING_ID_MAX ||
            strcmp(e->d_name + len - end_len, end) != 0)
            continue;
        (void)snprintf(volume_id, sizeof(volume_id), "%.*s", (int)(len - end_len), e->d_name);
        if (!each(cookie, volume_id, err))
            return false;
    }
    return true;
}

bool backing_remove_rest(int folder_fd, const char *volume_id, struct error *err)
{
    char name[NAME_LEN];

    if (!file_name(volume_id, TEMPORARY_END, name, err))
        return false;
    if (unlinkat(folder_fd, name, 0) != 0 && errno != ENOENT)
        return error_set_errno(err, errno, "remove %s", name);
    return true;
}

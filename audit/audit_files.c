/* SPDX-License-Identifier: Apache-2.0 */
#include "audit/audit_files.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = 65536, TEXT_MAX = 1024 };

static void close_file(struct audit_file *file)
{
    free_at(&file->path);
    close_at(&file->fd);
}

void audit_files_close(struct audit_files *set)
{
    for (size_t i = 0; i < set->n; i++)
        close_file(&set->files[i]);
    free_at(&set->files);
    free_at(&set->logs);
    *set = (struct audit_files){ .n = 0 };
}

/* --- reading --- */

static bool check_form(const struct audit_file *file, struct error *err)
{
    uint8_t magic[2] = { 0, 0 };

    if (file->size < sizeof(magic))
        return true;
    if (!fd_pread_all(file->fd, magic, sizeof(magic), 0, err))
        return false;
    return magic[0] != 0x1f || magic[1] != 0x8b ||
           error_set(err, ERROR_INVALID_ARGUMENT,
                     "the file is compressed: unpack it first (gunzip)");
}

static bool read_first(struct audit_file *file, struct error *err)
{
    auto_audit_reader struct audit_reader reader = AUDIT_READER_INIT;
    struct audit_text text;
    bool found = false;

    if (!audit_reader_open(&reader, file->fd, err) ||
        !audit_reader_next(&reader, &text, &found, err))
        return false;
    file->size = reader.size;
    if (!found)
        return true;
    memcpy(file->first_hash, text.hash, AUDIT_HASH_TEXT);
    file->has_first = !text.is_long && audit_line_read(text.bytes, text.len, &file->first);
    if (file->has_first)
        (void)snprintf(file->prev, sizeof(file->prev), "%.*s", (int)sizeof(file->prev) - 1,
                       file->first.prev);
    file->first.prev = file->first.mac = NULL;
    return true;
}

/* Of a last line that is longer than a broker's nothing is kept: no file goes on from there. */
static bool read_last(struct audit_file *file, struct error *err)
{
    size_t len = file->size < AUDIT_LINE_MAX ? (size_t)file->size : AUDIT_LINE_MAX;
    auto_free char *bytes = malloc(len > 0 ? len : 1);

    if (!bytes)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "out of memory");
    if (len == 0 || !fd_pread_all(file->fd, bytes, len, (off_t)(file->size - len), err))
        return len == 0;
    if (bytes[len - 1] == '\n')
        len--;
    const char *end = memrchr(bytes, '\n', len), *begin = end ? end + 1 : bytes;

    return (!end && file->size > AUDIT_LINE_MAX) ||
           audit_line_hash(begin, len - (size_t)(begin - bytes), file->last_hash, err);
}

static bool is_known(const struct audit_files *set, const struct stat *st)
{
    struct stat other;

    for (size_t i = 0; i < set->n; i++)
        if (fstat(set->files[i].fd, &other) == 0 && other.st_dev == st->st_dev &&
            other.st_ino == st->st_ino)
            return true;
    return false;
}

static bool grow(struct audit_files *set, struct error *err)
{
    if (set->n >= AUDIT_FILES_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "more than %d files", AUDIT_FILES_MAX);
    struct audit_file *files = realloc(set->files, (set->n + 1) * sizeof(*files));

    if (!files)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "out of memory");
    set->files = files;
    return true;
}

/* Takes over the descriptor. */
static bool add_file(struct audit_files *set, const char *path, int fd, struct error *err)
{
    struct audit_file file = {
        .fd = fd, .path = strdup(path), .before = AUDIT_NO_FILE, .next = AUDIT_NO_FILE
    };

    if (file.path && read_first(&file, err) && check_form(&file, err) && read_last(&file, err) &&
        grow(set, err)) {
        set->files[set->n++] = file;
        return true;
    }
    bool ok = !file.path && error_set(err, ERROR_RESOURCE_EXHAUSTED, "out of memory");
    close_file(&file);
    return ok;
}

/* What is no file is left out, if it is in a folder; a folder of its own goes to *folder_fd. Nothing may
 * block: a pipe would. */
static bool add_path(struct audit_files *set, const char *path, bool is_in_folder, int *folder_fd,
                     struct error *err)
{
    auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) != 0)
        return error_set_errno(err, errno, "%s", path);
    if (S_ISREG(st.st_mode))
        return is_known(set, &st) || add_file(set, path, TAKE_FD(fd), err) ||
               error_wrap(err, "%s", path);
    if (is_in_folder)
        return true;
    if (!S_ISDIR(st.st_mode))
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s: neither a file nor a folder", path);
    *folder_fd = TAKE_FD(fd);
    return true;
}

static bool add_folder(struct audit_files *set, const char *path, int fd, struct error *err)
{
    auto_dir DIR *folder = fdopendir(fd);
    const struct dirent *entry = NULL;
    char name[4096];

    if (!folder) {
        close_at(&fd);
        return error_set_errno(err, errno, "%s", path);
    }
    while ((entry = readdir(folder)) != NULL) { /* NOLINT(concurrency-mt-unsafe): one thread */
        int len = snprintf(name, sizeof(name), "%s/%s", path, entry->d_name), none = -1;

        if (len < 0 || (size_t)len >= sizeof(name))
            return error_set(err, ERROR_INVALID_ARGUMENT, "%s: the path is too long", path);
        if (entry->d_name[0] != '.' && !add_path(set, name, true, &none, err))
            return false;
    }
    return true;
}

bool audit_files_add(struct audit_files *set, const char *path, struct error *err)
{
    int folder_fd = -1;

    return add_path(set, path, false, &folder_fd, err) &&
           (folder_fd < 0 || add_folder(set, path, folder_fd, err));
}

/* --- order --- */

static void tell(const struct audit_teller *teller, const char *fmt, const struct audit_file *a,
                 const struct audit_file *b)
{
    char text[TEXT_MAX];

    (void)snprintf(text, sizeof(text), "%s %s %s", a->path, fmt, b->path);
    teller->tell(teller->cookie, text);
}

/* *out: as far as both go, they are the same. */
static bool compare(const struct audit_file *a, const struct audit_file *b, bool *out,
                    struct error *err)
{
    auto_free uint8_t *blocks = malloc((size_t)2 * BLOCK);
    uint64_t size = a->size < b->size ? a->size : b->size;

    *out = true;
    if (!blocks)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "out of memory");
    for (uint64_t at = 0; at < size && *out;) {
        size_t len = size - at < BLOCK ? (size_t)(size - at) : BLOCK;

        if (!fd_pread_all(a->fd, blocks, len, (off_t)at, err) ||
            !fd_pread_all(b->fd, blocks + BLOCK, len, (off_t)at, err))
            return error_wrap(err, "%s, %s", a->path, b->path);
        *out = memcmp(blocks, blocks + BLOCK, len) == 0;
        at += len;
    }
    return true;
}

/* Of two files of which one is the beginning of the other, the longer one counts. */
static bool find_copies(struct audit_files *set, const struct audit_teller *teller,
                        struct error *err)
{
    for (size_t i = 0; i < set->n; i++)
        for (size_t j = 0; j < i && !set->files[i].is_copy; j++) {
            struct audit_file *a = &set->files[i], *b = &set->files[j];
            bool is_same = false;

            if (b->is_copy || !a->has_first || strcmp(a->first_hash, b->first_hash) != 0)
                continue;
            if (!compare(a, b, &is_same, err))
                return false;
            if (!is_same)
                tell(teller, "and another file begin alike and then differ: one was changed:", a,
                     b);
            else if (a->size > b->size)
                b->is_copy = true;
            else
                a->is_copy = true;
        }
    return true;
}

static void find_before(struct audit_files *set, size_t i, const struct audit_teller *teller)
{
    struct audit_file *file = &set->files[i];

    if (!file->has_first || file->is_copy)
        return;
    for (size_t j = 0; j < set->n && file->before == AUDIT_NO_FILE; j++) {
        struct audit_file *other = &set->files[j];

        if (j == i || other->is_copy || strcmp(other->last_hash, file->prev) != 0)
            continue;
        if (other->next == AUDIT_NO_FILE) {
            other->next = i;
            file->before = j;
        } else if (strcmp(set->files[other->next].first_hash, file->first_hash) != 0) {
            tell(teller, "goes on from the same line as", file, &set->files[other->next]);
        }
    }
}

static void take_log(struct audit_files *set, size_t first)
{
    set->logs[set->n_logs++] = first;
    for (size_t i = first; i != AUDIT_NO_FILE && !set->files[i].is_taken; i = set->files[i].next) {
        size_t next = set->files[i].next;

        set->files[i].is_taken = true;
        if (next != AUDIT_NO_FILE && set->files[next].is_taken)
            set->files[i].next = AUDIT_NO_FILE;
    }
}

/* Hostile files can follow each other in a circle: then none is the first. */
static void take_logs(struct audit_files *set, const struct audit_teller *teller)
{
    for (size_t i = 0; i < set->n; i++)
        if (!set->files[i].is_copy && set->files[i].before == AUDIT_NO_FILE)
            take_log(set, i);
    for (size_t i = 0; i < set->n; i++)
        if (!set->files[i].is_copy && !set->files[i].is_taken) {
            tell(teller, "goes on from a file that goes on from it:", &set->files[i],
                 &set->files[set->files[i].before]);
            take_log(set, i);
        }
}

bool audit_files_order(struct audit_files *set, const struct audit_teller *teller,
                       struct error *err)
{
    set->logs = calloc(set->n + 1, sizeof(*set->logs));
    if (!set->logs)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "out of memory");
    if (!find_copies(set, teller, err))
        return false;
    for (size_t i = 0; i < set->n; i++)
        find_before(set, i, teller);
    take_logs(set, teller);
    return true;
}

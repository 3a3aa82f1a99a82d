/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fault.h"
#include "base/file.h"
#include "store/backup_form.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUFFER_BYTES ((size_t)64 * 1024)
#define PATH_BYTES   4096

struct backup_writer {
    const struct secret *master;
    char partial[PATH_BYTES];
    int fd;
    struct sha256_stream hash;
    struct backup_counts counts;
    size_t len; /* in the buffer */
    uint8_t buffer[BUFFER_BYTES];
};

bool backup_writer_new(const char *folder, const struct secret *master, struct backup_writer **out,
                       struct error *err)
{
    auto_backup_writer struct backup_writer *w = calloc(1, sizeof(*w));

    if (!w)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "backup: out of memory");
    w->master = master;
    w->fd = -1;
    int len = snprintf(w->partial, sizeof(w->partial), "%s/partial", folder);

    if (len < 0 || (size_t)len >= sizeof(w->partial))
        return error_set(err, ERROR_INVALID_ARGUMENT, "backup: the path is too long");
    /* Of a broker that was killed. */
    if (unlink(w->partial) != 0 && errno != ENOENT)
        return error_set_errno(err, errno, "remove %s", w->partial);
    w->fd = open(w->partial, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (w->fd < 0)
        return error_set_errno(err, errno, "create %s", w->partial);
    *out = TAKE_PTR(w);
    return true;
}

void backup_writer_free(struct backup_writer **writer)
{
    struct backup_writer *w = *writer;

    if (!w)
        return;
    if (w->fd >= 0)
        (void)unlink(w->partial);
    close_at(&w->fd);
    sha256_drop(&w->hash);
    free(w);
    *writer = NULL;
}

/* --- bytes --- */

static bool flush(struct backup_writer *w, struct error *err)
{
    if (!fd_write_all(w->fd, w->buffer, w->len, err))
        return error_wrap(err, "backup");
    w->counts.bytes += w->len;
    w->len = 0;
    return true;
}

static bool add_unhashed(struct backup_writer *w, const void *bytes, size_t len, struct error *err)
{
    if (w->len + len > sizeof(w->buffer) && !flush(w, err))
        return false;
    memcpy(w->buffer + w->len, bytes, len);
    w->len += len;
    return true;
}

static bool add(struct backup_writer *w, const void *bytes, size_t len, struct error *err)
{
    if (len == 0)
        return true;
    return sha256_add(&w->hash, bytes, len, err) && add_unhashed(w, bytes, len, err);
}

static bool add_entry(struct backup_writer *w, enum backup_entry type,
                      const struct byte_range *parts, size_t n, struct error *err)
{
    uint8_t start[BACKUP_ENTRY_START] = { (uint8_t)type };
    uint32_t len = 0;

    for (size_t i = 0; i < n; i++)
        len += (uint32_t)parts[i].len;
    len = htole32(len);
    memcpy(start + 1, &len, sizeof(len));
    if (!add(w, start, sizeof(start), err))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!add(w, parts[i].bytes, parts[i].len, err))
            return false;
    return true;
}

/* --- entries --- */

bool backup_begin(struct backup_writer *w, const struct backup_head *head, struct error *err)
{
    uint8_t mark[STORE_MARK_LEN], bytes[BACKUP_HEAD_MAX];
    size_t len = fields_encode(&backup_head_fields, head, bytes, sizeof(bytes));
    const struct byte_range part = { bytes, len };

    w->counts = (struct backup_counts){ .records = 0 };
    w->len = 0;
    sha256_drop(&w->hash);
    if (ftruncate(w->fd, 0) != 0 || lseek(w->fd, 0, SEEK_SET) != 0)
        return error_set_errno(err, errno, "empty %s", w->partial);
    return sha256_start(&w->hash, err) && seal_mark(w->master, mark, err) &&
           add(w, BACKUP_MAGIC, BACKUP_MAGIC_LEN, err) && add(w, mark, sizeof(mark), err) &&
           add_entry(w, BACKUP_HEAD, &part, 1, err);
}

static bool write_record(void *cookie, const struct record *r, const struct store_key *key,
                         struct error *err)
{
    struct backup_writer *w = cookie;
    const uint8_t has_key = key != NULL;
    struct encoded encoded;

    record_encode(r, &encoded);
    const struct byte_range parts[] = { { &has_key, 1 },
                                        { key ? key->wrapped : NULL, key ? STORE_WRAPPED_LEN : 0 },
                                        { encoded.bytes, encoded.len } };

    w->counts.records++;
    return add_entry(w, BACKUP_RECORD, parts, ARRAY_LEN(parts), err);
}

static bool check_name(const char *name, struct error *err)
{
    return strlen(name) <= BACKUP_NAME_MAX ||
           error_set(err, ERROR_INTERNAL, "backup: the name of a mark is too long");
}

static bool write_mark(void *cookie, const char *name, const uint8_t mark[static STORE_MARK_LEN],
                       struct error *err)
{
    struct backup_writer *w = cookie;
    const struct byte_range parts[] = { { mark, STORE_MARK_LEN }, { name, strlen(name) } };

    w->counts.marks++;
    return check_name(name, err) && add_entry(w, BACKUP_MARK, parts, ARRAY_LEN(parts), err);
}

static bool write_highest(void *cookie, const char *name, uint64_t value, struct error *err)
{
    struct backup_writer *w = cookie;
    const uint64_t le = htole64(value);
    const struct byte_range parts[] = { { &le, sizeof(le) }, { name, strlen(name) } };

    w->counts.highest++;
    return check_name(name, err) && add_entry(w, BACKUP_HIGHEST, parts, ARRAY_LEN(parts), err);
}

struct store_visitor backup_visitor(struct backup_writer *w)
{
    return (struct store_visitor){ write_record, write_mark, write_highest, w };
}

/* --- the end --- */

bool backup_end(struct backup_writer *w, struct backup_counts *out,
                uint8_t mac[static BACKUP_MAC_LEN], struct error *err)
{
    const uint64_t numbers[] = { htole64(w->counts.records), htole64(w->counts.marks),
                                 htole64(w->counts.highest) };
    const struct byte_range part = { numbers, sizeof(numbers) };
    uint8_t digest[SHA256_LEN];

    if (!add_entry(w, BACKUP_END, &part, 1, err) || !sha256_finish(&w->hash, digest, err) ||
        !backup_make_mac(w->master, digest, mac, err) ||
        !add_unhashed(w, mac, BACKUP_MAC_LEN, err) || !flush(w, err))
        return false;
    if (fsync(w->fd) != 0)
        return error_set_errno(err, errno, "sync %s", w->partial);
    FAULT_POINT("broker.backup.written");
    *out = w->counts;
    return true;
}

bool backup_name(struct backup_writer *w, const char *path, struct error *err)
{
    if (link(w->partial, path) != 0)
        return errno == EEXIST ? error_set(err, ERROR_ALREADY_EXISTS, "%s exists already", path)
                               : error_set_errno(err, errno, "name the backup %s", path);
    FAULT_POINT("broker.backup.named");
    if (unlink(w->partial) != 0)
        return error_set_errno(err, errno, "remove %s", w->partial);
    close_at(&w->fd);
    return file_sync_folder_of(path, err);
}

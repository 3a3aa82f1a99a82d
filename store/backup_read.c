/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "record/check.h"
#include "store/backup_form.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUFFER_BYTES ((size_t)64 * 1024)
#define SHOWN_BYTES  8 /* of a master key's mark */

struct backup_reader {
    int fd;
    uint64_t size;              /* of the part that the MAC is over */
    uint8_t digest[SHA256_LEN]; /* of that */
    uint8_t mac[BACKUP_MAC_LEN];

    /* of one pass */
    struct sha256_stream hash;
    uint64_t at; /* of the next byte that is read from the file */
    size_t used, len;
    uint8_t buffer[BUFFER_BYTES];
    uint8_t entry[BACKUP_ENTRY_MAX];
    struct record record;
    struct backup_counts counts;
};

static const struct field head_fields[] = {
    FIELD_VERSION(1, 1),
    FIELD_BYTES(2, struct backup_head, id),
    FIELD_U64(3, struct backup_head, created_ms),
    FIELD_U64(4, struct backup_head, restored_ms),
    FIELD_TEXT(5, struct backup_head, version),
    FIELD_TEXT(6, struct backup_head, store),
    FIELD_TEXT(7, struct backup_head, replica),
    FIELD_U64(8, struct backup_head, audit_seq),
    FIELD_BLOB(9, struct backup_head, audit_head, audit_len),
    FIELD_U64(10, struct backup_head, ring_version),
    FIELD_BLOB(11, struct backup_head, ring, ring_len),
};
const struct field_list backup_head_fields = FIELD_LIST(head_fields, struct backup_head);

bool backup_make_mac(const struct secret *master, const uint8_t digest[static SHA256_LEN],
                     uint8_t out[static BACKUP_MAC_LEN], struct error *err)
{
    auto_secret struct secret key = SECRET_INIT;

    return seal_derive(master, BACKUP_KEY, &key, err) &&
           hmac_sha256(&key, digest, SHA256_LEN, out, err);
}

void backup_set_ring(struct backup_head *head, const struct store_ring *ring)
{
    head->ring_version = ring->version;
    head->ring_len = (uint32_t)ring->len;
    memcpy(head->ring, ring->bytes, ring->len);
}

void backup_get_ring(const struct backup_head *head, struct store_ring *out)
{
    *out = (struct store_ring){ .version = head->ring_version, .len = head->ring_len };
    memcpy(out->bytes, head->ring, head->ring_len);
}

static bool changed(struct error *err)
{
    return error_set(
        err, ERROR_DATA_LOSS,
        "the backup is not what a broker wrote: it was changed or cut. Take another one");
}

/* --- one pass over the bytes --- */

static bool rewind_to_start(struct backup_reader *r, struct error *err)
{
    r->at = 0;
    r->used = r->len = 0;
    sha256_drop(&r->hash);
    return sha256_start(&r->hash, err);
}

static bool fill(struct backup_reader *r, struct error *err)
{
    uint64_t left = r->size - r->at;

    r->used = 0;
    r->len = left < sizeof(r->buffer) ? (size_t)left : sizeof(r->buffer);
    if (r->len == 0)
        return changed(err);
    if (!fd_pread_all(r->fd, r->buffer, r->len, (off_t)r->at, err) ||
        !sha256_add(&r->hash, r->buffer, r->len, err))
        return false;
    r->at += r->len;
    return true;
}

static bool read_bytes(struct backup_reader *r, uint8_t *out, size_t len, struct error *err)
{
    while (len > 0) {
        if (r->used == r->len && !fill(r, err))
            return false;
        size_t part = r->len - r->used < len ? r->len - r->used : len;

        memcpy(out, r->buffer + r->used, part);
        r->used += part;
        out += part;
        len -= part;
    }
    return true;
}

static bool is_at_end(const struct backup_reader *r)
{
    return r->at == r->size && r->used == r->len;
}

/* --- the check of the whole file --- */

/* Both as "tdvolctl broker status" shows them. */
static bool of_another_master(const uint8_t *wanted, const uint8_t *given, struct error *err)
{
    char made[2 * SHOWN_BYTES + 1], other[2 * SHOWN_BYTES + 1];

    hex_encode(wanted, SHOWN_BYTES, made);
    hex_encode(given, SHOWN_BYTES, other);
    return error_set(
        err, ERROR_FAILED_PRECONDITION,
        "the backup was made under another master key, %s, not %s: restore it with that "
        "one as --master-key, and then start the broker with both",
        made, other);
}

static bool check_start(struct backup_reader *r, const struct secret *master, struct error *err)
{
    uint8_t start[BACKUP_START_LEN], mark[STORE_MARK_LEN];

    if (!fd_pread_all(r->fd, start, sizeof(start), 0, err) || !seal_mark(master, mark, err))
        return false;
    if (memcmp(start, BACKUP_MAGIC_NAME, strlen(BACKUP_MAGIC_NAME)) != 0)
        return error_set(err, ERROR_FAILED_PRECONDITION, "this is no backup of a broker");
    if (memcmp(start, BACKUP_MAGIC, BACKUP_MAGIC_LEN) != 0)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "the backup has another version than 01, which is what this broker knows");
    return bytes_are_equal(start + BACKUP_MAGIC_LEN, mark, sizeof(mark)) ||
           of_another_master(start + BACKUP_MAGIC_LEN, mark, err);
}

static bool check_mac(struct backup_reader *r, const struct secret *master, struct error *err)
{
    uint8_t mac[BACKUP_MAC_LEN];

    if (!rewind_to_start(r, err))
        return false;
    while (r->at < r->size)
        if (!fill(r, err))
            return false;
    if (!sha256_finish(&r->hash, r->digest, err) || !backup_make_mac(master, r->digest, mac, err) ||
        !fd_pread_all(r->fd, r->mac, sizeof(r->mac), (off_t)r->size, err))
        return false;
    return bytes_are_equal(mac, r->mac, sizeof(mac)) || changed(err);
}

static bool open_file(struct backup_reader *r, const char *path, struct error *err)
{
    struct stat st;

    r->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (r->fd < 0 || fstat(r->fd, &st) != 0)
        return error_set_errno(err, errno, "open it");
    if (!S_ISREG(st.st_mode))
        return error_set(err, ERROR_FAILED_PRECONDITION, "this is no file");
    if (st.st_size < (off_t)(BACKUP_START_LEN + BACKUP_MAC_LEN))
        return error_set(err, ERROR_FAILED_PRECONDITION, "this is no backup of a broker");
    r->size = (uint64_t)st.st_size - BACKUP_MAC_LEN;
    return true;
}

bool backup_reader_new(const char *path, const struct secret *master, struct backup_reader **out,
                       struct error *err)
{
    auto_backup_reader struct backup_reader *r = calloc(1, sizeof(*r));

    if (!r)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "backup: out of memory");
    r->fd = -1;
    if (!open_file(r, path, err) || !check_start(r, master, err) || !check_mac(r, master, err))
        return error_wrap(err, "%s", path);
    *out = TAKE_PTR(r);
    return true;
}

void backup_reader_free(struct backup_reader **reader)
{
    struct backup_reader *r = *reader;

    if (!r)
        return;
    close_at(&r->fd);
    sha256_drop(&r->hash);
    free(r);
    *reader = NULL;
}

const uint8_t *backup_mac(const struct backup_reader *r)
{
    return r->mac;
}

/* --- entries --- */

/* *len: of r->entry. */
static bool read_entry(struct backup_reader *r, enum backup_entry *type, size_t *len,
                       struct error *err)
{
    uint8_t start[BACKUP_ENTRY_START];
    uint32_t le = 0;

    if (!read_bytes(r, start, sizeof(start), err))
        return false;
    memcpy(&le, start + 1, sizeof(le));
    *type = (enum backup_entry)start[0];
    *len = le32toh(le);
    return *len <= sizeof(r->entry) ? read_bytes(r, r->entry, *len, err) : changed(err);
}

static bool read_head(struct backup_reader *r, struct backup_head *out, struct error *err)
{
    uint8_t start[BACKUP_START_LEN];
    enum backup_entry type;
    size_t len = 0;

    if (!read_bytes(r, start, sizeof(start), err) || !read_entry(r, &type, &len, err))
        return false;
    return type == BACKUP_HEAD ? fields_decode(&backup_head_fields, r->entry, len, out, err)
                               : changed(err);
}

static bool visit_record(struct backup_reader *r, size_t len, const struct store_visitor *v,
                         struct error *err)
{
    bool has_key = len > 0 && r->entry[0] == 1;
    size_t start = has_key ? 1 + STORE_WRAPPED_LEN : 1;
    struct store_key key;

    if (len <= start || r->entry[0] > 1)
        return changed(err);
    if (!record_decode(r->entry + start, len - start, &r->record, err) ||
        !record_check(&r->record, err))
        return error_wrap(err, "a record in the backup");
    if (has_key != (r->record.key.generation != 0))
        return changed(err);
    key.key = r->record.key;
    if (has_key)
        memcpy(key.wrapped, r->entry + 1, STORE_WRAPPED_LEN);
    r->counts.records++;
    return v->record(v->cookie, &r->record, has_key ? &key : NULL, err);
}

/* The rest of the entry after the first bytes of it. */
static bool read_name(const struct backup_reader *r, size_t start, size_t len,
                      char out[static BACKUP_NAME_MAX + 1], struct error *err)
{
    if (len <= start || len - start > BACKUP_NAME_MAX || memchr(r->entry + start, 0, len - start))
        return changed(err);
    memcpy(out, r->entry + start, len - start);
    out[len - start] = '\0';
    return true;
}

static bool visit_mark(struct backup_reader *r, size_t len, const struct store_visitor *v,
                       struct error *err)
{
    char name[BACKUP_NAME_MAX + 1];

    r->counts.marks++;
    return read_name(r, STORE_MARK_LEN, len, name, err) && v->mark(v->cookie, name, r->entry, err);
}

static bool visit_highest(struct backup_reader *r, size_t len, const struct store_visitor *v,
                          struct error *err)
{
    char name[BACKUP_NAME_MAX + 1];
    uint64_t le = 0;

    r->counts.highest++;
    if (!read_name(r, sizeof(le), len, name, err))
        return false;
    memcpy(&le, r->entry, sizeof(le));
    return v->highest(v->cookie, name, le64toh(le), err);
}

static bool check_end(struct backup_reader *r, size_t len, struct error *err)
{
    const uint64_t numbers[] = { htole64(r->counts.records), htole64(r->counts.marks),
                                 htole64(r->counts.highest) };
    uint8_t digest[SHA256_LEN];

    if (len != sizeof(numbers) || memcmp(r->entry, numbers, len) != 0 || !is_at_end(r))
        return changed(err);
    if (!sha256_finish(&r->hash, digest, err))
        return false;
    return bytes_are_equal(digest, r->digest, sizeof(digest)) || changed(err);
}

static bool visit_all(struct backup_reader *r, const struct store_visitor *v, struct error *err)
{
    for (;;) {
        enum backup_entry type;
        size_t len = 0;

        if (!read_entry(r, &type, &len, err))
            return false;
        if (type == BACKUP_END)
            return check_end(r, len, err);
        if (!(type == BACKUP_RECORD    ? visit_record(r, len, v, err)
              : type == BACKUP_MARK    ? visit_mark(r, len, v, err)
              : type == BACKUP_HIGHEST ? visit_highest(r, len, v, err)
                                       : changed(err)))
            return false;
    }
}

bool backup_visit(struct backup_reader *r, const struct store_visitor *visitor,
                  struct backup_head *head, struct backup_counts *out, struct error *err)
{
    r->counts = (struct backup_counts){ .bytes = r->size + BACKUP_MAC_LEN };
    if (!rewind_to_start(r, err) || !read_head(r, head, err) ||
        (visitor && !visit_all(r, visitor, err)))
        return false;
    *out = r->counts;
    return true;
}

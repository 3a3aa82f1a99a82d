/* SPDX-License-Identifier: Apache-2.0 */
#include "audit/audit_reader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool audit_reader_open(struct audit_reader *reader, int fd, struct error *err)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return error_set_errno(err, errno, "audit log");
    if (!S_ISREG(st.st_mode))
        return error_set(err, ERROR_INVALID_ARGUMENT, "audit log: this is not a file");
    char *buffer = malloc(AUDIT_LINE_MAX);

    if (!buffer)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "audit log: out of memory");
    *reader = (struct audit_reader){ .fd = fd, .size = (uint64_t)st.st_size, .buffer = buffer };
    return true;
}

void audit_reader_close(struct audit_reader *reader)
{
    free_at(&reader->buffer);
    reader->at = reader->filled = 0;
}

/* Reads more behind the rest of the buffer. *more: there was more, and place for it. */
static bool fill(struct audit_reader *r, bool *more, struct error *err)
{
    size_t rest = r->filled - r->at, place = AUDIT_LINE_MAX - rest;
    uint64_t left = r->size - r->offset;

    memmove(r->buffer, r->buffer + r->at, rest);
    r->at = 0;
    r->filled = rest;
    *more = false;
    if (place > left)
        place = (size_t)left;
    while (place > 0) {
        ssize_t got = pread(r->fd, r->buffer + rest, place, (off_t)r->offset);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_set_errno(err, errno, "audit log: read");
        *more = got > 0;
        r->filled += (size_t)got;
        r->offset = got > 0 ? r->offset + (uint64_t)got : r->size;
        break;
    }
    return true;
}

/* The end of the line is found, or the file has no more. */
static bool end_line(struct audit_reader *r, struct sha256_stream *hash, const char *end,
                     struct audit_text *out, struct error *err)
{
    uint8_t digest[SHA256_LEN];

    out->bytes = r->buffer + r->at;
    out->len = (size_t)((end ? end : r->buffer + r->filled) - out->bytes);
    out->has_end = end != NULL;
    out->number = ++r->number;
    r->at += out->len + (end ? 1 : 0);
    if (!sha256_add(hash, out->bytes, out->len, err) || !sha256_finish(hash, digest, err))
        return false;
    hex_encode(digest, sizeof(digest), out->hash);
    return true;
}

bool audit_reader_next(struct audit_reader *r, struct audit_text *out, bool *found,
                       struct error *err)
{
    auto_sha256 struct sha256_stream hash = { .context = NULL };
    struct audit_text line = { .is_long = false };
    bool more = true;

    *found = false;
    if (!sha256_start(&hash, err))
        return false;
    for (;;) {
        const char *end = memchr(r->buffer + r->at, '\n', r->filled - r->at);

        if (end || !more) {
            *found = end || r->filled > r->at || line.is_long;
            if (!*found)
                return true;
            if (!end_line(r, &hash, end, &line, err))
                return false;
            *out = line;
            return true;
        }
        if (r->filled - r->at == AUDIT_LINE_MAX) { /* keep none of it, but its hash */
            if (!sha256_add(&hash, r->buffer + r->at, AUDIT_LINE_MAX, err))
                return false;
            line.is_long = true;
            r->at = r->filled;
        }
        if (!fill(r, &more, err))
            return false;
    }
}

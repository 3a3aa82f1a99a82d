/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/copy.h"

#include "base/fault.h"
#include "base/file.h"
#include "crypt/device.h"
#include "migrate/read_ahead.h"

#include <inttypes.h>
#include <string.h>

struct copying {
    const struct copy_range *range;
    struct read_ahead source, target; /* the latter not for a fresh target */
    uint8_t *spare;                   /* a chunk of a fresh target */
    uint64_t written;
};

static bool write_run(struct copying *c, const struct chunk *from, size_t begin, size_t end,
                      struct error *err)
{
    const struct copy_range *range = c->range;

    if (begin == end)
        return true;
    if (c->written == 0 && range->begin && !range->begin(range->cookie, err))
        return false;
    if (!fd_pwrite_all(range->target_fd, from->bytes + begin, end - begin,
                       (off_t)(from->offset + begin), err))
        return error_wrap(err, "write at offset %" PRIu64, from->offset + begin);
    c->written += end - begin;
    FAULT_POINT("copy-in.copy.written");
    return true;
}

static bool differs_at(const struct chunk *from, size_t at, struct error *err)
{
    return error_set_reason(err, ERROR_DATA_LOSS, "CopyDiffers",
                            "the two volumes differ within %u bytes from offset %" PRIu64,
                            COPY_PIECE_BYTES, from->offset + at);
}

/* Writes neighbours that differ in one go. Without to->bytes, all of them. */
static bool equalize(struct copying *c, const struct chunk *from, const struct chunk *to,
                     struct error *err)
{
    size_t begin = 0; /* of the run of pieces that differ, and that ends at "at" */

    for (size_t at = 0; at < from->len; at += COPY_PIECE_BYTES) {
        size_t len = from->len - at < COPY_PIECE_BYTES ? from->len - at : COPY_PIECE_BYTES;

        if (!to->bytes || memcmp(from->bytes + at, to->bytes + at, len) != 0) {
            if (c->range->compare_only)
                return differs_at(from, at, err);
            continue;
        }
        if (!write_run(c, from, begin, at, err))
            return false;
        begin = at + len;
    }
    return write_run(c, from, begin, from->len, err);
}

/* Ends at the first byte that is not zero. */
static bool is_zero(const uint8_t *bytes, size_t len)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0;
}

static bool has_zeros(const struct chunk *chunk)
{
    for (size_t at = 0; at < chunk->len; at += COPY_PIECE_BYTES) {
        size_t left = chunk->len - at;

        if (is_zero(chunk->bytes + at, left < COPY_PIECE_BYTES ? left : COPY_PIECE_BYTES))
            return true;
    }
    return false;
}

static bool next_of_target(struct copying *c, const struct chunk *from, struct chunk *to,
                           struct error *err)
{
    if (!c->range->is_fresh)
        return read_ahead_next(&c->target, to, err);
    *to = (struct chunk){ .bytes = has_zeros(from) ? c->spare : NULL, .len = from->len };
    return !to->bytes ||
           fd_pread_all(c->range->target_fd, to->bytes, from->len, (off_t)from->offset, err);
}

static bool next_chunks(struct copying *c, struct chunk *from, struct chunk *to, struct error *err)
{
    if (atomic_load(c->range->stop))
        return error_set(err, ERROR_CANCELLED, "stopped");
    if (!read_ahead_next(&c->source, from, err))
        return error_wrap(err, "the old volume");
    return next_of_target(c, from, to, err) || error_wrap(err, "the new volume");
}

static bool copy_all(struct copying *c, struct error *err)
{
    struct chunk from = { .len = 0 }, to = { .len = 0 };

    for (;;) {
        if (!next_chunks(c, &from, &to, err))
            return false;
        if (from.len == 0)
            return true;
        if (!equalize(c, &from, &to, err))
            return false;
        if (c->range->progress)
            c->range->progress(c->range->cookie, from.len);
        read_ahead_release(&c->source);
        if (!c->range->is_fresh)
            read_ahead_release(&c->target);
    }
}

static bool search_to_the_end(struct read_ahead *target, const struct copy_range *range, bool *out,
                              struct error *err)
{
    struct chunk chunk = { .len = 0 };

    for (;;) {
        if (atomic_load(range->stop))
            return error_set(err, ERROR_CANCELLED, "stopped");
        if (!read_ahead_next(target, &chunk, err))
            return error_wrap(err, "the new volume");
        *out = chunk.len == 0 || is_zero(chunk.bytes, chunk.len);
        if (chunk.len == 0 || !*out)
            return true;
        if (range->progress)
            range->progress(range->cookie, chunk.len);
        read_ahead_release(target);
    }
}

bool copy_range_find_blank(const struct copy_range *range, bool *is_blank, struct error *err)
{
    auto_read_ahead struct read_ahead target = { .fd = -1 };

    return read_ahead_start(&target, range->target_fd, range->from,
                            round_up_u64(range->end, DEVICE_BLOCK_BYTES), err) &&
           search_to_the_end(&target, range, is_blank, err);
}

bool copy_range_run(const struct copy_range *range, uint64_t *written, struct error *err)
{
    struct copying c = { .range = range };

    bool ok =
        read_ahead_start(&c.source, range->source_fd, range->from, range->end, err) &&
        (range->is_fresh ? device_buffer(CHUNK_BYTES, &c.spare, err)
                         : read_ahead_start(&c.target, range->target_fd, range->from,
                                            round_up_u64(range->end, DEVICE_BLOCK_BYTES), err)) &&
        copy_all(&c, err);
    read_ahead_stop(&c.source);
    read_ahead_stop(&c.target);
    free_at(&c.spare);
    *written = c.written;
    return ok;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/read_ahead.h"

#include "base/secret.h"
#include "base/thread.h"
#include "crypt/device.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One read may end early, but only a failed one says why. Returns the bytes that were read; less than
 * len: errno is set, 0 for the end of the device. */
static size_t read_some(int fd, uint8_t *bytes, size_t len, uint64_t offset)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = pread(fd, bytes + done, len - done, (off_t)(offset + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            errno = 0;
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    return done;
}

/* A large read fails as a whole. Block by block shows where. */
static bool name_failure(int fd, uint8_t *bytes, uint64_t offset, size_t len, struct error *err)
{
    size_t done = 0;

    for (; done < len; done += DEVICE_BLOCK_BYTES) {
        size_t step = len - done < DEVICE_BLOCK_BYTES ? len - done : DEVICE_BLOCK_BYTES;

        if (read_some(fd, bytes + done, step, offset + done) != step)
            break;
    }
    if (done >= len)
        return true; /* this time all of it could be read */
    int code = errno;
    offset += done;
    if (code == EILSEQ)
        return error_set(err, ERROR_DATA_LOSS,
                         "the sector at offset %" PRIu64 " of the data is not what was "
                         "written there: somebody changed it on the disk, or it was damaged",
                         offset);
    return error_set_errno(err, code != 0 ? code : EIO, "read at offset %" PRIu64, offset);
}

bool read_exactly(int fd, uint8_t *bytes, size_t len, uint64_t offset, struct error *err)
{
    return read_some(fd, bytes, len, offset) == len || name_failure(fd, bytes, offset, len, err);
}

static bool read_chunk(const struct read_ahead *r, struct chunk *chunk, struct error *err)
{
    size_t padded = (size_t)round_up_u64(chunk->len, DEVICE_BLOCK_BYTES);

    if (!read_exactly(r->fd, chunk->bytes, chunk->len, chunk->offset, err))
        return false;
    bytes_wipe(chunk->bytes + chunk->len, padded - chunk->len);
    chunk->len = padded;
    return true;
}

/* Waits for a free chunk. False when nobody wants more. */
static bool take_free(struct read_ahead *r, struct chunk **out)
{
    pthread_mutex_lock(&r->lock);
    while (!r->is_ended && r->n_read - r->n_used == READ_AHEAD_CHUNKS)
        pthread_cond_wait(&r->changed, &r->lock);
    bool wanted = !r->is_ended;
    pthread_mutex_unlock(&r->lock);
    *out = &r->chunks[r->n_read % READ_AHEAD_CHUNKS];
    return wanted;
}

static void *run(void *cookie)
{
    struct read_ahead *r = cookie;
    struct error failure = ERROR_INIT;
    struct chunk *chunk = NULL;

    while (take_free(r, &chunk)) {
        uint64_t left = r->end - r->at;

        chunk->offset = r->at;
        chunk->len = left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES;
        bool is_last = chunk->len == 0, ok = is_last || read_chunk(r, chunk, &failure);
        r->at += chunk->len < left ? chunk->len : left;
        pthread_mutex_lock(&r->lock);
        if (ok)
            r->n_read++;
        else
            r->failure = failure;
        pthread_cond_broadcast(&r->changed);
        pthread_mutex_unlock(&r->lock);
        if (!ok || is_last)
            break;
    }
    return NULL;
}

bool read_ahead_start(struct read_ahead *reader, int fd, uint64_t from, uint64_t end,
                      struct error *err)
{
    *reader = (struct read_ahead){ .fd = fd, .at = from, .end = end };
    (void)pthread_mutex_init(&reader->lock, NULL);
    condition_init(&reader->changed);
    for (size_t i = 0; i < READ_AHEAD_CHUNKS; i++)
        if (!device_buffer(CHUNK_BYTES, &reader->chunks[i].bytes, err))
            return false;
    reader->is_running = thread_start(&reader->thread, "read-ahead", run, reader, err);
    return reader->is_running;
}

void read_ahead_stop(struct read_ahead *reader)
{
    if (reader->is_running) {
        pthread_mutex_lock(&reader->lock);
        reader->is_ended = true;
        pthread_cond_broadcast(&reader->changed);
        pthread_mutex_unlock(&reader->lock);
        (void)pthread_join(reader->thread, NULL);
        reader->is_running = false;
    }
    for (size_t i = 0; i < READ_AHEAD_CHUNKS; i++)
        free_at(&reader->chunks[i].bytes);
}

bool read_ahead_next(struct read_ahead *reader, struct chunk *out, struct error *err)
{
    pthread_mutex_lock(&reader->lock);
    while (reader->n_read == reader->n_used && reader->failure.code == ERROR_NONE)
        pthread_cond_wait(&reader->changed, &reader->lock);
    bool ok = reader->n_read > reader->n_used;
    if (ok)
        *out = reader->chunks[reader->n_used % READ_AHEAD_CHUNKS];
    else
        *err = reader->failure;
    pthread_mutex_unlock(&reader->lock);
    return ok;
}

void read_ahead_release(struct read_ahead *reader)
{
    pthread_mutex_lock(&reader->lock);
    reader->n_used++;
    pthread_cond_broadcast(&reader->changed);
    pthread_mutex_unlock(&reader->lock);
}

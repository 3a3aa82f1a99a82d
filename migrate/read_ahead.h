/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <pthread.h>
#include <stdatomic.h>

/*
 * Reads a range of a device from front to back, in a thread of its own, a few chunks ahead of its
 * user. The last chunk is filled up with zeros to a multiple of 4096 bytes.
 */
#define CHUNK_BYTES       (4u << 20)
#define READ_AHEAD_CHUNKS 4u

struct chunk {
    uint8_t *bytes; /* CHUNK_BYTES, aligned for O_DIRECT */
    uint64_t offset;
    size_t len; /* 0: the range is at its end */
};

/* Reads exactly len bytes. The error names the first offset that cannot be read; DATA_LOSS when what is
 * there has no valid tag. */
MUST_USE bool read_exactly(int fd, uint8_t *bytes, size_t len, uint64_t offset, struct error *err);

struct read_ahead {
    int fd;
    uint64_t at, end;
    pthread_t thread;
    bool is_running;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Below: under the lock. */
    struct chunk chunks[READ_AHEAD_CHUNKS];
    uint64_t n_read, n_used; /* chunks ever read and ever given back */
    bool is_ended;           /* by the user: nobody waits for more */
    struct error failure;    /* what ended the reading */
};

/* *reader must not move until read_ahead_stop(). */
MUST_USE bool read_ahead_start(struct read_ahead *reader, int fd, uint64_t from, uint64_t end,
                               struct error *err);
void read_ahead_stop(struct read_ahead *reader);
#define auto_read_ahead CLEANUP(read_ahead_stop)

/* The next chunk, which the caller may use until read_ahead_release(). When a read failed: all chunks
 * before it, and then the error of read_exactly(). */
MUST_USE bool read_ahead_next(struct read_ahead *reader, struct chunk *out, struct error *err);
void read_ahead_release(struct read_ahead *reader);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/macro.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Reads untrusted bytes from front to back. A read returns false and changes nothing when too few
 * bytes are left. byte_reader_take() gives a pointer into the bytes, which must outlive it.
 */
struct byte_reader {
    const uint8_t *at;
    size_t left;
};

MUST_USE bool byte_reader_take(struct byte_reader *r, size_t len, const uint8_t **out);

/* Little-endian numbers. */
MUST_USE bool byte_reader_u16(struct byte_reader *r, uint16_t *out);
MUST_USE bool byte_reader_u32(struct byte_reader *r, uint32_t *out);

/* A number of len bytes, at most 8. The caller knows that they are there. */
uint64_t little_endian(const uint8_t *bytes, size_t len);
uint64_t big_endian(const uint8_t *bytes, size_t len);

static inline uint16_t u16le(const uint8_t bytes[static 2])
{
    return (uint16_t)little_endian(bytes, 2);
}

static inline uint32_t u32le(const uint8_t bytes[static 4])
{
    return (uint32_t)little_endian(bytes, 4);
}

static inline uint64_t u64le(const uint8_t bytes[static 8])
{
    return little_endian(bytes, 8);
}

bool bytes_are_zero(const uint8_t *bytes, size_t len); /* true when len is 0 */

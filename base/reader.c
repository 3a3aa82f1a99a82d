/* SPDX-License-Identifier: Apache-2.0 */
#include "base/reader.h"

bool byte_reader_take(struct byte_reader *r, size_t len, const uint8_t **out)
{
    if (len > r->left)
        return false;
    *out = r->at;
    r->at += len;
    r->left -= len;
    return true;
}

bool byte_reader_u16(struct byte_reader *r, uint16_t *out)
{
    const uint8_t *bytes = NULL;

    if (!byte_reader_take(r, sizeof(*out), &bytes))
        return false;
    *out = u16le(bytes);
    return true;
}

bool byte_reader_u32(struct byte_reader *r, uint32_t *out)
{
    const uint8_t *bytes = NULL;

    if (!byte_reader_take(r, sizeof(*out), &bytes))
        return false;
    *out = u32le(bytes);
    return true;
}

uint64_t little_endian(const uint8_t *bytes, size_t len)
{
    uint64_t value = 0;

    for (size_t i = len; i > 0; i--)
        value = value << 8 | bytes[i - 1];
    return value;
}

uint64_t big_endian(const uint8_t *bytes, size_t len)
{
    uint64_t value = 0;

    for (size_t i = 0; i < len; i++)
        value = value << 8 | bytes[i];
    return value;
}

bool bytes_are_zero(const uint8_t *bytes, size_t len)
{
    uint8_t any = 0;

    for (size_t i = 0; i < len; i++)
        any |= bytes[i];
    return any == 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/attest/log.h"

#include <string.h>

void log_put_u16(struct log *l, unsigned n)
{
    l->bytes[l->len++] = (uint8_t)n;
    l->bytes[l->len++] = (uint8_t)(n >> 8);
}

void log_put_u32(struct log *l, uint32_t n)
{
    log_put_u16(l, n & 0xffff);
    log_put_u16(l, n >> 16);
}

void log_put_zeros(struct log *l, size_t n)
{
    for (size_t i = 0; i < n; i++)
        l->bytes[l->len++] = 0;
}

void log_put_spec_id(struct log *l)
{
    log_put_u32(l, 0);
    log_put_u32(l, 3);
    log_put_zeros(l, 20);
    log_put_u32(l, 33);
    memcpy(l->bytes + l->len, "Spec ID Event03", 16);
    l->len += 16;
    log_put_zeros(l, 8);
    log_put_u32(l, 1);
    log_put_u16(l, 0x0c);
    log_put_u16(l, 48);
    log_put_zeros(l, 1);
}

void log_put_event(struct log *l, uint32_t index, uint32_t type, uint32_t digests)
{
    log_put_u32(l, index);
    log_put_u32(l, type);
    log_put_u32(l, digests);
    log_put_u16(l, 0x0c);
    for (size_t i = 0; i < 48; i++)
        l->bytes[l->len++] = (uint8_t)i;
    log_put_u32(l, 2);
    log_put_u16(l, 0xaaaa);
}

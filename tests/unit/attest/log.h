/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* A log of one Spec ID event and events of one register each. Every digest is the bytes 0, 1, ...
 * 47. */
struct log {
    uint8_t bytes[4096];
    size_t len;
};

void log_put_u16(struct log *l, unsigned n);
void log_put_u32(struct log *l, uint32_t n);
void log_put_zeros(struct log *l, size_t n);
void log_put_spec_id(struct log *l);
void log_put_event(struct log *l, uint32_t index, uint32_t type, uint32_t digests);

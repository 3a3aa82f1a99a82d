/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stddef.h>
#include <sys/types.h>

/*
 * Reading and writing block devices past the page cache (O_DIRECT): what is read came from the
 * device, what is flushed is on it. Offsets, lengths and buffers are multiples of 4 KiB.
 */
#define DEVICE_BLOCK_BYTES 4096u

/* Not a block device: INVALID_ARGUMENT. */
MUST_USE bool device_open(const char *path, bool write, int *out_fd, uint64_t *out_bytes,
                          struct error *err);

/* len zero bytes at a DEVICE_BLOCK_BYTES boundary; to be freed. */
MUST_USE bool device_buffer(size_t len, uint8_t **out, struct error *err);

MUST_USE bool device_write_zeros(int fd, uint64_t offset, uint64_t len, struct error *err);
MUST_USE bool device_flush(int fd, struct error *err);

/* Of a block device that is known by number alone. */
MUST_USE bool device_size(dev_t number, uint64_t *out_bytes, struct error *err);

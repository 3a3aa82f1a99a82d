/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stddef.h>
#include <sys/types.h>

/*
 * Reads and writes block devices past the page cache (O_DIRECT). So bytes that were read came from
 * the device, and bytes that were flushed are on it. Offsets, lengths and buffers are multiples of
 * 4 KiB.
 */
#define DEVICE_BLOCK_BYTES 4096u

/* INVALID_ARGUMENT when path is not a block device. */
MUST_USE bool device_open(const char *path, bool write, int *out_fd, uint64_t *out_bytes,
                          struct error *err);

/* A buffer of len zero bytes, aligned to DEVICE_BLOCK_BYTES. The caller frees it. */
MUST_USE bool device_buffer(size_t len, uint8_t **out, struct error *err);

MUST_USE bool device_write_zeros(int fd, uint64_t offset, uint64_t len, struct error *err);
MUST_USE bool device_flush(int fd, struct error *err);

/* Whether the device has left this node: no disk has the number, the disk has no size, or the kernel
 * has given it up. */
bool device_is_gone(dev_t number);
/* The kernel's word for a device that is gone. */
#define DEVICE_GONE "DeviceGone"

/* Whether the kernel lists the mapping as one that holds the disk open. */
bool device_is_held(dev_t disk, dev_t mapping);

/* Names of mappings. disk is a folder below /sys: "block/sdb", "dev/block/8:16". False when the disk is
 * no mapping, or when no mapping lies directly over it. */
#define DEVICE_MAPPING_LEN 64
bool device_mapping_name(const char *disk, char name[static DEVICE_MAPPING_LEN]);
bool device_find_mapping_over(const char *disk, char name[static DEVICE_MAPPING_LEN]);

/* The size of a block device of which only the number is known. */
MUST_USE bool device_size(dev_t number, uint64_t *out_bytes, struct error *err);

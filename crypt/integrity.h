/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "record/record.h"

/* dm-integrity's superblock lies outside the header and in clear: what in it never changes is
 * compared with the record before the kernel reads it. */
#define INTEGRITY_SUPERBLOCK_BYTES 4096u

/* superblock: the first INTEGRITY_SUPERBLOCK_BYTES behind LAYOUT_DATA_OFFSET. DATA_LOSS
 * "HeaderChanged", naming the field. */
MUST_USE bool integrity_check(const uint8_t *superblock, const struct volume_spec *spec,
                              struct error *err);

/* The same, read from a device (nothing for INTEGRITY_NONE). */
MUST_USE bool integrity_check_device(int device_fd, const struct volume_spec *spec,
                                     struct error *err);

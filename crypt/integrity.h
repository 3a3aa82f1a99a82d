/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "crypt/layer.h"
#include "record/record.h"

/* dm-integrity's superblock lies outside the LUKS2 header and is not encrypted. So compare its
 * constant fields with the record before the kernel reads it. */
#define INTEGRITY_SUPERBLOCK_BYTES 4096u

/* The number of data sectors may be less than the record's: then the volume has grown, and is made
 * longer when it is opened.
 * superblock: the first INTEGRITY_SUPERBLOCK_BYTES at LAYOUT_DATA_OFFSET. DATA_LOSS "HeaderChanged"
 * names the field. */
MUST_USE bool integrity_check(const uint8_t *superblock, const struct volume_spec *spec,
                              struct error *err);

/* Has the kernel write a superblock: puts up LAYER_INTEGRITY over LAYER_BOTTOM, and takes it down
 * again. device_fd: the raw device, for writing. */
MUST_USE bool integrity_format(const struct volume_name *name, int device_fd,
                               const struct volume_spec *spec, struct error *err);

/* Without a record: the sizes that the superblock claims, as the rest of spec, which has the integrity and
 * the size of sectors. DATA_LOSS "HeaderChanged" when no volume has them, or when integrity_check() would
 * find fault. */
MUST_USE bool integrity_read_sizes(int device_fd, struct volume_spec *spec, struct error *err);

/* Reads the superblock from the device and checks it. Nothing to check for INTEGRITY_NONE. */
MUST_USE bool integrity_check_device(int device_fd, const struct volume_spec *spec,
                                     struct error *err);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "blockd/loop.h"
#include "crypt/activate.h"
#include "crypt/counting.h"

/*
 * One volume on a sparse file behind a loop device. Its record is kept in memory, as the broker
 * would keep it. Needs root and device-mapper.
 */
struct disk {
    int file;
    struct loop_device loop;
    struct volume_name name;
    struct record record;
    struct secret secret;
    struct secret next_secret;     /* of a rotation; afterwards the former one */
    struct volume_device device;   /* while open */
    struct volume_closing closing; /* while open */
    uint32_t calls;                /* of the keeper so far */
    uint32_t refuse_call;          /* the keeper refuses this one; 0: none */
    bool refuse_after;             /* the change is recorded, only the answer is lost */
    bool has_hash;
    const char *device_path;              /* opened instead of loop.path; may be NULL */
    void (*changed)(const struct disk *); /* called after each change of the record; may be NULL */
};

extern const enum integrity disk_modes[3]; /* all there are */

/* Plans the volume and makes its disk. The record is in phase FORMATTING, first attempt. This and
 * disk_copy() drop what the struct held before. */
void disk_make(struct disk *disk, enum integrity integrity, uint64_t size_bytes);
/* Closes the volume and detaches its disk. Fails the test when anything is left over. */
void disk_drop(struct disk *disk);
/* Another disk with the same content: a sparse copy of the file as it is now. */
void disk_copy(const struct disk *from, struct disk *to, const char *volume_id);

struct record_keeper disk_keeper(struct disk *disk);
MUST_USE bool disk_open(struct disk *disk, bool read_only, struct error *err);
MUST_USE bool disk_close(struct disk *disk, struct error *err);
/* Opens for writing and must succeed. */
void disk_must_open(struct disk *disk);
void disk_must_close(struct disk *disk);
/* Does what stage does after mkfs. */
void disk_must_have_filesystem(struct disk *disk);
/* Gives the raw device sectors of this size; loop_attach() made it with 4096 bytes. */
void disk_set_sectors(const struct disk *disk, unsigned long sector_bytes);
/* Gives the raw device this size. */
void disk_stretch(const struct disk *disk, uint64_t bytes);
/* Grows the open volume and the device below it. */
MUST_USE bool disk_grow(struct disk *disk, uint64_t size_bytes, struct error *err);

/* Reads or writes one 4 KiB block of the exposed device. */
MUST_USE bool block_write(const struct disk *disk, uint64_t offset, uint8_t fill,
                          struct error *err);
MUST_USE bool block_is(const struct disk *disk, uint64_t offset, uint8_t fill, struct error *err);

/* Where a block of the mapping, and its tags, lie on the raw device (authenticated modes). */
uint64_t raw_offset(const struct disk *disk, uint64_t mapping_offset);
uint64_t raw_tag_offset(const struct disk *disk, uint64_t mapping_offset);
void raw_flip(const struct disk *disk, uint64_t offset);
void raw_hash(const struct disk *disk, uint8_t out[static 32]);
/* Copies len bytes at offset from one raw disk to another. */
void raw_copy(const struct disk *from, const struct disk *to, uint64_t offset, uint64_t len);
/* The number of device-mapper devices of any volume. */
size_t devices_mapped(void);

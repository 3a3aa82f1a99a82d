/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "blockd/loop.h"

#include <sys/types.h>

/*
 * Real SCSI disks: a file, a loop device over it, and the kernel's SCSI target (iblock, tcm_loop) over
 * that. Such a disk has sectors of 512 bytes, grows, and goes away while it is in use, as the disks of
 * a cloud do. Needs root, and configfs. Each function fails its test when something goes wrong.
 */
struct scsi_disk {
    struct loop_device loop; /* over its file */
    unsigned unit;
    char path[32]; /* "/dev/sdb" */
    dev_t number;
};

void scsi_start(void);
void scsi_end(void);

/* Attaches a file as a disk. A new file gets this size; 0: the file exists. */
void scsi_attach(struct scsi_disk *disk, const char *file, uint64_t size_bytes, bool read_only);
/* Also while it is in use: then its users get errors. */
void scsi_detach(struct scsi_disk *disk);
/* The file is longer now. The kernel sees that when the disk is rescanned. */
void scsi_grow(const struct scsi_disk *disk, const char *file, uint64_t size_bytes);
void scsi_rescan(const struct scsi_disk *disk);
/* "offline", "running" */
void scsi_set_state(const struct scsi_disk *disk, const char *state);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "blockd/place.h"
#include "tests/vm/scsi.h"
#include "tests/vm/steps.h"

/*
 * Plays the CSI driver below in tests of tdvol-blockd: its disks are real SCSI disks, which it publishes
 * at the places of volumes. Each function fails its test when something goes wrong.
 */
#define DISKS_MAX 4
extern struct scsi_disk disks[DISKS_MAX];
extern size_t n_disks;

int driver_start(void **state); /* cmocka's setup and teardown of a test */
int driver_end(void **state);

/* The file behind a disk. */
const char *file_of(const char *name);
/* The newest disk; size_bytes 0: its file exists. */
struct scsi_disk *attach(const char *name, uint64_t size_bytes);
/* Takes the newest disk away, also while it is in use. */
void detach(void);

struct volume_name name_of(const char *volume_id);
struct device_place place_of_volume(const char *volume_id);
void publish_node(const char *volume_id, const char *node);
void unpublish_node(const char *volume_id);

/* The record of a new volume of this driver, of 32 MiB. */
void add(const char *volume_id, enum integrity integrity, const char *fs_type);
uint64_t device_bytes(const char *volume_id);

/* Volume "a" on a new disk, staged, with "hello" in file. */
struct scsi_disk *live_volume(enum integrity integrity);
void end_volume_and_disk(void);

/* Refused, with these words in the error. */
void refused_with(const struct block_request *request, enum error_code code, const char *words);

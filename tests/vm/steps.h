/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "tests/vm/front.h"

/* Steps that many tests of the workers share. All use one front. */
#define MIB (1ull << 20)

extern struct front front;

int steps_start(void **state); /* cmocka's setup and teardown of a test */
int steps_end(void **state);

/* The test fails unless the operation succeeds, or fails with this code. */
void must(const struct block_request *request, struct block_result *result);
void refused(const struct block_request *request, enum error_code code);
void simple(enum block_operation operation, const char *volume_id, const char *path);

/* Paths are below the front's folder. */
struct block_request *with_path(struct block_request *request, const char *path);
struct block_request *stage_request(const char *volume_id); /* at mnt/stage-<id> */
struct block_request *unstage_request(const char *volume_id);
struct block_request *publish_request(const char *volume_id, const char *path);

void create(const char *volume_id, enum integrity integrity, const char *fs_type,
            uint64_t size_bytes);

void write_text(const char *path, const char *text);
void expect_text(const char *path, const char *text);

/* A new ext4 volume, staged, with "hello" in file. */
void stage_with_file(const char *volume_id, enum integrity integrity);

/* The exposed device of a staged volume. */
struct volume_device device_of(const char *volume_id);

/* The layers with a table that was loaded and is not live: 1u << LAYER_... each. */
unsigned loaded_layers(const char *volume_id);

/* Waits until all workers have ended, also the one that recovers what a dead one left. */
void wait_for_workers(void);

/* No mapping, loop device, state file or worker is left. */
void expect_nothing_left(void);
/* How many names in folder begin with prefix and have no dots. */
unsigned count_in(const char *folder, const char *prefix);

/* A process that sees the node's folders without mount propagation: its mount namespace keeps a copy of
 * each mount that is there now, until it ends. */
pid_t start_agent(void);
/* The same, but it does something in its namespace first. */
pid_t start_agent_that(bool (*does)(void));
void end_agent(pid_t agent);

/* tdvol-blockd reads its next fault from this file (TDVOL_FAULT=@...). NULL: no fault. */
#define STEPS_FAULT_FILE "/tmp/fault-rule"
void steps_set_fault(const char *rule);

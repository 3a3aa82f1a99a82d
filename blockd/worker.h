/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/hpke.h"
#include "base/option.h"
#include "blockd/request.h"

/*
 * One operation in a process of its own: takes the volume's lock, runs the operation, answers and
 * ends. A worker that hangs or crashes costs one call.
 */
struct worker_config {
    const char *driver;
    const char *local_dir;
    const char *state_dir;
    struct option_list mount_roots;
    const char *tsm_root, *event_log; /* as in struct attester_options */
    struct hpke_key_pair sealing;
};

struct worker {
    const struct worker_config *config;
    int front_fd;
    const struct block_request *request;
    struct volume_name name;
    uint64_t deadline_ms; /* monotonic; 0: none. The kernel kills the worker then. */
    int parent_pid;
};

/* Never returns: the exit code is 0 when the front got its answer. */
__attribute__((noreturn)) void worker_run(const struct worker_config *config, int front_fd,
                                          int parent_pid);

/* A safe point: CANCELLED when the front closed its end. */
MUST_USE bool worker_check(const struct worker *worker, struct error *err);

/* Milliseconds until the deadline, for programs to be run; 0: none. */
uint32_t worker_left_ms(const struct worker *worker);

/* The three questions. Each fails with INTERNAL when it is not among those that the operation needs
 * (block_may_ask). Records were checked, and are this volume's. */
MUST_USE bool worker_ask_record(struct worker *worker, struct record *record, struct error *err);

/* With its secret. In phase FORMATTING the worker's deadline becomes the format's. */
MUST_USE bool worker_ask_open(struct worker *worker, struct record *record, struct secret *secret,
                              struct error *err);

/* record may be NULL. */
MUST_USE bool worker_ask_change(struct worker *worker, const struct record_change *change,
                                struct record *record, struct error *err);
struct record_keeper worker_keeper(struct worker *worker);

MUST_USE bool worker_event(const struct worker *worker, enum block_event_kind kind,
                           const char *volume_id, uint64_t done, uint64_t total, struct error *err);

/* BLOCK_DATA, as many as it takes. */
MUST_USE bool worker_data(const struct worker *worker, enum block_data_part part,
                          const uint8_t *bytes, size_t len, struct error *err);

/* Between the two neither the deadline nor blockd's death ends this process. */
void worker_enter_critical(const struct worker *worker);
void worker_leave_critical(const struct worker *worker);

MUST_USE bool worker_lock(const struct worker *worker, const struct volume_name *name, bool wait,
                          int *out_fd, struct error *err);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "blockd/request.h"

#include <sys/types.h>

/*
 * Plays the front and the broker for tests of tdvol-blockd: starts it in an empty folder, holds
 * records and secrets in memory, answers the workers.
 */
#define FRONT_VOLUMES_MAX 16

struct front_volume {
    struct record record;
    uint8_t secret[VOLUME_SECRET_LEN];
};

struct front {
    pid_t blockd;
    int control_fd;
    bool broker_down, opens_read_only;
    char folder[64]; /* has local/, state/ and mnt/ */
    size_t n_volumes;
    struct front_volume volumes[FRONT_VOLUMES_MAX];
    struct block_message last; /* the newest message */
};

/* Each fails the test that calls it when something goes wrong that is not under test. */
void front_start(struct front *front);
void front_start_again(struct front *front); /* keeps folder and records */
int front_stop(struct front *front);         /* closes the control socket; blockd's exit code */
void front_end(struct front *front);         /* stop, and remove the folder */

struct record *front_record(struct front *front, const char *volume_id);
void front_add(struct front *front, const char *volume_id, enum integrity integrity,
               const char *fs_type, uint64_t size_bytes);
/* The new volume's record is that of a copy of the other. */
void front_add_copy(struct front *front, const char *volume_id, const char *source_id);

/* From a small ring: good until eight more were made. */
struct block_request *front_request(enum block_operation operation, const char *volume_id);
/* Below the folder: "mnt/stage-a". */
const char *front_path(const struct front *front, const char *rest);

/* The worker's end of a fresh operation is gone to blockd, the request is sent. */
int front_send(struct front *front, const struct block_request *request);
/* Receives one message; false when the worker is gone. */
bool front_receive(struct front *front, int fd, uint32_t timeout_ms);
void front_answer(struct front *front, int fd, const char *volume_id);

/* Runs to the end. The worker's own result and error. False when it failed or died; a worker
 * that died leaves CANCELLED. */
bool front_call(struct front *front, const struct block_request *request,
                struct block_result *result, struct error *err);

/* The only child of blockd; 0 when there is none. */
pid_t front_worker(const struct front *front);

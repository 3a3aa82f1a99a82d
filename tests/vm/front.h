/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "blockd/request.h"
#include "tests/unit/record/broker_end.h"
#include "tests/unit/record/made_certificate.h"

#include <sys/types.h>

/*
 * Plays the front and the broker in tests of tdvol-blockd: starts tdvol-blockd in an empty folder,
 * keeps records and secrets in memory, and answers the workers.
 */
#define FRONT_VOLUMES_MAX 16

struct front_volume {
    struct record record;
    uint8_t secret[VOLUME_SECRET_LEN];
};

struct front;
struct front {
    pid_t blockd;
    int control_fd;
    bool broker_down, opens_read_only, renews;
    uint64_t lease_ms;        /* of the broker's policy; 0: no lease is over by itself */
    struct broker_end broker; /* signs the answers */
    const char *boot_id;      /* that the front tells the broker; NULL: this boot's */
    /* Of the broker's policy, for the volumes that are formatted; NULL: none. */
    const struct made_certificate *recovery;
    /* A front that was taken over changes answers that the broker has signed; NULL: honest. */
    void (*lie)(struct front *front, struct block_answer *answer);
    /* Answers BLOCK_ASK_EVIDENCE, which is in last; NULL: nobody asks. */
    void (*vouch)(struct front *front, int fd);
    const char *more[4]; /* arguments of tdvol-blockd */
    char folder[64];     /* with local/, state/, kubelet/ (only its places) and mnt/ (any path),
                      * upstream/ (another driver's places) */
    size_t n_volumes;
    struct front_volume volumes[FRONT_VOLUMES_MAX];
    struct block_message last; /* the newest message */
};

/* Each function fails its test when something goes wrong that is not under test. */
void front_start(struct front *front);
void front_start_again(struct front *front); /* keeps folder and records */
int front_stop(struct front *front); /* closes the control socket; returns blockd's exit code */
void front_end(struct front *front); /* stops blockd and removes the folder */

struct record *front_record(struct front *front, const char *volume_id);
void front_add(struct front *front, const char *volume_id, enum integrity integrity,
               const char *fs_type, uint64_t size_bytes);
/* The new volume's record is the record of a copy of the other volume. */
void front_add_copy(struct front *front, const char *volume_id, const char *source_id);

/* Takes a request from a small ring: it stays valid until eight more were made. */
struct block_request *front_request(enum block_operation operation, const char *volume_id);
/* A path below the folder, from one such as "mnt/stage-a". */
const char *front_path(const struct front *front, const char *rest);

/* Sends the request and gives the worker's end of a new operation to blockd. */
int front_send(struct front *front, const struct block_request *request);
/* Receives one message; false when the worker is gone. */
bool front_receive(struct front *front, int fd, uint32_t timeout_ms);
void front_answer(struct front *front, int fd, const char *volume_id);

/* Runs the operation to its end. Gives the worker's result and error. False when the worker failed
 * or died; when it died, the error is CANCELLED. */
bool front_call(struct front *front, const struct block_request *request,
                struct block_result *result, struct error *err);

/* The only child of blockd; 0 when there is no child. */
pid_t front_worker(const struct front *front);

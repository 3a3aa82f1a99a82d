/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "blockd/request.h"

#include <stdatomic.h>

/*
 * The front's side of blockd/request.h: runs one operation in one worker of tdvol-blockd. Callers
 * use struct workers, so that tests can put other workers in its place. Thread-safe.
 */

/* Answers a worker's questions while it runs. Called on the thread that runs the operation. The
 * relay goes to the broker and back unread. */
struct block_hooks {
    bool (*record)(void *cookie, const struct relay *relay, struct record *record,
                   struct error *err);
    bool (*open)(void *cookie, const struct relay *relay,
                 const uint8_t public_key[static HPKE_PUBLIC_LEN], struct record *record,
                 struct sealed_secret *secret, struct error *err);
    bool (*change)(void *cookie, const struct relay *relay, const struct record_change *change,
                   struct record *record, struct error *err);
    bool (*evidence)(void *cookie, const struct relay *relay,
                     const uint8_t broker_key_sha256[static KEY_SHA256_LEN],
                     struct broker_evidence *out, struct error *err);
    void (*event)(void *cookie, const struct block_message *message);
    bool (*data)(void *cookie, const struct block_data *data, struct error *err); /* false ends */
};

struct block_run {
    const char *operation; /* the RPC that needs it; names the fault point before the run */
    const struct block_request *request;
    const uint8_t *body;             /* of request->upstream.body_len bytes; otherwise NULL */
    const struct block_hooks *hooks; /* NULL: the operation asks nothing */
    void *hook_cookie;
    bool (*is_cancelled)(void *cookie); /* NULL: never cancelled, even when the caller is gone */
    void *cancel_cookie;
};

struct workers {
    bool (*run)(void *cookie, const struct block_run *run, struct block_result *out,
                struct error *err);
    void *cookie;
};

/* Allocates a request in the arena, because it is large. NULL when the arena is exhausted. */
struct block_request *block_request_new(struct arena *arena, enum block_operation operation,
                                        const char *volume_id);

/* The real workers, reached over the control socket to tdvol-blockd. */
struct blockd_link {
    int control_fd; /* belongs to the caller */
    /* In clock_now_ms() time, 0: never. After it every run is given up, because the process
     * ends. */
    atomic_uint_fast64_t give_up_ms;
};
struct workers workers_over(struct blockd_link *door);

/* "STAGE": for fault points and log lines. */
const char *block_operation_name(enum block_operation operation);

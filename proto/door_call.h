/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/clock.h"
#include "base/digest.h"
#include "proto/endpoint.h"
#include "proto/fair_queue.h"

#include <stdatomic.h>

/*
 * One call that came through the door: a whole request, and later its answer. It does not know
 * HTTP/2 or TLS. The poller makes it and frees it. In between a worker has it, and then only the
 * worker uses it, except for is_cancelled.
 */
#define DOOR_PATH_MAX 128 /* bytes of "/package.Service/Method" with NUL; ours are shorter */

/* Who calls. Shared by all calls of a connection, which may end before them. */
struct door_peer {
    atomic_uint holders;
    struct rpc_peer rpc; /* points to the members below */
    char *certificate_pem;
    char address[64];
    uint8_t server_key_sha256[SHA256_LEN];
};
/* Takes the certificate. The caller holds it. */
MUST_USE bool door_peer_new(char **certificate_pem, bool session_reused, const char *address,
                            struct door_peer **out, struct error *err);
void door_peer_release(struct door_peer *peer); /* the last one frees it; NULL is allowed */

struct door_call {
    struct fair_item item;       /* while it waits for a worker */
    TAILQ_ENTRY(door_call) link; /* while it waits for the poller */
    void *stream;                /* where the answer goes; NULL: it has gone */
    struct door_peer *peer;
    char path[DOOR_PATH_MAX];
    const struct server_binding *binding;
    const struct rpc_method *method;
    uint64_t arrived_ms, deadline_ms; /* by clock_now_ms() */
    atomic_bool is_cancelled;

    uint8_t *request; /* of malloc() */
    size_t request_bytes;

    struct error err; /* no code: answer is what goes back */
    uint8_t *answer;  /* with gRPC's prefix */
    size_t answer_bytes;
};
TAILQ_HEAD(door_calls, door_call);

/* Holds the peer. NULL: no memory. */
struct door_call *door_call_new(struct door_peer *peer);
void door_call_free(struct door_call *call); /* wipes secrets; NULL is allowed */
/* A call that will not run needs its request no more. */
void door_call_drop_request(struct door_call *call);

/* Runs the handler and makes the answer. For workers. */
void door_call_run(struct door_call *call, const struct server_options *options);

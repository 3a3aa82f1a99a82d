/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "proto/client.h"
#include "proto/door.h"
#include "proto/server.h"
#include "tests/unit/proto/certificates.h"

#include <pthread.h>
#include <stdatomic.h>

/*
 * A server on a unix socket in its own folder, or a door on 127.0.0.1, and calls to it. NodeGetInfo answers at once and
 * remembers the caller. NodeGetVolumeStats does what its volume_id says. NodeStageVolume wants one
 * secret, and its request may have LARGE_BYTES.
 */
enum { PARALLEL = 64, LIMIT_BYTES = 64 * 1024, LARGE_BYTES = 128 * 1024 };

struct node {
    pthread_barrier_t all;
    atomic_bool entered, saw_cancel;
    atomic_uint_least64_t remaining_ms;
    pthread_mutex_t lock; /* protects the members below */
    char peer[4096], address[64];
    bool session_reused;
};
extern const struct rpc_service node_service;

struct fixture {
    struct server *server; /* one of these two */
    struct door *door;
    struct node node;
    char folder[32], socket[64], lock[64];
    char target[80]; /* for clients; after fixture_start() */
    uint16_t port;   /* of the door */

    const struct client_tls *tls; /* of clients; NULL for the unix socket */
    struct client_tls client_tls;
    struct test_identity ca, identity, user;
    struct secret key, user_key;
    atomic_uint observed, failed;
};

int fixture_set_up(void **state);
int fixture_set_up_door(void **state);
int fixture_tear_down(void **state);

struct server *fixture_server(struct fixture *f); /* another one; the caller frees it */
bool fixture_listen(struct fixture *f, struct server *server, const char *path, const char *lock,
                    struct error *err);
struct door *fixture_door(struct fixture *f); /* another one; the caller frees it */
bool fixture_listen_tls(struct fixture *f, struct door *door, const char *address, uint16_t *port,
                        struct error *err);
void fixture_start(struct fixture *f);
void fixture_stop(struct fixture *f, uint64_t grace_ms);

/* The caller of the last NodeGetInfo. out is its certificate, or "". */
void last_peer(struct node *node, char *out, size_t len, bool *reused);

struct client *connect_to(const char *target, const struct client_tls *tls);
void sleep_ms(unsigned ms);

/* Both return the code that the call ended with. */
enum error_code ask_info(struct client *client, struct error *err);
enum error_code ask_stats(struct client *client, const char *what, const char *path,
                          uint64_t timeout_ms, struct error *err);

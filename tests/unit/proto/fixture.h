/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "proto/client.h"
#include "proto/server.h"

#include <pthread.h>
#include <stdatomic.h>

/*
 * A server on a unix socket in its own folder, and calls to it. NodeGetInfo answers at once and
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
    struct server *server;
    struct node node;
    char folder[32], socket[64], lock[64], target[80];
    atomic_uint observed, failed;
};

int fixture_set_up(void **state);
int fixture_tear_down(void **state);

struct server *fixture_server(struct fixture *f); /* another one; the caller frees it */
bool fixture_listen(struct fixture *f, struct server *server, const char *path, const char *lock,
                    struct error *err);
void fixture_start(struct fixture *f);

/* The caller of the last NodeGetInfo. out is its certificate, or "". */
void last_peer(struct node *node, char *out, size_t len, bool *reused);

struct client *connect_to(const char *target, const struct client_tls *tls);
void sleep_ms(unsigned ms);

/* Both return the code that the call ended with. */
enum error_code ask_info(struct client *client, struct error *err);
enum error_code ask_stats(struct client *client, const char *what, const char *path,
                          uint64_t timeout_ms, struct error *err);

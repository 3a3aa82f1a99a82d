/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/unix_socket.h"
#include "proto/endpoint.h"
#include "proto/grpc_runtime.h"

#include <pthread.h>
#include <stdatomic.h>

struct server;

/*
 * One socket of a server and the services on it. Each listener has its own grpc_server, because one
 * grpc_server offers the same services on all its ports. All share one queue. Only server.c
 * includes this.
 *
 * A thread of the listener accepts its clients and hands them to gRPC. gRPC could listen itself, but
 * never again at another socket: then a socket whose file was removed would be lost until the
 * process starts again.
 */
struct listener {
    struct listener *next;
    struct server *server;
    struct server_binding *bindings;
    size_t n_bindings;
    grpc_server *grpc;
    grpc_server_credentials *credentials;
    int lock_fd;
    char path[UNIX_SOCKET_PATH_MAX + 1]; /* "" until it is bound */
    char place[PATH_MAX];                /* the same without links: where clients find us */
    int wake_fd;                         /* an eventfd: fresh or is_ending changed */
    pthread_t thread;
    bool has_thread;
    atomic_uint_fast64_t beat_ms; /* of the thread */

    pthread_mutex_t lock; /* protects all members below */
    struct unix_socket socket;
    struct unix_socket fresh; /* which the thread has to take in place of socket */
    bool is_ending;
};

struct listener *listener_new(grpc_completion_queue *events, grpc_resource_quota *quota,
                              size_t message_bytes);
void listener_free(struct listener *listener); /* after its shutdown and all its events */

/* See server_listen_unix(). */
MUST_USE bool listener_bind_unix(struct listener *listener, const char *path, const char *lock_path,
                                 mode_t mode, struct error *err);

/* gRPC's server has started. */
MUST_USE bool listener_start(struct listener *listener, struct error *err);
void listener_end(struct listener *listener); /* accepts no more; before gRPC's server shuts down */

/* See server_is_found() and server_renew_unix(). */
MUST_USE bool listener_is_found(struct listener *listener);
MUST_USE bool listener_renew(struct listener *listener, struct unix_socket *socket,
                             struct error *err);

/* Whether the thread lives, and gRPC answers a connection of our own. May wait. */
MUST_USE bool listener_check(struct listener *listener, struct error *err);

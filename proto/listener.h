/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "proto/endpoint.h"
#include "proto/grpc_runtime.h"

#include <sys/types.h>

struct server;

/*
 * One socket of a server and the services on it. Each listener has its own grpc_server, because one
 * grpc_server offers the same services on all its ports. All share one queue. Only server.c
 * includes this.
 */
struct listener {
    struct listener *next;
    struct server *server;
    struct server_binding *bindings;
    size_t n_bindings;
    grpc_server *grpc;
    int lock_fd;
};

struct listener *listener_new(grpc_completion_queue *events, grpc_resource_quota *quota,
                              size_t message_bytes);
void listener_free(struct listener *listener); /* after its shutdown and all its events */

/* See server_listen_unix(). */
MUST_USE bool listener_bind_unix(struct listener *listener, const char *path, const char *lock_path,
                                 mode_t mode, struct error *err);

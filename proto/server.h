/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"
#include "base/unix_socket.h"
#include "proto/endpoint.h"

#include <sys/types.h>

/*
 * The gRPC server for unix sockets; proto/door.h is the one for the network. One completion queue,
 * a pool of workers, and several sockets, each with its own services. Unknown methods are UNIMPLEMENTED; otherwise CSI clients would hang. It starts threads:
 * nothing may fork after server_new().
 */
struct server;

/* Fails only when memory runs out. Calls grpc_init(). */
MUST_USE bool server_new(const struct server_options *options, struct server **out,
                         struct error *err);

/*
 * Listens on a unix socket; path has at most 106 bytes, and its folder must exist. The socket gets
 * mode. ALREADY_EXISTS when another process serves the socket: each process holds the lock file
 * lock_path, which is outside the socket's folder. A stale socket is replaced.
 */
MUST_USE bool server_listen_unix(struct server *server, const char *path, const char *lock_path,
                                 mode_t mode, const struct server_binding *bindings,
                                 size_t n_bindings, struct error *err);

/* Whether clients that look for this bound socket find us: not when its file was removed or renamed,
 * or another one is in its place. From any thread, and without rights to the folder. */
MUST_USE bool server_is_found(const struct server *server, const char *path);

/* Serves this socket in place of the one bound before, which is lost. *socket is taken. */
MUST_USE bool server_renew_unix(const struct server *server, const char *path,
                                struct unix_socket *socket, struct error *err);

/* Whether a started server lives: its threads move, and it answers a connection of our own. Busy
 * workers are no failure. Waits up to some seconds. */
MUST_USE bool server_check(const struct server *server, struct error *err);

MUST_USE bool server_start(struct server *server, struct error *err);

/* Accepts no more calls. Running calls have grace_ms to finish, then they are cancelled. Returns
 * when all are done. Free the server with server_free. */
void server_stop(struct server *server, uint64_t grace_ms);
void server_free(struct server *server);

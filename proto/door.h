/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "proto/endpoint.h"

/*
 * The gRPC server for the network: unary calls over HTTP/2 and TLS 1.3, by nghttp2 and OpenSSL. It
 * has the same shape as proto/server.h, which serves unix sockets by gRPC's own library: that one
 * does not survive hostile clients. Clients must have a certificate, which the application judges.
 * One poller thread does all input and output and never waits; workers run the handlers. Everything
 * a client can hold has a limit: see door_connection.h, door_session.h, network.h, fair_queue.h.
 */
struct door;

#define DOOR_CONNECTIONS_MAX 768 /* fewer where the limit of open files is low */

/* Raises the limit of open files as far as it needs and may. RESOURCE_EXHAUSTED, or no memory. */
MUST_USE bool door_new(const struct server_options *options, struct door **out, struct error *err);

/* Listens on HOST:PORT; port 0 chooses one. See base/tcp_listen.h. */
MUST_USE bool door_listen(struct door *door, const char *address, const struct server_tls *tls,
                          const struct server_binding *bindings, size_t n_bindings,
                          uint16_t *out_port, struct error *err);

/* New connections get this certificate, open ones keep theirs. After a failure nothing has changed.
 * From any thread, until door_free(). */
MUST_USE bool door_change_tls(struct door *door, const struct server_tls *tls, struct error *err);

MUST_USE bool door_start(struct door *door, struct error *err);

/*
 * Whether a started door still serves, seen from outside: a connection of our own must be accepted
 * and get an answer. Waits up to some seconds; from any thread but the poller's. UNAVAILABLE when
 * the door is dead.
 *
 * A crowd must not make a door look dead, because a restart would do what the crowd wants: every
 * node would have to attest again. So no place is kept for the check. Whether the door answers it,
 * or turns it away for want of room, its poller lives; and when the check waits in the kernel's
 * queue behind others, it counts that the door accepts those.
 */
MUST_USE bool door_check(struct door *door, struct error *err);

/* Accepts no more calls. Running calls have grace_ms to finish, then they are cancelled. Returns
 * when all are done. Free the door with door_free. */
void door_stop(struct door *door, uint64_t grace_ms);
void door_free(struct door *door); /* NULL is allowed */

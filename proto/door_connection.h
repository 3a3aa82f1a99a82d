/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "proto/door_session.h"
#include "proto/tls.h"

/*
 * The connections of a door: TLS, HTTP/2 in it, and how long each step may take. Everything here is
 * the poller's, and nothing waits: sockets are non-blocking, and epoll says what can go on. A
 * connection that is closed is freed by door_connections_bury(), because events of the same round
 * may still name it.
 */
#define DOOR_HANDSHAKE_MS 10000u
#define DOOR_STALLED_MS   10000u  /* the client takes no bytes */
#define DOOR_IDLE_MS      600000u /* without a request */
#define DOOR_STRANGER_MS  60000u  /* the same, until one was granted */
#define DOOR_GOODBYE_MS   1000u   /* until the client has closed, too */

/* What epoll's events point to. */
struct door_source {
    void (*happened)(void *owner, uint32_t events);
    void *owner;
};

struct door_connection;
TAILQ_HEAD(door_connection_list, door_connection);

/* What all connections share. */
struct door_connections {
    int epoll;
    const struct server_options *options;
    size_t all_max, each_max; /* of connections, and of those of one network */
    struct networks networks;
    struct fair_queue *queue;
    struct door_connection_list open, dirty, dead;
    size_t n_calls; /* that exist */
    uint8_t *scratch;
};

/* The sockets of one address and what they serve. */
struct door_place {
    struct tls_server *tls;
    const struct server_binding *bindings;
    size_t n_bindings;
};

/* Fails only when memory runs out. */
MUST_USE bool door_connections_init(struct door_connections *all, struct error *err);
void door_connections_done(struct door_connections *all); /* all are closed, all calls are back */

/* Takes the socket of a new client. A full house makes room: first strangers that do nothing. */
void door_connection_begin(struct door_connections *all, const struct door_place *place, int fd,
                           const char *host);

/* A call comes back from a worker. */
void door_connections_answer(struct door_connections *all, struct door_call *call);

void door_connections_flush(struct door_connections *all); /* sends what the dirty ones have */
void door_connections_check_time(struct door_connections *all);
void door_connections_bury(struct door_connections *all);

/* Closes one that does nothing; false when there is none. */
bool door_connections_close_one(struct door_connections *all);
void door_connections_stop(struct door_connections *all);  /* GOAWAY: no new calls */
void door_connections_close(struct door_connections *all); /* cancels calls */

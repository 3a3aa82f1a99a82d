/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/address.h"
#include "base/error.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

/*
 * What each network holds of the server: connections, and requests that have not arrived
 * completely. A network is an address, or a /64 of IPv6. Nobody knows yet who sends these requests,
 * so that a stranger with many of them must not use up the memory for known clients. When all
 * networks together hold as much as they may, the one that holds the most has to give something
 * back. Not thread-safe.
 */
#define INTAKE_EACH_MAX   24 /* requests of one network */
#define INTAKE_ALL_MAX    1024
#define INTAKE_EACH_BYTES ((size_t)4 * 1024 * 1024)
#define INTAKE_ALL_BYTES  ((size_t)8 * 1024 * 1024)
#define INTAKE_MS         10000u /* a request must have arrived by then */

struct network {
    LIST_ENTRY(network) link;
    char name[ADDRESS_NETWORK_LEN];
    size_t n_connections;
    size_t n_unfinished, bytes; /* requests, and their memory */
};

/* One request that has not arrived completely. Its owner embeds it. */
struct intake {
    TAILQ_ENTRY(intake) link;
    struct network *network; /* NULL: not entered */
    size_t bytes;
    uint64_t since_ms;
};

struct networks {
    LIST_HEAD(network_list, network) all;
    size_t n_connections;
    TAILQ_HEAD(intake_list, intake) requests; /* the oldest first */
    size_t n_unfinished, bytes;
};

void networks_init(struct networks *networks);

/* Counts a connection of this host. RESOURCE_EXHAUSTED: no memory. Each needs a network_leave(),
 * after its last request has left. */
MUST_USE bool network_enter(struct networks *networks, const char *host, struct network **out,
                            struct error *err);
void network_leave(struct networks *networks, struct network *network);

/* The network with the most connections; NULL when there are none. */
struct network *network_with_most_connections(const struct networks *networks);

enum intake_room {
    INTAKE_FITS,
    INTAKE_OVER_OWN, /* the network has as much as one may have */
    INTAKE_OVER_ALL, /* all together have; see intake_victim() */
};
/* Whether the network may have one more request, or (n = 0) these bytes more. */
enum intake_room intake_room(const struct networks *networks, const struct network *network,
                             size_t n, size_t bytes);

/* The oldest request of the network that holds the most, if that is another one and holds more than
 * this one; otherwise NULL. The caller takes the victim off. */
struct intake *intake_victim(const struct networks *networks, const struct network *network);

void intake_enter(struct networks *networks, struct network *network, struct intake *request,
                  uint64_t now_ms);
void intake_grow(struct networks *networks, struct intake *request, size_t bytes);
void intake_leave(struct networks *networks,
                  struct intake *request); /* also when it never entered */

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/secret.h"
#include "proto/dispatch.h"

/* Parts that describe a server and one of its sockets: proto/server.h and proto/door.h. */

/* Why a door turns somebody away (server_options.turned_away). */
#define DOOR_NO_ROOM    "NoRoom"     /* a connection had to go, for a new one or as the new one */
#define DOOR_HANDSHAKE  "Handshake"  /* no TLS 1.3, no certificate, or one that is too large */
#define DOOR_SLOW       "Slow"       /* a deadline has passed, or nobody reads our answers */
#define DOOR_RULES      "Rules"      /* broke HTTP/2's rules, or sent too much that costs nothing */
#define DOOR_UNFINISHED "Unfinished" /* too many requests of this address have not arrived yet */
#define DOOR_QUEUE      "Queue"      /* too many calls of this client, or of all, are waiting */

struct server_options {
    size_t n_workers;
    struct rpc_limits limits;
    /* Called after each call, for the log and metrics; any thread. May be NULL. */
    void (*observe)(void *cookie, const struct rpc_call *call, const struct error *err,
                    uint64_t elapsed_ms);
    /* A door turned a client or a request away before any handler saw it; why: one of the
     * words above. One thread. May be NULL. */
    void (*turned_away)(void *cookie, const char *why);
    void *cookie;
};

struct server_binding { /* one service object on one listener */
    const struct rpc_service *service;
    void *object;
};

struct server_tls {
    const char *certificate_pem;
    const struct secret *private_key_pem;
    const char *client_ca_pem; /* named in the handshake, NULL: none; the application verifies */
};

/* What a client shows and trusts. */
struct client_tls {
    const char *ca_pem;          /* pins the server */
    const char *certificate_pem; /* of the client */
    const struct secret *private_key_pem;
    const char *server_name; /* in the certificate, when it differs from the address; or NULL */
};

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/secret.h"
#include "proto/dispatch.h"

/* Parts that describe a server and one of its sockets: proto/server.h and proto/door.h. */

struct server_options {
    size_t n_workers;
    struct rpc_limits limits;
    /* Called after each call, for the log and metrics; any thread. May be NULL. */
    void (*observe)(void *cookie, const struct rpc_call *call, const struct error *err,
                    uint64_t elapsed_ms);
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

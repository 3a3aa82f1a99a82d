/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/secret.h"
#include "proto/dispatch.h"

/* What a server is told about one of its sockets. */

struct server_binding { /* one service object on one listener */
    const struct rpc_service *service;
    void *object;
};

struct server_tls {
    const char *certificate_pem; /* ECDSA: TLS 1.2 is made impossible, see server.c */
    const struct secret *private_key_pem;
    const char *client_ca_pem; /* offered to clients; verification is the application's */
};

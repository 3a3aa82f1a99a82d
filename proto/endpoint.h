/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/secret.h"
#include "proto/dispatch.h"

/* Parts that describe one socket of a server. */

struct server_binding { /* one service object on one listener */
    const struct rpc_service *service;
    void *object;
};

struct server_tls {
    const char *certificate_pem; /* must be ECDSA, to exclude TLS 1.2: see grpc_runtime.h */
    const struct secret *private_key_pem;
    const char *client_ca_pem; /* named in the handshake; the application verifies the clients */
};

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "proto/endpoint.h"

#include <grpc/grpc.h>

/*
 * gRPC's channels, as link.c wants them: to one address, with one attempt to connect. gRPC's own
 * name look-ups, choice of addresses and waits between attempts are not used: with a list of
 * addresses that is replaced while the first one is being tried, gRPC 1.51 may stay "connecting"
 * for good.
 */

/* NULL for tls: a unix socket. gRPC has its own copy of the key. */
MUST_USE bool channel_credentials_new(const struct client_tls *tls, grpc_channel_credentials **out,
                                      struct error *err);

struct channel_options {
    const char *uri;         /* "unix:/path", "ipv4:127.0.0.1:7443", "ipv6:[::1]:7443" */
    const char *authority;   /* HOST:PORT as the user wrote it: its HOST must be in the server's
                                certificate; NULL for unix sockets */
    const char *server_name; /* must be in the certificate instead of HOST; or NULL */
    grpc_channel_credentials *credentials;
};
/* Starts to connect. The caller destroys the channel. NULL when gRPC refuses the options. */
grpc_channel *channel_connect(const struct channel_options *options);

/* Why a channel in TRANSIENT_FAILURE could not connect: gRPC tells it only to a call. */
void channel_explain(grpc_channel *channel, struct error *err);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stdio.h>

/*
 * A small HTTP/1 server for probes and metrics. One thread of its own answers GET for a few fixed
 * pages, one request per connection. There is no TLS and no authentication: bind it to an address
 * that only monitoring can reach.
 *
 * Strangers may reach it all the same, so everything is limited. A connection ends HTTP_SECONDS
 * after it began, however slowly its bytes come or go. When a network (base/address.h) has its
 * share of connections, or all places are taken, the newcomer gets the place of the oldest
 * connection of the network that has the most: a probe sends its request at once and is served.
 */
#define HTTP_SECONDS          5u
#define HTTP_CONNECTIONS_MAX  64
#define HTTP_CONNECTIONS_EACH 8                         /* of one network */
#define HTTP_HEAD_BYTES       ((size_t)4096)            /* of a request */
#define HTTP_ANSWERS_BYTES    ((size_t)4 * 1024 * 1024) /* of all answers that wait to be sent */

#define HTTP_OK          200u
#define HTTP_UNAVAILABLE 503u

#define HTTP_TYPE_METRICS "text/plain; version=0.0.4" /* Prometheus */

struct http_page {
    const char *path; /* "/metrics" */
    const char *type; /* NULL: plain text */
    bool is_long;     /* refused while HTTP_ANSWERS_BYTES wait to be sent */
    /* Writes the page and returns its status, HTTP_OK or HTTP_UNAVAILABLE. Called for one request
     * at a time. It must not wait for anything: all pages wait for it. */
    unsigned (*print)(void *cookie, FILE *out);
};

struct http_server;

/* address: see base/tcp_listen.h. pages and cookie must outlive the server. */
MUST_USE bool http_server_start(const char *address, const struct http_page *pages, size_t n,
                                void *cookie, struct http_server **out, struct error *err);
void http_server_stop(struct http_server *server); /* NULL is allowed */

/* Where it listens, also when the address left the choice of the port to it. */
uint16_t http_server_port(const struct http_server *server);

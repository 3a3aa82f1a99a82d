/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stdio.h>

/*
 * A small HTTP server for probes and metrics: GET of a few fixed pages, in a thread of its own. The
 * door to libmicrohttpd. No TLS, no names, no bodies: bind it where only monitoring reaches it.
 */
#define HTTP_OK          200u
#define HTTP_UNAVAILABLE 503u

#define HTTP_TYPE_METRICS "text/plain; version=0.0.4" /* Prometheus */

struct http_page {
    const char *path; /* "/metrics" */
    const char *type; /* NULL: plain text */
    /* Writes the page and returns its status. One at a time. */
    unsigned (*print)(void *cookie, FILE *out);
};

struct http_server;

/* address: "127.0.0.1:9808", "[::1]:9808"; a numeric host. pages and cookie must outlive it. */
MUST_USE bool http_server_start(const char *address, const struct http_page *pages, size_t n,
                                void *cookie, struct http_server **out, struct error *err);
void http_server_stop(struct http_server *server); /* NULL is allowed */

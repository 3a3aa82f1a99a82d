/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stdio.h>

/*
 * A small HTTP server for probes and metrics. It has its own thread and answers GET for a few fixed
 * pages. Only http.c uses libmicrohttpd. There is no TLS and no authentication: bind it to an
 * address that only monitoring can reach.
 */
#define HTTP_OK          200u
#define HTTP_UNAVAILABLE 503u

#define HTTP_TYPE_METRICS "text/plain; version=0.0.4" /* Prometheus */

struct http_page {
    const char *path; /* "/metrics" */
    const char *type; /* NULL: plain text */
    /* Writes the page and returns its status. Called for one request at a time. */
    unsigned (*print)(void *cookie, FILE *out);
};

struct http_server;

/* address has a numeric host: "127.0.0.1:9808", "[::1]:9808". pages and cookie must outlive the
 * server. */
MUST_USE bool http_server_start(const char *address, const struct http_page *pages, size_t n,
                                void *cookie, struct http_server **out, struct error *err);
void http_server_stop(struct http_server *server); /* NULL is allowed */

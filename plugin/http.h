/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "keys/call_metrics.h"
#include "plugin/own_sockets.h"
#include "plugin/plugin.h"

/*
 * The plugin's /healthz, /readyz and /metrics over HTTP (base/http.h). Nothing in it is secret, but
 * volume ids are shown: bind it where only the cluster's monitoring reaches it.
 */
struct http;

/* address: see base/tcp_listen.h. plugin, metrics and sockets must outlive the
 * server. sockets NULL: /healthz does not look at them. */
MUST_USE bool http_start(const char *address, const struct plugin *plugin, struct metrics *metrics,
                         struct own_sockets *sockets, struct http **out, struct error *err);
void http_stop(struct http *http); /* NULL is allowed */

/* What the page shows; for tests. */
void http_print_metrics(const struct plugin *plugin, struct metrics *metrics, FILE *out);

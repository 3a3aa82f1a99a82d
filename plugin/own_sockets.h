/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "plugin/plugin.h"
#include "proto/server.h"

/*
 * Looks after the plugin's own sockets in the background. When the file of one is gone, a worker
 * makes it again: kubelet and sidecars connect to the new one, and connections to the old one live
 * on. Whatever else is at the path stays: then, and when the server does not answer, /healthz says
 * so and kubelet starts the container again.
 */
struct own_sockets;

#define OWN_SOCKETS_MAX 2
struct own_sockets_options {
    const struct plugin *plugin;
    const struct server *server;        /* has started */
    const char *paths[OWN_SOCKETS_MAX]; /* as bound; NULL: none */
};
/* All that the options name must outlive it. */
MUST_USE bool own_sockets_start(const struct own_sockets_options *options, struct own_sockets **out,
                                struct error *err);

/* From then on no socket is made again. */
void own_sockets_end(struct own_sockets *sockets);  /* NULL is allowed */
void own_sockets_free(struct own_sockets *sockets); /* NULL is allowed; ends it first */

/* What the last look found. Never waits. */
MUST_USE bool own_sockets_hold(struct own_sockets *sockets, struct error *err);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/unix_socket.h"
#include "plugin/background.h"

struct metrics; /* keys/call_metrics.h */

/*
 * What a plugin needs that stands on another CSI driver: its client. Only tdvol-blockd may open that
 * driver's socket. A controller gets a way through to it (blockd/forward.c). A node does not: there
 * workers make the calls (blockd/upstream_call.h).
 */
struct stacking {
    const char *socket;                  /* of the driver below; NULL: there is none */
    char door[UNIX_SOCKET_PATH_MAX + 1]; /* where tdvol-blockd lets a controller through */
    char dir[PATH_MAX];                  /* see blockd/place.h */
    size_t threads;                      /* that handle calls */
    struct background *forwarder;        /* NULL: no controller */
    struct upstream *upstream;
};

struct stacking_options {
    const char *upstream; /* "unix:///PATH"; NULL: none, and nothing below does anything */
    const char *dir;      /* NULL: its default, below root */
    const char *root;     /* kubelet's folder */
    const char *driver;
    const char *csi_socket; /* the door lies beside it */
    size_t threads;         /* that handle calls: a driver that hangs shall not have all of them */
};
/* Only finds the paths. */
MUST_USE bool stacking_init(struct stacking *s, const struct stacking_options *options,
                            struct error *err);

/* Sets the plugin's upstream. The plugin must outlive it. */
MUST_USE bool stacking_start(struct stacking *s, struct plugin *plugin, struct metrics *metrics,
                             struct error *err);
/* No call may be in progress. */
void stacking_stop(struct stacking *s);

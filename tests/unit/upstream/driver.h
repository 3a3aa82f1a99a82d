/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/arena.h"
#include "blockd/client.h"
#include "blockd/place.h"
#include "proto/server.h"

#include "csi.pb-c.h"

/* A driver below, as far as a node sees it, behind a real gRPC socket. It notes each call and its
 * request, and fails where a test says so. */
#define DRIVER_NAME "below.example"

struct driver {
    char folder[64], socket[96], lock[96];
    struct server *server;
    bool stages, expands, knows_single_node_modes;
    const char *faulty; /* method that fails with code, or NULL */
    enum error_code code;
    const char *text; /* NULL: "the driver says no" */
    const char *name; /* NULL: DRIVER_NAME */
    unsigned delay_ms;
    char log[64][40]; /* methods, in order */
    size_t n_log;
    struct arena arena; /* of the last requests */
    const Csi__V1__NodeStageVolumeRequest *stage;
    const Csi__V1__NodePublishVolumeRequest *publish;
    const Csi__V1__NodeUnpublishVolumeRequest *unpublish;
    const Csi__V1__NodeUnstageVolumeRequest *unstage;
    const Csi__V1__NodeExpandVolumeRequest *expand;
    uint64_t time_left_ms;  /* of the last call */
    struct workers workers; /* make the calls of blockd/upstream_call.h, without processes */
};

void driver_start(struct driver *driver);
void driver_stop(struct driver *driver); /* start() may follow */
void driver_end(struct driver *driver);
/* Where its workers have the volume attached. */
struct device_place driver_place(const char *volume_id);
size_t driver_count(const struct driver *driver, const char *method);

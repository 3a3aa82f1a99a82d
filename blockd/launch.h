/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/attester.h"
#include "base/error.h"
#include "base/log.h"
#include "base/option.h"

#include <sys/types.h>

/* The tdvol-blockd that this process started. */
struct blockd {
    pid_t pid;
    int control_fd; /* readable or hung up when tdvol-blockd has ended */
};
#define BLOCKD_INIT                 \
    {                               \
        .pid = -1, .control_fd = -1 \
    }

struct blockd_options {
    const char *path; /* NULL: in the folder of our own executable */
    const char *driver, *local_dir, *state_dir;
    struct log_options log;
    const struct option_list *mount_roots, *free_roots; /* NULL: none */
    const char *csi_socket, *registration_socket;       /* paths of the front's own, or NULL */
    uint64_t csi_socket_group;
    const char *upstream, *upstream_door; /* paths of sockets; NULL: there is no driver below */
    const char *upstream_dir;             /* see blockd/place.h; NULL: there is none */
    const char *tsm_root, *event_log;     /* NULL: the default of attest/attester.h */
    /* The broker whose answers workers accept; see struct broker_trust. NULL: none. */
    const char *broker_ca; /* file */
    const struct option_list *broker_names, *broker_keys;
    const char *broker_policy; /* file; NULL: their evidence is not demanded */
    const char *test_root;     /* file, in builds with the simulator only; NULL: Intel's root */
    const char *node_id;
};

/* Call before the first thread starts, and with the privileges that tdvol-blockd is to keep. */
MUST_USE bool blockd_start(const struct blockd_options *options, struct blockd *out,
                           struct error *err);

/* Closes the control socket, which makes tdvol-blockd end, and waits up to 20 s for that. */
void blockd_stop(struct blockd *blockd);

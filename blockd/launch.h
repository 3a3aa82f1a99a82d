/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/attester.h"
#include "base/error.h"
#include "base/log.h"
#include "base/option.h"

#include <sys/types.h>

/* The tdvol-blockd that belongs to this process. */
struct blockd {
    pid_t pid;
    int control_fd; /* readable or hung up when it has ended */
};
#define BLOCKD_INIT                 \
    {                               \
        .pid = -1, .control_fd = -1 \
    }

struct blockd_options {
    const char *path; /* NULL: beside our own executable */
    const char *driver, *local_dir, *state_dir;
    struct log_options log;
    const struct option_list *mount_roots;
    const char *tsm_root, *event_log; /* NULL: as in attest/attester.h */
};

/* Before the first thread, with the privileges it is to keep. */
MUST_USE bool blockd_start(const struct blockd_options *options, struct blockd *out,
                           struct error *err);

/* Closes the control socket, at which it ends, and waits a while for that. */
void blockd_stop(struct blockd *blockd);

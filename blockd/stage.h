/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "blockd/stage_file.h"
#include "blockd/worker.h"

/* What is staged of the worker's volume, according to its state file and the kernel. */
struct stage_view {
    bool known; /* there is a state file */
    bool found; /* there is a mapping */
    struct stage_file state;
    struct volume_device device;
};
MUST_USE bool stage_look(const struct worker *worker, struct stage_view *out, struct error *err);

/* FAILED_PRECONDITION when the volume is published at a path that is not in except (a list that
 * ends with NULL), nor bound by kubelet for the pod of target (may be NULL). The error names the
 * first such path. */
MUST_USE bool stage_check_unpublished(const struct worker *worker, const struct stage_view *view,
                                      const char *const *except, const char *target,
                                      struct error *err);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "crypt/staged.h"
#include "crypt/worker.h"

/* What is staged of the worker's volume, by its state file and by the kernel. */
struct stage_view {
    bool known; /* there is a state file */
    bool found; /* there is a mapping */
    struct staged state;
    struct volume_device device;
};
MUST_USE bool stage_look(const struct worker *worker, struct stage_view *out, struct error *err);

/* Whether it is published at any path but those in except (ends with NULL): then
 * FAILED_PRECONDITION naming one, and true; so is any other failure to know. */
bool stage_is_published(const struct worker *worker, const struct stage_view *view,
                        const char *const *except, struct error *err);

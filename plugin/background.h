/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "plugin/plugin.h"

/*
 * An operation of tdvol-blockd that never ends, such as BLOCK_WATCH: has a thread, and starts the
 * operation again when it ends.
 */
struct background;

struct background_options {
    const struct plugin *plugin; /* outlives it */
    enum block_operation operation;
    const char *thread;              /* its name; "watcher" */
    const char *name;                /* for fault points; "Watch" */
    const struct block_hooks *hooks; /* NULL: the operation says nothing */
    void *cookie;                    /* of the hooks */
};
/* Copies the options. */
MUST_USE bool background_start(const struct background_options *options, struct background **out,
                               struct error *err);
void background_stop(struct background *background); /* waits for the thread; NULL is allowed */

/* How long to wait before an operation that ended is started again: twice as long as last time (0:
 * the first time), up to a minute; not so long when it had lived. */
uint64_t background_retry_ms(uint64_t last_ms, uint64_t lived_ms);

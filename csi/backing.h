/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "blockd/client.h"

/*
 * Where raw space comes from. Instances are const and keep no state; a job says on whose behalf
 * and with which workers. Every operation may be repeated.
 */
struct backing_job {
    const struct workers *workers;
    const char *operation; /* the RPC */
    struct arena *arena;
};

struct backing {
    const char *name;
    enum backing_kind kind; /* in the records of its volumes; blockd/space.h has the other side */

    /* Fresh space of exactly size_bytes, without anything of before. reserve: all of it is
     * allocated. RESOURCE_EXHAUSTED when there is not enough. */
    bool (*create)(const struct backing_job *job, const char *id, uint64_t size_bytes, bool reserve,
                   struct error *err);
    /* FAILED_PRECONDITION while it is in use; then nothing was changed. What is not there is
     * success. The name is remove, because it is also done to left-overs. */
    bool (*remove)(const struct backing_job *job, const char *id, struct error *err);
    /* Everything of from as of one moment, also while it is in use. */
    bool (*copy)(const struct backing_job *job, const char *from, const char *id, bool reserve,
                 struct error *err);
    /* At least size_bytes from now on, also while it is in use. */
    bool (*grow)(const struct backing_job *job, const char *id, uint64_t size_bytes, bool reserve,
                 struct error *err);
    /* Before a volume is staged, and after it was unstaged: the space becomes a device of this node. Space
     * that the root side attaches by itself (blockd/space.h) has both NULL. */
    bool (*attach)(const struct backing_job *job, const char *id, bool read_only,
                   struct error *err);
    bool (*detach)(const struct backing_job *job, const char *id, struct error *err);
    /* Bytes that new volumes may take. */
    bool (*capacity)(const struct backing_job *job, uint64_t *out_bytes, struct error *err);
};

extern const struct backing backing_local; /* "local": files in a folder of the node */

/* NULL when there is none of that name. */
const struct backing *backing_find(const char *name);

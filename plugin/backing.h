/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "blockd/client.h"

#include "csi.pb-c.h"

/*
 * A source of raw space. Instances are const and keep no state; a job names the RPC and the
 * workers. Every operation may be repeated.
 */
struct backing_job {
    const struct workers *workers;
    const char *operation; /* the RPC */
    struct arena *arena;
    /* For the stacked backing. */
    struct upstream *upstream;
    uint64_t deadline_ms; /* of the call, clock_now_ms() scale; UINT64_MAX: none */
    const Csi__V1__NodeExpandVolumeRequest *expansion; /* the call, for grow; otherwise NULL */
};

struct backing_capacity {
    uint64_t free_bytes; /* of which one new volume may take all */
    bool is_empty;       /* there is no volume: the disk may be missing */
};

struct backing {
    const char *name;
    enum backing_kind kind; /* in the records of its volumes; blockd/space.h is the root side */

    /* Makes fresh space of exactly size_bytes, without old data. reserve: allocates all of it.
     * RESOURCE_EXHAUSTED when there is not enough. */
    bool (*create)(const struct backing_job *job, const char *id, uint64_t size_bytes, bool reserve,
                   struct error *err);
    /* FAILED_PRECONDITION, and nothing is changed, while the space is in use. Succeeds when there
     * is no space. Also removes what a failed call left over. */
    bool (*remove)(const struct backing_job *job, const char *id, struct error *err);
    /* Copies from as it is at one moment, also while it is in use. */
    bool (*copy)(const struct backing_job *job, const char *from, const char *id, bool reserve,
                 struct error *err);
    /* Makes the space at least size_bytes large, also while it is in use. */
    bool (*grow)(const struct backing_job *job, const char *id, uint64_t size_bytes, bool reserve,
                 struct error *err);
    /* attach makes the space a device of this node, before a volume is staged. detach undoes that,
     * after it was unstaged. Both are NULL for space that the root side (blockd/space.h) attaches
     * by itself. */
    bool (*attach)(const struct backing_job *job, const Csi__V1__NodeStageVolumeRequest *request,
                   bool read_only, struct error *err);
    bool (*detach)(const struct backing_job *job, const char *id, struct error *err);
    bool (*capacity)(const struct backing_job *job, struct backing_capacity *out,
                     struct error *err);
};

extern const struct backing backing_local;   /* "local": files in a folder of the node */
extern const struct backing backing_stacked; /* "stacked": another driver's; it only attaches,
                                                detaches and grows */

/* For the instances: runs one operation of a worker. request NULL: the arena is exhausted. */
#define BACKING_SHORT_MS 30000u
MUST_USE bool backing_run(const struct backing_job *job, struct block_request *request,
                          uint64_t limit_ms, struct block_result *out, struct error *err);

/* Reserved space cannot run out when the volume is written. A volume is thin only when its
 * StorageClass asks for that. */
bool backing_is_reserved(const struct volume_spec *spec);

/* NULL when there is none of that name. */
const struct backing *backing_find(const char *name);

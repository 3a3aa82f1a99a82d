/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "tests/unit/csi/fake.h"

/*
 * A strict driver below the fake plugin, in memory, behind a real gRPC socket. It checks what real
 * drivers check: volumes and snapshots are idempotent by their name, only block volumes, only the
 * parameters and access modes that it knows, one writing node at a time. Its calls are in fake->log
 * and fail by fake->fault, as those of the broker do.
 */
#define FAKE_UPSTREAM_NAME "below.example"
#define FAKE_NODES_MAX     4

struct fake_disk {
    char id[512], name[129];
    int64_t bytes;
    char source[512];     /* id of a snapshot or volume; "" none */
    char parameters[256]; /* as they came, "key=value " each */
    char nodes[FAKE_NODES_MAX][64];
    uint64_t content; /* of a copy: the source's counter of openings when it was made */
    bool is_present, read_only;
};

struct fake_snapshot {
    char id[512], name[129], source[512], group[129];
    int64_t bytes;
    uint64_t content; /* as above */
    bool is_present;
};

struct fake_upstream {
    struct fake *fake;
    char folder[64], socket[96], lock[96];
    struct server *server;
    struct fake_disk disks[FAKE_MAX];
    struct fake_snapshot snapshots[FAKE_MAX];
    unsigned n_made;
    const char *driver_name; /* NULL: FAKE_UPSTREAM_NAME */
    uint32_t lacks;          /* capabilities of the Controller, as bits by their numbers */
    int64_t step_bytes;      /* sizes are multiples of it; 0: any */
    const char *odd_id;      /* the id of the next volume or snapshot; NULL: one of its own */
    const char *secret;      /* that each call with secrets must bring; NULL: any */
    bool answers_no_volume;  /* CreateVolume, CreateSnapshot */
    void (*distort_group)(
        Csi__V1__VolumeGroupSnapshot *group); /* as it is answered with; or NULL */
    bool makes_too_small;
    int64_t claims_bytes;   /* as the size of each volume, in place of its own; 0: that one */
    bool validates_blindly; /* does not look whether the volume exists */
    bool deletes_no_source; /* refuses to delete a volume that has snapshots */
    bool fences_nothing;    /* attaches to as many nodes as it is told */
    bool attaches_nothing;
    uint64_t pause_ms; /* after that refusal it does not detach for so long */
    uint64_t paused_until_ms;
    /* Called after each call of that name, with fake->lock held. */
    void (*served)(const char *method);
    uint64_t time_left_ms; /* of the call that is served */
    int64_t last_required_bytes, last_limit_bytes;
    unsigned n_unknown_fields; /* of the last CreateVolume */
};

/* Starts it, and makes it the driver below fake->plugin. */
struct fake_upstream *fake_upstream_new(struct fake *fake);
void fake_upstream_free(struct fake_upstream *upstream);
/* As when the plugin starts anew: it knows nothing of the driver. */
void fake_upstream_forget(struct fake_upstream *upstream);
void fake_upstream_stop(struct fake_upstream *upstream); /* its socket is gone from then on */

/* NULL when there is none. */
struct fake_disk *fake_disk(struct fake_upstream *upstream, const char *id);
struct fake_disk *fake_disk_named(struct fake_upstream *upstream, const char *name);
struct fake_snapshot *fake_snapshot(struct fake_upstream *upstream, const char *id);
size_t fake_count_disks(const struct fake_upstream *upstream);
size_t fake_count_snapshots(const struct fake_upstream *upstream);
bool fake_is_attached(const struct fake_disk *disk, const char *node);

/* A disk that nobody made through the plugin. */
struct fake_disk *fake_foreign_disk(struct fake_upstream *upstream, const char *id, int64_t bytes);

/* Fails the test unless each disk and snapshot has its record, each record its disk or snapshot, each
 * disk room for its record and, when it is a copy, what its record says of it, and each attached node the right to the volume, and no other one. */
void fake_upstream_check(struct fake_upstream *upstream);

/* For its parts. */
extern const struct rpc_service fake_upstream_identity, fake_upstream_controller,
    fake_upstream_group;
struct fake_disk *fake_new_disk(struct fake_upstream *upstream);

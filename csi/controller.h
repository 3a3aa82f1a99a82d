/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "csi/capability.h"
#include "csi/parameters.h"
#include "csi/plugin.h"

/* The handlers of the Controller service, over its files; the table is in controller.c. */
#define CONTROLLER_HANDLER(fn, Method)                                                        \
    bool fn(struct plugin *plugin, struct rpc_call *call,                                     \
            const Csi__V1__##Method##Request *request, Csi__V1__##Method##Response *response, \
            struct error *err)

/* controller_create.c */
CONTROLLER_HANDLER(controller_create_volume, CreateVolume);
/* controller_delete.c */
CONTROLLER_HANDLER(controller_delete_volume, DeleteVolume);
CONTROLLER_HANDLER(controller_delete_snapshot, DeleteSnapshot);
/* controller_snapshot.c */
CONTROLLER_HANDLER(controller_create_snapshot, CreateSnapshot);
CONTROLLER_HANDLER(controller_get_snapshot, GetSnapshot);
/* controller_list.c */
CONTROLLER_HANDLER(controller_list_volumes, ListVolumes);
CONTROLLER_HANDLER(controller_list_snapshots, ListSnapshots);
CONTROLLER_HANDLER(controller_list_volume_health, ControllerListVolumeHealth);
CONTROLLER_HANDLER(controller_get_volume_health, ControllerGetVolumeHealth);

/* A record as the orchestrator sees it; everything is from the arena, which may be exhausted. */
MUST_USE bool controller_volume(const struct plugin *plugin, struct arena *arena,
                                const struct record *record, Csi__V1__Volume **out,
                                struct error *err);
MUST_USE bool controller_snapshot(struct arena *arena, const struct record *record,
                                  Csi__V1__Snapshot **out, struct error *err);

/*
 * Copies a volume or snapshot: reads the source's record, has the raw space copied, and makes the
 * copy's record, which the broker refuses when the source's changed meanwhile (ABORTED: the copy
 * is deleted again). Both ids must be held by the caller.
 */
MUST_USE bool controller_copy(const struct plugin *plugin, struct rpc_call *call,
                              const struct keys_copy *copy, struct record *out, struct error *err);

/* How CSI health is filled from a report; from the arena. */
MUST_USE bool controller_health(struct arena *arena, const struct health_report *report,
                                Csi__V1__VolumeHealth **out, struct error *err);

/* Bytes asked for: INVALID_ARGUMENT for negative ones, OUT_OF_RANGE when they contradict. */
struct capacity {
    uint64_t required_bytes; /* 0: not given */
    uint64_t limit_bytes;    /* UINT64_MAX: not given */
};
MUST_USE bool controller_capacity(const Csi__V1__CapacityRange *range, struct capacity *out,
                                  struct error *err);

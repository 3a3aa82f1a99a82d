/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "csi/capability.h"
#include "csi/parameters.h"
#include "plugin/plugin.h"

/* The handlers of the Controller service, in several files; the table is in controller.c. */
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
/* controller_capacity.c */
CONTROLLER_HANDLER(controller_get_capacity, GetCapacity);
/* controller_list.c */
CONTROLLER_HANDLER(controller_list_volumes, ListVolumes);
CONTROLLER_HANDLER(controller_list_snapshots, ListSnapshots);
CONTROLLER_HANDLER(controller_list_volume_health, ControllerListVolumeHealth);
CONTROLLER_HANDLER(controller_get_volume_health, ControllerGetVolumeHealth);

/* A record as the orchestrator sees it, allocated from the arena, which may be exhausted. */
MUST_USE bool controller_volume(const struct plugin *plugin, struct arena *arena,
                                const struct record *record, Csi__V1__Volume **out,
                                struct error *err);
MUST_USE bool controller_snapshot(struct arena *arena, const struct record *record,
                                  Csi__V1__Snapshot **out, struct error *err);

/*
 * Copies a volume or snapshot: has the raw space copied, then makes the copy's record. The broker
 * refuses that record with ABORTED when the source's record has changed since it was read; the copy
 * is then deleted again. The caller must hold both ids.
 */
MUST_USE bool controller_copy(const struct plugin *plugin, struct rpc_call *call,
                              const struct keys_copy *copy, struct record *out, struct error *err);

/* ABORTED or FAILED_PRECONDITION when the source's phase allows no copy. */
MUST_USE bool controller_check_copyable(const struct record *source, struct error *err);

/* CSI CreateSnapshot: whether the snapshot of this record is the one that is asked for. ALREADY_EXISTS
 * when it is of another volume. */
MUST_USE bool controller_check_same_snapshot(const struct record *record,
                                             const Csi__V1__CreateSnapshotRequest *request,
                                             struct error *err);

/* Fails with code when the folder of the volumes is empty, but this node has volumes: its disk is
 * not mounted. New ones would go to the disk below, and deleted ones stay on the one that is missing.
 * A folder with any file in it passes. */
MUST_USE bool controller_check_disk(const struct plugin *plugin, struct rpc_call *call,
                                    enum error_code code, struct error *err);

/* CSI volume health made from a report, allocated from the arena. */
MUST_USE bool controller_health(struct arena *arena, const struct health_report *report,
                                Csi__V1__VolumeHealth **out, struct error *err);

/* From the arena; NULL when it is exhausted. */
Csi__V1__ControllerServiceCapability *controller_capability(
    struct arena *arena, Csi__V1__ControllerServiceCapability__RPC__Type type);

/* The requested bytes. INVALID_ARGUMENT for a negative number, OUT_OF_RANGE when required_bytes is
 * more than limit_bytes. */
struct capacity {
    uint64_t required_bytes; /* 0: not given */
    uint64_t limit_bytes;    /* UINT64_MAX: not given */
};
MUST_USE bool controller_capacity(const Csi__V1__CapacityRange *range, struct capacity *out,
                                  struct error *err);

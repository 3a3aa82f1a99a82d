/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "csi/controller.h"

struct quirks; /* upstream/quirks.h */

/*
 * The Controller service over another CSI driver. Each call goes on to that driver with what is ours
 * taken out: our parameters, file systems (it gives block devices), and sizes (its devices are larger by
 * what encryption needs). What belongs to a volume beside its device, its key and its record, is at the
 * key broker.
 *
 * Order: the driver makes a volume before we record it, so that no record is without a volume. The broker
 * gives a node the right to a volume before the driver attaches it, and takes it back after the driver has
 * detached it.
 */

/* stacked_create.c */
CONTROLLER_HANDLER(stacked_create_volume, CreateVolume);
/* stacked_delete.c */
CONTROLLER_HANDLER(stacked_delete_volume, DeleteVolume);
CONTROLLER_HANDLER(stacked_delete_snapshot, DeleteSnapshot);
/* stacked_publish.c */
CONTROLLER_HANDLER(stacked_publish_volume, ControllerPublishVolume);
CONTROLLER_HANDLER(stacked_unpublish_volume, ControllerUnpublishVolume);
/* stacked_snapshot.c */
CONTROLLER_HANDLER(stacked_create_snapshot, CreateSnapshot);
CONTROLLER_HANDLER(stacked_get_snapshot, GetSnapshot);
/* stacked_list.c */
CONTROLLER_HANDLER(stacked_list_volumes, ListVolumes);
CONTROLLER_HANDLER(stacked_list_snapshots, ListSnapshots);
CONTROLLER_HANDLER(stacked_get_volume, ControllerGetVolume);
CONTROLLER_HANDLER(stacked_list_volume_health, ControllerListVolumeHealth);
CONTROLLER_HANDLER(stacked_get_volume_health, ControllerGetVolumeHealth);

extern const struct rpc_service stacked_controller_service, stacked_group_service;

/* --- what an error of the other side says: stacked_decision.c --- */

enum stacked_decision {
    /* The driver, asked to attach a volume: it has not, and will not. */
    DECIDED_NOT_ATTACHED = 1,
    /* The driver knows no such volume or node, or no such names can exist. Of an attached volume it says
     * that never. */
    DECIDED_NOWHERE = 2,
    /* The driver, asked to delete something: it leaves it as it is. */
    DECIDED_NOT_DELETED = 4,
    /* The broker, asked for a record (keys->create, keys->copy): it made none. Nothing may be left at the
     * driver then: the caller will not ask again, or must have a new copy, because the source changed
     * while it was copied, or went. ALREADY_EXISTS is no such answer: there is another record. */
    DECIDED_NO_RECORD = 8,
    /*
     * A sidecar that made us create something, when this is our answer: it calls again until it gets
     * another one, also when its user has given up meanwhile. It takes these codes for "may still be at
     * work": checkError in external-provisioner, isCSIFinalError in external-snapshotter (which has
     * RESOURCE_EXHAUSTED beside them). After every other code it may never call again, and then nobody
     * else removes what was made.
     */
    DECIDED_TO_REPEAT = 16,
};
bool stacked_has_decided(const struct error *err, enum stacked_decision what);

/* --- what they share: stacked.c --- */

/* Asks the driver's Controller or another service of it. out_response: a pointer to the response's
 * type. */
MUST_USE bool stacked_ask(const struct plugin *plugin, struct rpc_call *call, const char *method,
                          const void *request, void *out_response, struct error *err);
MUST_USE bool stacked_ask_service(const struct plugin *plugin, struct rpc_call *call,
                                  const ProtobufCServiceDescriptor *service, const char *method,
                                  const void *request, void *out_response, struct error *err);
MUST_USE bool stacked_can(const struct plugin *plugin, const struct rpc_call *call,
                          Csi__V1__ControllerServiceCapability__RPC__Type capability, bool *yes,
                          struct error *err);

/* What it does otherwise than CSI says. It is asked for its name, if it has not said it yet. */
MUST_USE bool stacked_quirks(const struct plugin *plugin, const struct rpc_call *call,
                             const struct quirks **out, struct error *err);

/* Capabilities for the driver: raw block. */
MUST_USE bool stacked_as_block(const struct plugin *plugin, struct rpc_call *call,
                               const Csi__V1__VolumeCapability *capability,
                               Csi__V1__VolumeCapability **out, struct error *err);
MUST_USE bool stacked_all_as_block(const struct plugin *plugin, struct rpc_call *call,
                                   Csi__V1__VolumeCapability *const *list, size_t n,
                                   Csi__V1__VolumeCapability ***out, struct error *err);

/* Splits a parameter map. Ours are set in parameters (NULL: INVALID_ARGUMENT for each of ours); the
 * others make a new list from the arena. Entries of all maps have the same form. */
struct stacked_map {
    size_t n;
    void *entries; /* as in the request's struct */
};
MUST_USE bool stacked_take_parameters(struct arena *arena, struct stacked_map all,
                                      struct parameters *parameters, struct stacked_map *others,
                                      struct error *err);

/* The record of a volume or snapshot. Without one: NOT_FOUND when the driver does not know the id
 * either, otherwise FAILED_PRECONDITION, naming the command that makes a record. */
MUST_USE bool stacked_find(const struct plugin *plugin, struct rpc_call *call,
                           enum record_kind kind, const char *id, struct record *out,
                           struct error *err);

/* Whether the driver has the volume or snapshot, as far as it can tell. For what has no record: no also when
 * the driver cannot have made the id, or cannot be asked. */
MUST_USE bool stacked_exists(const struct plugin *plugin, struct rpc_call *call,
                             enum record_kind kind, const char *id, bool *yes, struct error *err);
/* No only when the driver says so: then the key may be destroyed. */
MUST_USE bool stacked_snapshot_exists(const struct plugin *plugin, struct rpc_call *call,
                                      const char *id, bool *yes, struct error *err);

/* After keys->get failed: whether there was a record, which a deletion has ended. The driver had deleted
 * the volume or snapshot by then. */
bool stacked_was_erased(const struct error *err);

/* INTERNAL when no record can have the id that the driver answers with. */
MUST_USE bool stacked_check_id(const struct plugin *plugin, const char *id, struct error *err);

/*
 * A copy that the driver will be asked for. *source becomes the source's record, with the version that
 * it had when this copy was first asked for: a copy is found by its name, and may be older than this
 * call (keys->begin_copy). Errors as stacked_find, and when a source of this kind allows no copy.
 * Only kind and name of copy are read.
 */
MUST_USE bool stacked_begin_copy(const struct plugin *plugin, struct rpc_call *call,
                                 enum record_kind kind, const char *source_id,
                                 const struct keys_copy *copy, struct record *source,
                                 struct error *err);
/* There was a record already, or nothing is left of the copy. keys->copy ends it, too. */
MUST_USE bool stacked_end_copy(const struct plugin *plugin, const struct rpc_call *call,
                               const char *source_id, const struct keys_copy *copy,
                               struct error *err);

/* What the driver made for a call that then failed. */
struct stacked_made {
    enum record_kind kind;
    const char *id;
    struct stacked_map secrets;   /* of the call */
    const char *name, *source_id; /* of the copy; source_id "": it is none */
};
/* Deletes it at the driver, and ends the copy. What has a record stays: a second controller may have made
 * it. Always false: *err stays as it is when nothing is left, and is as after stacked_keep otherwise. */
bool stacked_drop(const struct plugin *plugin, struct rpc_call *call,
                  const struct stacked_made *made, struct error *err);
/* It stays, and the next call finds it by its name. So the error gets a code after which there is a next
 * call, if it has none; its text stays. Always false. */
bool stacked_keep(struct error *err);
/* After keys->create or keys->copy failed: drops or keeps it. Always false. */
bool stacked_drop_unrecorded(const struct plugin *plugin, struct rpc_call *call,
                             const struct stacked_made *made, struct error *err);

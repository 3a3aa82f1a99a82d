/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "tests/unit/csi/fake_upstream.h"

/* The calls of the driver below, in several files; the tables are in fake_upstream_calls.c. */
#define FAKE_SERVES(fn, Method)                                                               \
    bool fn(struct fake_upstream *u, struct rpc_call *call,                                   \
            const Csi__V1__##Method##Request *request, Csi__V1__##Method##Response *response, \
            struct error *err)

FAKE_SERVES(serve_get_plugin_info, GetPluginInfo);
FAKE_SERVES(serve_create_volume, CreateVolume);
FAKE_SERVES(serve_delete_volume, DeleteVolume);
FAKE_SERVES(serve_publish_volume, ControllerPublishVolume);
FAKE_SERVES(serve_unpublish_volume, ControllerUnpublishVolume);
FAKE_SERVES(serve_validate, ValidateVolumeCapabilities);
FAKE_SERVES(serve_list_volumes, ListVolumes);
FAKE_SERVES(serve_get_volume, ControllerGetVolume);
FAKE_SERVES(serve_get_capacity, GetCapacity);
FAKE_SERVES(serve_expand_volume, ControllerExpandVolume);
FAKE_SERVES(serve_modify_volume, ControllerModifyVolume);
FAKE_SERVES(serve_create_snapshot, CreateSnapshot);
FAKE_SERVES(serve_delete_snapshot, DeleteSnapshot);
FAKE_SERVES(serve_list_snapshots, ListSnapshots);
FAKE_SERVES(serve_get_snapshot, GetSnapshot);
FAKE_SERVES(serve_get_volume_health, ControllerGetVolumeHealth);
FAKE_SERVES(serve_list_volume_health, ControllerListVolumeHealth);
FAKE_SERVES(serve_get_capabilities, ControllerGetCapabilities);
FAKE_SERVES(serve_create_group, CreateVolumeGroupSnapshot);
FAKE_SERVES(serve_delete_group, DeleteVolumeGroupSnapshot);
FAKE_SERVES(serve_get_group, GetVolumeGroupSnapshot);
FAKE_SERVES(serve_get_group_capabilities, GroupControllerGetCapabilities);

/* --- what it checks in requests --- */

typedef Csi__V1__CreateVolumeRequest__ParametersEntry entry_message; /* all maps' have this form */

extern const char *const fake_create_keys[], *const fake_mutable_keys[]; /* ends with NULL */

bool fake_has(const struct fake_upstream *u, unsigned capability);
bool fake_require(const char *value, const char *what, struct error *err);
bool fake_not_found(const char *what, const char *id, struct error *err);
bool fake_check_secrets(const struct fake_upstream *u, size_t n, const void *secrets,
                        struct error *err);
bool fake_check_capability(const struct fake_upstream *u, const Csi__V1__VolumeCapability *c,
                           struct error *err);
bool fake_check_capabilities(const struct fake_upstream *u, size_t n,
                             Csi__V1__VolumeCapability *const *list, struct error *err);
/* out: "key=value " for each. */
bool fake_check_parameters(size_t n, const void *map, const char *const *known, char *out,
                           size_t size, struct error *err);

/* --- what it makes --- */

void fake_new_id(struct fake_upstream *u, const char *kind, char *out, size_t size);
bool fake_describe(const struct fake_upstream *u, struct arena *arena, const struct fake_disk *disk,
                   Csi__V1__Volume **out, struct error *err);
/* What is on the disk now: the counter of its openings. */
uint64_t fake_content(struct fake_upstream *u, const char *id);

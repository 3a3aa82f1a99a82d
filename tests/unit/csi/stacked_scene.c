/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/csi/stacked_scene.h"

#include "record/publication.h"

#include <stdio.h>

struct fake *f;
struct fake_upstream *u;
struct arena arena;
struct error err;

int scene_set_up(void **state UNUSED)
{
    f = fake_new();
    u = fake_upstream_new(f);
    arena_init(&arena, 16u << 20);
    err = (struct error)ERROR_INIT;
    return 0;
}

int scene_tear_down(void **state UNUSED)
{
    arena_wipe(&arena);
    fake_upstream_free(u);
    fake_free(f);
    return 0;
}

static char *text(const char *value)
{
    return (char *)(uintptr_t)value;
}

void *controller(const char *method, const void *request)
{
    return fake_call(f, &stacked_controller_service, method, request, &arena, &err);
}

void *group_controller(const char *method, const void *request)
{
    return fake_call(f, &stacked_group_service, method, request, &arena, &err);
}

static const char *create(const Csi__V1__CreateVolumeRequest *request)
{
    const Csi__V1__CreateVolumeResponse *response = controller("CreateVolume", request);

    return response ? response->volume->volume_id : NULL;
}

const char *scene_create(const char *name, int64_t bytes)
{
    return create(fake_create(name, bytes, fake_mount("ext4")));
}

const char *scene_create_from(const char *name, int64_t bytes, enum record_kind kind,
                              const char *source)
{
    Csi__V1__CreateVolumeRequest *request = fake_create(name, bytes, fake_mount("ext4"));

    request->volume_content_source = fake_source(kind, source);
    return create(request);
}

const char *scene_snapshot(const char *name, const char *source)
{
    Csi__V1__CreateSnapshotRequest request = CSI__V1__CREATE_SNAPSHOT_REQUEST__INIT;

    request.name = text(name);
    request.source_volume_id = text(source);
    const Csi__V1__CreateSnapshotResponse *response = controller("CreateSnapshot", &request);

    return response ? response->snapshot->snapshot_id : NULL;
}

const char *scene_group(const char *name, const char *one, const char *other)
{
    Csi__V1__CreateVolumeGroupSnapshotRequest request =
        CSI__V1__CREATE_VOLUME_GROUP_SNAPSHOT_REQUEST__INIT;
    char *sources[] = { text(one), text(other) };

    request.name = text(name);
    request.source_volume_ids = sources;
    request.n_source_volume_ids = ARRAY_LEN(sources);
    const Csi__V1__CreateVolumeGroupSnapshotResponse *response =
        group_controller("CreateVolumeGroupSnapshot", &request);

    return response ? response->group_snapshot->group_snapshot_id : NULL;
}

bool scene_delete(const char *id)
{
    Csi__V1__DeleteVolumeRequest request = CSI__V1__DELETE_VOLUME_REQUEST__INIT;

    request.volume_id = text(id);
    return controller("DeleteVolume", &request);
}

bool scene_delete_snapshot(const char *id)
{
    Csi__V1__DeleteSnapshotRequest request = CSI__V1__DELETE_SNAPSHOT_REQUEST__INIT;

    request.snapshot_id = text(id);
    return controller("DeleteSnapshot", &request);
}

bool scene_delete_group(const char *name, const char *one, const char *other)
{
    Csi__V1__DeleteVolumeGroupSnapshotRequest request =
        CSI__V1__DELETE_VOLUME_GROUP_SNAPSHOT_REQUEST__INIT;
    char *ids[] = { text(one), text(other) };

    request.group_snapshot_id = text(name);
    request.snapshot_ids = ids;
    request.n_snapshot_ids = ARRAY_LEN(ids);
    return group_controller("DeleteVolumeGroupSnapshot", &request);
}

bool scene_publish(const char *id, const char *node_id, bool read_only)
{
    Csi__V1__ControllerPublishVolumeRequest request =
        CSI__V1__CONTROLLER_PUBLISH_VOLUME_REQUEST__INIT;

    request.volume_id = text(id);
    request.node_id = text(node_id);
    request.readonly = read_only;
    request.volume_capability = fake_mount("ext4");
    return controller("ControllerPublishVolume", &request);
}

bool scene_unpublish(const char *id, const char *node_id)
{
    Csi__V1__ControllerUnpublishVolumeRequest request =
        CSI__V1__CONTROLLER_UNPUBLISH_VOLUME_REQUEST__INIT;

    request.volume_id = text(id);
    request.node_id = text(node_id);
    return controller("ControllerUnpublishVolume", &request);
}

int64_t scene_expand(const char *id, int64_t bytes)
{
    Csi__V1__ControllerExpandVolumeRequest request =
        CSI__V1__CONTROLLER_EXPAND_VOLUME_REQUEST__INIT;
    Csi__V1__CapacityRange range = CSI__V1__CAPACITY_RANGE__INIT;

    request.volume_id = text(id);
    request.capacity_range = &range;
    request.volume_capability = fake_mount("ext4");
    range.required_bytes = bytes;
    const Csi__V1__ControllerExpandVolumeResponse *response =
        controller("ControllerExpandVolume", &request);

    return response ? response->capacity_bytes : 0;
}

const struct record *scene_record(const char *id)
{
    const struct fake_record *r = fake_record(f, id);

    if (!r)
        fail_msg("%s has no record", id);
    return &r->record;
}

bool scene_is_published(const char *id, const char *node_id)
{
    return publication_of_id(&scene_record(id)->published, node_id) != PUBLICATION_NONE;
}

void scene_was_used(const char *id)
{
    struct record *r = &fake_record(f, id)->record;

    r->phase = RECORD_READY;
    r->n_header_digests = 1;
    r->header_digests[0][0] = 1;
    r->open_counter = 7;
    r->is_closed = true;
    r->version++;
}

void scene_long_id(char out[static VOLUME_ID_MAX + 2])
{
    for (size_t i = 0; i <= VOLUME_ID_MAX; i++)
        out[i] = 'x';
    out[VOLUME_ID_MAX + 1] = '\0';
}

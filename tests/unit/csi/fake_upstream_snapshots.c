/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/csi/fake_upstream_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- snapshots --- */

static bool describe_snapshot(struct arena *arena, const struct fake_snapshot *snapshot,
                              Csi__V1__Snapshot **out, struct error *err)
{
    Csi__V1__Snapshot *message = arena_alloc(arena, sizeof(*message));

    if (!message)
        return arena_exhausted(err);
    csi__v1__snapshot__init(message);
    message->snapshot_id = arena_strdup(arena, snapshot->id);
    message->source_volume_id = arena_strdup(arena, snapshot->source);
    message->group_snapshot_id = arena_strdup(arena, snapshot->group);
    message->size_bytes = snapshot->bytes;
    message->ready_to_use = true;
    *out = message;
    return (message->snapshot_id && message->source_volume_id && message->group_snapshot_id) ||
           arena_exhausted(err);
}

static struct fake_snapshot *snapshot_named(struct fake_upstream *u, const char *name)
{
    for (size_t i = 0; i < FAKE_MAX; i++)
        if (u->snapshots[i].is_present && strcmp(u->snapshots[i].name, name) == 0)
            return &u->snapshots[i];
    return NULL;
}

static bool take(struct fake_upstream *u, const char *name, const char *source, const char *group,
                 struct fake_snapshot **out, struct error *err)
{
    const struct fake_disk *disk = fake_disk(u, source);
    struct fake_snapshot *s = snapshot_named(u, name);

    if (!disk)
        return fake_not_found("volume", source, err);
    if (s && strcmp(s->source, source) != 0)
        return error_set(err, ERROR_ALREADY_EXISTS, "%s is of volume %s", name, s->source);
    *out = s;
    if (s)
        return true;
    for (s = u->snapshots; s->is_present; s++)
        if (s == &u->snapshots[FAKE_MAX - 1])
            abort();
    *s = (struct fake_snapshot){ .bytes = disk->bytes,
                                 .content = fake_content(u, source),
                                 .is_present = true };
    fake_new_id(u, "snap", s->id, sizeof(s->id));
    (void)snprintf(s->name, sizeof(s->name), "%s", name);
    (void)snprintf(s->source, sizeof(s->source), "%s", source);
    (void)snprintf(s->group, sizeof(s->group), "%s", group);
    *out = s;
    return true;
}

bool serve_create_snapshot(struct fake_upstream *u, struct rpc_call *call,
                           const Csi__V1__CreateSnapshotRequest *request,
                           Csi__V1__CreateSnapshotResponse *response, struct error *err)
{
    struct fake_snapshot *snapshot = NULL;
    char ignored[256];

    return fake_require(request->name, "name", err) &&
           fake_check_secrets(u, request->n_secrets, request->secrets, err) &&
           fake_check_parameters(request->n_parameters, request->parameters, fake_create_keys,
                                 ignored, sizeof(ignored), err) &&
           take(u, request->name, request->source_volume_id, "", &snapshot, err) &&
           (u->answers_no_volume ||
            describe_snapshot(call->arena, snapshot, &response->snapshot, err));
}

bool serve_delete_snapshot(struct fake_upstream *u, struct rpc_call *call UNUSED,
                           const Csi__V1__DeleteSnapshotRequest *request,
                           Csi__V1__DeleteSnapshotResponse *response UNUSED, struct error *err)
{
    struct fake_snapshot *snapshot = fake_snapshot(u, request->snapshot_id);

    if (!fake_check_secrets(u, request->n_secrets, request->secrets, err))
        return false;
    if (snapshot && snapshot->group[0] != '\0')
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s is of a group", snapshot->id);
    if (snapshot)
        snapshot->is_present = false;
    return true;
}

static bool is_asked_for(const struct fake_snapshot *s,
                         const Csi__V1__ListSnapshotsRequest *request)
{
    return s->is_present &&
           (request->snapshot_id[0] == '\0' || strcmp(request->snapshot_id, s->id) == 0) &&
           (request->source_volume_id[0] == '\0' ||
            strcmp(request->source_volume_id, s->source) == 0);
}

bool serve_list_snapshots(struct fake_upstream *u, struct rpc_call *call,
                          const Csi__V1__ListSnapshotsRequest *request,
                          Csi__V1__ListSnapshotsResponse *response, struct error *err)
{
    response->entries = arena_alloc(call->arena, FAKE_MAX * sizeof(*response->entries));
    for (size_t i = 0; response->entries && i < FAKE_MAX; i++) {
        Csi__V1__ListSnapshotsResponse__Entry *entry = arena_alloc(call->arena, sizeof(*entry));

        if (!is_asked_for(&u->snapshots[i], request))
            continue;
        if (!entry)
            return arena_exhausted(err);
        csi__v1__list_snapshots_response__entry__init(entry);
        if (!describe_snapshot(call->arena, &u->snapshots[i], &entry->snapshot, err))
            return false;
        response->entries[response->n_entries++] = entry;
    }
    return response->entries || arena_exhausted(err);
}

bool serve_get_snapshot(struct fake_upstream *u, struct rpc_call *call,
                        const Csi__V1__GetSnapshotRequest *request,
                        Csi__V1__GetSnapshotResponse *response, struct error *err)
{
    const struct fake_snapshot *snapshot = fake_snapshot(u, request->snapshot_id);

    return snapshot ? describe_snapshot(call->arena, snapshot, &response->snapshot, err)
                    : fake_not_found("snapshot", request->snapshot_id, err);
}

/* --- groups: a group is what its snapshots name --- */

static bool describe_group(struct fake_upstream *u, struct arena *arena, const char *id,
                           Csi__V1__VolumeGroupSnapshot **out, struct error *err)
{
    Csi__V1__VolumeGroupSnapshot *group = arena_alloc(arena, sizeof(*group));
    Csi__V1__Snapshot **list = arena_alloc(arena, FAKE_MAX * sizeof(*list));

    if (!group || !list)
        return arena_exhausted(err);
    csi__v1__volume_group_snapshot__init(group);
    group->group_snapshot_id = arena_strdup(arena, id);
    group->snapshots = list;
    group->ready_to_use = true;
    for (size_t i = 0; i < FAKE_MAX; i++)
        if (u->snapshots[i].is_present && strcmp(u->snapshots[i].group, id) == 0 &&
            !describe_snapshot(arena, &u->snapshots[i], &list[group->n_snapshots++], err))
            return false;
    *out = group;
    return group->n_snapshots > 0 || fake_not_found("group", id, err);
}

bool serve_create_group(struct fake_upstream *u, struct rpc_call *call,
                        const Csi__V1__CreateVolumeGroupSnapshotRequest *request,
                        Csi__V1__CreateVolumeGroupSnapshotResponse *response, struct error *err)
{
    char group[256], name[300];

    (void)snprintf(group, sizeof(group), "group-%s", request->name);
    for (size_t i = 0; i < request->n_source_volume_ids; i++) {
        struct fake_snapshot *snapshot = NULL;

        (void)snprintf(name, sizeof(name), "%.60s/%.60s", request->name,
                       request->source_volume_ids[i]);
        if (!take(u, name, request->source_volume_ids[i], group, &snapshot, err))
            return false;
    }
    if (!describe_group(u, call->arena, group, &response->group_snapshot, err))
        return false;
    if (u->distort_group)
        u->distort_group(response->group_snapshot);
    return true;
}

static bool group_is_gone(const struct fake_upstream *u, const char *id)
{
    for (size_t i = 0; i < FAKE_MAX; i++)
        if (u->snapshots[i].is_present && strcmp(u->snapshots[i].group, id) == 0)
            return false;
    return true;
}

/* CSI: success when the group is gone, whatever the list has. */
bool serve_delete_group(struct fake_upstream *u, struct rpc_call *call UNUSED,
                        const Csi__V1__DeleteVolumeGroupSnapshotRequest *request,
                        Csi__V1__DeleteVolumeGroupSnapshotResponse *response UNUSED,
                        struct error *err)
{
    if (group_is_gone(u, request->group_snapshot_id))
        return true;
    for (size_t i = 0; i < request->n_snapshot_ids; i++) {
        const struct fake_snapshot *s = fake_snapshot(u, request->snapshot_ids[i]);

        if (s && strcmp(s->group, request->group_snapshot_id) != 0)
            return error_set(err, ERROR_INVALID_ARGUMENT, "%s is not of the group", s->id);
    }
    for (size_t i = 0; i < FAKE_MAX; i++)
        if (u->snapshots[i].is_present &&
            strcmp(u->snapshots[i].group, request->group_snapshot_id) == 0)
            u->snapshots[i].is_present = false;
    return true;
}

bool serve_get_group(struct fake_upstream *u, struct rpc_call *call,
                     const Csi__V1__GetVolumeGroupSnapshotRequest *request,
                     Csi__V1__GetVolumeGroupSnapshotResponse *response, struct error *err)
{
    return describe_group(u, call->arena, request->group_snapshot_id, &response->group_snapshot,
                          err);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/stacked_group.h"
#include "upstream/upstream.h"

#include <assert.h>
#include <string.h>

/* As far as it is known before the driver is asked. */
static struct keys_copy copy_of(const Csi__V1__CreateVolumeGroupSnapshotRequest *request)
{
    return (struct keys_copy){ .kind = RECORD_SNAPSHOT, .name = request->name };
}

static bool end_copies(const struct plugin *plugin, const struct rpc_call *call,
                       const Csi__V1__CreateVolumeGroupSnapshotRequest *request, struct error *err)
{
    const struct keys_copy copy = copy_of(request);

    for (size_t i = 0; i < request->n_source_volume_ids; i++)
        if (!stacked_end_copy(plugin, call, request->source_volume_ids[i], &copy, err))
            return false;
    return true;
}

static bool find_sources(const struct plugin *plugin, struct rpc_call *call,
                         const Csi__V1__CreateVolumeGroupSnapshotRequest *request,
                         struct record **out, struct error *err)
{
    struct record *sources =
        arena_alloc(call->arena, request->n_source_volume_ids * sizeof(*sources));

    const struct keys_copy copy = copy_of(request);

    if (!sources)
        return arena_exhausted(err);
    for (size_t i = 0; i < request->n_source_volume_ids; i++)
        if (!stacked_begin_copy(plugin, call, RECORD_VOLUME, request->source_volume_ids[i], &copy,
                                &sources[i], err))
            return error_wrap(err, "source_volume_ids");
    *out = sources;
    return true;
}

static const struct record *source_of(const struct record *sources, size_t n, const char *id)
{
    for (size_t i = 0; sources && i < n; i++)
        if (strcmp(sources[i].volume_id, id) == 0)
            return &sources[i];
    return NULL;
}

static bool make_deletion(struct rpc_call *call,
                          const Csi__V1__CreateVolumeGroupSnapshotRequest *request,
                          const Csi__V1__VolumeGroupSnapshot *group,
                          Csi__V1__DeleteVolumeGroupSnapshotRequest *out, struct error *err)
{
    csi__v1__delete_volume_group_snapshot_request__init(out);
    out->group_snapshot_id = group->group_snapshot_id;
    out->snapshot_ids = arena_alloc(call->arena, (group->n_snapshots + 1) * sizeof(char *));
    if (!out->snapshot_ids)
        return arena_exhausted(err);
    for (size_t i = 0; i < group->n_snapshots; i++)
        out->snapshot_ids[out->n_snapshot_ids++] = group->snapshots[i]->snapshot_id;
    out->n_secrets = request->n_secrets;
    out->secrets = (void *)request->secrets;
    return true;
}

/* Another controller may record the group while this one marks what it found. */
static bool check_no_more(const struct plugin *plugin, struct rpc_call *call,
                          const Csi__V1__DeleteVolumeGroupSnapshotRequest *below,
                          const struct stacked_ours *ours, struct error *err)
{
    struct stacked_ours now = { .n = 0 };

    if (!stacked_group_find(plugin, call, below->snapshot_ids, below->n_snapshot_ids, &now, err))
        return stacked_group_unmark(plugin, call, ours, err);
    if (now.n == ours->n)
        return true;
    error_set(err, ERROR_ABORTED, "another call made a record of its snapshots meanwhile");
    return stacked_group_unmark(plugin, call, ours, err);
}

/* No group with a snapshot that has no record was ever answered with, so nobody uses its other
 * snapshots. Always false, with the error of the call; *is_left becomes false when nothing is left. */
static bool drop_group(const struct plugin *plugin, struct rpc_call *call,
                       const Csi__V1__CreateVolumeGroupSnapshotRequest *request,
                       const Csi__V1__VolumeGroupSnapshot *group, bool *is_left, struct error *err)
{
    Csi__V1__DeleteVolumeGroupSnapshotRequest below;
    struct error problem = ERROR_INIT;
    struct stacked_ours ours = { .n = 0 };
    bool found =
        make_deletion(call, request, group, &below, &problem) &&
        stacked_group_find(plugin, call, below.snapshot_ids, below.n_snapshot_ids, &ours, &problem);

    if (found && ours.n == group->n_snapshots) /* a second controller was faster */
        return false;
    if (!found || !stacked_group_mark(plugin, call, &ours, &problem) ||
        !check_no_more(plugin, call, &below, &ours, &problem) ||
        !stacked_group_delete(plugin, call, &below, &ours, &problem) ||
        !end_copies(plugin, call, request, &problem))
        return error_wrap(err, "it could not be removed (%s)", problem.text);
    *is_left = false;
    return false;
}

static bool refuse_record(void *cookie UNUSED, const struct record *record, struct error *err)
{
    return error_set(err, ERROR_ABORTED, "%s has a record", record->volume_id);
}

/* An id that is too long for a record has none. */
static bool check_free(const struct plugin *plugin, struct rpc_call *call,
                       const Csi__V1__VolumeGroupSnapshot *group, struct error *err)
{
    const char **ids = arena_alloc(call->arena, (group->n_snapshots + 1) * sizeof(*ids));
    size_t n = 0;

    if (!ids)
        return arena_exhausted(err);
    for (size_t i = 0; i < group->n_snapshots; i++) {
        const char *id = group->snapshots[i]->snapshot_id;

        if (id[0] != '\0' && strlen(id) <= VOLUME_ID_MAX)
            ids[n++] = id;
    }
    return plugin->keys->ops->find(plugin->keys, plugin_operation(call), ids, n, refuse_record,
                                   NULL, err);
}

/* The same for an answer that is refused. What has a record stays: the driver may name snapshots that are
 * not of this group. */
static bool drop_refused(const struct plugin *plugin, struct rpc_call *call,
                         const Csi__V1__CreateVolumeGroupSnapshotRequest *request,
                         const Csi__V1__VolumeGroupSnapshot *group, bool *is_left,
                         struct error *err)
{
    Csi__V1__DeleteVolumeGroupSnapshotRequest below;
    Csi__V1__DeleteVolumeGroupSnapshotResponse *answer = NULL;
    struct error problem = ERROR_INIT;

    if (!make_deletion(call, request, group, &below, &problem) ||
        !check_free(plugin, call, group, &problem) ||
        (!stacked_group_ask(plugin, call, "DeleteVolumeGroupSnapshot", &below, &answer, &problem) &&
         problem.code != ERROR_NOT_FOUND) ||
        !end_copies(plugin, call, request, &problem))
        return error_wrap(err, "it could not be removed (%s)", problem.text);
    *is_left = false;
    return false;
}

static size_t count_of_source(const Csi__V1__VolumeGroupSnapshot *group, const char *source_id)
{
    size_t n = 0;

    for (size_t i = 0; i < group->n_snapshots; i++)
        n += strcmp(group->snapshots[i]->source_volume_id, source_id) == 0;
    return n;
}

static size_t count_of_id(const Csi__V1__VolumeGroupSnapshot *group, const char *id)
{
    size_t n = 0;

    for (size_t i = 0; i < group->n_snapshots; i++)
        n += strcmp(group->snapshots[i]->snapshot_id, id) == 0;
    return n;
}

/* One snapshot of each volume that was asked for, and none of others. Both loops are short: there are no
 * more snapshots than volumes. */
static bool check_answer(const struct plugin *plugin,
                         const Csi__V1__CreateVolumeGroupSnapshotRequest *request,
                         const struct record *sources, const Csi__V1__VolumeGroupSnapshot *group,
                         struct error *err)
{
    const char *name = upstream_name(plugin->upstream);

    if (group->n_snapshots > request->n_source_volume_ids)
        return error_set(err, ERROR_INTERNAL, "%s answers with %zu snapshots of %zu volumes", name,
                         group->n_snapshots, request->n_source_volume_ids);
    for (size_t i = 0; i < group->n_snapshots; i++) {
        const Csi__V1__Snapshot *snapshot = group->snapshots[i];

        if (!stacked_check_id(plugin, snapshot->snapshot_id, err))
            return false;
        if (count_of_id(group, snapshot->snapshot_id) != 1)
            return error_set(err, ERROR_INTERNAL, "%s answers twice with snapshot %s", name,
                             snapshot->snapshot_id);
        if (!source_of(sources, request->n_source_volume_ids, snapshot->source_volume_id))
            return error_set(err, ERROR_INTERNAL, "%s answers with a snapshot of volume %s", name,
                             snapshot->source_volume_id);
    }
    for (size_t i = 0; i < request->n_source_volume_ids; i++) {
        size_t n = count_of_source(group, request->source_volume_ids[i]);

        if (n != 1)
            return error_set(err, ERROR_INTERNAL, "%s answers with %zu snapshots of volume %s",
                             name, n, request->source_volume_ids[i]);
    }
    return true;
}

/* One snapshot that the driver took. */
struct taken_snapshot {
    const struct record *source;
    bool has_record, is_deleting;
};

static bool check_same(const struct record *record, const struct record *source, struct error *err)
{
    return (record->kind == RECORD_SNAPSHOT &&
            strcmp(record->source_volume_id, source->volume_id) == 0) ||
           error_set(err, ERROR_ALREADY_EXISTS, "%s exists, but is no snapshot of volume %s",
                     record->volume_id, source->volume_id);
}

static bool find_member(const struct plugin *plugin, struct rpc_call *call,
                        Csi__V1__Snapshot *snapshot, struct taken_snapshot *member,
                        struct error *err)
{
    struct record record;

    if (!plugin->keys->ops->get(plugin->keys, plugin_operation(call), snapshot->snapshot_id, NULL,
                                &record, err))
        return err->code == ERROR_NOT_FOUND;
    snapshot->size_bytes = (int64_t)record.spec.size_bytes;
    member->has_record = true;
    member->is_deleting = record.phase == RECORD_DELETING;
    return check_same(&record, member->source, err);
}

static bool find_members(const struct plugin *plugin, struct rpc_call *call,
                         const Csi__V1__CreateVolumeGroupSnapshotRequest *request,
                         const struct record *sources, const Csi__V1__VolumeGroupSnapshot *group,
                         struct taken_snapshot **out, struct error *err)
{
    struct taken_snapshot *members =
        arena_alloc(call->arena, (group->n_snapshots + 1) * sizeof(*members));

    if (!members)
        return arena_exhausted(err);
    for (size_t i = 0; i < group->n_snapshots; i++) {
        Csi__V1__Snapshot *snapshot = group->snapshots[i];

        members[i] =
            (struct taken_snapshot){ .source = source_of(sources, request->n_source_volume_ids,
                                                         snapshot->source_volume_id) };
        if (!find_member(plugin, call, snapshot, &members[i], err))
            return false;
    }
    *out = members;
    return true;
}

/* A deletion that was begun goes on by itself. Only when the group was never answered with, its deletion
 * was begun here, for a source that had changed: nobody else will end it. */
static bool check_no_deletion(const struct plugin *plugin, struct rpc_call *call,
                              const Csi__V1__CreateVolumeGroupSnapshotRequest *request,
                              const Csi__V1__VolumeGroupSnapshot *group,
                              const struct taken_snapshot *members, bool *is_left,
                              struct error *err)
{
    const char *deleting = NULL;
    bool is_complete = true;

    for (size_t i = 0; i < group->n_snapshots; i++) {
        is_complete = is_complete && members[i].has_record;
        if (members[i].is_deleting)
            deleting = group->snapshots[i]->snapshot_id;
    }
    if (!deleting)
        return true;
    error_set(err, ERROR_ABORTED, "snapshot %s is being deleted; retry", deleting);
    return !is_complete && drop_group(plugin, call, request, group, is_left, err);
}

static bool record_all(const struct plugin *plugin, struct rpc_call *call,
                       const Csi__V1__CreateVolumeGroupSnapshotRequest *request,
                       const struct record *sources, Csi__V1__VolumeGroupSnapshot *group,
                       bool *is_left, struct error *err)
{
    struct taken_snapshot *members = NULL;
    struct keys_copy copy = copy_of(request);
    struct record record;

    if (!check_answer(plugin, request, sources, group, err))
        return drop_refused(plugin, call, request, group, is_left, err);
    if (!find_members(plugin, call, request, sources, group, &members, err))
        return false;
    assert(members);
    if (!check_no_deletion(plugin, call, request, group, members, is_left, err))
        return false;
    for (size_t i = 0; i < group->n_snapshots; i++) {
        copy.source = members[i].source;
        copy.id = group->snapshots[i]->snapshot_id;
        if (members[i].has_record) {
            if (!stacked_end_copy(plugin, call, copy.source->volume_id, &copy, err))
                return false;
            continue;
        }
        if (!plugin->keys->ops->copy(plugin->keys, plugin_operation(call), &copy, &record, err))
            return stacked_has_decided(err, DECIDED_NO_RECORD) &&
                   drop_group(plugin, call, request, group, is_left, err);
        group->snapshots[i]->size_bytes = (int64_t)record.spec.size_bytes;
    }
    return true;
}

bool stacked_create_group(struct plugin *plugin, struct rpc_call *call,
                          const Csi__V1__CreateVolumeGroupSnapshotRequest *request,
                          Csi__V1__CreateVolumeGroupSnapshotResponse *response, struct error *err)
{
    auto_inflight struct inflight_hold hold = INFLIGHT_HOLD_INIT;
    const struct stacked_map given = { request->n_parameters, request->parameters };
    Csi__V1__CreateVolumeGroupSnapshotResponse *answer = NULL;
    struct stacked_map ignored;
    struct record *sources = NULL;

    if (!plugin_require(request->name, "name", err) ||
        !stacked_take_parameters(call->arena, given, NULL, &ignored, err))
        return false;
    if (request->n_source_volume_ids == 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "source_volume_ids is missing");
    if (!plugin_take(plugin, call, request->name, &hold, err) ||
        !find_sources(plugin, call, request, &sources, err) ||
        !stacked_group_ask(plugin, call, "CreateVolumeGroupSnapshot", request, &answer, err))
        return false;
    if (!answer->group_snapshot)
        return error_set(err, ERROR_INTERNAL, "%s answers without a group snapshot",
                         upstream_name(plugin->upstream));
    bool is_left = true; /* something, at the driver */

    *response = *answer;
    if (record_all(plugin, call, request, sources, answer->group_snapshot, &is_left, err))
        return true;
    if (is_left)
        stacked_keep(err);
    return error_wrap(err, "group %s", answer->group_snapshot->group_snapshot_id);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/controller.h"
#include "csi/topology.h"
#include "plugin/volume_id.h"

#include <string.h>

/* Without max_entries, one answer holds all entries, as far as they fit into gRPC's 4 MiB. */
#define ENTRIES_MAX 8000u
#define PAGE_MAX    500u

static bool copy_source(struct arena *arena, const struct record *record, Csi__V1__Volume *volume,
                        struct error *err)
{
    char *id = arena_strdup(arena, record->source_volume_id);
    Csi__V1__VolumeContentSource *source =
        PLUGIN_MESSAGE(arena, Csi__V1__VolumeContentSource, csi__v1__volume_content_source__init);

    if (!id || !source)
        return arena_exhausted(err);
    if (volume_id_is(VOLUME_ID_SNAPSHOT, record->source_volume_id)) {
        source->snapshot = PLUGIN_MESSAGE(arena, Csi__V1__VolumeContentSource__SnapshotSource,
                                          csi__v1__volume_content_source__snapshot_source__init);
        source->type_case = CSI__V1__VOLUME_CONTENT_SOURCE__TYPE_SNAPSHOT;
        if (!source->snapshot)
            return arena_exhausted(err);
        source->snapshot->snapshot_id = id;
    } else {
        source->volume = PLUGIN_MESSAGE(arena, Csi__V1__VolumeContentSource__VolumeSource,
                                        csi__v1__volume_content_source__volume_source__init);
        source->type_case = CSI__V1__VOLUME_CONTENT_SOURCE__TYPE_VOLUME;
        if (!source->volume)
            return arena_exhausted(err);
        source->volume->volume_id = id;
    }
    volume->content_source = source;
    return true;
}

bool controller_volume(const struct plugin *plugin, struct arena *arena,
                       const struct record *record, Csi__V1__Volume **out, struct error *err)
{
    Csi__V1__Volume *volume = PLUGIN_MESSAGE(arena, Csi__V1__Volume, csi__v1__volume__init);
    Csi__V1__Topology **topology = arena_alloc(arena, sizeof(*topology));

    if (!volume || !topology)
        return arena_exhausted(err);
    volume->capacity_bytes = (int64_t)record->spec.size_bytes;
    volume->volume_id = arena_strdup(arena, record->volume_id);
    topology[0] = topology_of_volume(plugin, record->spec.location, arena);
    if (!volume->volume_id || !topology[0])
        return arena_exhausted(err);
    volume->accessible_topology = topology;
    volume->n_accessible_topology = record->spec.location[0] != '\0'; /* else: on all nodes */
    if (record->source_volume_id[0] != '\0' && !copy_source(arena, record, volume, err))
        return false;
    *out = volume;
    return true;
}

bool controller_snapshot(struct arena *arena, const struct record *record, Csi__V1__Snapshot **out,
                         struct error *err)
{
    Csi__V1__Snapshot *snapshot = PLUGIN_MESSAGE(arena, Csi__V1__Snapshot, csi__v1__snapshot__init);
    Google__Protobuf__Timestamp *created =
        PLUGIN_MESSAGE(arena, Google__Protobuf__Timestamp, google__protobuf__timestamp__init);

    if (!snapshot || !created)
        return arena_exhausted(err);
    created->seconds = (int64_t)(record->created_ms / 1000);
    created->nanos = (int32_t)(record->created_ms % 1000) * 1000000;
    snapshot->creation_time = created;
    snapshot->size_bytes = (int64_t)record->spec.size_bytes;
    snapshot->snapshot_id = arena_strdup(arena, record->volume_id);
    snapshot->source_volume_id = arena_strdup(arena, record->source_volume_id);
    snapshot->ready_to_use = true;
    *out = snapshot;
    return (snapshot->snapshot_id && snapshot->source_volume_id) || arena_exhausted(err);
}

/* A listing, put together from pages of the broker. */
struct listing {
    const struct plugin *plugin;
    struct arena *arena;
    enum record_kind kind;
    void **entries; /* grows by doubling; the old arrays stay in the arena */
    size_t n, room;
};

/* Where the next entry goes; NULL when the arena is exhausted. */
static void **next_entry(struct listing *l, struct error *err)
{
    if (l->entries && l->n < l->room)
        return &l->entries[l->n];
    size_t room = l->room > 0 ? 2 * l->room : 16;
    void **entries = arena_alloc(l->arena, room * sizeof(*entries));

    if (!entries) {
        arena_exhausted(err);
        return NULL;
    }
    if (l->n > 0)
        memcpy(entries, l->entries, l->n * sizeof(*entries));
    l->entries = entries;
    l->room = room;
    return &entries[l->n];
}

static void *volume_entry(struct listing *l, const struct record *record, struct error *err)
{
    Csi__V1__ListVolumesResponse__Entry *entry = PLUGIN_MESSAGE(
        l->arena, Csi__V1__ListVolumesResponse__Entry, csi__v1__list_volumes_response__entry__init);

    if (!entry && !arena_exhausted(err))
        return NULL;
    return controller_volume(l->plugin, l->arena, record, &entry->volume, err) ? entry : NULL;
}

static void *snapshot_entry(struct listing *l, const struct record *record, struct error *err)
{
    Csi__V1__ListSnapshotsResponse__Entry *entry =
        PLUGIN_MESSAGE(l->arena, Csi__V1__ListSnapshotsResponse__Entry,
                       csi__v1__list_snapshots_response__entry__init);

    if (!entry && !arena_exhausted(err))
        return NULL;
    return controller_snapshot(l->arena, record, &entry->snapshot, err) ? entry : NULL;
}

static bool add_record(void *cookie, const struct record *record, struct error *err)
{
    struct listing *l = cookie;
    void **slot = next_entry(l, err);

    if (!slot)
        return false;
    *slot =
        l->kind == RECORD_VOLUME ? volume_entry(l, record, err) : snapshot_entry(l, record, err);
    l->n += *slot != NULL;
    return *slot != NULL;
}

/* max_entries 0: all entries after the token. */
static bool list_all(struct listing *l, struct rpc_call *call, int32_t max_entries,
                     const char *token, const char *source_id, char **out_next, struct error *err)
{
    char next[KEYS_TOKEN_MAX + 1];
    uint32_t limit = max_entries > 0 ? (uint32_t)max_entries : ENTRIES_MAX;

    if (max_entries < 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "max_entries is negative");
    if (strlen(token) > KEYS_TOKEN_MAX)
        return error_set(err, ERROR_ABORTED, "starting_token is not one of ours");
    memcpy(next, token, strlen(token) + 1);
    do {
        uint32_t left = limit - (uint32_t)l->n;
        const struct keys_list list = { .kind = l->kind,
                                        .source_id = source_id,
                                        .page_size = left < PAGE_MAX ? left : PAGE_MAX,
                                        .token = next,
                                        .each = add_record,
                                        .cookie = l };

        if (!l->plugin->keys->ops->list(l->plugin->keys, plugin_operation(call), &list, next, err))
            return false;
    } while (next[0] != '\0' && l->n < limit);
    *out_next = arena_strdup(call->arena, next);
    return *out_next || arena_exhausted(err);
}

bool controller_list_volumes(struct plugin *plugin, struct rpc_call *call,
                             const Csi__V1__ListVolumesRequest *request,
                             Csi__V1__ListVolumesResponse *response, struct error *err)
{
    struct listing l = { .plugin = plugin, .arena = call->arena, .kind = RECORD_VOLUME };

    if (!list_all(&l, call, request->max_entries, request->starting_token, "",
                  &response->next_token, err))
        return false;
    response->entries = (Csi__V1__ListVolumesResponse__Entry **)l.entries;
    response->n_entries = l.n;
    return true;
}

/* CSI ListSnapshots: an unknown id is an empty list. */
static bool list_one(struct listing *l, struct rpc_call *call, const char *id,
                     const char *source_id, struct error *err)
{
    struct record record;

    if (!plugin_find(l->plugin, call, RECORD_SNAPSHOT, id, &record, err))
        return err->code == ERROR_NOT_FOUND;
    if (source_id[0] != '\0' && strcmp(record.source_volume_id, source_id) != 0)
        return true;
    return add_record(l, &record, err);
}

bool controller_list_snapshots(struct plugin *plugin, struct rpc_call *call,
                               const Csi__V1__ListSnapshotsRequest *request,
                               Csi__V1__ListSnapshotsResponse *response, struct error *err)
{
    struct listing l = { .plugin = plugin, .arena = call->arena, .kind = RECORD_SNAPSHOT };
    const char *id = request->snapshot_id, *source_id = request->source_volume_id;
    bool is_impossible = source_id[0] != '\0' && !volume_id_is(VOLUME_ID_VOLUME, source_id);

    if (is_impossible)
        return true;
    if (!(id[0] != '\0' ? list_one(&l, call, id, source_id, err)
                        : list_all(&l, call, request->max_entries, request->starting_token,
                                   source_id, &response->next_token, err)))
        return false;
    response->entries = (Csi__V1__ListSnapshotsResponse__Entry **)l.entries;
    response->n_entries = l.n;
    return true;
}

/* --- health --- */

bool controller_health(struct arena *arena, const struct health_report *report,
                       Csi__V1__VolumeHealth **out, struct error *err)
{
    Csi__V1__VolumeHealth *health =
        PLUGIN_MESSAGE(arena, Csi__V1__VolumeHealth, csi__v1__volume_health__init);
    Csi__V1__VolumeHealth__VolumeHealthEntry **list =
        arena_alloc(arena, (report->n + 1) * sizeof(*list));

    if (!health || !list)
        return arena_exhausted(err);
    health->volume_id = arena_strdup(arena, report->volume_id);
    for (size_t i = 0; i < report->n; i++) {
        Csi__V1__VolumeHealth__VolumeHealthEntry *entry =
            PLUGIN_MESSAGE(arena, Csi__V1__VolumeHealth__VolumeHealthEntry,
                           csi__v1__volume_health__volume_health_entry__init);

        if (!entry)
            return arena_exhausted(err);
        entry->status = (Csi__V1__VolumeHealthErrorType)report->entries[i].status;
        entry->reason = arena_strdup(arena, report->entries[i].reason);
        entry->message = arena_strdup(arena, report->entries[i].message);
        if (!entry->reason || !entry->message)
            return arena_exhausted(err);
        list[i] = entry;
    }
    health->health_statuses = list;
    health->n_health_statuses = report->n;
    *out = health;
    return health->volume_id || arena_exhausted(err);
}

bool controller_get_volume_health(struct plugin *plugin, struct rpc_call *call,
                                  const Csi__V1__ControllerGetVolumeHealthRequest *request,
                                  Csi__V1__ControllerGetVolumeHealthResponse *response,
                                  struct error *err)
{
    struct record record;
    struct health_report report;

    if (!plugin_require(request->volume_id, "volume_id", err) ||
        !plugin_find(plugin, call, RECORD_VOLUME, request->volume_id, &record, err) ||
        !topology_check_location(plugin, &record, ERROR_FAILED_PRECONDITION, err))
        return false;
    health_get(plugin->health, request->volume_id, &report);
    return controller_health(call->arena, &report, &response->volume_health, err);
}

/* The token is the last id of the page before. Only volumes that are not healthy appear. */
bool controller_list_volume_health(struct plugin *plugin, struct rpc_call *call,
                                   const Csi__V1__ControllerListVolumeHealthRequest *request,
                                   Csi__V1__ControllerListVolumeHealthResponse *response,
                                   struct error *err)
{
    struct listing l = { .plugin = plugin, .arena = call->arena };
    size_t limit = request->max_entries > 0 ? (size_t)request->max_entries : ENTRIES_MAX;
    const char *token = request->starting_token;
    struct health_report report = { .volume_id = "" };
    Csi__V1__VolumeHealth *last = NULL;

    if (request->max_entries < 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "max_entries is negative");
    if (token[0] != '\0' && !volume_id_is(VOLUME_ID_VOLUME, token))
        return error_set(err, ERROR_ABORTED, "starting_token is not one of ours");
    bool more = health_next(plugin->health, token, &report);
    for (; more && l.n < limit; more = health_next(plugin->health, report.volume_id, &report)) {
        if (report.n == 0)
            continue;
        void **slot = next_entry(&l, err);
        if (!slot || !controller_health(call->arena, &report, &last, err))
            return false;
        *slot = last;
        l.n++;
    }
    response->entries = (Csi__V1__VolumeHealth **)l.entries;
    response->n_entries = l.n;
    if (more && last)
        response->next_token = last->volume_id;
    return true;
}

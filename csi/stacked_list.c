/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/stacked.h"
#include "record/publication.h"
#include "upstream/upstream.h"

#include <stdlib.h>
#include <string.h>

/* The driver's listings, with what it has of ours alone: other volumes of the cloud are none of this
 * driver. A page may so have fewer entries than were asked for, or none. */

/* One entry of the driver, and whether its record was found. */
struct row {
    const char *id;
    Csi__V1__Volume *volume;     /* or NULL */
    Csi__V1__Snapshot *snapshot; /* or NULL */
    size_t n_nodes;
    char **nodes; /* that have it published, by the driver's names */
    bool is_ours;
};

struct listed {
    struct arena *arena;
    enum record_kind kind;
    struct row *rows; /* sorted by their id */
    size_t n;
};

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct row *)a)->id, ((const struct row *)b)->id);
}

/* The name under which the node has the volume published here. One that the broker does not know keeps
 * the driver's name. */
static char *our_name(const struct record *record, char *below, struct arena *arena)
{
    char node_id[NODE_ID_MAX + 1];
    enum publication mode;

    for (size_t at = 0; publication_next(&record->published, &at, node_id, &mode);)
        if (strcmp(node_id_below(node_id), below) == 0)
            return arena_strdup(arena, node_id);
    return below;
}

static bool take_record(void *cookie, const struct record *record, struct error *err)
{
    const struct listed *page = cookie;
    const struct row wanted = { .id = record->volume_id };
    struct row *row = bsearch(&wanted, page->rows, page->n, sizeof(*row), compare);

    if (!row || record->kind != page->kind)
        return true;
    row->is_ours = true;
    if (row->volume)
        row->volume->capacity_bytes = (int64_t)record->spec.size_bytes;
    if (row->snapshot)
        row->snapshot->size_bytes = (int64_t)record->spec.size_bytes;
    for (size_t i = 0; i < row->n_nodes; i++) {
        row->nodes[i] = our_name(record, row->nodes[i], page->arena);
        if (!row->nodes[i])
            return arena_exhausted(err);
    }
    return true;
}

static bool find_records(const struct plugin *plugin, struct rpc_call *call, struct listed *page,
                         struct error *err)
{
    const char **ids = arena_alloc(call->arena, (page->n + 1) * sizeof(*ids));

    if (!ids)
        return arena_exhausted(err);
    if (page->n > 0)
        qsort(page->rows, page->n, sizeof(*page->rows), compare);
    for (size_t i = 0; i < page->n; i++)
        ids[i] = page->rows[i].id;
    return plugin->keys->ops->find(plugin->keys, plugin_operation(call), ids, page->n, take_record,
                                   page, err);
}

static bool is_ours(const struct listed *page, const char *id)
{
    const struct row wanted = { .id = id };
    const struct row *row = bsearch(&wanted, page->rows, page->n, sizeof(*row), compare);

    return row && row->is_ours;
}

static bool start_page(struct listed *page, size_t n, struct error *err)
{
    page->rows = arena_alloc(page->arena, (n + 1) * sizeof(*page->rows));
    return page->rows || arena_exhausted(err);
}

bool stacked_list_volumes(struct plugin *plugin, struct rpc_call *call,
                          const Csi__V1__ListVolumesRequest *request,
                          Csi__V1__ListVolumesResponse *response, struct error *err)
{
    struct listed page = { .arena = call->arena, .kind = RECORD_VOLUME };
    Csi__V1__ListVolumesResponse *answer = NULL;

    if (!stacked_ask(plugin, call, "ListVolumes", request, &answer, err) ||
        !start_page(&page, answer->n_entries, err))
        return false;
    for (size_t i = 0; i < answer->n_entries; i++) {
        const Csi__V1__ListVolumesResponse__Entry *entry = answer->entries[i];

        if (entry->volume && strlen(entry->volume->volume_id) <= VOLUME_ID_MAX)
            page.rows[page.n++] = (struct row){
                .id = entry->volume->volume_id,
                .volume = entry->volume,
                .n_nodes = entry->status ? entry->status->n_published_node_ids : 0,
                .nodes = entry->status ? entry->status->published_node_ids : NULL,
            };
    }
    if (!find_records(plugin, call, &page, err))
        return false;
    *response = *answer;
    response->n_entries = 0;
    for (size_t i = 0; i < answer->n_entries; i++)
        if (answer->entries[i]->volume && is_ours(&page, answer->entries[i]->volume->volume_id))
            response->entries[response->n_entries++] = answer->entries[i];
    return true;
}

bool stacked_list_snapshots(struct plugin *plugin, struct rpc_call *call,
                            const Csi__V1__ListSnapshotsRequest *request,
                            Csi__V1__ListSnapshotsResponse *response, struct error *err)
{
    struct listed page = { .arena = call->arena, .kind = RECORD_SNAPSHOT };
    Csi__V1__ListSnapshotsResponse *answer = NULL;

    if (!stacked_ask(plugin, call, "ListSnapshots", request, &answer, err) ||
        !start_page(&page, answer->n_entries, err))
        return false;
    for (size_t i = 0; i < answer->n_entries; i++) {
        Csi__V1__Snapshot *snapshot = answer->entries[i]->snapshot;

        if (snapshot && strlen(snapshot->snapshot_id) <= VOLUME_ID_MAX)
            page.rows[page.n++] = (struct row){ .id = snapshot->snapshot_id, .snapshot = snapshot };
    }
    if (!find_records(plugin, call, &page, err))
        return false;
    *response = *answer;
    response->n_entries = 0;
    for (size_t i = 0; i < answer->n_entries; i++)
        if (answer->entries[i]->snapshot &&
            is_ours(&page, answer->entries[i]->snapshot->snapshot_id))
            response->entries[response->n_entries++] = answer->entries[i];
    return true;
}

bool stacked_get_volume(struct plugin *plugin, struct rpc_call *call,
                        const Csi__V1__ControllerGetVolumeRequest *request,
                        Csi__V1__ControllerGetVolumeResponse *response, struct error *err)
{
    Csi__V1__ControllerGetVolumeResponse *answer = NULL;
    struct record record;

    if (!plugin_require(request->volume_id, "volume_id", err) ||
        !stacked_find(plugin, call, RECORD_VOLUME, request->volume_id, &record, err) ||
        !stacked_ask(plugin, call, "ControllerGetVolume", request, &answer, err))
        return false;
    struct row row = { .id = record.volume_id,
                       .volume = answer->volume,
                       .n_nodes = answer->status ? answer->status->n_published_node_ids : 0,
                       .nodes = answer->status ? answer->status->published_node_ids : NULL };
    struct listed page = { .arena = call->arena, .kind = RECORD_VOLUME, .rows = &row, .n = 1 };

    *response = *answer;
    return take_record(&page, &record, err);
}

/* --- health --- */

bool stacked_list_volume_health(struct plugin *plugin, struct rpc_call *call,
                                const Csi__V1__ControllerListVolumeHealthRequest *request,
                                Csi__V1__ControllerListVolumeHealthResponse *response,
                                struct error *err)
{
    struct listed page = { .arena = call->arena, .kind = RECORD_VOLUME };
    Csi__V1__ControllerListVolumeHealthResponse *answer = NULL;

    if (!stacked_ask(plugin, call, "ControllerListVolumeHealth", request, &answer, err) ||
        !start_page(&page, answer->n_entries, err))
        return false;
    for (size_t i = 0; i < answer->n_entries; i++)
        if (strlen(answer->entries[i]->volume_id) <= VOLUME_ID_MAX)
            page.rows[page.n++] = (struct row){ .id = answer->entries[i]->volume_id };
    if (!find_records(plugin, call, &page, err))
        return false;
    *response = *answer;
    response->n_entries = 0;
    for (size_t i = 0; i < answer->n_entries; i++)
        if (is_ours(&page, answer->entries[i]->volume_id))
            response->entries[response->n_entries++] = answer->entries[i];
    return true;
}

bool stacked_get_volume_health(struct plugin *plugin, struct rpc_call *call,
                               const Csi__V1__ControllerGetVolumeHealthRequest *request,
                               Csi__V1__ControllerGetVolumeHealthResponse *response,
                               struct error *err)
{
    Csi__V1__ControllerGetVolumeHealthResponse *answer = NULL;
    struct record record;

    if (!plugin_require(request->volume_id, "volume_id", err) ||
        !stacked_find(plugin, call, RECORD_VOLUME, request->volume_id, &record, err) ||
        !stacked_ask(plugin, call, "ControllerGetVolumeHealth", request, &answer, err))
        return false;
    *response = *answer;
    return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "tests/unit/csi/fake_upstream_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- volumes --- */

static bool add_topology(struct arena *arena, Csi__V1__Volume *out)
{
    Csi__V1__Topology **list = arena_alloc(arena, sizeof(*list));
    Csi__V1__Topology *topology = arena_alloc(arena, sizeof(*topology));
    Csi__V1__Topology__SegmentsEntry **segments = arena_alloc(arena, sizeof(*segments));
    Csi__V1__Topology__SegmentsEntry *segment = arena_alloc(arena, sizeof(*segment));
    static char key[] = "below.example/zone", value[] = "zone-a";

    if (!list || !topology || !segments || !segment)
        return false;
    csi__v1__topology__init(topology);
    csi__v1__topology__segments_entry__init(segment);
    segment->key = key;
    segment->value = value;
    segments[0] = segment;
    topology->segments = segments;
    topology->n_segments = 1;
    list[0] = topology;
    out->accessible_topology = list;
    out->n_accessible_topology = 1;
    return true;
}

bool fake_describe(const struct fake_upstream *u, struct arena *arena, const struct fake_disk *disk,
                   Csi__V1__Volume **out, struct error *err)
{
    Csi__V1__Volume *volume = arena_alloc(arena, sizeof(*volume));
    Csi__V1__Volume__VolumeContextEntry **list = arena_alloc(arena, sizeof(*list));
    Csi__V1__Volume__VolumeContextEntry *entry = arena_alloc(arena, sizeof(*entry));
    static char key[] = "below", value[] = "context";

    if (!volume || !list || !entry)
        return arena_exhausted(err);
    csi__v1__volume__init(volume);
    csi__v1__volume__volume_context_entry__init(entry);
    entry->key = key;
    entry->value = value;
    list[0] = entry;
    volume->volume_context = list;
    volume->n_volume_context = 1;
    volume->volume_id = arena_strdup(arena, disk->id);
    volume->capacity_bytes = u->claims_bytes != 0 ? u->claims_bytes : disk->bytes;
    *out = volume;
    return (volume->volume_id && add_topology(arena, volume)) || arena_exhausted(err);
}

/* Another name of the source than the caller's. */
static bool describe_source(struct arena *arena, const struct fake_disk *disk,
                            Csi__V1__Volume *volume)
{
    Csi__V1__VolumeContentSource *source = arena_alloc(arena, sizeof(*source));
    Csi__V1__VolumeContentSource__SnapshotSource *inner = arena_alloc(arena, sizeof(*inner));
    static char number[] = "4711";

    if (disk->source[0] == '\0')
        return true;
    if (!source || !inner)
        return false;
    csi__v1__volume_content_source__init(source);
    csi__v1__volume_content_source__snapshot_source__init(inner);
    inner->snapshot_id = number;
    source->type_case = CSI__V1__VOLUME_CONTENT_SOURCE__TYPE_SNAPSHOT;
    source->snapshot = inner;
    volume->content_source = source;
    return true;
}

static bool find_source(struct fake_upstream *u, const Csi__V1__VolumeContentSource *source,
                        const char **id, int64_t *bytes, struct error *err)
{
    *id = "";
    if (!source)
        return true;
    if (source->type_case == CSI__V1__VOLUME_CONTENT_SOURCE__TYPE_SNAPSHOT) {
        const struct fake_snapshot *snapshot = fake_snapshot(u, source->snapshot->snapshot_id);

        *id = source->snapshot->snapshot_id;
        *bytes = snapshot ? snapshot->bytes : 0;
        return snapshot || fake_not_found("snapshot", *id, err);
    }
    const struct fake_disk *disk = fake_disk(u, source->volume->volume_id);

    *id = source->volume->volume_id;
    *bytes = disk ? disk->bytes : 0;
    return disk || fake_not_found("volume", *id, err);
}

static uint64_t content_of(struct fake_upstream *u, const Csi__V1__VolumeContentSource *source)
{
    if (!source)
        return 0;
    if (source->type_case == CSI__V1__VOLUME_CONTENT_SOURCE__TYPE_SNAPSHOT)
        return fake_snapshot(u, source->snapshot->snapshot_id)->content;
    return fake_content(u, source->volume->volume_id);
}

static int64_t rounded(const struct fake_upstream *u, int64_t bytes)
{
    return u->step_bytes > 0 ? (bytes + u->step_bytes - 1) / u->step_bytes * u->step_bytes : bytes;
}

static bool make_disk(struct fake_upstream *u, const Csi__V1__CreateVolumeRequest *request,
                      struct fake_disk **out, struct error *err)
{
    struct fake_disk wanted = { .is_present = true };
    struct fake_disk *found = fake_disk_named(u, request->name);
    int64_t source_bytes = 0,
            required = request->capacity_range ? request->capacity_range->required_bytes : 0;
    const char *source = "";

    if (!fake_check_parameters(request->n_parameters, request->parameters, fake_create_keys,
                               wanted.parameters, sizeof(wanted.parameters), err) ||
        !find_source(u, request->volume_content_source, &source, &source_bytes, err))
        return false;
    if (found && (found->bytes < required || strcmp(found->source, source) != 0 ||
                  strcmp(found->parameters, wanted.parameters) != 0))
        return error_set(err, ERROR_ALREADY_EXISTS, "%s is another volume", request->name);
    *out = found;
    if (found)
        return true;
    if (required < source_bytes)
        return error_set(err, ERROR_OUT_OF_RANGE, "smaller than its source");
    wanted.bytes = rounded(u, required) / (u->makes_too_small ? 2 : 1);
    wanted.content = content_of(u, request->volume_content_source);
    fake_new_id(u, "vol", wanted.id, sizeof(wanted.id));
    (void)snprintf(wanted.name, sizeof(wanted.name), "%s", request->name);
    (void)snprintf(wanted.source, sizeof(wanted.source), "%s", source);
    *out = fake_new_disk(u);
    **out = wanted;
    return true;
}

bool serve_create_volume(struct fake_upstream *u, struct rpc_call *call,
                         const Csi__V1__CreateVolumeRequest *request,
                         Csi__V1__CreateVolumeResponse *response, struct error *err)
{
    struct fake_disk *disk = NULL;
    char ignored[256];

    u->last_required_bytes = request->capacity_range ? request->capacity_range->required_bytes : 0;
    u->last_limit_bytes = request->capacity_range ? request->capacity_range->limit_bytes : 0;
    u->n_unknown_fields = request->base.n_unknown_fields;
    if (!fake_require(request->name, "name", err) ||
        !fake_check_capabilities(u, request->n_volume_capabilities, request->volume_capabilities,
                                 err) ||
        !fake_check_secrets(u, request->n_secrets, request->secrets, err) ||
        !fake_check_parameters(request->n_mutable_parameters, request->mutable_parameters,
                               fake_mutable_keys, ignored, sizeof(ignored), err) ||
        !make_disk(u, request, &disk, err))
        return false;
    if (u->answers_no_volume)
        return true;
    return fake_describe(u, call->arena, disk, &response->volume, err) &&
           (describe_source(call->arena, disk, response->volume) || arena_exhausted(err));
}

static bool has_snapshots(const struct fake_upstream *u, const char *id)
{
    for (size_t i = 0; i < FAKE_MAX; i++)
        if (u->snapshots[i].is_present && strcmp(u->snapshots[i].source, id) == 0)
            return true;
    return false;
}

bool serve_delete_volume(struct fake_upstream *u, struct rpc_call *call UNUSED,
                         const Csi__V1__DeleteVolumeRequest *request,
                         Csi__V1__DeleteVolumeResponse *response UNUSED, struct error *err)
{
    struct fake_disk *disk = fake_disk(u, request->volume_id);

    if (!fake_require(request->volume_id, "volume_id", err) ||
        !fake_check_secrets(u, request->n_secrets, request->secrets, err))
        return false;
    for (size_t i = 0; disk && i < FAKE_NODES_MAX; i++)
        if (disk->nodes[i][0] != '\0')
            return error_set(err, ERROR_FAILED_PRECONDITION, "%s is in use", disk->id);
    if (disk && u->deletes_no_source && has_snapshots(u, disk->id))
        return error_set(err, ERROR_FAILED_PRECONDITION, "%s has snapshots", disk->id);
    if (disk)
        disk->is_present = false;
    return true;
}

bool serve_expand_volume(struct fake_upstream *u, struct rpc_call *call UNUSED,
                         const Csi__V1__ControllerExpandVolumeRequest *request,
                         Csi__V1__ControllerExpandVolumeResponse *response, struct error *err)
{
    struct fake_disk *disk = fake_disk(u, request->volume_id);

    if (!disk)
        return fake_not_found("volume", request->volume_id, err);
    if ((request->volume_capability &&
         !fake_check_capability(u, request->volume_capability, err)) ||
        !fake_check_secrets(u, request->n_secrets, request->secrets, err))
        return false;
    if (!request->capacity_range || request->capacity_range->required_bytes <= 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "no size");
    u->last_required_bytes = request->capacity_range->required_bytes;
    u->last_limit_bytes = request->capacity_range->limit_bytes;
    if (u->last_required_bytes > disk->bytes)
        disk->bytes = rounded(u, u->last_required_bytes);
    response->capacity_bytes = disk->bytes;
    return true;
}

bool serve_modify_volume(struct fake_upstream *u, struct rpc_call *call UNUSED,
                         const Csi__V1__ControllerModifyVolumeRequest *request,
                         Csi__V1__ControllerModifyVolumeResponse *response UNUSED,
                         struct error *err)
{
    char ignored[256];

    if (!fake_disk(u, request->volume_id))
        return fake_not_found("volume", request->volume_id, err);
    return fake_check_parameters(request->n_mutable_parameters, request->mutable_parameters,
                                 fake_mutable_keys, ignored, sizeof(ignored), err);
}

/* --- nodes --- */

static bool check_node(const char *node, struct error *err)
{
    return strncmp(node, "i-", 2) == 0 || fake_not_found("node", node, err);
}

static bool check_fence(const struct fake_upstream *u, const struct fake_disk *disk,
                        const char *node, bool read_only, struct error *err)
{
    for (size_t i = 0; i < FAKE_NODES_MAX; i++) {
        if (disk->nodes[i][0] == '\0')
            continue;
        if (strcmp(disk->nodes[i], node) == 0 && disk->read_only != read_only)
            return error_set(err, ERROR_ALREADY_EXISTS, "attached in another mode");
        if (strcmp(disk->nodes[i], node) != 0 && !u->fences_nothing &&
            (!read_only || !disk->read_only))
            return error_set(err, ERROR_FAILED_PRECONDITION, "attached to %s", disk->nodes[i]);
    }
    return true;
}

static bool add_context(struct arena *arena, Csi__V1__ControllerPublishVolumeResponse *response)
{
    Csi__V1__ControllerPublishVolumeResponse__PublishContextEntry **list =
        arena_alloc(arena, sizeof(*list));
    Csi__V1__ControllerPublishVolumeResponse__PublishContextEntry *entry =
        arena_alloc(arena, sizeof(*entry));
    static char key[] = "devicePath", value[] = "/dev/xvdba";

    if (!list || !entry)
        return false;
    csi__v1__controller_publish_volume_response__publish_context_entry__init(entry);
    entry->key = key;
    entry->value = value;
    list[0] = entry;
    response->publish_context = list;
    response->n_publish_context = 1;
    return true;
}

bool serve_publish_volume(struct fake_upstream *u, struct rpc_call *call,
                          const Csi__V1__ControllerPublishVolumeRequest *request,
                          Csi__V1__ControllerPublishVolumeResponse *response, struct error *err)
{
    struct fake_disk *disk = fake_disk(u, request->volume_id);
    bool read_only = request->readonly;
    size_t free_one = 0;

    if (!fake_require(request->volume_id, "volume_id", err) ||
        !fake_require(request->node_id, "node_id", err) ||
        !fake_check_capability(u, request->volume_capability, err) ||
        !fake_check_secrets(u, request->n_secrets, request->secrets, err))
        return false;
    if (!disk)
        return fake_not_found("volume", request->volume_id, err);
    read_only =
        read_only || request->volume_capability->access_mode->mode ==
                         CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__MULTI_NODE_READER_ONLY;
    if (!check_node(request->node_id, err) ||
        !check_fence(u, disk, request->node_id, read_only, err))
        return false;
    if (u->attaches_nothing) {
        u->paused_until_ms = clock_now_ms() + u->pause_ms;
        return error_set(err, ERROR_DENIED, "no more disks at node %s", request->node_id);
    }
    while (free_one < FAKE_NODES_MAX - 1 && disk->nodes[free_one][0] != '\0' &&
           strcmp(disk->nodes[free_one], request->node_id) != 0)
        free_one++;
    (void)snprintf(disk->nodes[free_one], sizeof(disk->nodes[0]), "%s", request->node_id);
    disk->read_only = read_only;
    return add_context(call->arena, response) || arena_exhausted(err);
}

bool serve_unpublish_volume(struct fake_upstream *u, struct rpc_call *call UNUSED,
                            const Csi__V1__ControllerUnpublishVolumeRequest *request,
                            Csi__V1__ControllerUnpublishVolumeResponse *response UNUSED,
                            struct error *err)
{
    struct fake_disk *disk = fake_disk(u, request->volume_id);

    if (!fake_require(request->volume_id, "volume_id", err) ||
        !fake_check_secrets(u, request->n_secrets, request->secrets, err))
        return false;
    if (clock_now_ms() < u->paused_until_ms)
        return error_set(err, ERROR_DENIED, "not so soon after an error");
    for (size_t i = 0; disk && i < FAKE_NODES_MAX; i++)
        if (request->node_id[0] == '\0' || strcmp(disk->nodes[i], request->node_id) == 0)
            disk->nodes[i][0] = '\0';
    return true;
}

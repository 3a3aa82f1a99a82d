/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "csi/creation.h"
#include "csi/stacked.h"
#include "record/layout.h"
#include "upstream/driver_quirks.h"

#include <string.h>

/* What the driver is asked for. */
struct stacked_creation {
    struct creation c;
    struct record source; /* of a copy, as it was before the driver made the copy */
    bool is_copy;
    uint64_t device_bytes; /* what the volume needs */
    uint64_t asked_bytes;  /* what the driver is asked for: at least that */
    struct stacked_map parameters;
};

/* Without attachments nobody takes a volume from a node. The driver's word alone is not enough for that:
 * by a lie it would take the protection away. */
static bool check_attaches(const struct plugin *plugin, struct rpc_call *call, struct error *err)
{
    bool attaches = false;

    if (plugin->upstream_never_attaches)
        return true;
    if (!stacked_can(plugin, call,
                     CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__PUBLISH_UNPUBLISH_VOLUME,
                     &attaches, err))
        return false;
    return attaches ||
           error_set(err, ERROR_FAILED_PRECONDITION,
                     "%s says that it attaches no volumes (no PUBLISH_UNPUBLISH_VOLUME), so nobody "
                     "can take a volume from a node: if that is so, start the controller's "
                     "tdvol-csi with --publication=off",
                     upstream_name(plugin->upstream));
}

static bool read_request(const struct plugin *plugin, struct rpc_call *call,
                         const Csi__V1__CreateVolumeRequest *request, struct stacked_creation *s,
                         struct error *err)
{
    const struct stacked_map given = { request->n_parameters, request->parameters };
    const struct stacked_map mutable_given = { request->n_mutable_parameters,
                                               request->mutable_parameters };
    struct stacked_map ignored;

    return creation_read(request, &s->c, err) &&
           stacked_take_parameters(call->arena, given, &s->c.parameters, &s->parameters, err) &&
           (stacked_take_parameters(call->arena, mutable_given, NULL, &ignored, err) ||
            error_wrap(err, "mutable_parameters")) &&
           parameters_check(&s->c.parameters, err) && creation_plan(plugin, &s->c, err) &&
           check_attaches(plugin, call, err);
}

/* As far as it is known before the driver is asked. */
static struct keys_copy copy_of(const struct creation *c)
{
    return (struct keys_copy){ .kind = RECORD_VOLUME, .name = c->name };
}

static uint64_t snapshot_bytes(const struct plugin *plugin, struct rpc_call *call, const char *id)
{
    Csi__V1__ListSnapshotsRequest request = CSI__V1__LIST_SNAPSHOTS_REQUEST__INIT;
    Csi__V1__ListSnapshotsResponse *answer = NULL;
    struct error ignored = ERROR_INIT;
    bool lists = false;

    request.snapshot_id = unconst(id);
    if (!stacked_can(plugin, call,
                     CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__LIST_SNAPSHOTS, &lists,
                     &ignored) ||
        !lists || !stacked_ask(plugin, call, "ListSnapshots", &request, &answer, &ignored) ||
        answer->n_entries != 1 || !answer->entries[0]->snapshot ||
        answer->entries[0]->snapshot->size_bytes < 0)
        return 0;
    return (uint64_t)answer->entries[0]->snapshot->size_bytes;
}

static uint64_t volume_bytes(const struct plugin *plugin, struct rpc_call *call, const char *id)
{
    Csi__V1__ControllerGetVolumeRequest request = CSI__V1__CONTROLLER_GET_VOLUME_REQUEST__INIT;
    Csi__V1__ControllerGetVolumeResponse *answer = NULL;
    struct error ignored = ERROR_INIT;
    bool gets = false;

    request.volume_id = unconst(id);
    if (!stacked_can(plugin, call, CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__GET_VOLUME,
                     &gets, &ignored) ||
        !gets || !stacked_ask(plugin, call, "ControllerGetVolume", &request, &answer, &ignored) ||
        !answer->volume || answer->volume->capacity_bytes < 0)
        return 0;
    return (uint64_t)answer->volume->capacity_bytes;
}

/* The same call, but shorter: a driver that hangs here must leave time for the volume itself. */
static struct rpc_call quarter_of(const struct rpc_call *call)
{
    uint64_t now_ms = clock_now_ms();
    uint64_t left_ms = call->deadline_ms > now_ms ? call->deadline_ms - now_ms : 0;
    struct rpc_call quarter = *call;

    if (left_ms > UPSTREAM_LIMIT_MS) /* or there is no deadline */
        left_ms = UPSTREAM_LIMIT_MS;
    quarter.deadline_ms = now_ms + left_ms / 4;
    return quarter;
}

/* The driver's own size of the source, 0 when it cannot tell. It may be more than the record says: the
 * disk was made larger already, but no node has used the room yet. Drivers make no volume that is smaller
 * than its source. */
static uint64_t source_bytes(const struct plugin *plugin, const struct rpc_call *call,
                             const struct creation *c)
{
    struct rpc_call quarter = quarter_of(call);

    return c->source_kind == RECORD_SNAPSHOT ? snapshot_bytes(plugin, &quarter, c->source_id)
                                             : volume_bytes(plugin, &quarter, c->source_id);
}

static bool read_source(const struct plugin *plugin, struct rpc_call *call,
                        struct stacked_creation *s, struct error *err)
{
    struct volume_spec grown;

    s->is_copy = s->c.source_id[0] != '\0';
    s->device_bytes = s->asked_bytes = s->c.spec.device_bytes;
    if (!s->is_copy)
        return true;
    const struct keys_copy copy = copy_of(&s->c);

    if (!stacked_begin_copy(plugin, call, s->c.source_kind, s->c.source_id, &copy, &s->source, err))
        return error_wrap(err, "volume_content_source");
    if (!creation_check_source(&s->c, &s->source, err))
        return false;
    grown = s->source.spec;
    if (s->c.capacity.required_bytes > grown.size_bytes &&
        !layout_plan_growth(&grown, s->c.capacity.required_bytes, err))
        return false;
    const uint64_t bytes = source_bytes(plugin, call, &s->c);

    s->device_bytes = grown.device_bytes;
    s->asked_bytes = bytes > grown.device_bytes ? bytes : grown.device_bytes;
    return true;
}

static struct stacked_made made_for(const Csi__V1__CreateVolumeRequest *request,
                                    const struct creation *c, const char *id)
{
    return (struct stacked_made){ .kind = RECORD_VOLUME,
                                  .id = id,
                                  .secrets = { request->n_secrets, request->secrets },
                                  .name = c->name,
                                  .source_id = c->source_id };
}

/* Always false, with the error of the call. */
static bool drop(const struct plugin *plugin, struct rpc_call *call,
                 const Csi__V1__CreateVolumeRequest *request, const struct creation *c,
                 const char *id, struct error *err)
{
    const struct stacked_made made = made_for(request, c, id);

    return stacked_drop(plugin, call, &made, err);
}

static bool check_answer(const struct plugin *plugin, struct rpc_call *call,
                         const Csi__V1__CreateVolumeRequest *request,
                         const struct stacked_creation *s, const Csi__V1__Volume *volume,
                         struct error *err)
{
    if (!volume)
        return error_set(err, ERROR_INTERNAL, "%s answers without a volume",
                         upstream_name(plugin->upstream));
    return stacked_check_id(plugin, volume->volume_id, err) ||
           (volume->volume_id[0] != '\0' &&
            drop(plugin, call, request, &s->c, volume->volume_id, err));
}

static bool check_size(const struct plugin *plugin, struct rpc_call *call,
                       const Csi__V1__CreateVolumeRequest *request,
                       const struct stacked_creation *s, const Csi__V1__Volume *volume,
                       struct error *err)
{
    if (volume->capacity_bytes == 0 || volume->capacity_bytes >= (int64_t)s->device_bytes)
        return true;
    error_set(err, ERROR_INTERNAL,
              "%s made a volume of %lld bytes, and was asked for at least %llu",
              upstream_name(plugin->upstream), (long long)volume->capacity_bytes,
              (unsigned long long)s->device_bytes);
    return drop(plugin, call, request, &s->c, volume->volume_id, err);
}

/* No limit goes on: the driver may round up as it likes, and the pod sees its exact size. */
static bool ask(const struct plugin *plugin, struct rpc_call *call,
                const Csi__V1__CreateVolumeRequest *request, const struct stacked_creation *s,
                Csi__V1__CreateVolumeResponse **out, struct error *err)
{
    Csi__V1__CreateVolumeRequest below = *request; /* with fields of newer versions */
    Csi__V1__CapacityRange range = CSI__V1__CAPACITY_RANGE__INIT;
    const struct quirks *quirks = NULL;

    below.capacity_range = &range;
    below.n_parameters = s->parameters.n;
    below.parameters = s->parameters.entries;
    return stacked_quirks(plugin, call, &quirks, err) &&
           quirks_size(quirks, s->asked_bytes, &range.required_bytes, err) &&
           stacked_all_as_block(plugin, call, request->volume_capabilities,
                                request->n_volume_capabilities, &below.volume_capabilities, err) &&
           stacked_ask(plugin, call, "CreateVolume", &below, out, err) &&
           check_answer(plugin, call, request, s, (*out)->volume, err);
}

static bool make_record(const struct plugin *plugin, struct rpc_call *call,
                        const Csi__V1__CreateVolumeRequest *request, struct stacked_creation *s,
                        const char *id, struct record *out, struct error *err)
{
    const struct keys_ops *ops = plugin->keys->ops;
    struct volume_spec *spec = &s->c.spec;
    const struct keys_copy copy = {
        .source = &s->source,
        .kind = RECORD_VOLUME,
        .id = id,
        .name = s->c.name,
        .workqueue = spec->workqueue,
        .size_bytes = s->c.capacity.required_bytes > s->source.spec.size_bytes
                          ? s->c.capacity.required_bytes
                          : 0,
    };

    const struct stacked_made made = made_for(request, &s->c, id);

    spec->needs_publication = !plugin->upstream_never_attaches;
    return (s->is_copy ? ops->copy(plugin->keys, plugin_operation(call), &copy, out, err)
                       : ops->create(plugin->keys, plugin_operation(call), id, spec, out, err)) ||
           stacked_drop_unrecorded(plugin, call, &made, err);
}

static bool record_volume(const struct plugin *plugin, struct rpc_call *call,
                          const Csi__V1__CreateVolumeRequest *request, struct stacked_creation *s,
                          const char *id, struct record *out, struct error *err)
{
    const struct keys_copy copy = copy_of(&s->c);

    if (plugin->keys->ops->get(plugin->keys, plugin_operation(call), id, NULL, out, err))
        return creation_check_same(&s->c, out, err) &&
               (!s->is_copy || stacked_end_copy(plugin, call, s->c.source_id, &copy, err) ||
                stacked_keep(err));
    if (err->code != ERROR_NOT_FOUND)
        return stacked_keep(err);
    return make_record(plugin, call, request, s, id, out, err);
}

/* The name is held already, and some drivers have it as the id. */
static bool take_id(const struct plugin *plugin, struct rpc_call *call, const char *name,
                    const char *id, struct inflight_hold *out, struct error *err)
{
    plugin_subject(call, id);
    return strcmp(id, name) == 0 || plugin_take(plugin, call, id, out, err) || stacked_keep(err);
}

bool stacked_create_volume(struct plugin *plugin, struct rpc_call *call,
                           const Csi__V1__CreateVolumeRequest *request,
                           Csi__V1__CreateVolumeResponse *response, struct error *err)
{
    auto_inflight struct inflight_hold name = INFLIGHT_HOLD_INIT, volume = INFLIGHT_HOLD_INIT;
    struct stacked_creation *s = arena_alloc(call->arena, sizeof(*s));
    Csi__V1__CreateVolumeResponse *below = NULL;
    struct record record;

    if (!s)
        return arena_exhausted(err);
    s->c = (struct creation)CREATION_INIT;
    if (!read_request(plugin, call, request, s, err) ||
        !plugin_take(plugin, call, request->name, &name, err) ||
        !read_source(plugin, call, s, err) || !ask(plugin, call, request, s, &below, err))
        return false;
    const char *id = below->volume->volume_id;

    if (!take_id(plugin, call, request->name, id, &volume, err) ||
        !check_size(plugin, call, request, s, below->volume, err) ||
        !record_volume(plugin, call, request, s, id, &record, err))
        return error_wrap(err, "volume %s", id);
    *response = *below;
    response->volume->capacity_bytes = (int64_t)record.spec.size_bytes;
    /* Some drivers answer with another name of the source than the caller's. */
    response->volume->content_source = request->volume_content_source;
    return true;
}

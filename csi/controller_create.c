/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/controller.h"
#include "csi/topology.h"
#include "csi/volume_id.h"
#include "record/fs_type.h"
#include "record/layout.h"

#include <stdio.h>
#include <string.h>

#define DEFAULT_BYTES (1ull << 30)

/* One CreateVolume: the request, and the spec that follows from it. */
struct creation {
    const char *name;
    char id[VOLUME_ID_LEN + 1];
    struct parameters parameters;
    struct capability capability;
    struct capacity capacity;
    const char *source_id; /* "" none */
    enum record_kind source_kind;
    struct volume_spec spec;
};

static bool read_parameters(const Csi__V1__CreateVolumeRequest *request, struct creation *c,
                            struct error *err)
{
    for (size_t i = 0; i < request->n_parameters; i++)
        if (!parameters_set(&c->parameters, request->parameters[i]->key,
                            request->parameters[i]->value, err))
            return false;
    if (request->n_mutable_parameters > 0)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "mutable_parameters: \"%s\" is not known; there are none",
                         request->mutable_parameters[0]->key);
    return parameters_check(&c->parameters, err);
}

static bool read_source(const Csi__V1__VolumeContentSource *source, struct creation *c,
                        struct error *err)
{
    if (!source)
        return true;
    if (source->type_case == CSI__V1__VOLUME_CONTENT_SOURCE__TYPE_SNAPSHOT) {
        c->source_id = source->snapshot->snapshot_id;
        c->source_kind = RECORD_SNAPSHOT;
    } else if (source->type_case == CSI__V1__VOLUME_CONTENT_SOURCE__TYPE_VOLUME) {
        c->source_id = source->volume->volume_id;
        c->source_kind = RECORD_VOLUME;
    } else {
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "volume_content_source must be a snapshot or a volume");
    }
    return plugin_require(c->source_id, "volume_content_source", err);
}

/* A volume gets its file system and its map when it is staged for writing the first time. */
static bool check_writable(const struct creation *c, struct error *err)
{
    if (!c->capability.read_only || c->source_id[0] != '\0')
        return true;
    return error_set(
        err, ERROR_INVALID_ARGUMENT,
        "access mode: a new volume is empty, and nobody could ever write to it: a claim "
        "that only reads needs a snapshot or another claim as its data source");
}

static bool check_topology(const struct plugin *plugin,
                           const Csi__V1__TopologyRequirement *requirement, struct error *err)
{
    if (!requirement || requirement->n_requisite == 0)
        return true;
    for (size_t i = 0; i < requirement->n_requisite; i++)
        if (topology_is_here(plugin, requirement->requisite[i]))
            return true;
    return error_set(err, ERROR_RESOURCE_EXHAUSTED,
                     "accessibility_requirements: this is node %s, which is not among them",
                     plugin->node_id);
}

static bool read_request(const struct plugin *plugin, const Csi__V1__CreateVolumeRequest *request,
                         struct creation *c, struct error *err)
{
    c->name = request->name;
    return plugin_require(request->name, "name", err) &&
           capability_read_all(request->volume_capabilities, request->n_volume_capabilities,
                               &c->capability, err) &&
           read_parameters(request, c, err) &&
           read_source(request->volume_content_source, c, err) && check_writable(c, err) &&
           controller_capacity(request->capacity_range, &c->capacity, err) &&
           check_topology(plugin, request->accessibility_requirements, err) &&
           volume_id_make(VOLUME_ID_VOLUME, plugin->driver, request->name, c->id, err);
}

static const char *fs_type(const struct creation *c)
{
    if (c->capability.is_block)
        return "";
    if (c->capability.fs_type[0] != '\0')
        return c->capability.fs_type;
    return c->parameters.fs_type[0] != '\0' ? c->parameters.fs_type : FS_TYPE_DEFAULT;
}

/* The size that the pod is to see. Sizes are multiples of a sector: layout_plan() rounds up. */
static uint64_t wanted_bytes(const struct creation *c)
{
    if (c->capacity.required_bytes > 0)
        return c->capacity.required_bytes;
    if (c->capacity.limit_bytes >= DEFAULT_BYTES)
        return DEFAULT_BYTES;
    return c->capacity.limit_bytes & ~(uint64_t)(VOLUME_SECTOR_BYTES - 1);
}

static bool set_name(struct creation *c, struct error *err)
{
    size_t len = strlen(c->name);

    if (len > RECORD_NAME_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "name is longer than %d bytes",
                         RECORD_NAME_MAX);
    memcpy(c->spec.name, c->name, len + 1);
    return true;
}

static bool check_file_system(const struct volume_spec *spec, struct error *err)
{
    enum fs_type type;

    if (!fs_type_find(spec->fs_type, &type) || spec->size_bytes >= fs_type_min_bytes(type))
        return true;
    return error_set(err, ERROR_OUT_OF_RANGE,
                     "size %llu bytes: a volume with %s has at least %llu MiB",
                     (unsigned long long)spec->size_bytes, spec->fs_type,
                     (unsigned long long)(fs_type_min_bytes(type) >> 20));
}

static bool plan(const struct plugin *plugin, struct creation *c, struct error *err)
{
    c->spec = parameters_spec(&c->parameters, plugin->default_integrity);
    c->spec.backing = plugin->backing->kind;
    (void)snprintf(c->spec.fs_type, sizeof(c->spec.fs_type), "%s", fs_type(c));
    (void)snprintf(c->spec.location, sizeof(c->spec.location), "%s", plugin->node_id);
    if (!set_name(c, err))
        return false;
    if (!layout_plan(&c->spec, wanted_bytes(c), err) || !check_file_system(&c->spec, err))
        return false;
    if (c->spec.size_bytes > c->capacity.limit_bytes)
        return error_set(err, ERROR_OUT_OF_RANGE,
                         "sizes are multiples of %u bytes: the next is %llu, more than limit_bytes",
                         VOLUME_SECTOR_BYTES, (unsigned long long)c->spec.size_bytes);
    return true;
}

static bool differs(const char *what, struct error *err)
{
    return error_set(err, ERROR_ALREADY_EXISTS, "a volume of this name exists, but with another %s",
                     what);
}

/* CSI CreateVolume: the same name with a compatible request is the same volume. */
static bool check_compatible(const struct plugin *plugin, const struct creation *c,
                             const struct record *record, struct error *err)
{
    const struct volume_spec *spec = &record->spec;
    bool is_copy = c->source_id[0] != '\0';

    if (record->phase == RECORD_DELETING)
        return error_set(err, ERROR_ABORTED, "the volume of this name is being deleted; retry");
    if (record->kind != RECORD_VOLUME || strcmp(record->spec.name, c->name) != 0)
        return differs("name", err);
    if (strcmp(record->source_volume_id, c->source_id) != 0)
        return differs("content source", err);
    if (spec->size_bytes < c->capacity.required_bytes || spec->size_bytes > c->capacity.limit_bytes)
        return differs("size", err);
    if (strcmp(spec->fs_type, fs_type(c)) != 0)
        return differs("file system", err);
    if (spec->workqueue != c->spec.workqueue)
        return differs("workqueue", err);
    /* A copy inherits everything else from its source. */
    if (!is_copy &&
        (spec->integrity != c->spec.integrity || spec->provisioning != c->spec.provisioning ||
         spec->discard != c->spec.discard || spec->no_journal != c->spec.no_journal))
        return differs("integrity, provisioning, discard or journal", err);
    return topology_check_location(plugin, record, ERROR_RESOURCE_EXHAUSTED, err);
}

/* False when the record that was in the way is of a volume of another node, which made it at the
 * same time. */
static bool check_rival(const struct plugin *plugin, const struct backing_job *job, const char *id,
                        struct error *err)
{
    struct error ignored = ERROR_INIT;
    struct record record;

    return !plugin->keys->ops->get(plugin->keys, job->operation, id, NULL, &record, &ignored) ||
           topology_check_location(plugin, &record, ERROR_RESOURCE_EXHAUSTED, err);
}

/* Nothing would ever find raw space without a record, so it is removed. It is kept when the broker
 * did not answer or knows another record of this id here: the space may belong to that record. */
static bool drop_unrecorded(const struct plugin *plugin, const struct backing_job *job,
                            const char *id, struct error *err)
{
    struct error ignored = ERROR_INIT;
    bool is_kept = err->code == ERROR_UNAVAILABLE ||
                   (err->code == ERROR_ALREADY_EXISTS && check_rival(plugin, job, id, err));

    if (!is_kept && !plugin->backing->remove(job, id, &ignored))
        error_wrap(err, "its space could not be removed (%s)", ignored.text);
    return false;
}

static bool create_fresh(const struct plugin *plugin, struct rpc_call *call,
                         const struct creation *c, struct record *out, struct error *err)
{
    struct backing_job job = plugin_backing_job(plugin, call);

    if (!topology_check_mode(plugin, c->spec.integrity, err) ||
        !controller_check_disk(plugin, call, ERROR_RESOURCE_EXHAUSTED, err) ||
        !plugin->backing->create(&job, c->id, c->spec.device_bytes, backing_is_reserved(&c->spec),
                                 err))
        return false;
    return plugin->keys->ops->create(plugin->keys, job.operation, c->id, &c->spec, out, err) ||
           drop_unrecorded(plugin, &job, c->id, err);
}

static bool check_source(const struct creation *c, const struct record *source, struct error *err)
{
    const struct volume_spec *spec = &source->spec;

    if (c->capability.read_only && source->phase == RECORD_NEW)
        return error_set(
            err, ERROR_FAILED_PRECONDITION,
            "access mode: %s was never written, so a claim that only reads cannot be a "
            "copy of it",
            source->volume_id);
    if (c->parameters.integrity != PARAMETER_INTEGRITY_AUTO &&
        (enum integrity)c->parameters.integrity != spec->integrity)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "a copy has the integrity of its source, which is %s",
                         integrity_name(spec->integrity));
    if (spec->integrity != INTEGRITY_NONE && spec->no_journal != (c->parameters.journal != 0))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "a copy has the journal of its source: use a StorageClass with journal=%s",
                         spec->no_journal ? "off" : "on");
    if (strcmp(fs_type(c), spec->fs_type) != 0)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "a copy has the file system of its source, which is %s",
                         spec->fs_type[0] != '\0' ? spec->fs_type : "raw block");
    if (spec->size_bytes > c->capacity.limit_bytes)
        return error_set(err, ERROR_OUT_OF_RANGE,
                         "the source has %llu bytes, more than limit_bytes",
                         (unsigned long long)spec->size_bytes);
    return true;
}

static bool create_copy(const struct plugin *plugin, struct rpc_call *call,
                        const struct creation *c, struct record *out, struct error *err)
{
    auto_inflight struct inflight_hold hold = INFLIGHT_HOLD_INIT;
    struct record source;
    struct keys_copy copy = { .source = &source,
                              .kind = RECORD_VOLUME,
                              .id = c->id,
                              .name = c->name,
                              .workqueue = c->spec.workqueue };

    if (!inflight_take(plugin->inflight, c->source_id, plugin_operation(call), &hold, err) ||
        !plugin_find(plugin, call, c->source_kind, c->source_id, &source, err) ||
        !topology_check_location(plugin, &source, ERROR_RESOURCE_EXHAUSTED, err))
        return error_wrap(err, "volume_content_source");
    plugin_subject(call, c->id);
    if (c->capacity.required_bytes > source.spec.size_bytes)
        copy.size_bytes = c->capacity.required_bytes;
    return topology_check_mode(plugin, source.spec.integrity, err) &&
           check_source(c, &source, err) && controller_copy(plugin, call, &copy, out, err);
}

/* A copy that is larger than its source grows at its first stage, but its space is there before. */
static bool copy_space(const struct plugin *plugin, const struct backing_job *job,
                       const struct keys_copy *copy, struct error *err)
{
    const struct record *source = copy->source;
    struct volume_spec spec = source->spec;
    bool reserve = backing_is_reserved(&spec);

    if (copy->size_bytes != 0 && !layout_plan_growth(&spec, copy->size_bytes, err))
        return false;
    return plugin->backing->copy(job, source->volume_id, copy->id, reserve, err) &&
           (spec.device_bytes == source->spec.device_bytes ||
            plugin->backing->grow(job, copy->id, spec.device_bytes, reserve, err));
}

bool controller_copy(const struct plugin *plugin, struct rpc_call *call,
                     const struct keys_copy *copy, struct record *out, struct error *err)
{
    const struct record *source = copy->source;
    struct backing_job job = plugin_backing_job(plugin, call);

    if (source->phase == RECORD_FORMATTING)
        return error_set(err, ERROR_ABORTED, "%s is just being formatted; retry",
                         source->volume_id);
    if (source->phase == RECORD_DELETING)
        return error_set(err, ERROR_FAILED_PRECONDITION, "%s is being deleted", source->volume_id);
    if (!controller_check_disk(plugin, call, ERROR_RESOURCE_EXHAUSTED, err))
        return false;
    if (!copy_space(plugin, &job, copy, err))
        return drop_unrecorded(plugin, &job, copy->id, err);
    return plugin->keys->ops->copy(plugin->keys, job.operation, copy, out, err) ||
           drop_unrecorded(plugin, &job, copy->id, err);
}

bool controller_create_volume(struct plugin *plugin, struct rpc_call *call,
                              const Csi__V1__CreateVolumeRequest *request,
                              Csi__V1__CreateVolumeResponse *response, struct error *err)
{
    auto_inflight struct inflight_hold hold = INFLIGHT_HOLD_INIT;
    struct creation c = { .parameters = PARAMETERS_INIT, .source_id = "" };
    struct record record;

    if (!read_request(plugin, request, &c, err) || !plan(plugin, &c, err) ||
        !plugin_take(plugin, call, c.id, &hold, err))
        return false;
    bool found =
        plugin->keys->ops->get(plugin->keys, plugin_operation(call), c.id, NULL, &record, err);
    if (!found && err->code != ERROR_NOT_FOUND)
        return false;
    if (found && !check_compatible(plugin, &c, &record, err))
        return false;
    if (!found && !(c.source_id[0] != '\0' ? create_copy(plugin, call, &c, &record, err)
                                           : create_fresh(plugin, call, &c, &record, err)))
        return false;
    return controller_volume(plugin, call->arena, &record, &response->volume, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/creation.h"
#include "csi/stacked.h"
#include "csi/topology.h"
#include "plugin/volume_id.h"
#include "record/layout.h"

#include <stdio.h>
#include <string.h>

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
    return creation_read(request, c, err) && read_parameters(request, c, err) &&
           check_topology(plugin, request->accessibility_requirements, err) &&
           volume_id_make(VOLUME_ID_VOLUME, plugin->driver, request->name, c->id, err);
}

static bool plan(const struct plugin *plugin, struct creation *c, struct error *err)
{
    if (!creation_plan(plugin, c, err))
        return false;
    (void)snprintf(c->spec.location, sizeof(c->spec.location), "%s", plugin->node_id);
    return true;
}

static bool check_compatible(const struct plugin *plugin, const struct creation *c,
                             const struct record *record, struct error *err)
{
    return creation_check_same(c, record, err) &&
           topology_check_location(plugin, record, ERROR_RESOURCE_EXHAUSTED, err);
}

/* The record may be there, or come yet, and then it has this space. A sidecar calls again only after
 * some codes. */
static bool keep_space(struct error *err)
{
    error_wrap(err, "its space is kept for the next call (%s)", error_code_name(err->code));
    return !stacked_has_decided(err, DECIDED_TO_REPEAT) &&
           error_set_reason(err, ERROR_ABORTED, err->reason, "%s", err->text);
}

static bool give_space_back(const struct plugin *plugin, const struct backing_job *job,
                            const char *id, struct error *err)
{
    struct error problem = ERROR_INIT;

    if (!plugin->backing->remove(job, id, &problem))
        error_wrap(err, "its space could not be removed (%s)", problem.text);
    return false;
}

/* Nothing would ever find raw space without a record, so it is removed. But a broker may refuse a call
 * after it, or another broker, has made the record: so it is asked for the record, too. A record of
 * another node, which made it at the same time, has its space there. */
static bool drop_unrecorded(const struct plugin *plugin, const struct backing_job *job,
                            const char *id, struct error *err)
{
    struct error problem = ERROR_INIT;
    struct record record;

    if (err->code != ERROR_ALREADY_EXISTS && !stacked_has_decided(err, DECIDED_NO_RECORD))
        return keep_space(err);
    bool found = plugin->keys->ops->get(plugin->keys, job->operation, id, NULL, &record, &problem);
    bool is_there =
        found && !topology_check_location(plugin, &record, ERROR_RESOURCE_EXHAUSTED, err);

    if (is_there || (!found && problem.code == ERROR_NOT_FOUND))
        return give_space_back(plugin, job, id, err);
    return err->code != ERROR_ALREADY_EXISTS && keep_space(err);
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

    if (!plugin_take_patiently(plugin, call, c->source_id, &hold, err) ||
        !plugin_find(plugin, call, c->source_kind, c->source_id, &source, err) ||
        !topology_check_location(plugin, &source, ERROR_RESOURCE_EXHAUSTED, err))
        return error_wrap(err, "volume_content_source");
    plugin_subject(call, c->id);
    if (c->capacity.required_bytes > source.spec.size_bytes)
        copy.size_bytes = c->capacity.required_bytes;
    return topology_check_mode(plugin, source.spec.integrity, err) &&
           creation_check_source(c, &source, err) && controller_copy(plugin, call, &copy, out, err);
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

bool controller_check_copyable(const struct record *source, struct error *err)
{
    if (source->phase == RECORD_FORMATTING)
        return error_set(err, ERROR_ABORTED, "%s is just being formatted; retry",
                         source->volume_id);
    return source->phase != RECORD_DELETING ||
           error_set(err, ERROR_FAILED_PRECONDITION, "%s is being deleted", source->volume_id);
}

bool controller_copy(const struct plugin *plugin, struct rpc_call *call,
                     const struct keys_copy *copy, struct record *out, struct error *err)
{
    const struct record *source = copy->source;
    struct backing_job job = plugin_backing_job(plugin, call);

    if (!controller_check_copyable(source, err) ||
        !controller_check_disk(plugin, call, ERROR_RESOURCE_EXHAUSTED, err))
        return false;
    if (!copy_space(plugin, &job, copy, err)) /* no record was asked for */
        return give_space_back(plugin, &job, copy->id, err);
    return plugin->keys->ops->copy(plugin->keys, job.operation, copy, out, err) ||
           drop_unrecorded(plugin, &job, copy->id, err);
}

bool controller_create_volume(struct plugin *plugin, struct rpc_call *call,
                              const Csi__V1__CreateVolumeRequest *request,
                              Csi__V1__CreateVolumeResponse *response, struct error *err)
{
    auto_inflight struct inflight_hold hold = INFLIGHT_HOLD_INIT;
    struct creation c = CREATION_INIT;
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

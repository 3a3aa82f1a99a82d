/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/controller.h"
#include "csi/topology.h"
#include "record/fs_type.h"
#include "record/layout.h"

#include <stdio.h>

/* --- the disk of the volumes --- */

/* A record whose space must be here. */
static bool keep_first(void *cookie, const struct record *record, struct error *err UNUSED)
{
    char *id = cookie;

    if (id[0] == '\0' && record->phase != RECORD_DELETING)
        (void)snprintf(id, VOLUME_ID_MAX + 1, "%s", record->volume_id);
    return true;
}

static bool find_recorded(const struct plugin *plugin, const struct backing_job *job,
                          char id[static VOLUME_ID_MAX + 1], struct error *err)
{
    static const enum record_kind kinds[] = { RECORD_VOLUME, RECORD_SNAPSHOT };

    id[0] = '\0';
    for (size_t i = 0; id[0] == '\0' && i < ARRAY_LEN(kinds); i++) {
        char next[KEYS_TOKEN_MAX + 1] = "";
        const struct keys_list list = {
            .kind = kinds[i], .source_id = "", .token = "", .each = keep_first, .cookie = id
        };

        if (!plugin->keys->ops->list(plugin->keys, job->operation, &list, next, err))
            return false;
    }
    return true;
}

bool controller_check_disk(const struct plugin *plugin, struct rpc_call *call, enum error_code code,
                           struct error *err)
{
    struct backing_job job = plugin_backing_job(plugin, call);
    struct backing_capacity capacity = { .free_bytes = 0 };
    char id[VOLUME_ID_MAX + 1];

    if (!plugin->backing->capacity(&job, &capacity, err))
        return false;
    if (!capacity.is_empty)
        return true;
    /* Space is made before its record. So a record without any space is no volume in the making when
     * the folder is still empty after the record was seen. */
    if (!find_recorded(plugin, &job, id, err))
        return false;
    if (id[0] == '\0')
        return true;
    if (!plugin->backing->capacity(&job, &capacity, err))
        return false;
    return !capacity.is_empty ||
           error_set(
               err, code,
               "the folder of the volumes is empty, but the broker knows %s on this node: mount "
               "the disk; if it is lost, put any file into the folder",
               id);
}

/* --- GetCapacity --- */

/* A question for free space, as far as it is understood. */
struct capacity_question {
    struct volume_spec spec;
    uint64_t least_bytes; /* the smallest volume of this kind */
    bool has_unknown;     /* parameters that CreateVolume refuses */
};

/* Kubernetes hands on the parameters of a StorageClass as they are, also those for its sidecars. With
 * an error here, or no space, the pod's events would say that there is not enough free storage. So
 * parameters that are wrong do not count: CreateVolume gets the claim, and says what is wrong. */
static void read_capacity_question(const struct plugin *plugin,
                                   const Csi__V1__GetCapacityRequest *request,
                                   const struct capability *capability,
                                   struct capacity_question *out)
{
    struct parameters parameters = PARAMETERS_INIT;
    struct error ignored = ERROR_INIT;
    enum fs_type type;

    *out = (struct capacity_question){ .least_bytes = VOLUME_SIZE_MIN };
    for (size_t i = 0; i < request->n_parameters; i++)
        if (!parameters_set(&parameters, request->parameters[i]->key, request->parameters[i]->value,
                            &ignored))
            out->has_unknown = true;
    out->has_unknown = out->has_unknown || !parameters_check(&parameters, &ignored);
    out->spec = parameters_spec(&parameters, plugin->default_integrity);
    const char *fs = capability->fs_type[0] != '\0' ? capability->fs_type : parameters.fs_type;
    if (!capability->is_block && fs_type_find(fs, &type))
        out->least_bytes = fs_type_min_bytes(type);
}

static bool set_limits(struct arena *arena, uint64_t usable_bytes, uint64_t least_bytes,
                       Csi__V1__GetCapacityResponse *response)
{
    Google__Protobuf__Int64Value *most =
        PLUGIN_MESSAGE(arena, Google__Protobuf__Int64Value, google__protobuf__int64_value__init);
    Google__Protobuf__Int64Value *least =
        PLUGIN_MESSAGE(arena, Google__Protobuf__Int64Value, google__protobuf__int64_value__init);

    if (!most || !least)
        return false;
    most->value = (int64_t)(usable_bytes < VOLUME_SIZE_MAX ? usable_bytes : VOLUME_SIZE_MAX);
    least->value = (int64_t)least_bytes;
    response->maximum_volume_size = most;
    response->minimum_volume_size = least;
    return true;
}

/* The size that one volume in the free space could have, as its pod sees it. */
bool controller_get_capacity(struct plugin *plugin, struct rpc_call *call,
                             const Csi__V1__GetCapacityRequest *request,
                             Csi__V1__GetCapacityResponse *response, struct error *err)
{
    struct backing_job job = plugin_backing_job(plugin, call);
    struct capability capability = { .fs_type = "" };
    struct error unsupported = ERROR_INIT;
    struct capacity_question question;
    struct backing_capacity capacity = { .free_bytes = 0 };

    bool is_elsewhere =
        request->accessible_topology && !topology_is_here(plugin, request->accessible_topology);
    bool is_impossible =
        request->n_volume_capabilities > 0 &&
        !capability_read_all(request->volume_capabilities, request->n_volume_capabilities,
                             &capability, &unsupported);
    read_capacity_question(plugin, request, &capability, &question);
    if (is_elsewhere || is_impossible ||
        (!question.has_unknown &&
         !topology_check_mode(plugin, question.spec.integrity, &unsupported)))
        return true; /* no capacity for such a volume */
    if (!plugin->backing->capacity(&job, &capacity, err))
        return false;
    if (capacity.is_empty &&
        !controller_check_disk(plugin, call, ERROR_RESOURCE_EXHAUSTED, &unsupported) &&
        unsupported.code == ERROR_RESOURCE_EXHAUSTED)
        return true;
    uint64_t usable_bytes = layout_usable_bytes(&question.spec, capacity.free_bytes);
    if (usable_bytes < question.least_bytes)
        usable_bytes = 0;
    response->available_capacity = (int64_t)usable_bytes;
    return set_limits(call->arena, usable_bytes, question.least_bytes, response) ||
           arena_exhausted(err);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/stacked.h"

#include "upstream/driver_quirks.h"
#include "upstream/rewrite.h"

#include <assert.h>
#include <string.h>

bool stacked_ask_service(const struct plugin *plugin, struct rpc_call *call,
                         const ProtobufCServiceDescriptor *service, const char *method,
                         const void *request, void *out_response, struct error *err)
{
    ProtobufCMessage *response = NULL;

    if (!upstream_call(plugin->upstream, service, method, request, call->deadline_ms, call->arena,
                       &response, err))
        return false;
    memcpy(out_response, &response, sizeof(response));
    return true;
}

bool stacked_ask(const struct plugin *plugin, struct rpc_call *call, const char *method,
                 const void *request, void *out_response, struct error *err)
{
    return stacked_ask_service(plugin, call, &csi__v1__controller__descriptor, method, request,
                               out_response, err);
}

bool stacked_can(const struct plugin *plugin, const struct rpc_call *call,
                 Csi__V1__ControllerServiceCapability__RPC__Type capability, bool *yes,
                 struct error *err)
{
    return upstream_controller_can(plugin->upstream, capability, call->deadline_ms, yes, err);
}

bool stacked_quirks(const struct plugin *plugin, const struct rpc_call *call,
                    const struct quirks **out, struct error *err)
{
    return upstream_quirks(plugin->upstream, call->deadline_ms, out, err);
}

/* --- rewriting --- */

bool stacked_all_as_block(const struct plugin *plugin, struct rpc_call *call,
                          Csi__V1__VolumeCapability *const *list, size_t n,
                          Csi__V1__VolumeCapability ***out, struct error *err)
{
    Csi__V1__VolumeCapability **rewritten = arena_alloc(call->arena, (n + 1) * sizeof(*rewritten));
    bool knows_modes = false;

    if (!rewritten)
        return arena_exhausted(err);
    if (!stacked_can(plugin, call,
                     CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__SINGLE_NODE_MULTI_WRITER,
                     &knows_modes, err))
        return false;
    for (size_t i = 0; i < n; i++) {
        rewritten[i] = rewrite_as_block(list[i], knows_modes, call->arena);
        if (!rewritten[i])
            return arena_exhausted(err);
    }
    *out = rewritten;
    return true;
}

bool stacked_as_block(const struct plugin *plugin, struct rpc_call *call,
                      const Csi__V1__VolumeCapability *capability, Csi__V1__VolumeCapability **out,
                      struct error *err)
{
    Csi__V1__VolumeCapability *const one = (Csi__V1__VolumeCapability *)(uintptr_t)capability;
    Csi__V1__VolumeCapability **all = NULL;

    if (!capability) {
        *out = NULL;
        return true;
    }
    if (!stacked_all_as_block(plugin, call, &one, 1, &all, err))
        return false;
    assert(all);
    *out = all[0];
    return true;
}

bool stacked_take_parameters(struct arena *arena, struct stacked_map all,
                             struct parameters *parameters, struct stacked_map *others,
                             struct error *err)
{
    Csi__V1__CreateVolumeRequest__ParametersEntry **from = all.entries;
    Csi__V1__CreateVolumeRequest__ParametersEntry **kept =
        arena_alloc(arena, (all.n + 1) * sizeof(*kept));
    struct parameters unused = PARAMETERS_INIT;

    if (!kept)
        return arena_exhausted(err);
    *others = (struct stacked_map){ .entries = kept };
    for (size_t i = 0; i < all.n; i++) {
        bool taken = false;

        if (!parameters_take(parameters ? parameters : &unused, from[i]->key, from[i]->value,
                             &taken, err))
            return false;
        if (taken && !parameters)
            return error_set(err, ERROR_INVALID_ARGUMENT, "\"%s\" cannot be set here",
                             from[i]->key);
        if (!taken)
            kept[others->n++] = from[i];
    }
    return true;
}

/* --- records --- */

static bool volume_exists(const struct plugin *plugin, struct rpc_call *call, const char *id,
                          const struct quirks *quirks, bool *yes, struct error *err)
{
    Csi__V1__ValidateVolumeCapabilitiesRequest request =
        CSI__V1__VALIDATE_VOLUME_CAPABILITIES_REQUEST__INIT;
    Csi__V1__ValidateVolumeCapabilitiesResponse *response = NULL;
    Csi__V1__VolumeCapability capability = CSI__V1__VOLUME_CAPABILITY__INIT;
    Csi__V1__VolumeCapability__BlockVolume block = CSI__V1__VOLUME_CAPABILITY__BLOCK_VOLUME__INIT;
    Csi__V1__VolumeCapability__AccessMode mode = CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__INIT;
    Csi__V1__VolumeCapability *list[] = { &capability };

    mode.mode = CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_WRITER;
    capability.access_type_case = CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_BLOCK;
    capability.block = &block;
    capability.access_mode = &mode;
    request.volume_id = unconst(id);
    request.n_volume_capabilities = 1;
    request.volume_capabilities = list;
    if (!stacked_ask(plugin, call, "ValidateVolumeCapabilities", &request, &response, err))
        return err->code == ERROR_NOT_FOUND;
    *yes = !quirks->validates_blindly;
    return true;
}

bool stacked_snapshot_exists(const struct plugin *plugin, struct rpc_call *call, const char *id,
                             bool *yes, struct error *err)
{
    Csi__V1__ListSnapshotsRequest request = CSI__V1__LIST_SNAPSHOTS_REQUEST__INIT;
    Csi__V1__ListSnapshotsResponse *response = NULL;

    request.snapshot_id = unconst(id);
    if (!stacked_ask(plugin, call, "ListSnapshots", &request, &response, err) &&
        err->code != ERROR_NOT_FOUND)
        return false;
    *yes = response && response->n_entries > 0;
    return true;
}

/* A driver may say INVALID_ARGUMENT for an id that it cannot have made. What cannot be asked for counts
 * as not there: nothing is done to it. */
bool stacked_exists(const struct plugin *plugin, struct rpc_call *call, enum record_kind kind,
                    const char *id, bool *yes, struct error *err)
{
    const struct quirks *quirks = NULL;
    bool exists = false;

    if (kind == RECORD_VOLUME && !stacked_quirks(plugin, call, &quirks, err))
        return false;
    bool told = kind == RECORD_VOLUME ? volume_exists(plugin, call, id, quirks, &exists, err)
                                      : stacked_snapshot_exists(plugin, call, id, &exists, err);

    if (!told && err->code != ERROR_INVALID_ARGUMENT && err->code != ERROR_UNIMPLEMENTED)
        return false;
    *yes = exists;
    return true;
}

static bool needs_adoption(const struct plugin *plugin, enum record_kind kind, const char *id,
                           struct error *err)
{
    return error_set(
        err, ERROR_FAILED_PRECONDITION,
        "%s has %s %s, but the key broker has no record of it: it was not made through "
        "this driver; an administrator can take it in: tdvolctl volume adopt %s",
        upstream_name(plugin->upstream), kind == RECORD_VOLUME ? "volume" : "snapshot", id, id);
}

/* After the broker said that it has no record. */
static bool without_record(const struct plugin *plugin, struct rpc_call *call,
                           enum record_kind kind, const char *id, struct error *err)
{
    bool exists = false;

    if (err->code != ERROR_NOT_FOUND)
        return false;
    if (!stacked_exists(plugin, call, kind, id, &exists, err))
        return false;
    if (exists)
        return needs_adoption(plugin, kind, id, err);
    return error_set(err, ERROR_NOT_FOUND, "there is no %s %s",
                     kind == RECORD_VOLUME ? "volume" : "snapshot", id);
}

bool stacked_find(const struct plugin *plugin, struct rpc_call *call, enum record_kind kind,
                  const char *id, struct record *out, struct error *err)
{
    return plugin_find(plugin, call, kind, id, out, err) ||
           without_record(plugin, call, kind, id, err);
}

/* --- copies --- */

bool stacked_begin_copy(const struct plugin *plugin, struct rpc_call *call, enum record_kind kind,
                        const char *source_id, const struct keys_copy *copy, struct record *source,
                        struct error *err)
{
    plugin_subject(call, source_id);
    if (!plugin->keys->ops->begin_copy(plugin->keys, plugin_operation(call), source_id, copy,
                                       source, err))
        return without_record(plugin, call, kind, source_id, err);
    if (source->kind != kind)
        return error_set(err, ERROR_NOT_FOUND, "%s is no %s", source_id,
                         kind == RECORD_VOLUME ? "volume" : "snapshot");
    return controller_check_copyable(source, err);
}

bool stacked_end_copy(const struct plugin *plugin, const struct rpc_call *call,
                      const char *source_id, const struct keys_copy *copy, struct error *err)
{
    return plugin->keys->ops->end_copy(plugin->keys, plugin_operation(call), source_id, copy, err);
}

bool stacked_was_erased(const struct error *err)
{
    return err->code == ERROR_NOT_FOUND && strcmp(err->reason, RECORD_ERASED_REASON) == 0;
}

bool stacked_check_id(const struct plugin *plugin, const char *id, struct error *err)
{
    if (id[0] != '\0' && strlen(id) <= VOLUME_ID_MAX)
        return true;
    return error_set(err, ERROR_INTERNAL, "%s answers with an id of %zu bytes; 1 to %d are allowed",
                     upstream_name(plugin->upstream), strlen(id), VOLUME_ID_MAX);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "addons/service.h"

#include "addons/rotate.h"
#include "base/log.h"

#include "addons.pb-c.h"
#include "encryptionkeyrotation.pb-c.h"

#define I(name) Identity__##name
#define R(name) Encryptionkeyrotation__EncryptionKeyRotate##name

/* --- identity --- */

static bool get_identity(struct plugin *plugin, struct rpc_call *call,
                         const I(GetIdentityRequest) * request UNUSED,
                         I(GetIdentityResponse) * response, struct error *err)
{
    response->name = arena_strdup(call->arena, plugin->driver);
    response->vendor_version = arena_strdup(call->arena, plugin->version);
    return (response->name && response->vendor_version) || arena_exhausted(err);
}

static I(Capability) * node_capability(struct arena *arena)
{
    I(Capability) *capability = PLUGIN_MESSAGE(arena, I(Capability), identity__capability__init);
    I(Capability__Service) *inner =
        PLUGIN_MESSAGE(arena, I(Capability__Service), identity__capability__service__init);

    if (!capability || !inner)
        return NULL;
    inner->type = IDENTITY__CAPABILITY__SERVICE__TYPE__NODE_SERVICE;
    capability->type_case = IDENTITY__CAPABILITY__TYPE_SERVICE;
    capability->service = inner;
    return capability;
}

static I(Capability) * rotation_capability(struct arena *arena)
{
    I(Capability) *capability = PLUGIN_MESSAGE(arena, I(Capability), identity__capability__init);
    I(Capability__EncryptionKeyRotation) *inner =
        PLUGIN_MESSAGE(arena, I(Capability__EncryptionKeyRotation),
                       identity__capability__encryption_key_rotation__init);

    if (!capability || !inner)
        return NULL;
    inner->type = IDENTITY__CAPABILITY__ENCRYPTION_KEY_ROTATION__TYPE__ENCRYPTIONKEYROTATION;
    capability->type_case = IDENTITY__CAPABILITY__TYPE_ENCRYPTION_KEY_ROTATION;
    capability->encryption_key_rotation = inner;
    return capability;
}

static bool get_capabilities(struct plugin *plugin UNUSED, struct rpc_call *call,
                             const I(GetCapabilitiesRequest) * request UNUSED,
                             I(GetCapabilitiesResponse) * response, struct error *err)
{
    I(Capability) **list = arena_alloc(call->arena, 2 * sizeof(*list));

    if (!list)
        return arena_exhausted(err);
    list[0] = node_capability(call->arena);
    list[1] = rotation_capability(call->arena);
    if (!list[0] || !list[1])
        return arena_exhausted(err);
    response->capabilities = list;
    response->n_capabilities = 2;
    return true;
}

static bool probe(struct plugin *plugin, struct rpc_call *call UNUSED,
                  const I(ProbeRequest) * request UNUSED, I(ProbeResponse) * response UNUSED,
                  struct error *err)
{
    return plugin_check_usable(plugin, err);
}

/* --- rotation --- */

static bool check_request(const R(Request) * request, struct error *err)
{
    if (request->volume_id[0] == '\0')
        return error_set(err, ERROR_INVALID_ARGUMENT, "volume_id is missing");
    return request->encryption_key[0] == '\0' ||
           error_set(err, ERROR_INVALID_ARGUMENT,
                     "encryption_key: the key broker makes secrets, and takes none: leave it out");
}

/* The broker is asked for nothing that this node cannot do at once. */
static bool check_open(struct plugin *plugin, struct rpc_call *call, const char *id,
                       struct record *record, struct error *err)
{
    if (!plugin_find(plugin, call, RECORD_VOLUME, id, record, err))
        return false;
    return (rotate_is_possible(record) && plugin_is_open_here(plugin, call, id)) ||
           error_set(err, ERROR_FAILED_PRECONDITION,
                     "volume %s is not open for writing on this node: \"tdvolctl volume rotate\" "
                     "has it done when it is staged next",
                     id);
}

/* When the volume has a next secret already, it gets that one: a call that was interrupted is repeated. */
static bool encryption_key_rotate(struct plugin *plugin, struct rpc_call *call,
                                  const R(Request) * request, R(Response) * response UNUSED,
                                  struct error *err)
{
    const char *id = request->volume_id;
    struct record *record = arena_alloc(call->arena, sizeof(*record));

    if (!record)
        return arena_exhausted(err);
    if (!check_request(request, err))
        return false;
    plugin_subject(call, id);
    if (!plugin_check_usable(plugin, err) || !check_open(plugin, call, id, record, err) ||
        !plugin->keys->ops->rotate(plugin->keys, plugin_operation(call), id, record, err) ||
        !rotate_open_volume(plugin, call, id, err))
        return false;
    log_info("the volume has another secret", TEXT("volume", id));
    return true;
}

/* --- the tables --- */

RPC_HANDLER(get_identity, struct plugin, I(GetIdentityRequest), I(GetIdentityResponse))
RPC_HANDLER(get_capabilities, struct plugin, I(GetCapabilitiesRequest), I(GetCapabilitiesResponse))
RPC_HANDLER(probe, struct plugin, I(ProbeRequest), I(ProbeResponse))
RPC_HANDLER(encryption_key_rotate, struct plugin, R(Request), R(Response))

static const struct rpc_method identity_methods[] = {
    { "GetIdentity", get_identity_untyped, 0 },
    { "GetCapabilities", get_capabilities_untyped, 0 },
    { "Probe", probe_untyped, 0 },
};

static const struct rpc_method rotation_methods[] = {
    { "EncryptionKeyRotate", encryption_key_rotate_untyped, RPC_SECRET },
};

const struct rpc_service addons_identity_service = {
    .descriptor = &identity__identity__descriptor,
    .methods = identity_methods,
    .n_methods = ARRAY_LEN(identity_methods),
};

const struct rpc_service addons_rotation_service = {
    .descriptor = &encryptionkeyrotation__encryption_key_rotation_controller__descriptor,
    .methods = rotation_methods,
    .n_methods = ARRAY_LEN(rotation_methods),
};

/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/csi_call.h"

#include "ctl/message.h"
#include "ctl/size.h"

#include <stdlib.h>
#include <string.h>

const char *const csi_access_modes[] = { "single-node-writer",       "single-node-reader-only",
                                         "multi-node-reader-only",   "multi-node-single-writer",
                                         "multi-node-multi-writer",  "single-node-single-writer",
                                         "single-node-multi-writer", NULL };

_Static_assert(ARRAY_LEN(csi_access_modes) ==
                   CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_MULTI_WRITER + 1,
               "one name per access mode, without UNKNOWN");

void *csi_alloc(struct csi_session *session, size_t len)
{
    void *out = arena_alloc(session->arena, len);

    if (!out)
        abort();
    return out;
}

char *csi_text(const char *text)
{
    const union {
        const char *in;
        char *out;
    } cast = { .in = text ? text : "" };

    return cast.out;
}

json_t *csi_call(struct csi_session *session, const ProtobufCServiceDescriptor *service,
                 const char *method, const ProtobufCMessage *request, struct error *err)
{
    ProtobufCMessage *response = NULL;

    session->has_called = true;
    if (!client_call(session->client, service, method, request, session->args->timeout_s * 1000,
                     session->arena, &response, err)) {
        (void)error_wrap(err, "%s", method);
        return NULL;
    }
    return message_to_json(response);
}

json_t *csi_call_if_served(struct csi_session *session, const ProtobufCServiceDescriptor *service,
                           const char *method, const ProtobufCMessage *request, struct error *err)
{
    json_t *out = csi_call(session, service, method, request, err);

    if (!out && err->code == ERROR_UNIMPLEMENTED)
        return json_null();
    return out;
}

Csi__V1__VolumeCapability *csi_capability(struct csi_session *session)
{
    const struct csi_arguments *args = session->args;
    struct parts {
        Csi__V1__VolumeCapability capability;
        Csi__V1__VolumeCapability__AccessMode mode;
        Csi__V1__VolumeCapability__BlockVolume block;
        Csi__V1__VolumeCapability__MountVolume mount;
        char *flags[OPTION_LIST_MAX];
    } *parts = csi_alloc(session, sizeof(*parts));

    csi__v1__volume_capability__init(&parts->capability);
    csi__v1__volume_capability__access_mode__init(&parts->mode);
    parts->mode.mode = (Csi__V1__VolumeCapability__AccessMode__Mode)(args->access_mode + 1);
    parts->capability.access_mode = &parts->mode;
    if (args->block) {
        csi__v1__volume_capability__block_volume__init(&parts->block);
        parts->capability.access_type_case = CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_BLOCK;
        parts->capability.block = &parts->block;
        return &parts->capability;
    }
    csi__v1__volume_capability__mount_volume__init(&parts->mount);
    parts->mount.fs_type = csi_text(args->fs_type);
    for (size_t i = 0; i < args->mount_flags.n; i++)
        parts->flags[i] = csi_text(args->mount_flags.items[i]);
    parts->mount.n_mount_flags = args->mount_flags.n;
    parts->mount.mount_flags = parts->flags;
    parts->capability.access_type_case = CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_MOUNT;
    parts->capability.mount = &parts->mount;
    return &parts->capability;
}

bool csi_capacity_range(struct csi_session *session, Csi__V1__CapacityRange **out,
                        struct error *err)
{
    const struct csi_arguments *args = session->args;
    Csi__V1__CapacityRange *range = csi_alloc(session, sizeof(*range));

    csi__v1__capacity_range__init(range);
    if (args->size && !size_parse("size", args->size, &range->required_bytes, err))
        return false;
    if (args->limit && !size_parse("limit", args->limit, &range->limit_bytes, err))
        return false;
    *out = args->size || args->limit ? range : NULL;
    return true;
}

bool csi_entries(struct csi_session *session, const char *option, const struct option_list *items,
                 const ProtobufCMessageDescriptor *descriptor, struct csi_entry ***out,
                 struct error *err)
{
    struct csi_entry **entries = csi_alloc(session, (items->n + 1) * sizeof(struct csi_entry *));

    for (size_t i = 0; i < items->n; i++) {
        char *key = arena_strdup(session->arena, items->items[i]);
        char *equals = key ? strchr(key, '=') : NULL;

        if (!equals || equals == key)
            return error_set(err, ERROR_INVALID_ARGUMENT, "--%s: \"%s\" is not KEY=VALUE", option,
                             items->items[i]);
        *equals = '\0';
        entries[i] = csi_alloc(session, sizeof(struct csi_entry));
        protobuf_c_message_init(descriptor, entries[i]);
        entries[i]->key = key;
        entries[i]->value = equals + 1;
    }
    *out = entries;
    return true;
}

bool csi_topology(struct csi_session *session, Csi__V1__Topology **out, struct error *err)
{
    const struct option_list *segments = &session->args->segments;
    Csi__V1__Topology *topology = csi_alloc(session, sizeof(*topology));
    struct csi_entry **entries = NULL;

    csi__v1__topology__init(topology);
    if (!csi_entries(session, "segment", segments, &csi__v1__topology__segments_entry__descriptor,
                     &entries, err))
        return false;
    topology->n_segments = segments->n;
    topology->segments = (void *)entries;
    *out = segments->n ? topology : NULL;
    return true;
}

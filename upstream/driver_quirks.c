/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/driver_quirks.h"

#define INFO_BYTES_MAX (1u << 20)

/* A socket's path begins with a slash, which no driver has in its name. */
static bool is_name(const char *text)
{
    return text[0] != '/';
}

bool upstream_quirks(struct upstream *upstream, uint64_t deadline_ms, const struct quirks **out,
                     struct error *err)
{
    const Csi__V1__GetPluginInfoRequest request = CSI__V1__GET_PLUGIN_INFO_REQUEST__INIT;
    auto_arena struct arena arena = { .limit = INFO_BYTES_MAX };
    const char *name = upstream_name(upstream);
    ProtobufCMessage *response = NULL;

    if (!is_name(name)) {
        if (!upstream_call(upstream, &csi__v1__identity__descriptor, "GetPluginInfo", &request.base,
                           deadline_ms, &arena, &response, err))
            return false;
        name = ((const Csi__V1__GetPluginInfoResponse *)response)->name;
    }
    *out = quirks_of(name);
    return true;
}

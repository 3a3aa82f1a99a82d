/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/decode.h"
#include "proto/dispatch.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/proto/sample.h"

#include <stdlib.h>

/*
 * The first byte chooses the method, the rest is the request. An accepted request must be accepted
 * again after packing, and must pack to the same length.
 */

static const struct rpc_limits limits = { 65536, 128, 4096 };
static const struct rpc_limits wide = { 1 << 20, 128, 4096 };

static bool repack(void *service, struct rpc_call *call, const ProtobufCMessage *request,
                   ProtobufCMessage *response, struct error *err)
{
    size_t len = protobuf_c_message_get_packed_size(request);
    uint8_t *bytes = arena_alloc(call->arena, len);
    ProtobufCMessage *again = NULL;

    (void)service;
    (void)response;
    if (!bytes)
        return arena_exhausted(err);
    if (protobuf_c_message_pack(request, bytes) != len)
        abort();
    if (!rpc_decode(request->descriptor, &wide, (struct rpc_bytes){ bytes, len }, call->arena,
                    &again, err)) {
        if (err->code != ERROR_RESOURCE_EXHAUSTED)
            abort();
        return false;
    }
    if (protobuf_c_message_get_packed_size(again) != len)
        abort();
    return true;
}

static const ProtobufCServiceDescriptor *choose(unsigned number, const char **method)
{
    unsigned n = 0;

    for (size_t s = 0; s < SAMPLE_SERVICES; s++)
        n += sample_services[s]->n_methods;
    number %= n;
    for (size_t s = 0;; s++) {
        if (number < sample_services[s]->n_methods) {
            *method = sample_services[s]->methods[number].name;
            return sample_services[s];
        }
        number -= sample_services[s]->n_methods;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    auto_arena struct arena arena = { .blocks = NULL };
    struct rpc_call call = { .arena = &arena };
    struct rpc_method method = { .handle = repack };
    struct error err = ERROR_INIT;
    struct rpc_bytes out = { .len = 0 };

    if (len == 0)
        return 0;
    const struct rpc_service service = { choose(bytes[0], &method.name), &method, 1 };
    arena_init(&arena, 4 << 20);
    if (!rpc_dispatch(&service, &method, NULL, &call, &limits,
                      (struct rpc_bytes){ bytes + 1, len - 1 }, &out, &err) &&
        (err.code == ERROR_NONE || err.text[0] == '\0'))
        abort();
    return 0;
}

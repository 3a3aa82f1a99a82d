/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/dispatch.h"

#include "base/clock.h"

#include <string.h>

bool rpc_call_is_cancelled(const struct rpc_call *call)
{
    return call->is_cancelled && call->is_cancelled(call->cookie);
}

static const ProtobufCMethodDescriptor *describe(const struct rpc_service *service,
                                                 const struct rpc_method *method)
{
    return protobuf_c_service_descriptor_get_method_by_name(service->descriptor, method->name);
}

/* Every csi_secret field has this name and is in the request itself: see
 * tests/lint/check_csi_proto. */
static bool has_secrets(const ProtobufCMessageDescriptor *type)
{
    return protobuf_c_message_descriptor_get_field_by_name(type, "secrets");
}

static bool check_row(const struct rpc_service *service, const struct rpc_method *method,
                      struct error *err)
{
    const ProtobufCMethodDescriptor *description = describe(service, method);

    if (!description)
        return error_set(err, ERROR_INTERNAL, "service %s has no method %s",
                         service->descriptor->name, method->name);
    if (!method->handle)
        return error_set(err, ERROR_INTERNAL, "method %s.%s has no handler",
                         service->descriptor->name, method->name);
    if (has_secrets(description->input) && !(method->flags & RPC_SECRET))
        return error_set(err, ERROR_INTERNAL, "method %s.%s must be flagged RPC_SECRET",
                         service->descriptor->name, method->name);
    return true;
}

bool rpc_service_check(const struct rpc_service *service, struct error *err)
{
    for (size_t i = 0; i < service->n_methods; i++) {
        if (!check_row(service, &service->methods[i], err))
            return false;
        for (size_t j = 0; j < i; j++) {
            if (strcmp(service->methods[i].name, service->methods[j].name) == 0)
                return error_set(err, ERROR_INTERNAL, "method %s.%s is in the table twice",
                                 service->descriptor->name, service->methods[i].name);
        }
    }
    return true;
}

const struct rpc_method *rpc_service_find(const struct rpc_service *service, const char *path)
{
    const char *name = service->descriptor->name;
    size_t len = strlen(name);

    if (path[0] != '/' || strncmp(path + 1, name, len) != 0 || path[1 + len] != '/')
        return NULL;
    for (size_t i = 0; i < service->n_methods; i++) {
        if (strcmp(path + 1 + len + 1, service->methods[i].name) == 0)
            return &service->methods[i];
    }
    return NULL;
}

size_t rpc_method_limit(const struct rpc_method *method, const struct rpc_limits *limits)
{
    return method->message_bytes > 0 ? method->message_bytes : limits->message_bytes;
}

/* The largest limit of its methods. */
size_t rpc_service_limit(const struct rpc_service *service, const struct rpc_limits *limits)
{
    size_t largest = limits->message_bytes;

    for (size_t i = 0; i < service->n_methods; i++) {
        size_t limit = rpc_method_limit(&service->methods[i], limits);

        largest = limit > largest ? limit : largest;
    }
    return largest;
}

static bool pack(const ProtobufCMessage *message, struct arena *arena, struct rpc_bytes *out,
                 struct error *err)
{
    uint8_t *bytes = arena_alloc(arena, protobuf_c_message_get_packed_size(message));

    if (!bytes)
        return arena_exhausted(err);
    *out = (struct rpc_bytes){ bytes, protobuf_c_message_pack(message, bytes) };
    return true;
}

bool rpc_dispatch(const struct rpc_service *service, const struct rpc_method *method, void *object,
                  struct rpc_call *call, const struct rpc_limits *limits, struct rpc_bytes request,
                  struct rpc_bytes *response, struct error *err)
{
    const ProtobufCMethodDescriptor *description = describe(service, method);
    ProtobufCMessage *question = NULL;
    struct rpc_limits own = *limits;

    own.message_bytes = rpc_method_limit(method, limits);
    if (!description)
        return error_set(err, ERROR_UNIMPLEMENTED, "no method %s", method->name);
    if ((method->flags & RPC_SECRET) && !call->arena->secret)
        return error_set(err, ERROR_INTERNAL, "%s needs a secret arena", method->name);
    if (!rpc_decode(description->input, &own, request, call->arena, &question, err))
        return false;

    ProtobufCMessage *answer = arena_alloc(call->arena, description->output->sizeof_message);
    if (!answer)
        return arena_exhausted(err);
    protobuf_c_message_init(description->output, answer);
    if (!method->handle(object, call, question, answer, err)) {
        if (err->code == ERROR_NONE)
            return error_set(err, ERROR_INTERNAL, "the handler of %s failed without an error",
                             method->name);
        return false;
    }
    return pack(answer, call->arena, response, err);
}

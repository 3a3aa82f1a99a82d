/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/client.h"

#include "base/clock.h"
#include "base/secret.h"
#include "proto/decode.h"
#include "proto/exchange.h"
#include "proto/grpc_runtime.h"
#include "proto/link.h"
#include "proto/peer.h"
#include "proto/resolve.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    METHOD_BYTES = 128,
    TEXT_BYTES = 64 * 1024,
};

struct client {
    struct link *link;
};

bool client_new(const char *target, const struct client_tls *tls, struct client **out,
                struct error *err)
{
    return client_new_with(target, tls, &resolver_system, out, err);
}

bool client_new_with(const char *target, const struct client_tls *tls,
                     const struct resolver *resolver, struct client **out, struct error *err)
{
    const struct link_options options = { target, tls, resolver };
    auto_free struct client *client = calloc(1, sizeof(*client));

    if (!client)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for a client of %s", target);
    if (!link_new(&options, &client->link, err))
        return error_wrap(err, "make a client of %s", target);
    *out = TAKE_PTR(client);
    return true;
}

bool client_set_tls(struct client *client, const struct client_tls *tls, struct error *err)
{
    return link_set_tls(client->link, tls, err);
}

bool client_check(struct client *client, uint64_t stuck_ms, struct error *err)
{
    return link_check(client->link, stuck_ms, err);
}

void client_free(struct client *client)
{
    if (!client)
        return;
    link_free(client->link);
    free(client);
}

static bool read_answer(struct exchange *x, const ProtobufCMethodDescriptor *description,
                        struct arena *arena, ProtobufCMessage **out, struct error *err)
{
    static const struct rpc_limits limits = { EXCHANGE_ANSWER_BYTES, TEXT_BYTES, TEXT_BYTES };
    struct rpc_bytes answer = { .len = 0 };

    if (!x->answer)
        return error_set(err, ERROR_INTERNAL, "%s: the answer is empty", description->name);
    if (!grpc_runtime_read(x->answer, arena->secret, arena, &answer, err))
        return false;
    if (!rpc_decode(description->output, &limits, answer, arena, out, err)) {
        if (err->code == ERROR_INVALID_ARGUMENT) /* it is not about the caller's argument */
            err->code = ERROR_INTERNAL;
        return error_wrap(err, "%s: bad answer", description->name);
    }
    return true;
}

static void wipe_and_free(void *bytes, size_t len)
{
    bytes_wipe(bytes, len);
    free(bytes);
}

/* The request may have secrets. gRPC writes it to the socket from this very memory. */
static grpc_byte_buffer *pack(const ProtobufCMessage *message)
{
    size_t len = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = malloc(len + 1);

    if (!bytes)
        return NULL;
    (void)protobuf_c_message_pack(message, bytes);
    grpc_slice slice = grpc_slice_new_with_len(bytes, len, wipe_and_free);
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);

    grpc_slice_unref(slice);
    return buffer;
}

bool client_ask(struct client *client, const struct client_question *question, struct arena *arena,
                struct client_reply *out, struct error *err)
{
    const ProtobufCMethodDescriptor *description =
        protobuf_c_service_descriptor_get_method_by_name(question->service, question->method);
    char path[METHOD_BYTES];
    struct link_call call = { .path = path, .until_ms = UINT64_MAX };
    struct rpc_peer peer = { .certificate_pem = NULL };
    ProtobufCMessage *message = NULL;

    if (!description || description->input != question->request->descriptor)
        return error_set(err, ERROR_INTERNAL, "%s has no method %s for %s", question->service->name,
                         question->method, question->request->descriptor->name);
    (void)snprintf(path, sizeof(path), "/%s/%s", question->service->name, question->method);
    if (question->timeout_ms <= INT32_MAX)
        call.until_ms = clock_now_ms() + question->timeout_ms;

    grpc_byte_buffer *request = pack(question->request);

    if (!request)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for a request");
    auto_exchange struct exchange x = exchange_begin(request);
    if (!link_call(client->link, &call, &x, err))
        return false;
    bool is_run = exchange_run(&x);
    link_called(client->link, &call, &x);
    if (!is_run)
        return error_set(err, ERROR_INTERNAL, "%s: gRPC refuses the call", path);
    if (x.status != GRPC_STATUS_OK) {
        exchange_explain(&x, path, err);
        return false;
    }
    if (!read_answer(&x, description, arena, &message, err) ||
        !peer_read(x.call, arena, &peer, err))
        return false;
    *out = (struct client_reply){ message, peer.certificate_pem };
    return true;
}

bool client_call(struct client *client, const ProtobufCServiceDescriptor *service,
                 const char *method, const ProtobufCMessage *request, uint64_t timeout_ms,
                 struct arena *arena, ProtobufCMessage **response, struct error *err)
{
    const struct client_question question = { service, method, request, timeout_ms };
    struct client_reply reply = { .message = NULL };

    if (!client_ask(client, &question, arena, &reply, err))
        return false;
    *response = reply.message;
    return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/by_worker.h"

#include "base/clock.h"
#include "proto/decode.h"
#include "proto/grpc_wire.h"
#include "proto/status.h"

#include <stdio.h>
#include <string.h>

#include "csi.pb-c.h"

enum {
    PATH_BYTES = 128,
    ANSWER_BYTES = 64 * 1024,
    TEXT_BYTES = 4096,
    MARGIN_MS = 500, /* the worker ends the call so much before its own end */
};

static bool find_method(const ProtobufCServiceDescriptor *service, const char *method,
                        enum block_upstream_method *out, struct error *err)
{
    char path[PATH_BYTES];

    (void)snprintf(path, sizeof(path), "/%s/%s", service->name, method);
    for (int i = 1; i < BLOCK_UPSTREAM_METHOD_COUNT; i++) {
        const char *known = block_upstream_path((enum block_upstream_method)i);

        if (known && strcmp(known, path) == 0) {
            *out = (enum block_upstream_method)i;
            return true;
        }
    }
    return error_set(err, ERROR_INTERNAL, "no worker calls %s", path);
}

/* The driver's status, as an error. */
static bool check_answer(const char *method, const struct block_upstream_answer *answer,
                         struct error *err)
{
    char text[GRPC_CALL_TEXT_MAX];
    enum error_code code = status_to_error((int)answer->status);

    if (answer->status == 0)
        return true;
    grpc_wire_unescape(answer->text, strlen(answer->text), text);
    return error_set(err, code, "%s%s%s", text[0] ? "" : method, text[0] ? "" : ": ",
                     text[0] ? text : error_code_name(code));
}

/* --- reads --- */

struct collected {
    uint8_t *bytes; /* ANSWER_BYTES */
    size_t len;
};

static bool collect(void *cookie, const struct block_data *data, struct error *err)
{
    struct collected *c = cookie;

    if (data->part != BLOCK_DATA_ANSWER || data->len > ANSWER_BYTES - c->len)
        return error_set(err, ERROR_INTERNAL, "the worker's answer is too long");
    memcpy(c->bytes + c->len, data->bytes, data->len);
    c->len += data->len;
    return true;
}

static bool decode(const ProtobufCMethodDescriptor *description, const struct collected *c,
                   struct arena *arena, ProtobufCMessage **out, struct error *err)
{
    static const struct rpc_limits limits = { ANSWER_BYTES, TEXT_BYTES, ANSWER_BYTES };

    if (rpc_decode(description->output, &limits, (struct rpc_bytes){ c->bytes, c->len }, arena, out,
                   err))
        return true;
    if (err->code == ERROR_INVALID_ARGUMENT) /* it is not about the caller's argument */
        err->code = ERROR_INTERNAL;
    return error_wrap(err, "%s: bad answer", description->name);
}

bool by_worker_read(const struct workers *workers, const ProtobufCServiceDescriptor *service,
                    const char *method, uint64_t limit_ms, struct arena *arena,
                    ProtobufCMessage **response, struct error *err)
{
    static const struct block_hooks hooks = { .data = collect };
    auto_arena struct arena scratch = { .limit = 2 * ANSWER_BYTES };
    struct block_request *request = block_request_new(&scratch, BLOCK_UPSTREAM_READ, "");
    struct collected answer = { .bytes = arena_alloc(&scratch, ANSWER_BYTES) };
    const struct block_run run = {
        .operation = method, .request = request, .hooks = &hooks, .hook_cookie = &answer
    };
    enum block_upstream_method number = 0;
    struct block_result result;

    if (!request || !answer.bytes)
        return arena_exhausted(err);
    if (!find_method(service, method, &number, err))
        return false;
    request->upstream.method = number;
    request->deadline_ms = clock_now_ms() + limit_ms + MARGIN_MS;
    return workers->run(workers->cookie, &run, &result, err) &&
           check_answer(method, &result.upstream, err) &&
           decode(protobuf_c_service_descriptor_get_method_by_name(service, method), &answer, arena,
                  response, err);
}

/* --- calls about a volume --- */

static bool pack(const ProtobufCMessage *message, struct arena *arena,
                 struct block_request *request, const uint8_t **out, struct error *err)
{
    size_t len = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = NULL;

    if (len > BLOCK_BODY_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "contexts and secrets have %zu bytes, at most %zu are allowed", len,
                         BLOCK_BODY_MAX);
    bytes = arena_alloc(arena, len + 1);
    if (!bytes)
        return arena_exhausted(err);
    request->upstream.body_len = (uint32_t)protobuf_c_message_pack(message, bytes);
    *out = bytes;
    return true;
}

bool by_worker_call(const struct workers *workers, const struct upstream_node_call *call,
                    uint64_t limit_ms, struct arena *arena, struct error *err)
{
    struct block_request *request = block_request_new(arena, BLOCK_UPSTREAM_CALL, call->volume_id);
    struct block_run run = { .operation = call->method, .request = request };
    enum block_upstream_method number = 0;
    struct block_result result;

    if (!request)
        return arena_exhausted(err);
    if (!workers)
        return error_set(err, ERROR_INTERNAL, "only a node calls a node plugin");
    if (!find_method(&csi__v1__node__descriptor, call->method, &number, err) ||
        !pack(call->message, arena, request, &run.body, err))
        return false;
    request->upstream.method = number;
    request->upstream.access_mode = (uint32_t)call->access_mode;
    request->upstream.stages = call->stages;
    request->deadline_ms = clock_now_ms() + limit_ms + MARGIN_MS;
    return workers->run(workers->cookie, &run, &result, err) &&
           check_answer(call->method, &result.upstream, err);
}

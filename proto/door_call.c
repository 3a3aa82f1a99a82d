/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/door_call.h"

#include "proto/grpc_wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ARENA_BYTES = 16 * 1024 * 1024,
    SECRET_ARENA_BYTES = 1024 * 1024, /* counts against RLIMIT_MEMLOCK */
};

bool door_peer_new(char **certificate_pem, bool session_reused, const char *address,
                   struct door_peer **out, struct error *err)
{
    struct door_peer *peer = calloc(1, sizeof(*peer));

    if (!peer)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for a connection");
    atomic_init(&peer->holders, 1);
    peer->certificate_pem = TAKE_PTR(*certificate_pem);
    (void)snprintf(peer->address, sizeof(peer->address), "%s", address);
    peer->rpc = (struct rpc_peer){ .certificate_pem = peer->certificate_pem,
                                   .session_reused = session_reused,
                                   .address = peer->address };
    *out = peer;
    return true;
}

void door_peer_release(struct door_peer *peer)
{
    if (!peer || atomic_fetch_sub(&peer->holders, 1) > 1)
        return;
    free(peer->certificate_pem);
    free(peer);
}

struct door_call *door_call_new(struct door_peer *peer)
{
    struct door_call *call = calloc(1, sizeof(*call));

    if (!call)
        return NULL;
    call->peer = peer;
    (void)atomic_fetch_add(&peer->holders, 1);
    atomic_init(&call->is_cancelled, false);
    return call;
}

void door_call_drop_request(struct door_call *call)
{
    if (call->request && (call->method->flags & RPC_SECRET) != 0)
        bytes_wipe(call->request, call->request_bytes);
    free_at(&call->request);
    call->request_bytes = 0;
}

void door_call_free(struct door_call *call)
{
    if (!call)
        return;
    door_call_drop_request(call);
    free(call->answer);
    door_peer_release(call->peer);
    free(call);
}

/* The deadline counts also when the client does not say that it has given up. */
static bool is_cancelled(void *cookie)
{
    const struct door_call *call = cookie;

    return atomic_load(&call->is_cancelled) || clock_now_ms() >= call->deadline_ms;
}

static bool check_in_time(const struct door_call *call, struct error *err)
{
    if (atomic_load(&call->is_cancelled))
        return error_set(err, ERROR_CANCELLED, "the client gave up before %s began", call->path);
    return clock_now_ms() < call->deadline_ms ||
           error_set(err, ERROR_DEADLINE_EXCEEDED, "the deadline passed before %s began",
                     call->path);
}

static bool frame_answer(struct door_call *call, struct rpc_bytes message, struct error *err)
{
    call->answer = malloc(GRPC_WIRE_PREFIX_LEN + message.len);
    if (!call->answer || message.len > UINT32_MAX)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the answer");
    grpc_wire_write_prefix(message.len, call->answer);
    if (message.len > 0)
        memcpy(call->answer + GRPC_WIRE_PREFIX_LEN, message.bytes, message.len);
    call->answer_bytes = GRPC_WIRE_PREFIX_LEN + message.len;
    return true;
}

static bool run(struct door_call *call, struct rpc_call *rpc, const struct rpc_limits *limits,
                struct error *err)
{
    static const uint8_t nothing[1];
    struct rpc_bytes request = { call->request ? call->request : nothing, call->request_bytes };
    struct rpc_bytes response = { .len = 0 };

    return check_in_time(call, err) &&
           rpc_dispatch(call->binding->service, call->method, call->binding->object, rpc, limits,
                        request, &response, err) &&
           frame_answer(call, response, err);
}

void door_call_run(struct door_call *call, const struct server_options *options)
{
    auto_arena struct arena arena = { .blocks = NULL };
    struct rpc_call rpc = { .method = call->path,
                            .arena = &arena,
                            .peer = &call->peer->rpc,
                            .deadline_ms = call->deadline_ms,
                            .is_cancelled = is_cancelled,
                            .cookie = call };

    if (call->method->flags & RPC_SECRET)
        arena_init_secret(&arena, SECRET_ARENA_BYTES);
    else
        arena_init(&arena, ARENA_BYTES);
    call->err = (struct error)ERROR_INIT;
    if (run(call, &rpc, &options->limits, &call->err))
        call->err = (struct error)ERROR_INIT;
    else if (call->err.code == ERROR_NONE)
        error_set(&call->err, ERROR_INTERNAL, "%s failed without an error", call->path);
    door_call_drop_request(call);
    if (options->observe)
        options->observe(options->cookie, &rpc, &call->err, clock_now_ms() - call->arrived_ms);
}

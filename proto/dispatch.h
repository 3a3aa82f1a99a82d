/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "proto/decode.h"

/*
 * RPC services as const tables over protobuf-c descriptors. Takes bytes and gives bytes. It does
 * not use gRPC, so that tests and fuzzers can call it directly.
 */

struct rpc_peer {
    const char *certificate_pem; /* TLS leaf, not verified by gRPC; NULL on unix sockets */
    bool session_reused;         /* TLS resumption; the broker refuses it */
    const char *address;         /* host, without port; for limits and logs; NULL on unix sockets */
    const uint8_t *server_key_sha256; /* of our own certificate as the peer saw it; NULL: no TLS */
};

/* One call. The handler reads it; arena memory lives until the answer is packed. */
struct rpc_call {
    const char *method; /* "/csi.v1.Node/NodeStageVolume" */
    struct arena *arena;
    const struct rpc_peer *peer;
    uint64_t deadline_ms;               /* by clock_now_ms(); UINT64_MAX: none */
    bool (*is_cancelled)(void *cookie); /* the client has gone; may be NULL */
    void *cookie;
    char subject[256]; /* the volume or snapshot; the handler sets it for the observer */
};
bool rpc_call_is_cancelled(const struct rpc_call *call);

/* The request is valid (UTF-8, lengths) and never NULL. The response is initialised; everything it
 * points to must be a literal or from call->arena. */
typedef bool rpc_handler(void *service, struct rpc_call *call, const ProtobufCMessage *request,
                         ProtobufCMessage *response, struct error *err);

enum {
    RPC_SECRET = 1,        /* the request has secrets: decode into a secret arena */
    RPC_FOR_STRANGERS = 2, /* anybody gets an answer: it does not show that the caller is known */
};

struct rpc_method {
    const char *name; /* as in the .proto file */
    rpc_handler *handle;
    unsigned flags;
    size_t message_bytes; /* limit for its requests; 0: the server's limit */
};

struct rpc_service {
    const ProtobufCServiceDescriptor *descriptor;
    const struct rpc_method *methods;
    size_t n_methods;
};

/*
 * Gives a typed handler the untyped shape the table needs:
 *   static bool node_stage_volume(struct node *, struct rpc_call *, const Csi__V1__X *,
 *                                 Csi__V1__Y *, struct error *);
 *   RPC_HANDLER(node_stage_volume, struct node, Csi__V1__X, Csi__V1__Y)
 * makes node_stage_volume_untyped. Every generated message starts with its ProtobufCMessage, so
 * that the C standard allows the casts.
 */
#define RPC_HANDLER(fn, Service, Request, Response)                                       \
    static bool fn##_untyped(void *service, struct rpc_call *call,                        \
                             const ProtobufCMessage *request, ProtobufCMessage *response, \
                             struct error *err)                                           \
    {                                                                                     \
        return fn((Service *)service, call, (const Request *)(const void *)request,       \
                  (Response *)(void *)response, err);                                     \
    }

/* Checks that each row names a method of the descriptor, and none twice. For start-up and tests. */
MUST_USE bool rpc_service_check(const struct rpc_service *service, struct error *err);

/* NULL when the method is not in the table: the caller answers UNIMPLEMENTED. path is
 * "/package.Service/Method". */
const struct rpc_method *rpc_service_find(const struct rpc_service *service, const char *path);

size_t rpc_method_limit(const struct rpc_method *method, const struct rpc_limits *limits);
size_t rpc_service_limit(const struct rpc_service *service, const struct rpc_limits *limits);

/*
 * Decodes the request into call->arena, validates it, calls the handler, and packs the response
 * into the arena. INVALID_ARGUMENT for malformed bytes, invalid UTF-8, NUL or control characters,
 * duplicate map keys and excessive lengths. Otherwise the error is the handler's.
 */
MUST_USE bool rpc_dispatch(const struct rpc_service *service, const struct rpc_method *method,
                           void *object, struct rpc_call *call, const struct rpc_limits *limits,
                           struct rpc_bytes request, struct rpc_bytes *response, struct error *err);

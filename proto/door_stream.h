/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "proto/door_call.h"
#include "proto/grpc_wire.h"
#include "proto/network.h"

/*
 * One HTTP/2 stream of the door: a unary gRPC request while it arrives (gRPC's PROTOCOL-HTTP2.md,
 * "Requests"), then the place for its answer. It judges what arrives, and knows no HTTP/2 library.
 * Only the poller uses it.
 */
#define DOOR_HEADER_BYTES_MAX 8192 /* counted as in RFC 9113, section 6.5.2 */

enum door_stream_state {
    DOOR_STREAM_HEADER,
    DOOR_STREAM_BODY,
    DOOR_STREAM_CALLED, /* a worker has the call, or will have it */
    DOOR_STREAM_ANSWERED,
};

struct door_stream {
    TAILQ_ENTRY(door_stream) link;
    void *session;
    int32_t id;
    enum door_stream_state state;
    bool has_ended; /* the request: the client sends nothing more */
    bool is_cut;    /* answered before the request has ended */
    bool is_sent;   /* the whole answer */
    uint64_t begun_ms, answered_ms;

    /* from the header */
    char path[DOOR_PATH_MAX];
    bool is_post, is_grpc, takes_trailers, is_encoded, has_bad_timeout, has_long_path;
    uint64_t timeout_ms; /* UINT64_MAX: none */
    size_t header_bytes;
    const struct server_binding *binding;
    const struct rpc_method *method;

    /* the message */
    struct intake intake;
    uint8_t prefix[GRPC_WIRE_PREFIX_LEN];
    size_t prefix_bytes;
    uint8_t *body; /* allocated as its bytes arrive, not as they are announced */
    size_t body_bytes, body_size, body_announced;

    struct door_call *call; /* NULL until it is CALLED; then the stream's again when ANSWERED */
    size_t sent_bytes;      /* of the answer */
};
TAILQ_HEAD(door_streams, door_stream);

/* NULL: no memory. */
struct door_stream *door_stream_new(void *session, int32_t id, uint64_t now_ms);
void door_stream_free(struct door_stream *stream); /* it has no intake and no call any more */

/* Takes one field of the header. */
void door_stream_take_field(struct door_stream *stream, const char *name, size_t name_len,
                            const char *value, size_t value_len);

/* 200, or the HTTP status that refuses what is no gRPC request. */
unsigned door_stream_http_status(const struct door_stream *stream);

/* Checks the header of a gRPC request, and finds its method. The error is for the client. */
MUST_USE bool door_stream_check_header(struct door_stream *stream,
                                       const struct server_binding *bindings, size_t n,
                                       struct error *err);

/* How many bytes of memory these bytes of the body need on top. */
size_t door_stream_growth(const struct door_stream *stream, size_t len);

/* Takes bytes of the body. RESOURCE_EXHAUSTED when the message is longer than its method allows. */
MUST_USE bool door_stream_take_body(struct door_stream *stream, const struct rpc_limits *limits,
                                    const uint8_t *bytes, size_t len, struct error *err);

void door_stream_drop_body(struct door_stream *stream);

/* The request has ended. Makes the call, to which the body moves. */
MUST_USE bool door_stream_make_call(struct door_stream *stream, struct door_peer *peer,
                                    struct door_call **out, struct error *err);

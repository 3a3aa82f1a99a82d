/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "proto/door_call.h"
#include "proto/network.h"

/*
 * HTTP/2 (RFC 9113) of one connection, by nghttp2, and gRPC over it (gRPC's PROTOCOL-HTTP2.md). It
 * takes bytes and gives bytes: no sockets, no TLS, no threads. What a client may cost is limited
 * here: streams, resets, control frames, headers, messages and the time for each. Only the poller
 * uses it.
 */
#define DOOR_STREAMS_MAX    128    /* at the same time */
#define DOOR_FIRST_FRAME_MS 10000u /* until the client's SETTINGS */
#define DOOR_HEADER_MS      5000u  /* for one header, however many frames it has */
#define DOOR_ANSWER_MS      20000u /* to read one answer */

struct door_session;

/* What a session needs from the connection around it. It outlives the session. */
struct door_session_host {
    void *cookie;
    const struct server_binding *bindings;
    size_t n_bindings;
    const struct rpc_limits *limits;
    struct networks *networks;
    struct network *network;
    struct door_peer *peer;

    /* Takes the call, which comes back by door_session_answer(). False: no room. */
    bool (*submit)(void *cookie, struct door_call *call);
    /* The client has gone: the call's stream is NULL. */
    void (*abandon)(void *cookie, struct door_call *call);
    /* The answer has been sent, or thrown away: the call is the host's. */
    void (*release)(void *cookie, struct door_call *call);
    /* A request was turned away; why: a word of proto/endpoint.h. */
    void (*turned_away)(void *cookie, const char *why);
    /* There is something to send; not called from within door_session_take(). */
    void (*wake)(void *cookie);
};

MUST_USE bool door_session_new(const struct door_session_host *host, struct door_session **out,
                               struct error *err);
void door_session_free(struct door_session *session); /* abandons its calls; NULL is allowed */

/* Takes bytes from the client. False: the client has broken the rules. What is left to send says
 * so; then the connection ends. */
MUST_USE bool door_session_take(struct door_session *session, const uint8_t *bytes, size_t len);

/* The next bytes for the client, at most one frame; they are valid until the next call. 0: nothing
 * more for now. */
size_t door_session_give(struct door_session *session, const uint8_t **bytes);

/* Answers a call whose stream is not NULL, by its err or its answer. */
void door_session_answer(struct door_call *call);
void *door_session_cookie_of(const struct door_call *call); /* the host's */

/* Refuses requests that take too long. False: the client has to be cut off. */
MUST_USE bool door_session_check_time(struct door_session *session, uint64_t now_ms);

void door_session_stop(struct door_session *session); /* GOAWAY: no new calls */

size_t door_session_streams(const struct door_session *session);
bool door_session_has_ended(const struct door_session *session); /* no more to read or send */

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "proto/endpoint.h"

#include <protobuf-c/protobuf-c.h>

/* The gRPC client: unary calls with a deadline to one server (proto/link.h). Thread-safe. */
struct client;
struct resolver; /* proto/resolve.h */

/* target: "unix:/path" or "host:port". tls is NULL for unix sockets. Does not connect yet. */
MUST_USE bool client_new(const char *target, const struct client_tls *tls, struct client **out,
                         struct error *err);
/* The same with other look-ups of names. resolver: outlives the process' look-ups. */
MUST_USE bool client_new_with(const char *target, const struct client_tls *tls,
                              const struct resolver *resolver, struct client **out,
                              struct error *err);
void client_free(struct client *client); /* NULL is allowed; no call may be in progress */

/* FAILED_PRECONDITION when only a new process can help: see link_check(). */
MUST_USE bool client_check(struct client *client, uint64_t stuck_ms, struct error *err);

/* Calls that start from now on use these, over a new connection. The server's name stays. */
MUST_USE bool client_set_tls(struct client *client, const struct client_tls *tls,
                             struct error *err);

struct client_question {
    const ProtobufCServiceDescriptor *service;
    const char *method;
    const ProtobufCMessage *request;
    uint64_t timeout_ms;
};

struct client_reply {
    ProtobufCMessage *message;
    const char *certificate_pem; /* of the server, from the TLS session of this call; may be NULL */
};

/*
 * Calls service's method by name with a typed request; the response is decoded into the arena.
 * Errors carry the peer's status code, message and reason; UNAVAILABLE when it cannot be reached,
 * DEADLINE_EXCEEDED after timeout_ms. Use a secret arena for sealed and secret replies.
 */
MUST_USE bool client_ask(struct client *client, const struct client_question *question,
                         struct arena *arena, struct client_reply *out, struct error *err);

/* The same without the server's certificate: any server that tls trusts may answer. */
MUST_USE bool client_call(struct client *client, const ProtobufCServiceDescriptor *service,
                          const char *method, const ProtobufCMessage *request, uint64_t timeout_ms,
                          struct arena *arena, ProtobufCMessage **response, struct error *err);

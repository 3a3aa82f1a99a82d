/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "base/secret.h"

#include <protobuf-c/protobuf-c.h>

/* The gRPC client: unary calls with a deadline over one channel. Thread-safe. */
struct client;

struct client_tls {
    const char *ca_pem;          /* pins the server */
    const char *certificate_pem; /* of the client */
    const struct secret *private_key_pem;
    const char *server_name; /* in the certificate, when it differs from the address; or NULL */
};

/* target: "unix:/path" or "host:port". tls is NULL for unix sockets. Does not connect yet. */
MUST_USE bool client_new(const char *target, const struct client_tls *tls, struct client **out,
                         struct error *err);
void client_free(struct client *client);

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

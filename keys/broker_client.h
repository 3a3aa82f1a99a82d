/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "base/secret.h"
#include "keys/call_metrics.h"
#include "proto/client.h"

#include <protobuf-c/protobuf-c.h>

/*
 * Calls to the key broker. All callers use this struct, so tests can put a broker of their own in
 * its place. Thread-safe.
 */
struct broker_transport {
    /* method: of service KeyBroker. operation: the RPC (or background job) that needs the call; it
     * names the fault point before the call. The response lies in the arena. */
    bool (*call)(void *cookie, const char *operation, const char *method,
                 const ProtobufCMessage *request, struct arena *arena, ProtobufCMessage **response,
                 struct error *err);
    void *cookie;
};

/* The way to one address of the broker; thread-safe as well. Its errors do not have the reasons of
 * volume health yet: keys/broker_set.c adds those. */
struct broker_route {
    const char *address;
    bool (*ask)(void *cookie, const char *operation, const struct client_question *question,
                struct arena *arena, struct client_reply *out, struct error *err);
    void *cookie;
};

/* The real route: a TLS channel. */
struct broker_client;

struct broker_client_options {
    const char *address;         /* host:port */
    const char *server_name;     /* in the broker's certificate; NULL: the address */
    const char *ca_pem;          /* the only CA that may sign the broker's certificate */
    const char *certificate_pem; /* ours */
    const struct secret *private_key_pem;
    const struct resolver *resolver; /* of names */
    struct metrics *metrics;
};

/* Copies the address; does not connect yet. */
MUST_USE bool broker_client_new(const struct broker_client_options *options,
                                struct broker_client **out, struct error *err);
/* Calls from now on show this certificate and trust this CA. The server's name stays. */
MUST_USE bool broker_client_renew(struct broker_client *client, const struct client_tls *tls,
                                  struct error *err);
/* FAILED_PRECONDITION when only a new process can help. */
MUST_USE bool broker_client_check(struct broker_client *client, struct error *err);
void broker_client_free(struct broker_client *client);
/* Good for as long as the client lives. */
struct broker_route broker_client_route(struct broker_client *client);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/arena.h"
#include "base/error.h"

#include <protobuf-c/protobuf-c.h>

/*
 * Calls to one etcd cluster over TLS with a client certificate. The member that answers is used
 * until it stops answering. Thread-safe. The files are read again when they change.
 */
struct etcd_client;

struct etcd_client_options {
    const char *members;                /* "https://HOST:PORT", several separated by commas */
    const char *ca, *certificate, *key; /* PEM files */
};

#define ETCD_MEMBERS_MAX 16
/* One try of one member. A member that is silent costs this much, once. */
#define ETCD_TRY_MS 2000u
/* All tries of one operation. A node waits 8 seconds for the broker's answer, and a call that fails
 * has its line in the audit log, too. So the broker is less patient while etcd is known to be away. */
#define ETCD_PATIENCE_MS      5000u
#define ETCD_AWAY_PATIENCE_MS 1000u
/* What an answer may need in memory: a page of records. */
#define ETCD_ARENA_BYTES ((size_t)48 * 1024 * 1024)

/* Copies the options. Starts no thread and does not connect: the first call does. */
MUST_USE bool etcd_client_new(const struct etcd_client_options *options, struct etcd_client **out,
                              struct error *err);
void etcd_client_free(struct etcd_client *client); /* NULL is allowed; no call may be in progress */

/* When an operation that begins now gives up. clock_now_ms() scale. */
uint64_t etcd_until(const struct etcd_client *client);

struct etcd_call {
    const char *method; /* of etcdserverpb.KV: "Range", "Txn", "Compact" */
    const ProtobufCMessage *request;
    struct arena *arena; /* for the answer */
};

/* Asks one member after the other until one answers, at the latest until until_ms (clock_now_ms()).
 * For calls that may be repeated. UNAVAILABLE names the member that was asked last, and why it did
 * not answer, or that etcd is busy or full. OUT_OF_RANGE: the revision that was asked for is compacted. */
MUST_USE bool etcd_ask(struct etcd_client *client, const struct etcd_call *call, uint64_t until_ms,
                       ProtobufCMessage **out, struct error *err);

/* Asks one member, once. After an error nobody knows whether the request was applied, or still will
 * be. RESOURCE_EXHAUSTED: the member is busy or full. The next call goes to the next member. */
MUST_USE bool etcd_ask_once(struct etcd_client *client, const struct etcd_call *call,
                            uint64_t until_ms, ProtobufCMessage **out, struct error *err);

/* Whether another try may succeed after so many. */
bool etcd_is_passing(const struct error *err, size_t tries);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "upstream/by_worker.h"

#include "csi.pb-c.h"

/*
 * Another CSI driver, whose block volumes we encrypt. Thread-safe. A controller reaches it over its unix
 * socket. A node must not: there the driver is root, and mounts where it is told. So on a node, workers
 * make the calls of the services Identity and Node (blockd/upstream_call.h).
 *
 * Errors have the driver's code and text, with its name in front (its socket, as long as it never said
 * its name). UNAVAILABLE, naming the socket, when the driver cannot be reached, or has as many calls as
 * it may have.
 */
struct upstream;

enum {
    UPSTREAM_MARGIN_MS = 500,   /* of a call's time, kept back for our own work after it */
    UPSTREAM_LEAST_MS = 1000,   /* what the driver gets at least */
    UPSTREAM_LIMIT_MS = 110000, /* what it gets at most; kubelet and sidecars wait as long */
};

/* How many calls may wait for the driver at once, of 20 threads. Those that close come first: they free
 * a node, and fence a dead one. The rest of the threads does what needs no driver. */
#define UPSTREAM_SHARE(threads)         ((threads) < 4 ? (threads) : (threads)*3 / 4)  /* 15 */
#define UPSTREAM_CLOSING_SHARE(threads) ((threads) < 4 ? (threads) : (threads)*9 / 10) /* 18 */

struct upstream_options {
    const char *target; /* "unix:/PATH", where this process reaches it; NULL: only by workers */
    const char *socket; /* the path for errors: its own */
    const struct workers *workers; /* for the Node service; outlive the upstream; NULL: no node */
    /* Of our caller's threads, which handle everything. A driver that hangs gets no more of them than
     * UPSTREAM_SHARE and UPSTREAM_CLOSING_SHARE. 0: as many as there are calls. */
    size_t threads;
    /* Called after each call; may be NULL. */
    void (*observe)(void *cookie, const char *method, enum error_code code, uint64_t elapsed_ms);
    void *cookie;
};
/* Copies the texts; does not connect yet. */
MUST_USE bool upstream_new(const struct upstream_options *options, struct upstream **out,
                           struct error *err);
void upstream_free(struct upstream *upstream); /* NULL is allowed; no call may be in progress */

/* For messages: its name, or its socket. Good for as long as the upstream lives. */
const char *upstream_name(struct upstream *upstream);

/* One call. deadline_ms: of our own caller, clock_now_ms() scale; UINT64_MAX: none. The response lies
 * in the arena; use a secret one when request or response have secrets. */
MUST_USE bool upstream_call(struct upstream *upstream, const ProtobufCServiceDescriptor *service,
                            const char *method, const ProtobufCMessage *request,
                            uint64_t deadline_ms, struct arena *arena, ProtobufCMessage **response,
                            struct error *err);

/* A call of the Node service about one volume. */
MUST_USE bool upstream_call_node(struct upstream *upstream, const struct upstream_node_call *call,
                                 uint64_t deadline_ms, struct arena *arena, struct error *err);

/* Whether it has a capability. The answers are kept until the driver was away. */
MUST_USE bool upstream_controller_can(struct upstream *upstream,
                                      Csi__V1__ControllerServiceCapability__RPC__Type capability,
                                      uint64_t deadline_ms, bool *yes, struct error *err);
MUST_USE bool upstream_node_can(struct upstream *upstream,
                                Csi__V1__NodeServiceCapability__RPC__Type capability,
                                uint64_t deadline_ms, bool *yes, struct error *err);

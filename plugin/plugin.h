/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "keys/worker_answers.h"
#include "plugin/backing.h"
#include "plugin/health.h"
#include "plugin/inflight.h"
#include "proto/dispatch.h"

#include "csi.pb-c.h"

struct connection; /* keys/connection.h */

/* What the services share. Set up before they run and const afterwards; each part has its own
 * lock. */
struct plugin {
    const char *driver, *node_id, *version;
    bool serves_controller, serves_node;
    uint64_t max_volumes;
    enum integrity default_integrity;
    const char *kubelet_endpoint; /* path of the CSI socket, as kubelet sees it */

    struct keys *keys;
    const struct connection *connection; /* below the keys; NULL in tests */
    struct workers workers;
    const struct backing *backing;
    struct upstream *upstream;    /* the other CSI driver of the stacked backing; NULL: none */
    bool upstream_never_attaches; /* as the administrator says, not the driver */
    struct inflight *inflight;
    struct health *health;
    struct block_probe probe;
};

/* One per CSI service; the object is the struct plugin. */
extern const struct rpc_service identity_service, controller_service, node_service,
    registration_service;

/* How long an operation may take. */
enum plugin_patience {
    PLUGIN_SHORT, /* seconds; ends with its caller */
    PLUGIN_CALL,  /* as long as kubelet waits */
    PLUGIN_LONG,  /* goes on in the background when the caller has gone */
};

/* Runs one operation of a worker for a call. answers may be NULL when the worker asks nothing. */
MUST_USE bool plugin_run(const struct plugin *plugin, struct rpc_call *call,
                         struct block_request *request, enum plugin_patience patience,
                         struct worker_answers *answers, struct block_result *out,
                         struct error *err);

/* What a worker finds of one volume on this node (BLOCK_INSPECT). */
MUST_USE bool plugin_inspect(const struct plugin *plugin, struct rpc_call *call, const char *id,
                             struct block_result *out, struct error *err);
/* True also when nobody can tell. */
bool plugin_is_open_here(const struct plugin *plugin, struct rpc_call *call, const char *id);

/* This node may hold the lease of a volume that is not active here: the broker was out of reach when the
 * volume was closed, the answer to its opening was lost, or the node went down with the volume open.
 * Gives that lease back; otherwise an administrator would have to release it. False when there was none,
 * or the broker cannot be asked. The caller has the volume's lock. */
bool plugin_give_lease_back(const struct plugin *plugin, struct rpc_call *call, const char *id);

struct backing_job plugin_backing_job(const struct plugin *plugin, struct rpc_call *call);

/* "NodeStageVolume" of "/csi.v1.Node/NodeStageVolume". */
const char *plugin_operation(const struct rpc_call *call);

/* INVALID_ARGUMENT "name is missing" when it is empty. */
MUST_USE bool plugin_require(const char *value, const char *name, struct error *err);

/* Takes the volume, and names it in the log entry of this call. */
MUST_USE bool plugin_take(const struct plugin *plugin, struct rpc_call *call, const char *id,
                          struct inflight_hold *out, struct error *err);

/* The same for what is copied, grows or is published. It waits some seconds while another call works on it:
 * claims of one source come together, often while that is staged for the first time, and so do nodes that
 * read one volume. Each refusal would be a warning in the events of a claim or pod. The caller does not hold
 * it yet. */
MUST_USE bool plugin_take_patiently(const struct plugin *plugin, struct rpc_call *call,
                                    const char *id, struct inflight_hold *out, struct error *err);

/* How a call waits for a volume on which another one works: for some seconds, and until work_ms are
 * left of its time. It tries again after each wait; wait is false when that time is over, or too many
 * calls wait. The caller does not hold the volume. */
uint64_t plugin_wait_until_ms(const struct rpc_call *call, uint64_t work_ms);
MUST_USE bool plugin_wait(const struct plugin *plugin, const char *id, uint64_t until_ms);

void plugin_subject(struct rpc_call *call, const char *id);

/* FAILED_PRECONDITION, naming what is missing, when this node cannot use volumes, or when only a new
 * process can reach the broker. */
MUST_USE bool plugin_check_usable(const struct plugin *plugin, struct error *err);

/* Whether this driver can have made the id. Ids of a driver below have any form. */
bool plugin_may_have(const struct plugin *plugin, enum record_kind kind, const char *id);

/* The record of an id that the orchestrator gave; NOT_FOUND for an id that this driver cannot have
 * made. */
MUST_USE bool plugin_find(const struct plugin *plugin, struct rpc_call *call, enum record_kind kind,
                          const char *id, struct record *out, struct error *err);

/* From the arena, initialised; on exhaustion NULL. */
#define PLUGIN_MESSAGE(arena, type, init)                                  \
    __extension__({                                                        \
        __auto_type message_ = (type *)arena_alloc((arena), sizeof(type)); \
        if (message_)                                                      \
            init(message_);                                                \
        message_;                                                          \
    })

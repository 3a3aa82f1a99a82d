/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "broker/broker.h"

/*
 * One call, judged: who calls, whether the policy allows it, what is changed, and the audit line,
 * which is on disk before anything changes and before the answer leaves.
 */

struct call_rpc {
    const char *name;
    unsigned may; /* any of these */
    bool works_sealed;
    bool has_subject;    /* driver and volume_id name one record */
    rpc_handler *handle; /* of a struct judged_call */
};

struct judged_call {
    struct broker *broker;
    struct rpc_call *call;
    const struct call_rpc *rpc;
    struct caller caller;
    const struct policy_rule *rule; /* NULL until one matched */
    const char *driver, *volume_id, *source_volume_id, *node,
        *boot_id;                /* "" when not in the request */
    char denial[512];            /* why, for the audit log alone */
    const struct record *record; /* that the line speaks of; may be NULL */
    bool is_audited;
    uint64_t now_ms;
};

/* What a changing call does to the record it found; sets *new_key when a key comes with it, and
 * *must_still_be to a record whose change must undo it. */
struct call_change {
    bool (*apply)(struct judged_call *s, struct call_change *change, struct record *r,
                  bool *changed, struct error *err);
    const void *request;
    const struct store_key *new_key;
    const struct record *must_still_be;
    bool creates; /* the record may be missing */
};

/* The whole of a call; the entry of every method. */
MUST_USE bool judged_call_run(struct broker *broker, const struct call_rpc *rpc,
                              struct rpc_call *call, const ProtobufCMessage *request,
                              ProtobufCMessage *response, struct error *err);

/* PERMISSION_DENIED with the one sentence every peer gets; why goes to the audit log, the reason's
 * word in err to both. */
#define JUDGED_CALL_DENIED_TEXT "the broker's policy does not allow this"
bool judged_call_deny(struct judged_call *s, const char *why, struct error *err);

/* Finds a record of the session's tenant and driver. */
MUST_USE bool judged_call_find(struct judged_call *s, const char *volume_id, struct record *out,
                               struct error *err);

/* Reads, applies, audits, swaps; again when another call came between. *out is what is stored. */
MUST_USE bool judged_call_change(struct judged_call *s, struct call_change *change,
                                 const struct record **out, struct error *err);

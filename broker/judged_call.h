/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "broker/broker.h"

/*
 * One call and its judgement: who calls, whether the policy allows the call, what it changes, and
 * the audit line. The line is on disk before anything changes and before the answer is sent.
 */

struct call_rpc {
    const char *name;
    unsigned may; /* the rule must allow at least one of these */
    bool works_sealed;
    bool has_subject; /* driver and volume_id name one record */
    /* Releases nothing, and mostly changes no record: only a denial, or a change that it makes all the same,
     * goes into the audit log. */
    bool is_read;
    rpc_handler *handle; /* of a struct judged_call */
};

struct judged_call {
    struct broker *broker;
    struct rpc_call *call;
    const struct call_rpc *rpc;
    struct caller caller;
    const struct policy_rule *rule; /* NULL until one matched */
    /* "" when not in the request. node: of the caller, or the one that it publishes a volume to. */
    const char *driver, *volume_id, *source_volume_id, *node, *boot_id;
    char denial[512];            /* why, only for the audit log */
    const struct record *record; /* the record that the audit line names; may be NULL */
    bool is_audited;
    uint64_t now_ms;
};

/* What a changing call does to the record that it found. Sets new_key when a new key is stored
 * with the record, and must_still_be to another record that must not change before this one is
 * stored. */
struct call_change {
    bool (*apply)(struct judged_call *s, struct call_change *change, struct record *r,
                  bool *changed, struct error *err);
    const void *request;
    const struct store_key *new_key;
    const struct record *must_still_be;
    uint64_t ring; /* on which the change relies, when it has made a secret or copied a key */
    bool has_ring;
    bool creates; /* the record may be missing */
    const struct error
        *failure; /* why the call fails all the same, for its audit line; NULL: it succeeds */
};

/* Runs the whole call; every method enters here. */
MUST_USE bool judged_call_run(struct broker *broker, const struct call_rpc *rpc,
                              struct rpc_call *call, const ProtobufCMessage *request,
                              ProtobufCMessage *response, struct error *err);

/* PERMISSION_DENIED. The peer always gets the same sentence, and only the audit log gets why. Both
 * get the reason's word if the caller adds one to err. */
#define JUDGED_CALL_DENIED_TEXT "the broker's policy does not allow this"
bool judged_call_deny(struct judged_call *s, const char *why, struct error *err);

/* From the call's time to the clock by which the deadline of r's format is judged. Where several brokers
 * share a store, another one may have begun that format, by another clock. So its time is over here when
 * this broker has seen the attempt for as long as one may take. */
int64_t judged_call_skew(const struct judged_call *s, const struct record *r);

/* INVALID_ARGUMENT for what is no X25519 key. PERMISSION_DENIED when the caller has attested with another
 * one: only that one is known to belong to the measured TD. */
MUST_USE bool judged_call_check_sealing_key(struct judged_call *s, const ProtobufCBinaryData *key,
                                            struct error *err);

/* Finds a record of the session's tenant and driver. */
MUST_USE bool judged_call_find(struct judged_call *s, const char *volume_id, struct record *out,
                               struct error *err);

/* The same, in the call's arena; it is the call's subject from then on. */
MUST_USE bool judged_call_read(struct judged_call *s, const char *volume_id, struct record **out,
                               struct error *err);

/* Takes one of the tenant's calls of this kind ("open", "create") in a minute, at this broker. False:
 * there is none left. per_minute 0: no limit. */
bool judged_call_has_rate(const struct judged_call *s, const char *kind, uint32_t per_minute);

/* PERMISSION_DENIED when the record's raw space is on a node for which the caller may not speak.
 * Admins may delete everywhere, and a secret is rotated, or brought back, from anywhere. A record that is
 * gone has no space. */
MUST_USE bool judged_call_check_location(struct judged_call *s, const struct record *r,
                                         struct error *err);

/* cookie: a struct rpc_call. Nobody waits for its answer any more. */
bool judged_call_has_gone(void *cookie);

/* Writes the call's line now, for what is not a change of a record. */
MUST_USE bool judged_call_audit(struct judged_call *s, struct error *err);

/* Who calls, for people: the certificate's name; otherwise what was attested, or the rule. */
void judged_call_name(const struct judged_call *s, char out[static DESTROYED_BY_MAX + 1]);

/* Reads, checks the location before and after the change, applies, audits, swaps; starts again when
 * another call changed the record meanwhile. A record that came out of a backup and that nobody has
 * adopted is for admins alone: FAILED_PRECONDITION with RESTORED_REASON. *out is the stored record. */
MUST_USE bool judged_call_change(struct judged_call *s, struct call_change *change,
                                 const struct record **out, struct error *err);

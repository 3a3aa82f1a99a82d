/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/session.h"

#include "base/fault.h"

#include <stdio.h>
#include <string.h>

#define DENIED_TEXT "the broker's policy does not allow this"
#define SWAP_TRIES  8

bool session_deny(struct session *s, const char *why, struct error *err)
{
    s->denial = why;
    return error_set(err, ERROR_DENIED, DENIED_TEXT);
}

/* --- what the request speaks of --- */

/* "" when the message has no such field. */
static const char *text_field(const ProtobufCMessage *message, const char *name)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(message->descriptor, name);

    if (!field || field->type != PROTOBUF_C_TYPE_STRING)
        return "";
    return *(const char *const *)(const void *)((const uint8_t *)message + field->offset);
}

static void read_subject(struct session *s, const ProtobufCMessage *request)
{
    s->driver = text_field(request, "driver");
    s->volume_id = text_field(request, "volume_id");
    s->source_volume_id = text_field(request, "source_volume_id");
    s->node = text_field(request, "node");
    s->boot_id = text_field(request, "boot_id");
}

static bool check_length(const char *field, const char *text, size_t max, struct error *err)
{
    return strlen(text) <= max ||
           error_set(err, ERROR_INVALID_ARGUMENT, "%s is longer than %zu bytes", field, max);
}

static bool check_subject(const struct session *s, struct error *err)
{
    if (s->rpc->has_subject && (s->driver[0] == '\0' || s->volume_id[0] == '\0'))
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s is missing",
                         s->driver[0] == '\0' ? "driver" : "volume_id");
    return check_length("driver", s->driver, RECORD_DRIVER_MAX, err) &&
           check_length("volume_id", s->volume_id, RECORD_VOLUME_MAX, err) &&
           check_length("source_volume_id", s->source_volume_id, RECORD_VOLUME_MAX, err) &&
           check_length("node", s->node, RECORD_NODE_MAX, err) &&
           check_length("boot_id", s->boot_id, RECORD_BOOT_MAX, err);
}

/* --- who may --- */

static bool authorise(struct session *s, const ProtobufCMessage *request, struct error *err)
{
    s->rule = policy_find(s->broker->policy, &s->who);
    if (!s->rule)
        return session_deny(s, "no rule matches this client", err);
    if (!policy_has_role(s->rule, s->rpc->roles))
        return session_deny(s, "the rule does not have the role", err);
    if (!check_subject(s, err))
        return false;
    if (s->volume_id[0] != '\0' && !policy_has_volume(s->rule, s->volume_id))
        return session_deny(s, "the rule does not have the volume", err);
    if (s->source_volume_id[0] != '\0' && !policy_has_volume(s->rule, s->source_volume_id))
        return session_deny(s, "the rule does not have the source volume", err);
    /* A node speaks for itself alone. */
    if (protobuf_c_message_descriptor_get_field_by_name(request->descriptor, "node")) {
        if (s->node[0] == '\0' || s->boot_id[0] == '\0')
            return error_set(err, ERROR_INVALID_ARGUMENT, "%s is missing",
                             s->node[0] == '\0' ? "node" : "boot_id");
        if (!policy_has_node(s->rule, &s->who, s->node))
            return session_deny(s, "the rule does not have the node", err);
    }
    return true;
}

static bool judge(struct session *s, const ProtobufCMessage *request, struct error *err)
{
    if (!principal_gather(s->broker->sources, s->broker->n_sources, s->call->peer, &s->who, err) ||
        !authorise(s, request, err))
        return false;
    if (!s->broker->master && !s->rpc->works_sealed)
        return error_set(err, ERROR_UNAVAILABLE,
                         "broker is sealed: it was started without a master key");
    return true;
}

/* --- the audit line --- */

static const char *claim_or_empty(const struct session *s, const char *name)
{
    const char *value = principal_claim(&s->who, name);

    return value ? value : "";
}

static bool is_denial(enum error_code code)
{
    return code == ERROR_DENIED || code == ERROR_UNAUTHENTICATED;
}

/* failure: NULL when it is about to succeed. */
static bool write_audit(struct session *s, const struct error *failure, struct error *err)
{
    const struct record *r = s->record;
    enum error_code code = failure ? failure->code : ERROR_NONE;
    char id_text[2 * RECORD_ID_LEN + 1] = "";
    const char *id = id_text;

    if (r)
        hex_encode(r->id, sizeof(r->id), id_text);
    s->is_audited = code == ERROR_NONE;

    const struct log_field fields[] = {
        TEXT("event", "call"),
        TEXT("method", s->rpc->name),
        TEXT("decision", is_denial(code) ? "deny" : "allow"),
        TEXT("code", failure ? error_code_name(code) : "OK"),
        TEXT("reason", s->denial ? s->denial : (failure ? failure->text : "")),
        TEXT("tenant", s->rule ? policy_rule_tenant(s->rule) : ""),
        TEXT("rule", s->rule ? policy_rule_name(s->rule) : ""),
        TEXT("cn", claim_or_empty(s, CLAIM_CERTIFICATE_CN)),
        TEXT("certificate", claim_or_empty(s, CLAIM_CERTIFICATE_SHA256)),
        TEXT("driver", s->driver),
        TEXT("volume", s->volume_id),
        TEXT("source", s->source_volume_id),
        TEXT("node", s->node),
        TEXT("policy", policy_hash(s->broker->policy)),
        TEXT("record", id),
        TEXT("phase", r ? record_phase_name(r->phase) : ""),
        NUMBER("version", r ? r->version : 0), /* the last, so that it can be left out */
    };

    return audit_write(s->broker->audit, fields, ARRAY_LEN(fields) - (r ? 0 : 1), err);
}

/* --- changing records --- */

bool session_find(struct session *s, const char *volume_id, struct record *out, struct error *err)
{
    const struct store_name name = { policy_rule_tenant(s->rule), s->driver, volume_id };

    return s->broker->store->ops->get(s->broker->store, &name, out, err);
}

static void fault_at(const struct session *s, const char *moment)
{
#ifdef TDVOL_FAULTS
    char name[96];

    snprintf(name, sizeof(name), "broker.%s.%s", s->rpc->name, moment);
    FAULT_POINT(name);
#else
    (void)s, (void)moment;
#endif
}

static bool commit(struct session *s, const struct session_change *change, struct record *next,
                   struct error *err)
{
    const struct store_change swap = {
        .next = next,
        .expected_version = next->version,
        .new_key = change->new_key,
        .must_still_be = change->must_still_be,
    };

    next->version++;
    s->record = next;
    if (!write_audit(s, NULL, err))
        return false;
    fault_at(s, "before-commit");
    if (!s->broker->store->ops->swap(s->broker->store, &swap, err))
        return false;
    fault_at(s, "after-commit");
    return true;
}

/* A record that is not there yet has its names alone. */
static bool find_or_name(struct session *s, bool creates, struct record *r, struct error *err)
{
    *r = (struct record){ .version = 0 };
    if (session_find(s, s->volume_id, r, err))
        return true;
    if (!creates || err->code != ERROR_NOT_FOUND)
        return false;
    return record_text(r->tenant, sizeof(r->tenant), "tenant", policy_rule_tenant(s->rule), err) &&
           record_text(r->driver, sizeof(r->driver), "driver", s->driver, err) &&
           record_text(r->volume_id, sizeof(r->volume_id), "volume_id", s->volume_id, err);
}

bool session_change(struct session *s, struct session_change *change, const struct record **out,
                    struct error *err)
{
    struct record *r = arena_alloc(s->call->arena, sizeof(*r));

    if (!r)
        return arena_exhausted(err);
    for (int i = 0; i < SWAP_TRIES; i++) {
        bool changed = false;

        if (!find_or_name(s, change->creates, r, err) ||
            !change->apply(s, change, r, &changed, err))
            return false;
        if (!changed || commit(s, change, r, err)) {
            s->record = r;
            *out = r;
            return true;
        }
        /* Another call came between: what it left decides. */
        s->record = NULL;
        s->is_audited = false;
        if (err->code != ERROR_ABORTED)
            return false;
    }
    return false;
}

/* --- the whole --- */

bool session_run(struct broker *broker, const struct session_rpc *rpc, struct rpc_call *call,
                 const ProtobufCMessage *request, ProtobufCMessage *response, struct error *err)
{
    struct session s = { .broker = broker, .call = call, .rpc = rpc, .now_ms = broker->now_ms() };
    struct error problem = ERROR_INIT;

    pthread_rwlock_rdlock(&broker->policy_lock);
    read_subject(&s, request);
    bool ok = judge(&s, request, err) && rpc->handle(&s, call, request, response, err);

    /* What was audited before its effect, and then happened, needs no second line. */
    if ((!ok || !s.is_audited) && !write_audit(&s, ok ? NULL : err, &problem)) {
        *err = problem;
        ok = false;
    }
    pthread_rwlock_unlock(&broker->policy_lock);
    if (ok) /* a record that was not there, a lost swap: expected, and over */
        *err = (struct error)ERROR_INIT;
    return ok;
}

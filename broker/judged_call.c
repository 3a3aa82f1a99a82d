/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/judged_call.h"

#include "attest/reason.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/fault.h"
#include "base/hpke.h"
#include "broker/rate.h"
#include "erasure/note.h"
#include "lifecycle/lifecycle.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define SWAP_TRIES       8
#define QUOTE_BYTES      8                    /* of its hash: enough to find it in the audit log */
#define REFUSED_NAME_LEN (2 * SHA256_LEN + 1) /* of a client's key or certificate, or a network */

static_assert(REFUSED_NAME_LEN >= CALLER_NETWORK_LEN, "a network fits");

bool judged_call_deny(struct judged_call *s, const char *why, struct error *err)
{
    (void)snprintf(s->denial, sizeof(s->denial), "%s", why);
    return error_set(err, ERROR_DENIED, JUDGED_CALL_DENIED_TEXT);
}

bool judged_call_check_sealing_key(struct judged_call *s, const ProtobufCBinaryData *key,
                                   struct error *err)
{
    uint8_t digest[SHA256_LEN];

    if (key->len != HPKE_PUBLIC_LEN)
        return error_set(err, ERROR_INVALID_ARGUMENT, "sealing_public_key must have %d bytes",
                         HPKE_PUBLIC_LEN);
    if (!s->caller.attested)
        return true;
    if (!sha256(key->data, key->len, digest, err))
        return false;
    if (bytes_are_equal(digest, s->caller.attested->sealing_key_sha256, sizeof(digest)))
        return true;
    judged_call_deny(s, "the sealing key differs from the attested sealing key", err);
    return error_reason(err, attest_reason_name(REASON_SEALING_KEY));
}

/* --- the request's fields --- */

/* "" when the message has no such field. */
static const char *text_field(const ProtobufCMessage *message, const char *name)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(message->descriptor, name);

    if (!field || field->type != PROTOBUF_C_TYPE_STRING)
        return "";
    return *(const char *const *)(const void *)((const uint8_t *)message + field->offset);
}

static const char *first_field(const ProtobufCMessage *message, const char *name, const char *other)
{
    const char *text = text_field(message, name);

    return text[0] != '\0' ? text : text_field(message, other);
}

static void read_subject(struct judged_call *s, const ProtobufCMessage *request)
{
    s->driver = text_field(request, "driver");
    s->volume_id = text_field(request, "volume_id");
    s->source_volume_id = first_field(request, "source_volume_id", "like");
    s->node = first_field(request, "node", "node_id");
    s->boot_id = text_field(request, "boot_id");
}

static bool check_length(const char *field, const char *text, size_t max, struct error *err)
{
    return strlen(text) <= max ||
           error_set(err, ERROR_INVALID_ARGUMENT, "%s is longer than %zu bytes", field, max);
}

static bool check_subject(const struct judged_call *s, struct error *err)
{
    if (s->rpc->has_subject && (s->driver[0] == '\0' || s->volume_id[0] == '\0'))
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s is missing",
                         s->driver[0] == '\0' ? "driver" : "volume_id");
    return check_length("driver", s->driver, RECORD_DRIVER_MAX, err) &&
           check_length("volume_id", s->volume_id, VOLUME_ID_MAX, err) &&
           check_length("source_volume_id", s->source_volume_id, VOLUME_ID_MAX, err) &&
           check_length("node", s->node, NODE_ID_MAX, err) &&
           check_length("boot_id", s->boot_id, BOOT_ID_MAX, err);
}

/* --- authorisation --- */

/* Attesting again may help: a policy that was loaded meanwhile may need a proof that was not
 * checked before, another key of an issuer, or newer collateral. */
static bool may_attest_anew(const struct judged_call *s, const char *word)
{
    static const enum attest_reason mended[] = { REASON_OWNER_MISSING, REASON_TOKEN_SIGNATURE,
                                                 REASON_TOKEN_EXPIRED, REASON_OWNER_CERTIFICATE,
                                                 REASON_EVALUATION_TOO_LOW };

    for (size_t i = 0; s->caller.attested && i < ARRAY_LEN(mended); i++)
        if (strcmp(word, attest_reason_name(mended[i])) == 0)
            return true;
    return strcmp(word, attest_reason_name(REASON_NOT_ATTESTED)) == 0;
}

/* Each call is judged again, because the policy may have changed since the session began. */
static bool find_rule(struct judged_call *s, struct error *err)
{
    struct error why = ERROR_INIT;

    if (policy_judge(s->broker->policy, &s->caller.who, (int64_t)(s->now_ms / 1000), NULL, &s->rule,
                     &why))
        return true;
    if (why.code != ERROR_DENIED) {
        *err = why;
        return false;
    }
    judged_call_deny(s, why.text, err);
    if (may_attest_anew(s, why.reason))
        return error_set_reason(err, ERROR_UNAUTHENTICATED, why.reason, "attest %s",
                                s->caller.attested ? "again" : "first");
    return error_reason(err, why.reason);
}

static bool authorise(struct judged_call *s, const ProtobufCMessage *request, struct error *err)
{
    if (!find_rule(s, err))
        return false;
    if (!policy_may(s->rule, s->rpc->may))
        return judged_call_deny(s, "the rule does not allow this call", err);
    if (!check_subject(s, err))
        return false;
    if (s->volume_id[0] != '\0' && !policy_has_volume(s->rule, s->volume_id))
        return judged_call_deny(s, "the rule does not allow this volume", err);
    if (s->source_volume_id[0] != '\0' && !policy_has_volume(s->rule, s->source_volume_id))
        return judged_call_deny(s, "the rule does not allow the source volume", err);
    /* A node may only name itself. */
    if (protobuf_c_message_descriptor_get_field_by_name(request->descriptor, "node")) {
        if (s->node[0] == '\0' || s->boot_id[0] == '\0')
            return error_set(err, ERROR_INVALID_ARGUMENT, "%s is missing",
                             s->node[0] == '\0' ? "node" : "boot_id");
        if (!policy_has_node(s->rule, &s->caller.who, s->node))
            return judged_call_deny(s, "the rule does not allow this node", err);
    }
    return true;
}

static bool judge(struct judged_call *s, const ProtobufCMessage *request, struct error *err)
{
    auto_claim_query struct claim_query query = { .call = s->call, .now_ms = s->now_ms };

    if (!caller_gather(s->broker->sources, s->broker->n_sources, &query, &s->caller, err) ||
        !caller_check_known(&s->caller, err) || !authorise(s, request, err))
        return false;
    return s->rpc->works_sealed || broker_check_open(s->broker, err);
}

/* --- the audit line --- */

static bool is_denial(enum error_code code)
{
    return code == ERROR_DENIED || code == ERROR_UNAUTHENTICATED;
}

/* What the caller runs, as its session's quote says; "" when it has none. */
struct caller_texts {
    char quote[2 * SHA256_LEN + 1], mrtd[2 * MEASUREMENT_LEN + 1];
    const char *image;
};

static void describe_caller(const struct judged_call *s, struct caller_texts *out)
{
    const struct tee_claims *tee = s->caller.who.tee;
    const struct td_claims *td = tee ? tee_claims_td(tee) : NULL;

    *out = (struct caller_texts){ .image = "" };
    if (tee)
        hex_encode(tee->quote_sha256, sizeof(tee->quote_sha256), out->quote);
    if (td)
        hex_encode(td->mrtd, sizeof(td->mrtd), out->mrtd);
    if (tee && s->rule)
        out->image = policy_rule_image(s->rule, &s->caller.who, (int64_t)(s->now_ms / 1000));
}

/* failure: NULL when the call is about to succeed. head: NULL, or the caller stores it. */
static bool write_audit(struct judged_call *s, const struct error *failure, struct store_head *head,
                        struct error *err)
{
    const struct record *r = s->record;
    const struct principal *who = &s->caller.who;
    enum error_code code = failure ? failure->code : ERROR_NONE;
    char id[2 * RECORD_ID_LEN + 1] = "", destroyed[ERASURE_TEXT_LEN] = "";
    struct caller_texts caller;

    if (r) {
        hex_encode(r->id, sizeof(r->id), id);
        erasure_text(r, destroyed);
    }
    describe_caller(s, &caller);
    s->is_audited = code == ERROR_NONE;

    const struct log_field fields[] = {
        TEXT("event", "call"),
        TEXT("method", s->rpc->name),
        TEXT("decision", is_denial(code) ? "deny" : "allow"),
        TEXT("code", failure ? error_code_name(code) : "OK"),
        TEXT("reason", s->denial[0] != '\0' ? s->denial : (failure ? failure->text : "")),
        TEXT("word", failure ? failure->reason : ""),
        TEXT("tenant", s->rule ? policy_rule_tenant(s->rule) : ""),
        TEXT("rule", s->rule ? policy_rule_name(s->rule) : ""),
        TEXT("image", caller.image),
        TEXT("cn", who->certificate ? who->certificate->common_name : ""),
        TEXT("certificate", who->certificate ? who->certificate->sha256 : ""),
        TEXT("quote_sha256", caller.quote),
        TEXT("mrtd", caller.mrtd),
        TEXT("driver", s->driver),
        TEXT("volume", s->volume_id),
        TEXT("source", s->source_volume_id),
        TEXT("node", s->node),
        TEXT("policy", policy_hash(s->broker->policy)),
        TEXT("policy_revision", policy_revision(s->broker->policy)),
        TEXT("record", id),
        TEXT("destroyed", destroyed),
        TEXT("phase", r ? record_phase_name(r->phase) : ""),
        NUMBER("version", r ? r->version : 0), /* last, so that it can be left out */
    };

    return audit_write(s->broker->audit, fields, ARRAY_LEN(fields) - (r ? 0 : 1), head, err);
}

bool judged_call_audit(struct judged_call *s, struct error *err)
{
    return write_audit(s, NULL, NULL, err);
}

/* --- changing records --- */

int64_t judged_call_skew(const struct judged_call *s, const struct record *r)
{
    if (!s->broker->shares_store || r->phase != RECORD_FORMATTING)
        return 0;
    uint64_t age_ms = sightings_age_ms(s->broker->formats, r->id, r->format.attempt);
    uint64_t left_ms = age_ms < s->broker->format_ms ? s->broker->format_ms - age_ms : 0;

    return (int64_t)(r->format.deadline_ms - left_ms - s->now_ms);
}

bool judged_call_find(struct judged_call *s, const char *volume_id, struct record *out,
                      struct error *err)
{
    const struct store_name name = { policy_rule_tenant(s->rule), s->driver, volume_id };

    return s->broker->store->ops->get(s->broker->store, &name, out, err);
}

bool judged_call_read(struct judged_call *s, const char *volume_id, struct record **out,
                      struct error *err)
{
    struct record *r = arena_alloc(s->call->arena, sizeof(*r));

    if (!r)
        return arena_exhausted(err);
    if (!judged_call_find(s, volume_id, r, err))
        return false;
    s->record = *out = r;
    return true;
}

static void fault_at(const struct judged_call *s, const char *moment)
{
#ifdef TDVOL_FAULTS
    char name[96];

    (void)snprintf(name, sizeof(name), "broker.%s.%s", s->rpc->name, moment);
    FAULT_POINT(name);
#else
    (void)s, (void)moment;
#endif
}

/* The certificate's name; otherwise what was attested. */
void judged_call_name(const struct judged_call *s, char out[static DESTROYED_BY_MAX + 1])
{
    const struct principal *who = &s->caller.who;
    char quote[2 * QUOTE_BYTES + 1] = "";

    if (who->tee)
        hex_encode(who->tee->quote_sha256, QUOTE_BYTES, quote);
    if (who->certificate && who->certificate->common_name[0] != '\0')
        (void)snprintf(out, DESTROYED_BY_MAX + 1, "%.*s", DESTROYED_BY_MAX,
                       who->certificate->common_name);
    else if (who->tee)
        (void)snprintf(out, DESTROYED_BY_MAX + 1, "quote %s of rule %s", quote,
                       policy_rule_name(s->rule));
    else
        (void)snprintf(out, DESTROYED_BY_MAX + 1, "rule %s", policy_rule_name(s->rule));
}

static bool note_destroyed(struct judged_call *s, const struct record *before, struct record *next,
                           struct error *err)
{
    const struct erasure_place place = { s->broker->store, s->broker->keyring, s->broker->replica,
                                         s->now_ms };
    char by[DESTROYED_BY_MAX + 1];

    judged_call_name(s, by);
    return erasure_note(&place, by, before, next, err);
}

static bool commit(struct judged_call *s, const struct call_change *change,
                   const struct record *before, struct record *next, struct error *err)
{
    struct store_head head;
    const struct store_change swap = {
        .next = next,
        .expected_version = next->version,
        .new_key = change->new_key,
        .must_still_be = change->must_still_be,
        .head = &head,
        .ring = change->has_ring ? &change->ring : NULL,
    };

    next->version++;
    s->record = next;
    if (!note_destroyed(s, before, next, err) || !write_audit(s, change->failure, &head, err))
        return false;
    record_note_line(next, head.seq);
    fault_at(s, "before-commit");
    if (!s->broker->store->ops->swap(s->broker->store, &swap, err))
        return false;
    fault_at(s, "after-commit");
    return true;
}

/* A record that does not exist yet has only its names. */
static bool find_or_name(struct judged_call *s, bool creates, struct record *r, struct error *err)
{
    *r = (struct record){ .version = 0 };
    if (judged_call_find(s, s->volume_id, r, err))
        return true;
    if (!creates || err->code != ERROR_NOT_FOUND)
        return false;
    return record_text(r->tenant, sizeof(r->tenant), "tenant", policy_rule_tenant(s->rule), err) &&
           record_text(r->driver, sizeof(r->driver), "driver", s->driver, err) &&
           record_text(r->volume_id, sizeof(r->volume_id), "volume_id", s->volume_id, err);
}

bool judged_call_has_rate(const struct judged_call *s, const char *kind, uint32_t per_minute)
{
    const struct rate_limit limit = { .per_minute = per_minute, .burst = per_minute };
    char name[RECORD_TENANT_MAX + 16];

    (void)snprintf(name, sizeof(name), "%s %s", kind, policy_rule_tenant(s->rule));
    return per_minute == 0 || rate_take(s->broker->tenants, name, &limit, 1);
}

static bool is_admin_call(const struct judged_call *s)
{
    return (s->rpc->may & POLICY_ADMIN) && policy_may(s->rule, POLICY_ADMIN);
}

bool judged_call_check_location(struct judged_call *s, const struct record *r, struct error *err)
{
    const char *location = r->spec.location;

    /* Touches no space, releases no key. ListRecords asks for no location. */
    bool is_rotation = (s->rpc->may & POLICY_ROTATE) && policy_may(s->rule, POLICY_ROTATE);

    bool is_undelete = (s->rpc->may & POLICY_UNDELETE) && policy_may(s->rule, POLICY_UNDELETE);

    /* Not record_is_gone(): one that is being made has no version yet, and must be made here. */
    bool is_deleted = r->phase == RECORD_ERASED || r->phase == RECORD_RETAINED;

    return location[0] == '\0' || is_deleted || is_admin_call(s) || is_rotation || is_undelete ||
           policy_has_node(s->rule, &s->caller.who, location) ||
           judged_call_deny(s, "the volume is on another node", err);
}

static bool apply(struct judged_call *s, struct call_change *change, struct record *r,
                  bool *changed, struct error *err)
{
    return judged_call_check_location(s, r, err) &&
           (is_admin_call(s) || record_check_adopted(r, err)) &&
           change->apply(s, change, r, changed, err) && judged_call_check_location(s, r, err);
}

/* What belongs to the record is read after it, and may be gone by then: a rotation that ends at another
 * broker destroys the former key. Then it is not the volume that is not found. */
static bool is_outdated(struct judged_call *s, uint64_t version, enum error_code code)
{
    struct error ignored = ERROR_INIT;
    struct record now;

    return code == ERROR_NOT_FOUND && version > 0 &&
           judged_call_find(s, s->volume_id, &now, &ignored) && now.version != version;
}

bool judged_call_change(struct judged_call *s, struct call_change *change,
                        const struct record **out, struct error *err)
{
    struct record *r = arena_alloc(s->call->arena, sizeof(*r));
    struct record *before = arena_alloc(s->call->arena, sizeof(*before));

    if (!r || !before)
        return arena_exhausted(err);
    for (int i = 0; i < SWAP_TRIES; i++) {
        bool changed = false;

        if (!find_or_name(s, change->creates, r, err))
            return false;
        *before = *r;
        const uint64_t version = r->version;

        if (!apply(s, change, r, &changed, err)) {
            if (!is_outdated(s, version, err->code))
                return false;
            error_set(err, ERROR_ABORTED, "%s was changed by another call: try again",
                      s->volume_id);
            continue;
        }
        if (!changed || commit(s, change, before, r, err)) {
            s->record = r;
            *out = r;
            return true;
        }
        /* Another call may have changed the record: start again from its result. */
        s->record = NULL;
        s->is_audited = false;
        if (err->code != ERROR_ABORTED)
            return false;
    }
    return false;
}

/* --- the whole call --- */

bool judged_call_has_gone(void *cookie)
{
    const struct rpc_call *call = cookie;

    return rpc_call_is_cancelled(call) || clock_now_ms() >= call->deadline_ms;
}

/* Who is refused: the client, or the network of one that is not known. */
static void name_refused(const struct judged_call *s, char out[static REFUSED_NAME_LEN])
{
    const struct certificate_claims *certificate = s->caller.who.certificate;

    if (certificate)
        (void)snprintf(out, REFUSED_NAME_LEN, "%s", certificate->sha256);
    else if (s->caller.attested)
        hex_encode(s->caller.attested->client_key_sha256, KEY_SHA256_LEN, out);
    else
        caller_network(s->call->peer, out);
}

/* A client can call and be refused without end. Above its rate, refusals are only counted, so that
 * nobody can fill the log's disk. What was released or changed always has its line. */
static bool may_log_refusal(const struct judged_call *s)
{
    static const struct rate_limit limit = { .per_minute = 600, .burst = 20 };
    char name[REFUSED_NAME_LEN];

    name_refused(s, name);
    if (rate_take(s->broker->refused, name, &limit, 1))
        return true;
    atomic_fetch_add(&s->broker->unwritten, 1);
    return false;
}

/* A sealed broker has no key for the log; it releases nothing and changes nothing. Reads are many
 * (nodes and probes look all the time): they are counted by method, in the metrics. */
static bool must_go_on_record(const struct judged_call *s, bool ok, const struct error *err)
{
    if (!s->broker->audit)
        return false;
    if (s->rpc->is_read && (ok || !is_denial(err->code)))
        return false;
    return ok ? !s->is_audited : may_log_refusal(s); /* a change has its line already */
}

/* Nobody knows what became of the call, or yet will. */
static bool is_undecided(enum error_code code)
{
    return code == ERROR_UNAVAILABLE || code == ERROR_DEADLINE_EXCEEDED || code == ERROR_CANCELLED;
}

/* False: the call fails. A failure of its line does not decide what the call itself left open. */
static bool put_on_record(struct judged_call *s, bool ok, struct error *err)
{
    struct error problem = ERROR_INIT;

    if (!must_go_on_record(s, ok, err) || write_audit(s, ok ? NULL : err, NULL, &problem))
        return ok;
    if (!ok && is_undecided(err->code))
        return error_wrap(err, "%s", problem.text);
    *err = problem;
    return false;
}

bool judged_call_run(struct broker *broker, const struct call_rpc *rpc, struct rpc_call *call,
                     const ProtobufCMessage *request, ProtobufCMessage *response, struct error *err)
{
    struct judged_call s = {
        .broker = broker, .call = call, .rpc = rpc, .now_ms = broker->now_ms()
    };

    pthread_rwlock_rdlock(&broker->policy_lock);
    read_subject(&s, request);
    bool ok = judge(&s, request, err) && rpc->handle(&s, call, request, response, err);

    ok = put_on_record(&s, ok, err);
    pthread_rwlock_unlock(&broker->policy_lock);
    if (ok) /* forget expected errors: no record yet, a lost swap */
        *err = (struct error)ERROR_INIT;
    return ok;
}

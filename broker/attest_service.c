/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/attest_service.h"

#include "attest/binding.h"
#include "attest/identity.h"
#include "attest/reason.h"
#include "attest/verifier.h"
#include "base/digest.h"
#include "base/hpke.h"
#include "broker/judged_call.h"

#include <stdio.h>
#include <string.h>

#include "keybroker.pb-c.h"

#define M(name) Tdvol__Keybroker__V1__##name /* generated message types */

#define COST_OF_CALL    1
#define COST_OF_FAILURE 4 /* in addition to COST_OF_CALL */

#define HASH_TEXT_LEN (2 * SHA256_LEN + 1)

/* One try to attest. */
struct attest_attempt {
    struct broker *broker;
    struct rpc_call *call;
    struct claim_query *query;
    const M(AttestRequest) * request;
    uint64_t now_ms;
    struct attested_session *session; /* not stored yet; in the call's arena */
    struct caller caller;
    const struct policy_rule *rule;
    struct error unproven;            /* why the first bad proof of the owner was refused */
    char quote_sha256[HASH_TEXT_LEN]; /* of the bytes sent; of the quote once it is read */
    const struct verifier *verifier;
    bool is_verified;   /* session->tee is verified */
    char denial[512];   /* only for the audit log; "" when the client may know the error */
    bool is_unrecorded; /* refused before any check: writes no audit line */
};

/* --- who asks, and how often --- */

static bool read_client_key(struct claim_query *query, uint8_t out[static KEY_SHA256_LEN],
                            struct error *err)
{
    if (!caller_check_peer(query->call->peer, err))
        return false;
    const struct pki_client *client = claim_query_client(query, err);

    if (client)
        memcpy(out, client->key_sha256, KEY_SHA256_LEN);
    return client;
}

static struct rate_limit rate_of(const struct broker *broker)
{
    return (struct rate_limit){ .per_minute = 60 * broker->attest_rate,
                                .burst = 2 * broker->attest_rate };
}

static bool check_rate(struct broker *broker, const struct rpc_call *call, struct error *err)
{
    const struct rate_limit limit = rate_of(broker);
    char name[CALLER_NETWORK_LEN];

    caller_network(call->peer, name);
    return rate_take(broker->peers, name, &limit, COST_OF_CALL) ||
           error_set(err, ERROR_RESOURCE_EXHAUSTED,
                     "this address attests too often: try again in a few seconds");
}

const uint8_t *attest_own_key(const struct broker *broker, const struct rpc_call *call)
{
    const uint8_t *seen = call->peer->server_key_sha256;

    return seen ? seen : broker->key_sha256;
}

static bool get_challenge(struct broker *broker, struct rpc_call *call,
                          const M(GetChallengeRequest) * request,
                          M(GetChallengeResponse) * response, struct error *err)
{
    auto_claim_query struct claim_query query = { .call = call };
    uint8_t key[KEY_SHA256_LEN];
    uint8_t *nonce = arena_alloc(call->arena, CHALLENGE_LEN);

    (void)request;
    if (!nonce)
        return arena_exhausted(err);
    if (!check_rate(broker, call, err) || !read_client_key(&query, key, err) ||
        !challenge_make(broker->challenges, key, nonce, err))
        return false;
    response->nonce = (ProtobufCBinaryData){ CHALLENGE_LEN, nonce };
    response->remaining_ms = CHALLENGE_MS;
    response->broker_key_sha256.len = KEY_SHA256_LEN;
    response->broker_key_sha256.data =
        arena_memdup(call->arena, attest_own_key(broker, call), KEY_SHA256_LEN);
    if (!response->broker_key_sha256.data)
        return arena_exhausted(err);
    return true;
}

/* --- cheap checks --- */

static bool check_request(struct attest_attempt *a, struct error *err)
{
    const M(AttestRequest) *r = a->request;

    if (!broker_check_open(a->broker, err))
        return false;
    if (!a->broker->collaterals)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "this broker has no collateral to verify quotes with: start it with "
                         "--collateral-dir, --collateral-bundle or --pccs");
    a->verifier = verifier_find(r->tee, err);
    if (!a->verifier)
        return false;
    if (r->nonce.len != CHALLENGE_LEN)
        return error_set(err, ERROR_INVALID_ARGUMENT, "nonce must have %d bytes", CHALLENGE_LEN);
    if (r->sealing_public_key.len != HPKE_PUBLIC_LEN)
        return error_set(err, ERROR_INVALID_ARGUMENT, "sealing_public_key must have %d bytes",
                         HPKE_PUBLIC_LEN);
    if (r->owner_token.len > TOKEN_LEN_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "owner_token has more than %u bytes",
                         TOKEN_LEN_MAX);
    return r->owner_certificate.len <= OWNER_CHAIN_LEN_MAX ||
           error_set(err, ERROR_INVALID_ARGUMENT, "owner_certificate has more than %u bytes",
                     OWNER_CHAIN_LEN_MAX);
}

/* Some workers must stay free for clients that are already known. */
static bool enter(struct broker *broker, struct error *err)
{
    if (atomic_fetch_add(&broker->verifications, 1) < broker->verifications_max)
        return true;
    atomic_fetch_sub(&broker->verifications, 1);
    return error_set(err, ERROR_UNAVAILABLE,
                     "too many other clients are attesting now: try again with the same nonce");
}

static void leave(struct broker *broker)
{
    atomic_fetch_sub(&broker->verifications, 1);
}

/* --- the evidence --- */

/* The broker knows every part itself, except the sealing key. The quote vouches for that key. */
static bool expect_report_data(const struct attest_attempt *a, uint8_t out[static REPORT_DATA_LEN],
                               struct error *err)
{
    struct binding binding;

    memcpy(binding.nonce, a->request->nonce.data, BINDING_LEN);
    memcpy(binding.client_key_sha256, a->session->client_key_sha256, BINDING_LEN);
    memcpy(binding.sealing_key_sha256, a->session->sealing_key_sha256, BINDING_LEN);
    memcpy(binding.broker_key_sha256, attest_own_key(a->broker, a->call), BINDING_LEN);
    return binding_report_data(&binding, out, err);
}

static bool name_quote(struct attest_attempt *a, const struct quote *quote, struct error *err)
{
    uint8_t digest[SHA256_LEN];

    if (!quote_sha256(quote, digest, err))
        return false;
    hex_encode(digest, sizeof(digest), a->quote_sha256);
    return true;
}

static bool lend_collateral(void *cookie, const struct quote *quote, const struct collateral **out,
                            struct error *err)
{
    struct attest_attempt *a = cookie;
    struct collaterals *all = a->broker->collaterals;

    return name_quote(a, quote, err) && collaterals_check_clock(all, err) &&
           collaterals_get(all, quote, out, err);
}

static void take_collateral_back(void *cookie, const struct collateral *collateral)
{
    const struct attest_attempt *a = cookie;

    collaterals_put(a->broker->collaterals, collateral);
}

static bool check_quote(struct attest_attempt *a, struct error *err)
{
    const M(AttestRequest) *r = a->request;
    uint8_t report_data[REPORT_DATA_LEN];
    const struct verifier_request request = {
        .quote = { r->quote.data, r->quote.len },
        .event_log = { r->event_log.len > 0 ? r->event_log.data : NULL, r->event_log.len },
        .report_data = report_data,
        .lender = { lend_collateral, take_collateral_back, a },
        .now = (int64_t)(a->now_ms / 1000),
        .cache = a->broker->pck_cache,
    };

    a->is_verified = expect_report_data(a, report_data, err) &&
                     a->verifier->verify(&request, &a->session->tee, err);
    return a->is_verified;
}

/* True when the proof holds. Otherwise the refusal is kept: it is the answer when every rule
 * needs the proof. */
static bool weigh(struct attest_attempt *a, bool holds, const struct error *why)
{
    if (!holds && a->unproven.code == ERROR_NONE)
        a->unproven = *why;
    return holds;
}

static bool check_owner(struct attest_attempt *a, struct error *err)
{
    const M(AttestRequest) *r = a->request;
    const struct policy *policy = a->broker->policy;
    struct attested_session *s = a->session;
    struct error why = ERROR_INIT;

    s->has_token = r->owner_token.len > 0 && policy_wants_token(policy) &&
                   weigh(a,
                         policy_verify_token(policy, (const char *)r->owner_token.data,
                                             r->owner_token.len, &s->token, &why),
                         &why);
    s->has_owner =
        r->owner_certificate.len > 0 && policy_wants_owner_certificate(policy) &&
        weigh(a,
              policy_verify_owner_certificate(policy, (const char *)r->owner_certificate.data,
                                              r->owner_certificate.len, s->client_key_sha256,
                                              (int64_t)(a->now_ms / 1000), &s->owner, &why),
              &why);
    if (a->unproven.code == ERROR_NONE || a->unproven.code == ERROR_DENIED)
        return true;
    *err = a->unproven;
    return false;
}

/* --- the verdict --- */

/* Judges what the client sent now, not an earlier session of its key. */
static bool judge(struct attest_attempt *a, struct error *err)
{
    struct attested_session *s = a->session;
    struct error why = ERROR_INIT;

    a->caller.attested = s;
    a->caller.who.tee = &s->tee;
    a->caller.who.token = s->has_token ? &s->token : NULL;
    a->caller.who.owner = s->has_owner ? &s->owner : NULL;
    if (policy_judge(a->broker->policy, &a->caller.who, (int64_t)(a->now_ms / 1000), NULL, &a->rule,
                     &why))
        return true;
    *err = why;
    if (why.code != ERROR_DENIED || policy_blame_proof(err, &a->unproven))
        return false;
    (void)snprintf(a->denial, sizeof(a->denial), "%s", why.text);
    return error_set_reason(err, ERROR_DENIED, why.reason, JUDGED_CALL_DENIED_TEXT);
}

static void end_by(struct attested_session *s, int64_t seconds)
{
    uint64_t until_ms = seconds > 0 ? (uint64_t)seconds * 1000 : 0;

    if (until_ms < s->until_ms)
        s->until_ms = until_ms;
}

/* The session ends no later than the collateral, the token and the owner's certificate that prove
 * it. */
static bool set_end(struct attest_attempt *a, struct error *err)
{
    struct attested_session *s = a->session;

    s->since_ms = a->now_ms;
    s->until_ms = a->now_ms + a->broker->session_ms;
    end_by(s, s->tee.collateral_until);
    if (s->has_token)
        end_by(s, s->token.until);
    if (s->has_owner)
        end_by(s, s->owner.until);
    return s->until_ms > a->now_ms ||
           error_set(err, ERROR_UNAVAILABLE,
                     "collateral, token or owner's certificate has just expired: attest again");
}

static bool prove(struct attest_attempt *a, struct error *err)
{
    const M(AttestRequest) *r = a->request;
    struct attested_session *s = a->session;

    return challenge_use(a->broker->challenges, s->client_key_sha256, r->nonce.data, err) &&
           sha256(r->sealing_public_key.data, HPKE_PUBLIC_LEN, s->sealing_key_sha256, err) &&
           check_quote(a, err) && check_owner(a, err) &&
           caller_gather(a->broker->sources, a->broker->n_sources, a->query, &a->caller, err) &&
           judge(a, err) && set_end(a, err);
}

static bool try(struct attest_attempt *a, struct error *err)
{
    if (!check_request(a, err))
        return false;
    if (!enter(a->broker, err)) {
        a->is_unrecorded = true;
        return false;
    }
    bool ok = prove(a, err);

    leave(a->broker);
    return ok;
}

/* --- the audit line --- */

struct verified_texts {
    char collateral[HASH_TEXT_LEN], mrtd[2 * MEASUREMENT_LEN + 1];
    char platform[2 * PLATFORM_ID_LEN + 1], fmspc[2 * FMSPC_LEN + 1];
};

static void describe_td(const struct td_claims *td, struct verified_texts *out)
{
    hex_encode(td->mrtd, sizeof(td->mrtd), out->mrtd);
    hex_encode(td->fmspc, sizeof(td->fmspc), out->fmspc);
    if (td->has_platform_id)
        hex_encode(td->platform_id, sizeof(td->platform_id), out->platform);
}

/* failure: NULL when the call is about to succeed. */
static bool write_audit(const struct attest_attempt *a, const struct error *failure,
                        struct error *err)
{
    const struct tee_claims *tee = &a->session->tee;
    const struct td_claims *td = a->is_verified ? tee_claims_td(tee) : NULL;
    const struct principal *who = &a->caller.who;
    const struct policy *policy = a->broker->policy;
    struct verified_texts t = { .platform = "" };
    const char *image = "";
    char key[HASH_TEXT_LEN];

    hex_encode(a->session->client_key_sha256, KEY_SHA256_LEN, key);
    if (a->is_verified)
        hex_encode(tee->collateral_sha256, sizeof(tee->collateral_sha256), t.collateral);
    if (td)
        describe_td(td, &t);
    if (a->rule)
        image = policy_rule_image(a->rule, who, (int64_t)(a->now_ms / 1000));

    const struct log_field fields[] = {
        TEXT("event", "call"),
        TEXT("method", "Attest"),
        TEXT("decision", failure ? "deny" : "allow"),
        TEXT("code", failure ? error_code_name(failure->code) : "OK"),
        TEXT("reason", a->denial[0] != '\0' ? a->denial : (failure ? failure->text : "")),
        TEXT("word", failure ? failure->reason : ""),
        TEXT("tenant", a->rule ? policy_rule_tenant(a->rule) : ""),
        TEXT("rule", a->rule ? policy_rule_name(a->rule) : ""),
        TEXT("image", image),
        TEXT("cn", who->certificate ? who->certificate->common_name : ""),
        TEXT("peer", a->call->peer->address ? a->call->peer->address : ""),
        TEXT("client_key", key),
        TEXT("quote_sha256", a->quote_sha256),
        TEXT("policy", policy_hash(policy)),
        TEXT("policy_revision", policy_revision(policy)),
        TEXT("token_subject", a->session->has_token ? a->session->token.subject : ""),
        TEXT("token_node", a->session->has_token ? a->session->token.node : ""),
        TEXT("owner", a->session->has_owner ? a->session->owner.common_name : ""),
        TEXT("collateral_sha256", t.collateral),
        TEXT("mrtd", t.mrtd),
        TEXT("fmspc", t.fmspc),
        TEXT("platform", t.platform),
        /* The numbers come last, so that they can be left out. */
        TEXT("tcb_status", td ? tcb_status_name(td->tcb_status) : ""),
        NUMBER("tcb_evaluation", td ? td->tcb_evaluation_number : 0),
        NUMBER("qe_evaluation", td ? td->qe_evaluation_number : 0),
    };

    return audit_write(a->broker->audit, fields, ARRAY_LEN(fields) - (td ? 0 : 2), NULL, err);
}

/* --- the whole call --- */

static bool finish(struct attest_attempt *a, M(AttestResponse) * response, struct error *err)
{
    const struct attested_session *s = a->session;

    response->remaining_ms = s->until_ms - a->now_ms;
    response->tenant = arena_strdup(a->call->arena, policy_rule_tenant(a->rule));
    response->rule = arena_strdup(a->call->arena, policy_rule_name(a->rule));
    if (!response->tenant || !response->rule)
        return arena_exhausted(err);
    /* The audit line comes first, so that every session is in the log. */
    return write_audit(a, NULL, err) &&
           attested_sessions_put(a->broker->attestations, s, a->now_ms, err);
}

static void charge_failure(const struct attest_attempt *a, const struct error *err)
{
    const struct rate_limit limit = rate_of(a->broker);
    char name[CALLER_NETWORK_LEN];

    if (err->code == ERROR_UNAVAILABLE) /* such as missing collateral: not the client's fault */
        return;
    caller_network(a->call->peer, name);
    rate_charge(a->broker->peers, name, &limit, COST_OF_FAILURE);
}

static bool run(struct attest_attempt *a, M(AttestResponse) * response, struct error *err)
{
    struct error problem = ERROR_INIT;

    pthread_rwlock_rdlock(&a->broker->policy_lock);
    bool ok = try(a, err) && finish(a, response, err);

    if (!ok && !a->is_unrecorded && a->broker->audit) {
        charge_failure(a, err);
        if (!write_audit(a, err, &problem))
            *err = problem;
    }
    pthread_rwlock_unlock(&a->broker->policy_lock);
    return ok;
}

/* The nonce was counted when the client asked for it. If Attest counted again, half of the nodes
 * behind one address would make quotes for nothing after a restart of the broker. */
static bool check_admission(const struct attest_attempt *a, struct error *err)
{
    const M(AttestRequest) *r = a->request;

    return (r->nonce.len == CHALLENGE_LEN &&
            challenge_is_open(a->broker->challenges, a->session->client_key_sha256,
                              r->nonce.data)) ||
           check_rate(a->broker, a->call, err);
}

static bool attest(struct broker *broker, struct rpc_call *call, const M(AttestRequest) * request,
                   M(AttestResponse) * response, struct error *err)
{
    auto_claim_query struct claim_query query = { .call = call, .now_ms = broker->now_ms() };
    struct attest_attempt a = {
        .broker = broker, .call = call, .query = &query, .request = request, .now_ms = query.now_ms
    };
    uint8_t digest[SHA256_LEN];

    a.session = arena_alloc(call->arena, sizeof(*a.session));
    if (!a.session)
        return arena_exhausted(err);
    if (!read_client_key(&query, a.session->client_key_sha256, err) || !check_admission(&a, err) ||
        !sha256(request->quote.data, request->quote.len, digest, err))
        return false;
    hex_encode(digest, sizeof(digest), a.quote_sha256);
    return run(&a, response, err);
}

/* --- for the table of methods --- */

RPC_HANDLER(get_challenge, struct broker, M(GetChallengeRequest), M(GetChallengeResponse))
RPC_HANDLER(attest, struct broker, M(AttestRequest), M(AttestResponse))

bool attest_get_challenge(void *service, struct rpc_call *call, const ProtobufCMessage *request,
                          ProtobufCMessage *response, struct error *err)
{
    return get_challenge_untyped(service, call, request, response, err);
}

bool attest_run(void *service, struct rpc_call *call, const ProtobufCMessage *request,
                ProtobufCMessage *response, struct error *err)
{
    return attest_untyped(service, call, request, response, err);
}

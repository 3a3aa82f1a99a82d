/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/evidence.h"

#include "attest/attester.h"
#include "attest/statement.h"
#include "base/clock.h"
#include "base/log.h"
#include "broker/attest_service.h"
#include "broker/broker.h"

#include <stdio.h>
#include <string.h>

#include "keybroker.pb-c.h"

#define M(name) Tdvol__Keybroker__V1__##name /* generated message types */

#define TEE          "tdx" /* the one kind that there is an attester for */
#define COLLECT_MS   10000 /* at most, of one quote */
#define RATE_NAME(n) ((n) + 8)

/* --- how often --- */

static bool is_known(const struct broker *broker, const struct rpc_call *call)
{
    auto_claim_query struct claim_query query = { .call = call, .now_ms = broker->now_ms() };
    struct caller caller = { .attested = NULL };
    struct error ignored = ERROR_INIT;

    return caller_gather(broker->sources, broker->n_sources, &query, &caller, &ignored) &&
           caller_check_known(&caller, &ignored);
}

/* A TD makes about one quote a second. Whoever asks must leave some to others; and strangers from many
 * addresses must leave some to those who have a session, or a certificate. */
static bool check_rate(const struct broker *broker, const struct rpc_call *call, struct error *err)
{
    static const struct rate_limit one = { .per_minute = 12, .burst = 4 };
    static const struct rate_limit strangers = { .per_minute = 30, .burst = 10 };
    char network[CALLER_NETWORK_LEN], name[RATE_NAME(CALLER_NETWORK_LEN)];

    caller_network(call->peer, network);
    (void)snprintf(name, sizeof(name), "quotes %s", network);
    if (!rate_take(broker->peers, name, &one, 1))
        return error_set(err, ERROR_RESOURCE_EXHAUSTED,
                         "this address asks for the broker's quote too often: try again later");
    return is_known(broker, call) || rate_take(broker->peers, "quotes", &strangers, 1) ||
           error_set(err, ERROR_RESOURCE_EXHAUSTED,
                     "too many new clients ask for the broker's quote: try again later");
}

/* --- the quote --- */

/* Answers are signed with a new key as soon as its files have changed; connections from before keep the
 * key that they began with. Where several brokers share a name, another one may have the wanted key. */
static bool find_key(const struct broker *broker, const struct rpc_call *call,
                     const ProtobufCBinaryData *wanted, uint8_t out[static KEY_SHA256_LEN],
                     struct error *err)
{
    const uint8_t *const own[] = { attest_own_key(broker, call),
                                   broker->signer ? broker_signer_key(broker->signer) : NULL };

    if (wanted->len != 0 && wanted->len != KEY_SHA256_LEN)
        return error_set(err, ERROR_INVALID_ARGUMENT, "key_sha256 must have %d bytes, or none",
                         KEY_SHA256_LEN);
    for (size_t i = 0; i < ARRAY_LEN(own); i++) {
        if (!own[i] || (wanted->len > 0 && !bytes_are_equal(wanted->data, own[i], KEY_SHA256_LEN)))
            continue;
        memcpy(out, own[i], KEY_SHA256_LEN);
        return true;
    }
    return error_set(err, ERROR_UNAVAILABLE,
                     "this broker does not have the key that was asked for");
}

/* Only one request for a quote at a time: one that hangs in the kernel would hang the others. */
static bool collect(struct broker *broker, const uint8_t *report_data, struct evidence *out,
                    struct error *err)
{
    const struct attester_options options = { .tsm_root = broker->tsm_root,
                                              .event_log = broker->event_log,
                                              .deadline_ms = clock_now_ms() + COLLECT_MS };
    const struct attester *attester = attester_find(TEE, err);

    if (!attester)
        return false;
    if (atomic_exchange(&broker->is_quoting, true))
        return error_set_reason(err, ERROR_UNAVAILABLE, ATTESTER_REASON,
                                "another quote of the broker is being made: try again");
    bool ok = attester->collect(&options, report_data, out, err);

    atomic_store(&broker->is_quoting, false);
    return ok;
}

/* --- the answer --- */

static bool give(struct arena *arena, const void *bytes, size_t len, ProtobufCBinaryData *out,
                 struct error *err)
{
    if (len == 0)
        return true;
    out->len = len;
    out->data = arena_memdup(arena, bytes, len);
    return out->data || arena_exhausted(err);
}

/* Whoever checks the quote may have collateral of its own, so its lack is no failure. It is looked up,
 * and with a PCS fetched for the next time, as that of a node's quote is. */
static bool give_collateral(struct broker *broker, struct arena *arena,
                            const struct evidence *evidence, ProtobufCBinaryData *out,
                            struct error *err)
{
    const struct collateral *found = NULL;
    struct error why = ERROR_INIT;
    struct quote quote;

    if (!broker->collaterals)
        return true;
    if (!quote_parse(evidence->quote, evidence->quote_len, &quote, &why) ||
        !collaterals_get(broker->collaterals, &quote, &found, &why)) {
        log_warning("the broker's own quote goes without collateral", ERROR_FIELDS(&why));
        return true;
    }
    const char *bundle = collaterals_bundle(found);
    bool ok = give(arena, bundle, strlen(bundle), out, err);

    collaterals_put(broker->collaterals, found);
    return ok;
}

static bool answer(struct broker *broker, struct arena *arena, const struct evidence *evidence,
                   M(GetEvidenceResponse) * response, struct error *err)
{
    static char tee[] = TEE;

    response->tee = tee;
    return give(arena, evidence->quote, evidence->quote_len, &response->quote, err) &&
           (evidence->log_fault.code != ERROR_NONE ||
            give(arena, evidence->event_log, evidence->event_log_len, &response->event_log, err)) &&
           give_collateral(broker, arena, evidence, &response->collateral, err);
}

static bool choose(struct broker *broker, const struct rpc_call *call,
                   const M(GetEvidenceRequest) * request, uint8_t key[static KEY_SHA256_LEN],
                   struct error *err)
{
    pthread_rwlock_rdlock(&broker->policy_lock);
    bool ok =
        find_key(broker, call, &request->key_sha256, key, err) && check_rate(broker, call, err);

    pthread_rwlock_unlock(&broker->policy_lock);
    return ok;
}

bool evidence_get(void *service, struct rpc_call *call, const ProtobufCMessage *request,
                  ProtobufCMessage *response, struct error *err)
{
    const M(GetEvidenceRequest) *asked = (const void *)request;
    auto_evidence struct evidence evidence = { .quote = NULL };
    struct broker *broker = service;
    uint8_t key[KEY_SHA256_LEN], report_data[REPORT_DATA_LEN];

    if (!caller_check_peer(call->peer, err))
        return false;
    if (asked->nonce.len != STATEMENT_NONCE_LEN)
        return error_set(err, ERROR_INVALID_ARGUMENT, "nonce must have %d bytes",
                         STATEMENT_NONCE_LEN);
    return choose(broker, call, asked, key, err) &&
           statement_report_data(asked->nonce.data, key, report_data, err) &&
           collect(broker, report_data, &evidence, err) &&
           answer(broker, call->arena, &evidence, (void *)response, err);
}

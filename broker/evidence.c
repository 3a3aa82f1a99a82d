/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/attester.h"
#include "attest/statement.h"
#include "base/clock.h"
#include "broker/handlers.h"

#include <stdio.h>
#include <string.h>

#define TEE          "tdx" /* the one kind that there is an attester for */
#define COLLECT_MS   10000 /* at most, of one quote */
#define RATE_NAME(n) ((n) + 8)

/* A TD makes about one quote a second. Whoever asks must leave some to others. */
static bool check_rate(const struct judged_call *s, struct error *err)
{
    static const struct rate_limit limit = { .per_minute = 12, .burst = 4 };
    char network[CALLER_NETWORK_LEN], name[RATE_NAME(CALLER_NETWORK_LEN)];

    caller_network(s->call->peer, network);
    (void)snprintf(name, sizeof(name), "quotes %s", network);
    return rate_take(s->broker->peers, name, &limit, 1) ||
           error_set(err, ERROR_RESOURCE_EXHAUSTED,
                     "this address asks for the broker's quote too often: try again later");
}

static const uint8_t *own_key(const struct judged_call *s)
{
    const uint8_t *seen = s->call->peer->server_key_sha256;

    return seen ? seen : s->broker->key_sha256;
}

/* Only one request for a quote at a time: one that hangs in the kernel would hang the others. */
static bool collect(struct judged_call *s, const uint8_t *report_data, struct evidence *out,
                    struct error *err)
{
    const struct attester_options options = { .tsm_root = s->broker->tsm_root,
                                              .event_log = s->broker->event_log,
                                              .deadline_ms = clock_now_ms() + COLLECT_MS };
    const struct attester *attester = attester_find(TEE, err);

    if (!attester)
        return false;
    if (atomic_exchange(&s->broker->is_quoting, true))
        return error_set_reason(err, ERROR_UNAVAILABLE, ATTESTER_REASON,
                                "another quote of the broker is being made: try again");
    bool ok = attester->collect(&options, report_data, out, err);

    atomic_store(&s->broker->is_quoting, false);
    return ok;
}

static bool give(struct arena *arena, const uint8_t *bytes, size_t len, ProtobufCBinaryData *out,
                 struct error *err)
{
    if (len == 0)
        return true;
    out->len = len;
    out->data = arena_memdup(arena, bytes, len);
    return out->data || arena_exhausted(err);
}

bool get_evidence(struct judged_call *s, struct rpc_call *call,
                  const M(GetEvidenceRequest) * request, M(GetEvidenceResponse) * response,
                  struct error *err)
{
    static char tee[] = TEE;
    auto_evidence struct evidence evidence = { .quote = NULL };
    uint8_t report_data[REPORT_DATA_LEN];

    if (request->nonce.len != STATEMENT_NONCE_LEN)
        return error_set(err, ERROR_INVALID_ARGUMENT, "nonce must have %d bytes",
                         STATEMENT_NONCE_LEN);
    if (!check_rate(s, err) ||
        !statement_report_data(request->nonce.data, own_key(s), report_data, err) ||
        !collect(s, report_data, &evidence, err))
        return false;
    response->tee = tee;
    return give(call->arena, evidence.quote, evidence.quote_len, &response->quote, err) &&
           (evidence.log_fault.code != ERROR_NONE ||
            give(call->arena, evidence.event_log, evidence.event_log_len, &response->event_log,
                 err));
}

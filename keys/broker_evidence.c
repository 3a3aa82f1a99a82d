/* SPDX-License-Identifier: Apache-2.0 */
#include "keys/broker_evidence.h"

#include <string.h>

#define M(name) Tdvol__Keybroker__V1__##name /* generated message types */

M(GetEvidenceRequest)
broker_evidence_request(const struct relay *relay, const uint8_t key_sha256[static KEY_SHA256_LEN])
{
    M(GetEvidenceRequest) request = TDVOL__KEYBROKER__V1__GET_EVIDENCE_REQUEST__INIT;

    request.nonce = (ProtobufCBinaryData){ .len = ANSWER_NONCE_LEN,
                                           .data = (uint8_t *)(uintptr_t)relay->question->nonce };
    request.key_sha256 =
        (ProtobufCBinaryData){ .len = KEY_SHA256_LEN, .data = (uint8_t *)(uintptr_t)key_sha256 };
    return request;
}

/* The parts are bounded first: their sizes would not fit otherwise. */
static bool measure(const M(GetEvidenceResponse) * answer, struct broker_evidence_size *out)
{
    if (answer->quote.len > QUOTE_LEN_MAX || answer->event_log.len > EVENT_LOG_LEN_MAX ||
        answer->collateral.len > BROKER_COLLATERAL_MAX)
        return false;
    *out =
        (struct broker_evidence_size){ (uint32_t)answer->quote.len, (uint32_t)answer->event_log.len,
                                       (uint32_t)answer->collateral.len };
    return broker_evidence_len(out) > 0;
}

static uint8_t *append(uint8_t *at, const ProtobufCBinaryData *part)
{
    return part->len > 0 ? mempcpy(at, part->data, part->len) : at;
}

bool broker_evidence_take(const M(GetEvidenceResponse) * answer, struct broker_evidence *out,
                          struct error *err)
{
    struct broker_evidence evidence = { .bytes = NULL };

    if (!measure(answer, &evidence.size))
        return error_set(err, ERROR_INTERNAL,
                         "the key broker's evidence has no quote, or a part that is too large");
    evidence.bytes = malloc(broker_evidence_len(&evidence.size));
    if (!evidence.bytes)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the broker's evidence");
    uint8_t *end = append(evidence.bytes, &answer->quote);

    end = append(end, &answer->event_log);
    (void)append(end, &answer->collateral);
    *out = evidence;
    return true;
}

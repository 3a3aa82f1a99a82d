/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "blockd/relay.h"

#include "keybroker.pb-c.h"

/*
 * The broker's own evidence, for a worker that demands it. Nothing of it is looked at here.
 */
#define BROKER_EVIDENCE_ANSWER_MAX \
    (BROKER_COLLATERAL_MAX + EVENT_LOG_LEN_MAX + QUOTE_LEN_MAX + 65536)

/* The request points to its arguments. */
Tdvol__Keybroker__V1__GetEvidenceRequest broker_evidence_request(
    const struct relay *relay, const uint8_t key_sha256[static KEY_SHA256_LEN]);

/* INTERNAL for an answer that no worker would take. */
MUST_USE bool broker_evidence_take(const Tdvol__Keybroker__V1__GetEvidenceResponse *answer,
                                   struct broker_evidence *out, struct error *err);

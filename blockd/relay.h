/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/broker_signature.h"
#include "attest/event_log.h"
#include "attest/quote.h"
#include "record/answer.h"
#include "record/proof.h"

#include <stdlib.h>

/*
 * What a worker and the broker tell each other through the front, which only passes it on: it can
 * make neither the proof nor the signature.
 */
struct relay_question {
    uint8_t nonce[ANSWER_NONCE_LEN]; /* fresh; the signature covers it */
    bool has_proof;                  /* changes only */
    uint8_t proof[PROOF_LEN];
    uint64_t expected_version; /* which the proof covers; 0: the front's own */
};

/* What GetEvidence answers: quote, event log and collateral, one after the other in one buffer. The last
 * two may be missing. Owned; release with broker_evidence_free(). */
#define BROKER_COLLATERAL_MAX ((size_t)4 * 1024 * 1024)
struct broker_evidence_size {
    uint32_t quote, event_log, collateral; /* bytes */
};
struct broker_evidence {
    uint8_t *bytes;
    struct broker_evidence_size size;
};
static inline void broker_evidence_free(struct broker_evidence *evidence)
{
    free(evidence->bytes);
    evidence->bytes = NULL;
}
#define auto_broker_evidence CLEANUP(broker_evidence_free)

/* 0: a part is larger than any good one, or there is no quote. */
static inline size_t broker_evidence_len(const struct broker_evidence_size *size)
{
    return size->quote > 0 && size->quote <= QUOTE_LEN_MAX &&
                   size->event_log <= EVENT_LOG_LEN_MAX && size->collateral <= BROKER_COLLATERAL_MAX
               ? (size_t)size->quote + size->event_log + size->collateral
               : 0;
}

struct relay {
    const struct relay_question *question;
    struct broker_signature *signature; /* of the answer */
};

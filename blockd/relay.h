/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/broker_signature.h"
#include "record/answer.h"
#include "record/proof.h"

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

struct relay {
    const struct relay_question *question;
    struct broker_signature *signature; /* of the answer */
};

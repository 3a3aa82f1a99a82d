/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/broker_signature.h"
#include "attest/collateral.h"
#include "attest/statement.h"

/*
 * Judges what a broker shows of itself (GetEvidence): a quote over our nonce and the broker's key, with
 * the collateral to verify it, by a policy whose rules say which TDs may be a broker. The CA says whose
 * key it is; this says what runs there.
 */
#define APPRAISAL_TEXT 256

struct appraisal {
    struct bytes_view policy; /* our own, as text */
    uint8_t nonce[STATEMENT_NONCE_LEN], key_sha256[KEY_SHA256_LEN];
    struct bytes_view quote, event_log, collateral; /* as received; the last two may be empty */
    const struct trust_root *root;
    int64_t now; /* seconds since 1970 */
};

/* Pure. True: said names the rule that fits, and the image. DENIED with the reason BrokerEvidence: the
 * text begins with a word of attest/reason.h, and says what to do. FAILED_PRECONDITION: the policy itself
 * is not usable. */
MUST_USE bool appraisal_judge(const struct appraisal *a, char said[static APPRAISAL_TEXT],
                              struct error *err);

/* The same in a child without rights, which can open nothing: whoever shows evidence may be an attacker.
 * A child that crashes has refused. Only for processes without threads. */
MUST_USE bool appraisal_judge_confined(const struct appraisal *a, char said[static APPRAISAL_TEXT],
                                       struct error *err);

/* Whether the policy can be used: FAILED_PRECONDITION. In such a child, too. */
MUST_USE bool appraisal_check_policy(struct bytes_view policy, struct error *err);

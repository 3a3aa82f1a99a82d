/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "broker/judged_call.h"
#include "lifecycle/lifecycle.h"
#include "record/answer.h"
#include "record/proof.h"

/*
 * End-to-end protection between the broker and the root worker on a node: the answers to a worker
 * are signed (record/answer.h), and the changes that only a worker can know about need its proof
 * (record/proof.h). The front between the two reads and writes neither.
 */
struct worker_answer {
    enum answer_kind kind;
    const ProtobufCBinaryData *nonce;           /* of the request; empty: no worker asks */
    const ProtobufCBinaryData *subject;         /* see struct answer_question; NULL: none */
    const ProtobufCBinaryData *record, *secret; /* of the response; secret may be NULL */
    ProtobufCBinaryData *signature, *certificates;
};

/* INVALID_ARGUMENT when the nonce is neither empty nor of the right length. */
MUST_USE bool worker_answer_check(const ProtobufCBinaryData *nonce, struct error *err);

/* Fills signature and certificates, in the call's arena. Does nothing when no worker asks. */
MUST_USE bool worker_answer_sign(struct judged_call *s, const struct worker_answer *answer,
                                 struct error *err);

/* PERMISSION_DENIED with the reason ChangeProof when the change needs a proof and this is none. r is
 * the record before the change. */
MUST_USE bool worker_proof_check(struct judged_call *s, const struct record *r,
                                 const struct change_request *request,
                                 const ProtobufCBinaryData *proof, struct error *err);

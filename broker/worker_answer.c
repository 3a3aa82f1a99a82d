/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/worker_answer.h"

#include "broker/creation.h"
#include "record/proof.h"
#include "store/keyring.h"

#include <string.h>

bool worker_answer_check(const ProtobufCBinaryData *nonce, struct error *err)
{
    return nonce->len == 0 || nonce->len == ANSWER_NONCE_LEN ||
           error_set(err, ERROR_INVALID_ARGUMENT, "nonce must have %d bytes, or none",
                     ANSWER_NONCE_LEN);
}

static bool give(const struct judged_call *s, const uint8_t *bytes, size_t len,
                 ProtobufCBinaryData *out, struct error *err)
{
    out->len = len;
    out->data = arena_memdup(s->call->arena, bytes, len);
    return out->data || arena_exhausted(err);
}

bool worker_answer_sign(struct judged_call *s, const struct worker_answer *answer,
                        struct error *err)
{
    struct answer_question question = { .kind = answer->kind };
    struct sealed_secret secret;
    struct answer_bytes *bytes = NULL;
    struct broker_signature *signature = NULL;

    if (answer->nonce->len == 0)
        return true;
    if (!worker_answer_check(answer->nonce, err))
        return false;
    if (!s->broker->signer)
        return error_set(err, ERROR_INTERNAL, "this broker has no key to sign answers with");
    bytes = arena_alloc(s->call->arena, sizeof(*bytes));
    signature = arena_alloc(s->call->arena, sizeof(*signature));
    if (!bytes || !signature)
        return arena_exhausted(err);
    memcpy(question.nonce, answer->nonce->data, ANSWER_NONCE_LEN);
    if (answer->subject &&
        !sha256(answer->subject->data, answer->subject->len, question.subject, err))
        return false;
    if (answer->secret)
        memcpy(secret.bytes, answer->secret->data, sizeof(secret.bytes));
    answer_encode(&question, answer->record->data, answer->record->len,
                  answer->secret ? &secret : NULL, bytes);
    return broker_sign(s->broker->signer, bytes->bytes, bytes->len, signature, err) &&
           give(s, signature->bytes, signature->len, answer->signature, err) &&
           give(s, signature->certificates, signature->certificates_len, answer->certificates, err);
}

/* --- proofs --- */

static bool make_proof(const struct secret *secret, const struct record *r,
                       const struct change_request *request, uint8_t out[static PROOF_LEN],
                       struct error *err)
{
    uint8_t key[CLOSE_KEY_LEN];

    if (proof_needed(r, request->change) == PROOF_SECRET)
        return proof_by_secret(secret, r, request->expected_version, request->change, out, err);
    bool made =
        close_key_derive(secret, r, key, err) && proof_by_close_key(key, request->change, out, err);
    bytes_wipe(key, sizeof(key));
    return made;
}

/* *fits: proof is one by this secret. */
static bool compare_proof(const struct secret *secret, const struct record *r,
                          const struct change_request *request, const ProtobufCBinaryData *proof,
                          bool *fits, struct error *err)
{
    uint8_t expected[PROOF_LEN];

    if (!make_proof(secret, r, request, expected, err))
        return false;
    *fits = bytes_are_equal(expected, proof->data, PROOF_LEN);
    return true;
}

/* The steps of a rotation. A secret is changed because somebody may know it: whoever has the former one
 * alone must not put another header on record, or have that secret destroyed. */
static bool needs_next(enum record_change_kind kind)
{
    return kind == RECORD_CHANGE_NEXT_HEADER || kind == RECORD_CHANGE_ROTATED;
}

/* While the secret is changed, the worker may have made its proof with either one. */
static bool look_at_proof(const struct judged_call *s, const struct record *r,
                          const struct change_request *request, const ProtobufCBinaryData *proof,
                          bool *fits, struct error *err)
{
    auto_secret struct secret own = SECRET_INIT, next = SECRET_INIT;
    bool has_next = r->rotation.key.generation != 0;

    if (has_next &&
        (!rotation_secret(s, r, &next, err) || !compare_proof(&next, r, request, proof, fits, err)))
        return false;
    if (*fits || (has_next && needs_next(request->change->kind)))
        return true;
    return keyring_secret_of(s->broker->keyring, r, &own, err) &&
           compare_proof(&own, r, request, proof, fits, err);
}

bool worker_proof_check(struct judged_call *s, const struct record *r,
                        const struct change_request *request, const ProtobufCBinaryData *proof,
                        struct error *err)
{
    enum record_change_kind kind = request->change->kind;
    bool fits = false;

    if (kind == 0 || kind >= RECORD_CHANGE_KIND_COUNT)
        return error_set(err, ERROR_INVALID_ARGUMENT, "change.kind is missing or unknown");
    /* Without a key there is no volume: record_change() says so. */
    if (proof_needed(r, request->change) == PROOF_NONE || r->key.generation == 0)
        return true;
    /* No worker formats any longer than that: another node could have the format by now. */
    if (kind == RECORD_CHANGE_CLOSED && r->phase == RECORD_FORMATTING &&
        request->now_ms + (uint64_t)request->skew_ms >= r->format.deadline_ms)
        return true;
    if (proof->len == PROOF_LEN && !look_at_proof(s, r, request, proof, &fits, err))
        return false;
    if (fits)
        return true;
    judged_call_deny(s, "the change does not come from the worker that has the volume open", err);
    return error_reason(err, PROOF_REASON);
}

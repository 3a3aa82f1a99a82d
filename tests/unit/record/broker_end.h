/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/broker_signature.h"
#include "record/answer.h"
#include "record/proof.h"

/*
 * The broker's end of what passes between broker and worker, for tests and fakes: a CA and a TLS key
 * that are made when the test runs, answers signed as broker/worker_answer.c signs them, and proofs
 * checked as it checks them. Ends the program when OpenSSL fails.
 */
struct broker_end_certificate {
    const char *names;       /* subjectAltName as of OpenSSL's configuration; NULL: none */
    const char *common_name; /* NULL: "broker" */
    const char *usage;       /* extendedKeyUsage; NULL: none */
    const char *key_type;    /* "RSA", "ED25519"; NULL: P-256 */
    long from_s, until_s;    /* from now; both 0: an hour before to an hour after */
    bool has_intermediate;
};

struct broker_end {
    char *ca_pem, *certificates_pem;
    struct secret key_pem;
    struct broker_signer *signer;
};

/* kind NULL: for localhost and 127.0.0.1. */
void broker_end_make(struct broker_end *out, const struct broker_end_certificate *kind);
void broker_end_free(struct broker_end *end);

/* subject: what was asked with (struct answer_question), NULL: nothing. secret: as in answer_encode(). */
void broker_end_sign(const struct broker_end *end, const struct answer_question *question,
                     const struct encoded *record, const struct sealed_secret *secret,
                     struct broker_signature *out);

/* A question about subject, which may be NULL. */
struct answer_question broker_end_question(enum answer_kind kind, const uint8_t *nonce,
                                           const void *subject, size_t subject_len);

/* As broker/worker_answer.c: DENIED with ChangeProof unless the change needs no proof or this is it.
 * proof NULL: none. record: before the change. */
MUST_USE bool broker_end_accepts(const uint8_t secret[static VOLUME_SECRET_LEN],
                                 const struct record *record, uint64_t expected_version,
                                 const struct record_change *change, const uint8_t *proof,
                                 struct error *err);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/digest.h"
#include "record/encoding.h"
#include "record/sealing.h"

/*
 * The bytes that the broker signs when it answers a worker. The answer reaches the worker through
 * the unprivileged front, which must not be able to change it, to give an older one, or to give the
 * answer to another question. The nonce is fresh for each question. The layout is in
 * proto/keybroker.proto, at "Signed answers".
 */
#define ANSWER_NONCE_LEN 32

enum answer_kind {
    ANSWER_RECORD = 1,
    ANSWER_OPEN,
    ANSWER_OPEN_READ_ONLY,
    ANSWER_CHANGE,
    ANSWER_RENEW
};

struct answer_question {
    enum answer_kind kind;
    uint8_t nonce[ANSWER_NONCE_LEN];
    /* SHA-256 of what else was asked: of the sealing public key when a volume is opened, of the
     * encoded change; otherwise zeros. */
    uint8_t subject[SHA256_LEN];
};

#define ANSWER_BYTES_MAX (32 + 4 + ANSWER_NONCE_LEN + SHA256_LEN + 4 + 4 + 8064 + 128)
struct answer_bytes {
    size_t len;
    uint8_t bytes[ANSWER_BYTES_MAX];
};

/* record is the encoded record as it is sent, at most RECORD_ENCODED_MAX bytes; secret is NULL
 * unless a volume is opened. */
void answer_encode(const struct answer_question *question, const void *record, size_t record_len,
                   const struct sealed_secret *secret, struct answer_bytes *out);

/* SPDX-License-Identifier: Apache-2.0 */
#include "record/answer.h"

#include <assert.h>
#include <string.h>

#define TAG_LEN 32

static_assert(ANSWER_BYTES_MAX >= TAG_LEN + 4 + ANSWER_NONCE_LEN + SHA256_LEN + 8 +
                                      RECORD_ENCODED_MAX + SEALED_SECRET_LEN,
              "room for every answer");

static const char tag[TAG_LEN] = "tdvol v1 answer to a worker";

static void put(struct answer_bytes *out, const void *bytes, size_t len)
{
    assert(len <= sizeof(out->bytes) - out->len);
    memcpy(out->bytes + out->len, bytes, len);
    out->len += len;
}

static void put_u32(struct answer_bytes *out, uint32_t value)
{
    uint8_t bytes[4];

    for (int i = 0; i < 4; i++)
        bytes[i] = (uint8_t)(value >> (24 - 8 * i));
    put(out, bytes, sizeof(bytes));
}

void answer_encode(const struct answer_question *question, const void *record, size_t record_len,
                   const struct sealed_secret *secret, struct answer_bytes *out)
{
    size_t secret_len = secret ? sizeof(secret->bytes) : 0;

    out->len = 0;
    put(out, tag, sizeof(tag));
    put_u32(out, question->kind);
    put(out, question->nonce, sizeof(question->nonce));
    put(out, question->subject, sizeof(question->subject));
    put_u32(out, (uint32_t)record_len);
    put_u32(out, (uint32_t)secret_len);
    put(out, record, record_len);
    if (secret)
        put(out, secret->bytes, secret_len);
}

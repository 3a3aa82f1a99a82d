/* SPDX-License-Identifier: Apache-2.0 */
#include "record/old_key.h"

#include "record/aead.h"

#include <assert.h>
#include <string.h>

#define LENGTH_BYTES 2
#define PADDED_LEN   (LENGTH_BYTES + (size_t)OLD_KEY_MAX)
#define AAD_LEN      (RECORD_ID_LEN + RECORD_ID_LEN + 4)

static_assert(OLD_KEY_WRAPPED == AEAD_WRAPPED_LEN(PADDED_LEN), "wrapped length");

static const char info[] = "tdvol v1 old key";

/* Record id, key id, generation (big-endian). */
static void fill_aad(const struct record *record, uint8_t out[static AAD_LEN])
{
    uint8_t *end = mempcpy(out, record->id, RECORD_ID_LEN);

    end = mempcpy(end, record->key.id, RECORD_ID_LEN);
    for (int shift = 24; shift >= 0; shift -= 8)
        *end++ = (uint8_t)(record->key.generation >> shift);
}

static bool derive(const struct record *record, const struct secret *secret, struct secret *out,
                   struct error *err)
{
    return hkdf_sha256(secret, record->id, RECORD_ID_LEN, info, strlen(info), out, AEAD_KEY_LEN,
                       err);
}

bool old_key_wrap(struct record *record, const struct secret *secret,
                  const struct secret *passphrase, struct error *err)
{
    auto_secret struct secret key = SECRET_INIT, padded = SECRET_INIT;
    uint8_t bytes[AAD_LEN];
    const struct byte_range aad = { bytes, sizeof(bytes) };

    if (passphrase->len == 0 || passphrase->len > OLD_KEY_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "the old key must have 1 to %d bytes",
                         OLD_KEY_MAX);
    if (!derive(record, secret, &key, err) || !secret_alloc(&padded, PADDED_LEN, err))
        return false;
    padded.bytes[0] = (uint8_t)(passphrase->len >> 8);
    padded.bytes[1] = (uint8_t)passphrase->len;
    memcpy(padded.bytes + LENGTH_BYTES, passphrase->bytes, passphrase->len);
    fill_aad(record, bytes);
    record->old_key.is_set = aead_wrap(&key, &aad, &padded, record->old_key.wrapped, err);
    return record->old_key.is_set;
}

bool old_key_unwrap(const struct record *record, const struct secret *secret,
                    struct secret *passphrase, struct error *err)
{
    auto_secret struct secret key = SECRET_INIT, padded = SECRET_INIT;
    uint8_t bytes[AAD_LEN];
    const struct byte_range aad = { bytes, sizeof(bytes) },
                            wrapped = { record->old_key.wrapped, OLD_KEY_WRAPPED };

    if (!record->old_key.is_set)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "the key broker gave no old key: adopt the volume again");
    fill_aad(record, bytes);
    if (!derive(record, secret, &key, err) || !aead_unwrap(&key, &aad, &wrapped, &padded, err))
        return error_wrap(err, "the old key");
    size_t len = (size_t)padded.bytes[0] << 8 | padded.bytes[1];
    if (len == 0 || len > OLD_KEY_MAX)
        return error_set(err, ERROR_DATA_LOSS, "the old key has %zu bytes", len);
    if (!secret_alloc(passphrase, len, err))
        return false;
    memcpy(passphrase->bytes, padded.bytes + LENGTH_BYTES, len);
    return true;
}

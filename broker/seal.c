/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/seal.h"

#include <assert.h>
#include <openssl/evp.h>
#include <string.h>

#define NONCE_LEN 12
#define TAG_LEN   16
#define AAD_LEN   (RECORD_ID_LEN + 4)

static_assert(STORE_WRAPPED_LEN == NONCE_LEN + VOLUME_SECRET_LEN + TAG_LEN, "wrapped length");

bool seal_parse_master(const struct secret *text, struct secret *out, struct error *err)
{
    auto_secret struct secret digits = SECRET_INIT, key = SECRET_INIT;
    size_t len = text->len;

    while (len > 0 && (text->bytes[len - 1] == '\n' || text->bytes[len - 1] == '\r'))
        len--;
    if (!secret_alloc(&digits, 2 * SEAL_MASTER_LEN + 1, err) ||
        !secret_alloc(&key, SEAL_MASTER_LEN, err))
        return false;
    if (len == 2 * SEAL_MASTER_LEN)
        memcpy(digits.bytes, text->bytes, len);
    if (!hex_decode((const char *)digits.bytes, key.bytes, SEAL_MASTER_LEN))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "the master key is not 64 hex digits; make one with: "
                         "openssl rand -hex 32");
    *out = key;
    key = (struct secret)SECRET_INIT;
    return true;
}

/* One key per purpose. */
static bool derive(const struct secret *master, const char *purpose, struct secret *out,
                   struct error *err)
{
    return hkdf_sha256(master, "", 0, purpose, strlen(purpose), out, 32, err);
}

bool seal_mark(const struct secret *master, uint8_t out[static STORE_MARK_LEN], struct error *err)
{
    auto_secret struct secret mark = SECRET_INIT;

    if (!derive(master, "tdvol v1 master key mark", &mark, err))
        return false;
    memcpy(out, mark.bytes, STORE_MARK_LEN);
    return true;
}

static void put_u32(uint8_t *out, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        out[i] = (uint8_t)(value >> (24 - 8 * i));
}

static void cipher_free(EVP_CIPHER_CTX **context)
{
    EVP_CIPHER_CTX_free(*context);
}
#define auto_cipher CLEANUP(cipher_free)

/* Sets key, nonce and associated data. The caller adds the text. */
static EVP_CIPHER_CTX *gcm_start(const struct secret *key, const struct store_key *wrapped,
                                 int encrypt)
{
    uint8_t aad[AAD_LEN];
    int len = 0;
    auto_cipher EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();

    memcpy(aad, wrapped->key.id, RECORD_ID_LEN);
    put_u32(aad + RECORD_ID_LEN, wrapped->key.generation);
    if (!context ||
        EVP_CipherInit_ex(context, EVP_aes_256_gcm(), NULL, key->bytes, wrapped->wrapped,
                          encrypt) != 1 ||
        EVP_CipherUpdate(context, NULL, &len, aad, AAD_LEN) != 1)
        return NULL;
    return TAKE_PTR(context);
}

static bool gcm_encrypt(const struct secret *key, const struct secret *plain, struct store_key *out)
{
    uint8_t *text = out->wrapped + NONCE_LEN, *tag = text + VOLUME_SECRET_LEN;
    auto_cipher EVP_CIPHER_CTX *context = gcm_start(key, out, 1);
    int len = 0;

    return context && EVP_CipherUpdate(context, text, &len, plain->bytes, (int)plain->len) == 1 &&
           EVP_CipherFinal_ex(context, text + len, &len) == 1 &&
           EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, TAG_LEN, tag) == 1;
}

static bool gcm_decrypt(const struct secret *key, const struct store_key *in, struct secret *plain)
{
    const uint8_t *text = in->wrapped + NONCE_LEN;
    uint8_t tag[TAG_LEN];
    auto_cipher EVP_CIPHER_CTX *context = gcm_start(key, in, 0);
    int len = 0;

    memcpy(tag, text + VOLUME_SECRET_LEN, TAG_LEN);
    return context && EVP_CipherUpdate(context, plain->bytes, &len, text, VOLUME_SECRET_LEN) == 1 &&
           EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, TAG_LEN, tag) == 1 &&
           EVP_CipherFinal_ex(context, plain->bytes + len, &len) == 1;
}

bool seal_make(const struct secret *master, const struct record_key *key, struct store_key *out,
               struct error *err)
{
    auto_secret struct secret plain = SECRET_INIT, wrapping = SECRET_INIT;
    struct store_key result = { .key = *key };

    if (!secret_random(&plain, VOLUME_SECRET_LEN, err) ||
        !random_bytes(result.wrapped, NONCE_LEN, err) ||
        !derive(master, "tdvol v1 wrap", &wrapping, err))
        return false;
    if (!gcm_encrypt(&wrapping, &plain, &result))
        return error_set(err, ERROR_INTERNAL, "a new secret could not be wrapped");
    *out = result;
    return true;
}

bool seal_unwrap(const struct secret *master, const struct store_key *key, struct secret *out,
                 struct error *err)
{
    auto_secret struct secret plain = SECRET_INIT, wrapping = SECRET_INIT;

    if (!secret_alloc(&plain, VOLUME_SECRET_LEN, err) ||
        !derive(master, "tdvol v1 wrap", &wrapping, err))
        return false;
    if (!gcm_decrypt(&wrapping, key, &plain))
        return error_set(err, ERROR_INTERNAL,
                         "the stored key is damaged or was wrapped with another master key");
    *out = plain;
    plain = (struct secret)SECRET_INIT;
    return true;
}

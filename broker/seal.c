/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/seal.h"

#include <assert.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <string.h>

#define NONCE_LEN 12
#define TAG_LEN   16
#define AAD_MAX   (RECORD_ID_LEN + 4 + RECORD_TENANT_MAX)

static_assert(STORE_WRAPPED_LEN == NONCE_LEN + VOLUME_SECRET_LEN + TAG_LEN, "wrapped length");
static_assert(SEAL_WRAPPED_LEN == STORE_WRAPPED_LEN && SEAL_KEY_LEN == VOLUME_SECRET_LEN,
              "one kind of wrapping");

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

bool seal_derive(const struct secret *master, const char *purpose, struct secret *out,
                 struct error *err)
{
    return hkdf_sha256(master, "", 0, purpose, strlen(purpose), out, SEAL_KEY_LEN, err);
}

bool seal_mark(const struct secret *master, uint8_t out[static STORE_MARK_LEN], struct error *err)
{
    auto_secret struct secret mark = SECRET_INIT;

    if (!seal_derive(master, "tdvol v1 master key mark", &mark, err))
        return false;
    memcpy(out, mark.bytes, STORE_MARK_LEN);
    return true;
}

static void cipher_free(EVP_CIPHER_CTX **context)
{
    EVP_CIPHER_CTX_free(*context);
}
#define auto_cipher CLEANUP(cipher_free)

/* Sets key, nonce and associated data. The caller adds the text. */
static EVP_CIPHER_CTX *gcm_start(const struct secret *key, const uint8_t *nonce,
                                 const struct byte_range *aad, int encrypt)
{
    int len = 0;
    auto_cipher EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();

    if (!context ||
        EVP_CipherInit_ex(context, EVP_aes_256_gcm(), NULL, key->bytes, nonce, encrypt) != 1 ||
        EVP_CipherUpdate(context, NULL, &len, aad->bytes, (int)aad->len) != 1)
        return NULL;
    return TAKE_PTR(context);
}

bool seal_wrap(const struct secret *key, const struct byte_range *aad, const struct secret *plain,
               uint8_t out[static SEAL_WRAPPED_LEN], struct error *err)
{
    uint8_t *text = out + NONCE_LEN, *tag = text + SEAL_KEY_LEN;
    int len = 0;

    if (!random_bytes(out, NONCE_LEN, err))
        return false;
    auto_cipher EVP_CIPHER_CTX *context = gcm_start(key, out, aad, 1);

    return (context && EVP_CipherUpdate(context, text, &len, plain->bytes, SEAL_KEY_LEN) == 1 &&
            EVP_CipherFinal_ex(context, text + len, &len) == 1 &&
            EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, TAG_LEN, tag) == 1) ||
           openssl_error(err, "wrap a key");
}

bool seal_open(const struct secret *key, const struct byte_range *aad,
               const uint8_t in[static SEAL_WRAPPED_LEN], struct secret *out, struct error *err)
{
    const uint8_t *text = in + NONCE_LEN;
    uint8_t tag[TAG_LEN];
    auto_secret struct secret plain = SECRET_INIT;
    int len = 0;

    if (!secret_alloc(&plain, SEAL_KEY_LEN, err))
        return false;
    auto_cipher EVP_CIPHER_CTX *context = gcm_start(key, in, aad, 0);

    if (!context)
        return openssl_error(err, "unwrap a key");
    memcpy(tag, text + SEAL_KEY_LEN, TAG_LEN);
    if (EVP_CipherUpdate(context, plain.bytes, &len, text, SEAL_KEY_LEN) != 1 ||
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, TAG_LEN, tag) != 1 ||
        EVP_CipherFinal_ex(context, plain.bytes + len, &len) != 1) {
        ERR_clear_error();
        return error_set(err, ERROR_DATA_LOSS,
                         "the stored key is damaged, or was wrapped for something else");
    }
    *out = secret_take(&plain);
    return true;
}

/* --- volume secrets --- */

/* Key id (the lineage), generation, tenant. Only the last one has a varying length. */
static struct byte_range bind(const struct record_key *key, const char *tenant,
                              uint8_t out[static AAD_MAX])
{
    size_t len = strnlen(tenant, RECORD_TENANT_MAX);

    memcpy(out, key->id, RECORD_ID_LEN);
    for (int i = 0; i < 4; i++)
        out[RECORD_ID_LEN + i] = (uint8_t)(key->generation >> (24 - 8 * i));
    memcpy(out + RECORD_ID_LEN + 4, tenant, len);
    return (struct byte_range){ out, RECORD_ID_LEN + 4 + len };
}

bool seal_make(const struct secret *master, const char *tenant, const struct record_key *key,
               struct store_key *out, struct error *err)
{
    auto_secret struct secret plain = SECRET_INIT, wrapping = SECRET_INIT;
    struct store_key result = { .key = *key };
    uint8_t bytes[AAD_MAX];
    const struct byte_range aad = bind(key, tenant, bytes);

    if (!secret_random(&plain, VOLUME_SECRET_LEN, err) ||
        !seal_derive(master, "tdvol v1 wrap", &wrapping, err) ||
        !seal_wrap(&wrapping, &aad, &plain, result.wrapped, err))
        return false;
    *out = result;
    return true;
}

bool seal_unwrap(const struct secret *master, const char *tenant, const struct store_key *key,
                 struct secret *out, struct error *err)
{
    auto_secret struct secret wrapping = SECRET_INIT;
    uint8_t bytes[AAD_MAX];
    const struct byte_range aad = bind(&key->key, tenant, bytes);

    return seal_derive(master, "tdvol v1 wrap", &wrapping, err) &&
           seal_open(&wrapping, &aad, key->wrapped, out, err);
}

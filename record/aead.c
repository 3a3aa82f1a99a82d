/* SPDX-License-Identifier: Apache-2.0 */
#include "record/aead.h"

#include <assert.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <string.h>

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

    assert(key->len == AEAD_KEY_LEN);
    if (!context ||
        EVP_CipherInit_ex(context, EVP_aes_256_gcm(), NULL, key->bytes, nonce, encrypt) != 1 ||
        EVP_CipherUpdate(context, NULL, &len, aad->bytes, (int)aad->len) != 1)
        return NULL;
    return TAKE_PTR(context);
}

bool aead_wrap(const struct secret *key, const struct byte_range *aad, const struct secret *plain,
               uint8_t *out, struct error *err)
{
    uint8_t *text = out + AEAD_NONCE_LEN, *tag = text + plain->len;
    int len = 0;

    if (!random_bytes(out, AEAD_NONCE_LEN, err))
        return false;
    auto_cipher EVP_CIPHER_CTX *context = gcm_start(key, out, aad, 1);

    return (context && EVP_CipherUpdate(context, text, &len, plain->bytes, (int)plain->len) == 1 &&
            EVP_CipherFinal_ex(context, text + len, &len) == 1 &&
            EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, AEAD_TAG_LEN, tag) == 1) ||
           openssl_error(err, "wrap a key");
}

bool aead_unwrap(const struct secret *key, const struct byte_range *aad,
                 const struct byte_range *wrapped, struct secret *out, struct error *err)
{
    const uint8_t *nonce = wrapped->bytes, *text = nonce + AEAD_NONCE_LEN;
    uint8_t tag[AEAD_TAG_LEN];
    auto_secret struct secret plain = SECRET_INIT;
    int len = 0;

    assert(wrapped->len > AEAD_WRAPPED_LEN(0));
    size_t text_len = wrapped->len - AEAD_WRAPPED_LEN(0);

    if (!secret_alloc(&plain, text_len, err))
        return false;
    auto_cipher EVP_CIPHER_CTX *context = gcm_start(key, nonce, aad, 0);

    if (!context)
        return openssl_error(err, "unwrap a key");
    memcpy(tag, text + text_len, AEAD_TAG_LEN);
    if (EVP_CipherUpdate(context, plain.bytes, &len, text, (int)text_len) != 1 ||
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, AEAD_TAG_LEN, tag) != 1 ||
        EVP_CipherFinal_ex(context, plain.bytes + len, &len) != 1) {
        ERR_clear_error();
        return error_set(err, ERROR_DATA_LOSS,
                         "the stored key is damaged, or was wrapped for something else");
    }
    *out = secret_take(&plain);
    return true;
}

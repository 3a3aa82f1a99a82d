/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hpke.h"

#include "base/digest.h"
#include "base/hpke_suite.h"

#include <openssl/evp.h>
#include <string.h>

#define KEM_ID    0x0020 /* DHKEM(X25519, HKDF-SHA256) */
#define KDF_ID    0x0001 /* HKDF-SHA256 */
#define MODE_BASE 0x00
#define NONCE_LEN 12
#define KEY_LEN   32 /* of X25519 keys and of the KEM's shared secret */

static const struct hpke_aead aes_256_gcm = { .id = 0x0002,
                                              .key_len = 32,
                                              .cipher = EVP_aes_256_gcm };

/* The AEAD's key and the nonce of the first (and only) message. */
struct schedule {
    struct secret key;
    struct secret nonce;
};

static void schedule_wipe(struct schedule *schedule)
{
    secret_wipe(&schedule->key);
    secret_wipe(&schedule->nonce);
}

/* "suite_id" of RFC 9180, sections 4.1 and 5.1. */
struct suite_id {
    uint8_t bytes[10];
    size_t len;
};

static const struct suite_id kem_suite = { { 'K', 'E', 'M', KEM_ID >> 8, KEM_ID & 0xFF }, 5 };

static struct suite_id suite_of(const struct hpke_aead *aead)
{
    return (struct suite_id){ { 'H', 'P', 'K', 'E', KEM_ID >> 8, KEM_ID & 0xFF, KDF_ID >> 8,
                                KDF_ID & 0xFF, (uint8_t)(aead->id >> 8), (uint8_t)aead->id },
                              10 };
}

/* LabeledExtract. HKDF-Extract is one HMAC, so that its parts need not be joined. */
static bool extract(const struct suite_id *suite, const struct secret *salt, const char *label,
                    const struct byte_range *ikm, uint8_t out[static SHA256_LEN], struct error *err)
{
    const struct byte_range parts[] = {
        { "HPKE-v1", 7 },
        { suite->bytes, suite->len },
        { label, strlen(label) },
        *ikm,
    };

    return hmac_sha256_parts(salt, parts, ARRAY_LEN(parts), out, err);
}

/* LabeledExpand for len up to SHA256_LEN: then HKDF-Expand is one HMAC, cut to len. */
static bool expand(const struct suite_id *suite, const struct secret *prk, const char *label,
                   const struct byte_range *info, struct secret *out, size_t len, struct error *err)
{
    const uint8_t len_text[] = { 0, (uint8_t)len };
    const uint8_t counter = 1;
    const struct byte_range parts[] = {
        { len_text, sizeof(len_text) },
        { "HPKE-v1", 7 },
        { suite->bytes, suite->len },
        { label, strlen(label) },
        *info,
        { &counter, sizeof(counter) },
    };
    auto_secret struct secret block = SECRET_INIT;

    if (!secret_alloc(&block, SHA256_LEN, err) ||
        !hmac_sha256_parts(prk, parts, ARRAY_LEN(parts), block.bytes, err))
        return false;
    bytes_wipe(block.bytes + len, SHA256_LEN - len);
    block.len = len;
    *out = secret_take(&block);
    return true;
}

static void free_pkey(EVP_PKEY **key)
{
    EVP_PKEY_free(*key);
}

static void free_pkey_context(EVP_PKEY_CTX **context)
{
    EVP_PKEY_CTX_free(*context);
}

static void free_cipher_context(EVP_CIPHER_CTX **context)
{
    EVP_CIPHER_CTX_free(*context);
}

/* X25519. A public key of low order gives all zeros, which OpenSSL refuses (RFC 9180, 7.1.4). */
static bool agree(const struct secret *private_key, const uint8_t public_key[static KEY_LEN],
                  struct secret *out, struct error *err)
{
    EVP_PKEY *ours CLEANUP(free_pkey) =
        EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, private_key->bytes, private_key->len);
    EVP_PKEY *theirs CLEANUP(free_pkey) =
        EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, public_key, KEY_LEN);
    EVP_PKEY_CTX *context CLEANUP(free_pkey_context) = ours ? EVP_PKEY_CTX_new(ours, NULL) : NULL;
    auto_secret struct secret shared = SECRET_INIT;
    size_t len = KEY_LEN;

    if (!secret_alloc(&shared, KEY_LEN, err))
        return false;
    if (!theirs || !context || EVP_PKEY_derive_init(context) != 1 ||
        EVP_PKEY_derive_set_peer(context, theirs) != 1 ||
        EVP_PKEY_derive(context, shared.bytes, &len) != 1)
        return openssl_error(err, "X25519");
    *out = secret_take(&shared);
    return true;
}

/* ExtractAndExpand (section 4.1): from the agreed secret to the KEM's shared secret. */
static bool kem_secret(const struct secret *agreed, const uint8_t enc[static HPKE_PUBLIC_LEN],
                       const uint8_t recipient[static HPKE_PUBLIC_LEN], struct secret *out,
                       struct error *err)
{
    uint8_t context[2 * HPKE_PUBLIC_LEN];
    auto_secret struct secret prk = SECRET_INIT;

    memcpy(context, enc, HPKE_PUBLIC_LEN);
    memcpy(context + HPKE_PUBLIC_LEN, recipient, HPKE_PUBLIC_LEN);
    return secret_alloc(&prk, SHA256_LEN, err) &&
           extract(&kem_suite, NULL, "eae_prk", &(struct byte_range){ agreed->bytes, agreed->len },
                   prk.bytes, err) &&
           expand(&kem_suite, &prk, "shared_secret",
                  &(struct byte_range){ context, sizeof(context) }, out, KEY_LEN, err);
}

/* KeySchedule (section 5.1) without a pre-shared key. */
static bool make_schedule(const struct hpke_aead *aead, const struct secret *shared,
                          const struct byte_range *info, struct schedule *out, struct error *err)
{
    const struct suite_id suite = suite_of(aead);
    const struct byte_range empty = { "", 0 };
    uint8_t context[1 + 2 * SHA256_LEN] = { MODE_BASE };
    const struct byte_range context_range = { context, sizeof(context) };
    auto_secret struct secret prk = SECRET_INIT;
    struct schedule made CLEANUP(schedule_wipe) = { SECRET_INIT, SECRET_INIT };

    if (!extract(&suite, NULL, "psk_id_hash", &empty, context + 1, err) ||
        !extract(&suite, NULL, "info_hash", info, context + 1 + SHA256_LEN, err) ||
        !secret_alloc(&prk, SHA256_LEN, err) ||
        !extract(&suite, shared, "secret", &empty, prk.bytes, err) ||
        !expand(&suite, &prk, "key", &context_range, &made.key, aead->key_len, err) ||
        !expand(&suite, &prk, "base_nonce", &context_range, &made.nonce, NONCE_LEN, err))
        return false;
    out->key = secret_take(&made.key);
    out->nonce = secret_take(&made.nonce);
    return true;
}

static bool schedule_for(const struct hpke_aead *aead, const struct secret *agreed,
                         const uint8_t enc[static HPKE_PUBLIC_LEN],
                         const uint8_t recipient[static HPKE_PUBLIC_LEN],
                         const struct byte_range *info, struct schedule *out, struct error *err)
{
    auto_secret struct secret shared = SECRET_INIT;

    return kem_secret(agreed, enc, recipient, &shared, err) &&
           make_schedule(aead, &shared, info, out, err);
}

bool hpke_generate(struct hpke_key_pair *out, bool inherited, struct error *err)
{
    auto_secret struct secret key = SECRET_INIT;
    uint8_t public_key[HPKE_PUBLIC_LEN];
    size_t len = sizeof(public_key);

    if (!(inherited ? secret_alloc_inherited : secret_alloc)(&key, KEY_LEN, err) ||
        !random_bytes(key.bytes, key.len, err))
        return error_wrap(err, "make a sealing key");

    EVP_PKEY *pair CLEANUP(free_pkey) =
        EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, key.bytes, key.len);
    if (!pair || EVP_PKEY_get_raw_public_key(pair, public_key, &len) != 1)
        return openssl_error(err, "make a sealing key");
    out->private_key = secret_take(&key);
    memcpy(out->public_key, public_key, sizeof(public_key));
    return true;
}

void hpke_key_pair_wipe(struct hpke_key_pair *pair)
{
    secret_wipe(&pair->private_key);
}

static bool encrypt(const struct schedule *schedule, const struct byte_range *aad,
                    const struct secret *plain, uint8_t *out, struct error *err)
{
    EVP_CIPHER_CTX *context CLEANUP(free_cipher_context) = EVP_CIPHER_CTX_new();
    int len = 0;

    if (!context ||
        EVP_EncryptInit_ex(context, aes_256_gcm.cipher(), NULL, schedule->key.bytes,
                           schedule->nonce.bytes) != 1 ||
        EVP_EncryptUpdate(context, NULL, &len, aad->bytes, (int)aad->len) != 1 ||
        EVP_EncryptUpdate(context, out, &len, plain->bytes, (int)plain->len) != 1 ||
        EVP_EncryptFinal_ex(context, out + len, &len) != 1 ||
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, HPKE_TAG_LEN, out + plain->len) != 1)
        return openssl_error(err, "AES-256-GCM");
    return true;
}

/* NOLINTNEXTLINE(readability-function-size): nine parameters, in pairs */
bool hpke_seal(const uint8_t public_key[static HPKE_PUBLIC_LEN], const void *info, size_t info_len,
               const void *aad, size_t aad_len, const struct secret *plain, uint8_t *out,
               size_t out_len, struct error *err)
{
    const struct byte_range info_range = { info, info_len }, aad_range = { aad, aad_len };
    struct hpke_key_pair ephemeral auto_hpke_key_pair = { .private_key = SECRET_INIT };
    struct schedule schedule CLEANUP(schedule_wipe) = { SECRET_INIT, SECRET_INIT };
    auto_secret struct secret agreed = SECRET_INIT;
    uint8_t sealed[HPKE_SEALED_LEN(HPKE_PLAIN_MAX)];

    if (plain->len == 0 || plain->len > HPKE_PLAIN_MAX || out_len != HPKE_SEALED_LEN(plain->len))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "cannot seal %zu bytes into %zu: a secret has 1 to %d bytes, and sealing "
                         "adds %zu",
                         plain->len, out_len, HPKE_PLAIN_MAX, (size_t)HPKE_SEALED_LEN(0));
    if (!hpke_generate(&ephemeral, false, err))
        return false;
    if (!agree(&ephemeral.private_key, public_key, &agreed, err))
        return err->code != ERROR_RESOURCE_EXHAUSTED &&
               error_set(err, ERROR_INVALID_ARGUMENT,
                         "the public key to seal to is not a valid X25519 key");
    if (!schedule_for(&aes_256_gcm, &agreed, ephemeral.public_key, public_key, &info_range,
                      &schedule, err) ||
        !encrypt(&schedule, &aad_range, plain, sealed + HPKE_PUBLIC_LEN, err))
        return error_wrap(err, "seal");
    memcpy(sealed, ephemeral.public_key, HPKE_PUBLIC_LEN);
    memcpy(out, sealed, out_len);
    return true;
}

static bool not_for_us(struct error *err)
{
    return error_set(err, ERROR_DENIED,
                     "the sealed secret was changed, or sealed to another key or purpose");
}

/* box holds ciphertext and tag. plain->len bytes are written even when the tag is wrong. */
static bool decrypt(const struct hpke_aead *aead, const struct schedule *schedule,
                    const struct byte_range *aad, const uint8_t *box, struct secret *plain,
                    struct error *err)
{
    EVP_CIPHER_CTX *context CLEANUP(free_cipher_context) = EVP_CIPHER_CTX_new();
    uint8_t tag[HPKE_TAG_LEN];
    int len = 0;

    memcpy(tag, box + plain->len, sizeof(tag));
    if (!context ||
        EVP_DecryptInit_ex(context, aead->cipher(), NULL, schedule->key.bytes,
                           schedule->nonce.bytes) != 1 ||
        EVP_DecryptUpdate(context, NULL, &len, aad->bytes, (int)aad->len) != 1 ||
        EVP_DecryptUpdate(context, plain->bytes, &len, box, (int)plain->len) != 1 ||
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, HPKE_TAG_LEN, tag) != 1)
        return openssl_error(err, "AES-GCM");
    if (EVP_DecryptFinal_ex(context, plain->bytes + len, &len) != 1) {
        (void)openssl_error(err, "AES-GCM");
        return not_for_us(err);
    }
    return true;
}

bool hpke_open_with(const struct hpke_aead *aead, const struct hpke_key_pair *pair,
                    const struct byte_range *info, const struct byte_range *aad,
                    const struct byte_range *sealed, struct secret *out, struct error *err)
{
    struct schedule schedule CLEANUP(schedule_wipe) = { SECRET_INIT, SECRET_INIT };
    auto_secret struct secret agreed = SECRET_INIT;
    auto_secret struct secret plain = SECRET_INIT;
    const uint8_t *enc = sealed->bytes;

    if (sealed->len <= HPKE_SEALED_LEN(0) || sealed->len > HPKE_SEALED_LEN(HPKE_PLAIN_MAX))
        return not_for_us(err);
    if (!secret_alloc(&plain, sealed->len - HPKE_SEALED_LEN(0), err))
        return false;
    if (!agree(&pair->private_key, enc, &agreed, err))
        return err->code != ERROR_RESOURCE_EXHAUSTED && not_for_us(err);
    if (!schedule_for(aead, &agreed, enc, pair->public_key, info, &schedule, err) ||
        !decrypt(aead, &schedule, aad, enc + HPKE_PUBLIC_LEN, &plain, err))
        return error_wrap(err, "unseal");
    *out = secret_take(&plain);
    return true;
}

/* NOLINTNEXTLINE(readability-function-size): nine parameters, in pairs */
bool hpke_open(const struct hpke_key_pair *pair, const void *info, size_t info_len, const void *aad,
               size_t aad_len, const uint8_t *sealed, size_t sealed_len, struct secret *out,
               struct error *err)
{
    return hpke_open_with(&aes_256_gcm, pair, &(struct byte_range){ info, info_len },
                          &(struct byte_range){ aad, aad_len },
                          &(struct byte_range){ sealed, sealed_len }, out, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "master/jwe.h"

#include "attest/certificate.h"
#include "attest/json.h"
#include "base/digest.h"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdio.h>
#include <string.h>

#define ALG            "ECDH-ES+A256KW"
#define ENC            "A256GCM"
#define CURVE          "P-256"
#define KEY_LEN        32u /* of all keys here */
#define WRAPPED_LEN    40u /* RFC 3394: the key and 8 bytes */
#define IV_LEN         12u
#define TAG_LEN        16u
#define HEADER_MAX     1024u /* bytes, decoded */
#define POINT_LEN      (1 + 2 * JWE_COORDINATE_LEN)
#define POINT_UNPACKED 4 /* the first byte: x and y follow (SEC 1, 2.3.3) */

/* A message, decoded. */
struct message {
    json_t *json;            /* owns what is next */
    const char *header_text; /* as it came: it is authenticated in this form */
    uint8_t epk[2 * JWE_COORDINATE_LEN];
    uint8_t wrapped[WRAPPED_LEN], iv[IV_LEN], tag[TAG_LEN], ciphertext[JWE_PLAIN_MAX];
    size_t ciphertext_len;
};

static void message_free(struct message *message)
{
    json_decref(message->json);
}
#define auto_message CLEANUP(message_free)

static void context_free_at(EVP_PKEY_CTX **context)
{
    EVP_PKEY_CTX_free(*context);
}

static void cipher_free_at(EVP_CIPHER_CTX **context)
{
    EVP_CIPHER_CTX_free(*context);
}

/* --- keys --- */

bool jwe_key_generate(struct jwe_key *out, struct error *err)
{
    auto_pkey EVP_PKEY *pair = EVP_EC_gen(CURVE);
    auto_jwe_key struct jwe_key key = JWE_KEY_INIT;
    uint8_t point[POINT_LEN];
    size_t len = 0;

    if (!pair)
        return openssl_error(err, "make a key");
    if (!secret_alloc(&key.private_key, KEY_LEN, err))
        return false;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_BN(OSSL_PKEY_PARAM_PRIV_KEY, key.private_key.bytes, KEY_LEN),
        OSSL_PARAM_construct_end(),
    };
    if (EVP_PKEY_get_params(pair, params) != 1 ||
        EVP_PKEY_get_octet_string_param(pair, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point),
                                        &len) != 1 ||
        len != sizeof(point) || point[0] != POINT_UNPACKED)
        return openssl_error(err, "make a key");
    memcpy(key.public_key, point + 1, sizeof(key.public_key));
    *out = key;
    key = (struct jwe_key)JWE_KEY_INIT;
    return true;
}

void jwe_key_wipe(struct jwe_key *key)
{
    secret_wipe(&key->private_key);
}

static void encode_coordinate(const uint8_t *bytes, char out[static BASE64_LEN(KEY_LEN) + 1])
{
    base64_encode(bytes, JWE_COORDINATE_LEN, out);
    for (char *c = out; *c; c++)
        if (*c == '+')
            *c = '-';
        else if (*c == '/')
            *c = '_';
    out[strcspn(out, "=")] = '\0';
}

void jwe_key_text(const struct jwe_key *key, char out[static JWE_JWK_LEN])
{
    char x[BASE64_LEN(KEY_LEN) + 1], y[BASE64_LEN(KEY_LEN) + 1];

    encode_coordinate(key->public_key, x);
    encode_coordinate(key->public_key + JWE_COORDINATE_LEN, y);
    (void)snprintf(out, JWE_JWK_LEN,
                   "{\"alg\":\"" ALG "\",\"crv\":\"" CURVE "\",\"kty\":\"EC\",\"x\":\"%s\","
                   "\"y\":\"%s\"}",
                   x, y);
}

/* --- the message --- */

static bool malformed(struct error *err, const char *what)
{
    return error_set(err, ERROR_INVALID_ARGUMENT, "%s", what);
}

/* True when the object has these members and no others. */
static bool has_exactly(const json_t *object, const char *const *names, size_t n)
{
    if (!json_is_object(object) || json_object_size(object) != n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!json_object_get(object, names[i]))
            return false;
    return true;
}

static bool is_text(const json_t *object, const char *name, const char *wanted)
{
    const char *text = json_string_value(json_object_get(object, name));

    return text && strcmp(text, wanted) == 0;
}

static bool read_bytes(const json_t *object, const char *name, uint8_t *out, size_t max,
                       size_t *len)
{
    const json_t *text = json_object_get(object, name);

    return json_is_string(text) &&
           base64url_decode(json_string_value(text), json_string_length(text), out, max, len);
}

static bool read_exactly(const json_t *object, const char *name, uint8_t *out, size_t wanted,
                         struct error *err)
{
    size_t len = 0;

    return (read_bytes(object, name, out, wanted, &len) && len == wanted) ||
           error_set(err, ERROR_INVALID_ARGUMENT, "%s is not %zu bytes in base64url", name, wanted);
}

static bool read_sender_key(const json_t *epk, struct message *out, struct error *err)
{
    static const char *const names[] = { "crv", "kty", "x", "y" };

    if (!has_exactly(epk, names, ARRAY_LEN(names)) || !is_text(epk, "kty", "EC") ||
        !is_text(epk, "crv", CURVE))
        return malformed(err, "epk is no key on the curve " CURVE);
    return read_exactly(epk, "x", out->epk, JWE_COORDINATE_LEN, err) &&
           read_exactly(epk, "y", out->epk + JWE_COORDINATE_LEN, JWE_COORDINATE_LEN, err);
}

/* What is authenticated; "zip", "crit" and whatever else may come are refused. */
static bool read_header(struct message *m, struct error *err)
{
    static const char *const names[] = { "alg", "enc", "epk" };
    auto_json json_t *header = NULL;
    struct error ignored = ERROR_INIT; /* its text quotes the header */
    uint8_t text[HEADER_MAX];
    size_t len = 0;

    if (!read_bytes(m->json, "protected", text, sizeof(text), &len) ||
        !json_read_object(text, len, &header, &ignored))
        return malformed(err, "protected is no header in base64url");
    m->header_text = json_string_value(json_object_get(m->json, "protected"));
    if (!has_exactly(header, names, ARRAY_LEN(names)))
        return malformed(err, "the header has other members than alg, enc and epk");
    if (!is_text(header, "alg", ALG) || !is_text(header, "enc", ENC))
        return malformed(err, "alg and enc are not " ALG " and " ENC ", which were asked for");
    return read_sender_key(json_object_get(header, "epk"), m, err);
}

static bool read_message(const void *text, size_t len, struct message *out, struct error *err)
{
    static const char *const names[] = { "protected", "encrypted_key", "iv", "ciphertext", "tag" };
    struct error ignored = ERROR_INIT;

    if (!json_read_object(text, len, &out->json, &ignored) ||
        !has_exactly(out->json, names, ARRAY_LEN(names)))
        return malformed(err, "it has not exactly the members protected, encrypted_key, iv, "
                              "ciphertext and tag");
    if (!read_header(out, err) ||
        !read_exactly(out->json, "encrypted_key", out->wrapped, WRAPPED_LEN, err) ||
        !read_exactly(out->json, "iv", out->iv, IV_LEN, err) ||
        !read_exactly(out->json, "tag", out->tag, TAG_LEN, err))
        return false;
    return (read_bytes(out->json, "ciphertext", out->ciphertext, JWE_PLAIN_MAX,
                       &out->ciphertext_len) &&
            out->ciphertext_len > 0) ||
           error_set(err, ERROR_INVALID_ARGUMENT, "ciphertext is not 1 to %u bytes in base64url",
                     JWE_PLAIN_MAX);
}

/* --- opening it --- */

static bool make_own(const struct jwe_key *key, EVP_PKEY **out)
{
    CLEANUP(context_free_at) EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    char curve[] = CURVE;
    uint8_t point[POINT_LEN] = { POINT_UNPACKED };
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, curve, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point)),
        OSSL_PARAM_construct_BN(OSSL_PKEY_PARAM_PRIV_KEY, key->private_key.bytes,
                                key->private_key.len),
        OSSL_PARAM_construct_end(),
    };

    memcpy(point + 1, key->public_key, sizeof(key->public_key));
    return context && EVP_PKEY_fromdata_init(context) == 1 &&
           EVP_PKEY_fromdata(context, out, EVP_PKEY_KEYPAIR, params) == 1;
}

/* The x of the common point. A point that is not on the curve is refused; the curve has none of low order. */
static bool agree(const struct jwe_key *key, const struct message *m, struct secret *out,
                  struct error *err)
{
    auto_pkey EVP_PKEY *theirs = NULL, *ours = NULL;
    auto_secret struct secret shared = SECRET_INIT;
    size_t len = JWE_COORDINATE_LEN;

    if (!p256_key_from_point(m->epk, &theirs, err)) {
        (void)openssl_error(err, "epk"); /* empties the queue */
        return malformed(err, "epk is not on the curve " CURVE);
    }
    if (!secret_alloc(&shared, JWE_COORDINATE_LEN, err))
        return false;
    CLEANUP(context_free_at)
    EVP_PKEY_CTX *context = make_own(key, &ours) ? EVP_PKEY_CTX_new(ours, NULL) : NULL;
    if (!context || EVP_PKEY_derive_init(context) != 1 ||
        EVP_PKEY_derive_set_peer(context, theirs) != 1 ||
        EVP_PKEY_derive(context, shared.bytes, &len) != 1 || len != JWE_COORDINATE_LEN) {
        (void)openssl_error(err, "ECDH");
        return false;
    }
    *out = secret_take(&shared);
    return true;
}

/* The Concat KDF (NIST SP 800-56A, 5.8.1) as in RFC 7518, 4.6.2, in one round of SHA-256. */
static bool derive_wrapping_key(const struct secret *shared, struct secret *out, struct error *err)
{
    static const uint8_t before[] = { 0, 0, 0, 1 };
    static const uint8_t after[] = { 0,   0,   0,   sizeof(ALG) - 1,
                                     'E', 'C', 'D', 'H',
                                     '-', 'E', 'S', '+',
                                     'A', '2', '5', '6',
                                     'K', 'W', 0,   0,
                                     0,   0,             /* apu */
                                     0,   0,   0,   0,   /* apv */
                                     0,   0,   1,   0 }; /* bits */
    auto_secret struct secret input = SECRET_INIT, key = SECRET_INIT;

    if (!secret_alloc(&input, sizeof(before) + shared->len + sizeof(after), err) ||
        !secret_alloc(&key, SHA256_LEN, err))
        return false;
    memcpy(input.bytes, before, sizeof(before));
    memcpy(input.bytes + sizeof(before), shared->bytes, shared->len);
    memcpy(input.bytes + sizeof(before) + shared->len, after, sizeof(after));
    if (!sha256(input.bytes, input.len, key.bytes, err))
        return false;
    *out = secret_take(&key);
    return true;
}

static bool not_for_us(struct error *err)
{
    (void)openssl_error(err, "JWE"); /* empties the queue */
    return error_set(err, ERROR_DENIED, "it was changed, or encrypted to another key");
}

static bool unwrap(const struct secret *wrapping, const struct message *m, struct secret *out,
                   struct error *err)
{
    CLEANUP(cipher_free_at) EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    auto_secret struct secret key = SECRET_INIT;
    int len = 0;

    if (!secret_alloc(&key, WRAPPED_LEN, err))
        return false;
    if (!context)
        return openssl_error(err, "AES key wrap");
    EVP_CIPHER_CTX_set_flags(context, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
    if (EVP_DecryptInit_ex(context, EVP_aes_256_wrap(), NULL, wrapping->bytes, NULL) != 1)
        return openssl_error(err, "AES key wrap");
    if (EVP_DecryptUpdate(context, key.bytes, &len, m->wrapped, WRAPPED_LEN) != 1 ||
        len != (int)KEY_LEN)
        return not_for_us(err);
    key.len = KEY_LEN;
    *out = secret_take(&key);
    return true;
}

static bool decrypt(const struct secret *key, struct message *m, struct secret *out,
                    struct error *err)
{
    CLEANUP(cipher_free_at) EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    auto_secret struct secret plain = SECRET_INIT;
    int len = 0;

    if (!secret_alloc(&plain, m->ciphertext_len, err))
        return false;
    if (!context || EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), NULL, key->bytes, m->iv) != 1 ||
        EVP_DecryptUpdate(context, NULL, &len, (const uint8_t *)m->header_text,
                          (int)strlen(m->header_text)) != 1 ||
        EVP_DecryptUpdate(context, plain.bytes, &len, m->ciphertext, (int)m->ciphertext_len) != 1 ||
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, TAG_LEN, m->tag) != 1)
        return openssl_error(err, "AES-GCM");
    if (EVP_DecryptFinal_ex(context, plain.bytes + len, &len) != 1)
        return not_for_us(err);
    *out = secret_take(&plain);
    return true;
}

bool jwe_open(const struct jwe_key *key, const void *text, size_t len, struct secret *out,
              struct error *err)
{
    auto_message struct message m = { .json = NULL };
    auto_secret struct secret shared = SECRET_INIT, wrapping = SECRET_INIT, content = SECRET_INIT;

    return read_message(text, len, &m, err) && agree(key, &m, &shared, err) &&
           derive_wrapping_key(&shared, &wrapping, err) && unwrap(&wrapping, &m, &content, err) &&
           decrypt(&content, &m, out, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/token.h"

#include "attest/json.h"
#include "attest/reason.h"
#include "base/digest.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <stdlib.h>
#include <string.h>

enum {
    RSA_BITS_MIN = 2048,
    RSA_BITS_MAX = 8192,
    EXPONENT_LEN_MAX = 8,
    COORDINATE_LEN = P256_POINT_LEN / 2,
    SIGNATURE_LEN_MAX = RSA_BITS_MAX / 8,
};
#define SECONDS_MAX 253402300799 /* 9999-12-31T23:59:59Z */

static void key_context_free(EVP_PKEY_CTX **context)
{
    EVP_PKEY_CTX_free(*context);
    *context = NULL;
}

static void digest_context_free(EVP_MD_CTX **context)
{
    EVP_MD_CTX_free(*context);
    *context = NULL;
}

static void number_free(BIGNUM **number)
{
    BN_free(*number);
    *number = NULL;
}

/* --- keys --- */

static bool bad_key(struct error *err, const char *what)
{
    ERR_clear_error();
    return error_set(err, ERROR_INVALID_ARGUMENT, "%s", what);
}

static bool take_bytes(const json_t *jwk, const char *member, uint8_t *out, size_t size,
                       size_t *len, struct error *err)
{
    const char *text = json_string_value(json_object_get(jwk, member));

    return (text && base64url_decode(text, strlen(text), out, size, len) && *len > 0) ||
           error_set(err, ERROR_INVALID_ARGUMENT, "%s is missing, too long, or not base64url",
                     member);
}

static bool rsa_from_numbers(BIGNUM *n, BIGNUM *e, EVP_PKEY **out)
{
    CLEANUP(key_context_free)
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    uint8_t n_bytes[RSA_BITS_MAX / 8], e_bytes[EXPONENT_LEN_MAX];
    const size_t n_len = (size_t)BN_num_bytes(n), e_len = (size_t)BN_num_bytes(e);

    /* OSSL_PARAM wants numbers in the machine's byte order */
    if (BN_bn2nativepad(n, n_bytes, (int)n_len) < 0 || BN_bn2nativepad(e, e_bytes, (int)e_len) < 0)
        return false;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_BN(OSSL_PKEY_PARAM_RSA_N, n_bytes, n_len),
        OSSL_PARAM_construct_BN(OSSL_PKEY_PARAM_RSA_E, e_bytes, e_len),
        OSSL_PARAM_construct_end(),
    };

    return context && EVP_PKEY_fromdata_init(context) == 1 &&
           EVP_PKEY_fromdata(context, out, EVP_PKEY_PUBLIC_KEY, params) == 1;
}

static bool read_rsa(const json_t *jwk, EVP_PKEY **out, struct error *err)
{
    uint8_t n_bytes[RSA_BITS_MAX / 8], e_bytes[EXPONENT_LEN_MAX];
    size_t n_len = 0, e_len = 0;

    if (!take_bytes(jwk, "n", n_bytes, sizeof(n_bytes), &n_len, err) ||
        !take_bytes(jwk, "e", e_bytes, sizeof(e_bytes), &e_len, err))
        return false;
    CLEANUP(number_free) BIGNUM *n = BN_bin2bn(n_bytes, (int)n_len, NULL);
    CLEANUP(number_free) BIGNUM *e = BN_bin2bn(e_bytes, (int)e_len, NULL);
    if (!n || !e)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "out of memory");
    if (BN_num_bits(n) < RSA_BITS_MIN)
        return bad_key(err, "an RSA key has less than 2048 bits");
    if (!BN_is_odd(n) || !BN_is_odd(e) || BN_is_one(e))
        return bad_key(err, "an RSA key's n or e is not valid");
    return rsa_from_numbers(n, e, out) || bad_key(err, "an RSA key cannot be read");
}

static bool read_ec(const json_t *jwk, EVP_PKEY **out, struct error *err)
{
    const char *curve = json_string_value(json_object_get(jwk, "crv"));
    uint8_t point[P256_POINT_LEN];
    size_t x_len = 0, y_len = 0;

    if (!curve || strcmp(curve, "P-256") != 0)
        return bad_key(err, "an EC key is not on curve P-256");
    if (!take_bytes(jwk, "x", point, COORDINATE_LEN, &x_len, err) ||
        !take_bytes(jwk, "y", point + COORDINATE_LEN, COORDINATE_LEN, &y_len, err))
        return false;
    if (x_len != COORDINATE_LEN || y_len != COORDINATE_LEN || !p256_key_from_point(point, out, err))
        return bad_key(err, "an EC key is not a point on P-256");
    return true;
}

/* use and key_ops are optional. When they are present, they must allow signatures. */
static bool is_for_signatures(const json_t *jwk)
{
    const char *use = json_string_value(json_object_get(jwk, "use"));
    const json_t *operations = json_object_get(jwk, "key_ops");

    if (use && strcmp(use, "sig") != 0)
        return false;
    if (!operations)
        return true;
    for (size_t i = 0; i < json_array_size(operations); i++) {
        const char *operation = json_string_value(json_array_get(operations, i));

        if (operation && strcmp(operation, "verify") == 0)
            return true;
    }
    return false;
}

static bool take_key_id(const json_t *jwk, char out[static CLAIMS_TEXT_MAX + 1], struct error *err)
{
    const json_t *id = json_object_get(jwk, "kid");
    const char *text = json_string_value(id);

    if (!id)
        return true;
    if (!text || strlen(text) > CLAIMS_TEXT_MAX)
        return bad_key(err, "kid is not a string of at most 255 bytes");
    memcpy(out, text, strlen(text) + 1);
    return true;
}

static bool hash_key(EVP_PKEY *key, uint8_t out[static 32], struct error *err)
{
    uint8_t *der = NULL;
    int len = i2d_PUBKEY(key, &der);
    bool ok = len > 0 && sha256(der, (size_t)len, out, err);

    OPENSSL_free(der);
    return ok || (len <= 0 && openssl_error(err, "print a public key"));
}

static bool check_algorithm(const json_t *jwk, bool is_rsa, struct error *err)
{
    const json_t *algorithm = json_object_get(jwk, "alg");
    const char *text = json_string_value(algorithm);

    return !algorithm || (text && strcmp(text, is_rsa ? "RS256" : "ES256") == 0) ||
           bad_key(err, "alg is not RS256 for an RSA key, or not ES256 for an EC key");
}

static bool read_key(const json_t *jwk, struct token_key *out, struct error *err)
{
    const char *type = json_string_value(json_object_get(jwk, "kty"));
    auto_pkey EVP_PKEY *key = NULL;
    struct token_key result = { .key = NULL };

    if (!type || (strcmp(type, "RSA") != 0 && strcmp(type, "EC") != 0))
        return bad_key(err, "kty is neither RSA nor EC");
    if (json_object_get(jwk, "d") || json_object_get(jwk, "p") || json_object_get(jwk, "k"))
        return bad_key(err, "it is a private key, which only the issuer may have");
    result.is_rsa = strcmp(type, "RSA") == 0;
    if (!take_key_id(jwk, result.id, err) || !check_algorithm(jwk, result.is_rsa, err) ||
        !(result.is_rsa ? read_rsa : read_ec)(jwk, &key, err) || !hash_key(key, result.sha256, err))
        return false;
    result.key = TAKE_PTR(key);
    *out = result;
    return true;
}

void token_keys_free(struct token_keys *keys)
{
    for (size_t i = 0; i < keys->n; i++)
        EVP_PKEY_free(keys->keys[i].key);
    *keys = (struct token_keys){ .n = 0 };
}

static bool read_keys(const json_t *list, struct token_keys *out, struct error *err)
{
    const size_t n = json_array_size(list);

    if (n == 0 || n > TOKEN_KEYS_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "\"keys\" must be a list of 1 to %d keys",
                         TOKEN_KEYS_MAX);
    for (size_t i = 0; i < n; i++) {
        const json_t *jwk = json_array_get(list, i);

        if (json_is_object(jwk) && !is_for_signatures(jwk))
            continue;
        if (!read_key(jwk, &out->keys[out->n], err))
            return error_wrap(err, "key %zu", i + 1);
        out->n++;
    }
    return out->n > 0 || bad_key(err, "no key is for signatures");
}

bool token_keys_parse(const char *json, size_t len, struct token_keys *out, struct error *err)
{
    CLEANUP(token_keys_free) struct token_keys keys = { .n = 0 };
    auto_json json_t *root = NULL;

    if (!json_read_object(json, len, &root, err))
        return error_wrap(err, "the text is not a JSON Web Key Set");
    if (!read_keys(json_object_get(root, "keys"), &keys, err))
        return false;
    *out = keys;
    keys.n = 0;
    return true;
}

/* --- tokens --- */

static bool malformed(struct error *err, const char *what)
{
    return attest_refuse(err, REASON_TOKEN_MALFORMED, "token: %s", what);
}

struct part {
    const char *text;
    size_t len;
};

/* Splits the token at two dots into three parts; no part may be empty. */
static bool split(const char *token, size_t len, struct part out[static 3], struct error *err)
{
    size_t n = 0, from = 0;

    for (size_t i = 0; i <= len; i++) {
        if (i < len && token[i] != '.')
            continue;
        if (n == 3 || i == from)
            return malformed(err, "it is not three parts with dots between them");
        out[n++] = (struct part){ token + from, i - from };
        from = i + 1;
    }
    return n == 3 || malformed(err, "it is not three parts with dots between them");
}

static bool decode_object(const struct part *part, const char *what, json_t **out,
                          struct error *err)
{
    uint8_t bytes[TOKEN_LEN_MAX / 4 * 3];
    struct error problem = ERROR_INIT; /* dropped, because it repeats the sender's text */
    size_t len = 0;

    if (!base64url_decode(part->text, part->len, bytes, sizeof(bytes), &len))
        return attest_refuse(err, REASON_TOKEN_MALFORMED, "token: %s is not base64url", what);
    return json_read_object(bytes, len, out, &problem) ||
           attest_refuse(err, REASON_TOKEN_MALFORMED,
                         "token: %s is not a JSON object with each key once", what);
}

/* The signed bytes, and how they are signed. */
struct signature {
    bool is_rsa;
    char key_id[CLAIMS_TEXT_MAX + 1]; /* "": not given */
    struct part input;
    uint8_t bytes[SIGNATURE_LEN_MAX];
    size_t len;
};

static bool read_header(const json_t *header, struct signature *out, struct error *err)
{
    const char *algorithm = json_string_value(json_object_get(header, "alg"));
    const json_t *type = json_object_get(header, "typ");
    const json_t *id = json_object_get(header, "kid");
    const char *id_text = json_string_value(id);

    /* only algorithms that need a private key: never "none", never HS256 with a public key */
    if (!algorithm || (strcmp(algorithm, "RS256") != 0 && strcmp(algorithm, "ES256") != 0))
        return attest_refuse(err, REASON_TOKEN_ALGORITHM,
                             "token: its algorithm is neither RS256 nor ES256");
    out->is_rsa = strcmp(algorithm, "RS256") == 0;
    if (json_object_get(header, "crit"))
        return malformed(err, "its header has critical extensions");
    if (type && (!json_is_string(type) || strcmp(json_string_value(type), "JWT") != 0))
        return malformed(err, "typ is not JWT");
    if (!id)
        return true;
    if (!id_text || strlen(id_text) > CLAIMS_TEXT_MAX)
        return malformed(err, "kid is not a string of at most 255 bytes");
    memcpy(out->key_id, id_text, strlen(id_text) + 1);
    return true;
}

static bool rsa_is_valid(EVP_PKEY *key, const struct signature *s)
{
    CLEANUP(digest_context_free) EVP_MD_CTX *context = EVP_MD_CTX_new();
    EVP_PKEY_CTX *padding = NULL; /* belongs to context */

    return context && EVP_DigestVerifyInit(context, &padding, EVP_sha256(), NULL, key) == 1 &&
           EVP_PKEY_CTX_set_rsa_padding(padding, RSA_PKCS1_PADDING) == 1 &&
           EVP_DigestVerify(context, s->bytes, s->len, (const uint8_t *)s->input.text,
                            s->input.len) == 1;
}

static bool is_signed_by(const struct token_key *key, const struct signature *s)
{
    if (key->is_rsa != s->is_rsa)
        return false;
    if (key->is_rsa)
        return rsa_is_valid(key->key, s);
    return s->len == P256_SIGNATURE_LEN &&
           p256_signature_is_valid(key->key, s->bytes, s->input.text, s->input.len);
}

static bool knows_key_id(const struct token_keys *keys, const char *id)
{
    for (size_t i = 0; id[0] != '\0' && i < keys->n; i++)
        if (strcmp(keys->keys[i].id, id) == 0)
            return true;
    return false;
}

/* A known key id chooses the key. Otherwise every key of the algorithm's type is tried. */
static const struct token_key *find_signer(const struct token_keys *keys, const struct signature *s)
{
    const bool by_id = knows_key_id(keys, s->key_id);

    for (size_t i = 0; i < keys->n; i++)
        if ((!by_id || strcmp(keys->keys[i].id, s->key_id) == 0) && is_signed_by(&keys->keys[i], s))
            return &keys->keys[i];
    return NULL;
}

static bool take_text(const json_t *json, const char *what, char out[static CLAIMS_TEXT_MAX + 1],
                      struct error *err)
{
    const char *text = json_string_value(json);

    if (!text || text[0] == '\0' || strlen(text) > CLAIMS_TEXT_MAX)
        return attest_refuse(err, REASON_TOKEN_MALFORMED,
                             "token: %s is not a string of 1 to %d bytes", what, CLAIMS_TEXT_MAX);
    memcpy(out, text, strlen(text) + 1);
    return true;
}

static bool take_seconds(const json_t *claims, const char *name, bool required, int64_t *out,
                         struct error *err)
{
    const json_t *json = json_object_get(claims, name);

    if (!json && !required)
        return true;
    if (!json_is_integer(json) || json_integer_value(json) < 0 ||
        json_integer_value(json) > SECONDS_MAX)
        return attest_refuse(err, REASON_TOKEN_MALFORMED,
                             "token: %s is not a whole number of seconds", name);
    *out = json_integer_value(json);
    return true;
}

static bool take_audiences(const json_t *json, struct token_claims *out, struct error *err)
{
    if (json_is_string(json)) {
        out->n_audiences = 1;
        return take_text(json, "aud", out->audiences[0], err);
    }
    out->n_audiences = json_array_size(json);
    if (out->n_audiences == 0 || out->n_audiences > CLAIMS_AUDIENCES_MAX)
        return malformed(err, "aud is neither a string nor a list of 1 to 4 strings");
    for (size_t i = 0; i < out->n_audiences; i++)
        if (!take_text(json_array_get(json, i), "aud", out->audiences[i], err))
            return false;
    return true;
}

/* Reads "kubernetes.io": {"node": {"name": ...}}, which tokens have that are bound to a pod. */
static bool take_node(const json_t *claims, struct token_claims *out, struct error *err)
{
    const json_t *kubernetes = json_object_get(claims, "kubernetes.io");
    const json_t *node = json_object_get(kubernetes, "node");

    if ((kubernetes && !json_is_object(kubernetes)) || (node && !json_is_object(node)))
        return malformed(err, "kubernetes.io and its node must be objects");
    return !node ||
           take_text(json_object_get(node, "name"), "kubernetes.io/node/name", out->node, err);
}

static bool read_claims(const json_t *json, struct token_claims *out, struct error *err)
{
    int64_t issued_at = 0;

    if (!take_text(json_object_get(json, "iss"), "iss", out->issuer, err) ||
        !take_text(json_object_get(json, "sub"), "sub", out->subject, err) ||
        !take_audiences(json_object_get(json, "aud"), out, err) || !take_node(json, out, err) ||
        !take_seconds(json, "exp", true, &out->until, err) ||
        !take_seconds(json, "iat", false, &issued_at, err))
        return false;
    out->not_before = issued_at;
    return take_seconds(json, "nbf", false, &out->not_before, err);
}

bool token_verify(const char *token, size_t len, const struct token_keys *keys,
                  struct token_claims *out, struct error *err)
{
    auto_json json_t *header = NULL;
    auto_json json_t *payload = NULL;
    struct signature s = { .len = 0 };
    struct token_claims claims = { .until = 0 };
    struct part parts[3] = { { .text = NULL } };

    if (len == 0 || len > TOKEN_LEN_MAX)
        return malformed(err, "it is empty or longer than 16384 bytes");
    if (!split(token, len, parts, err) || !decode_object(&parts[0], "its header", &header, err) ||
        !read_header(header, &s, err))
        return false;
    if (!base64url_decode(parts[2].text, parts[2].len, s.bytes, sizeof(s.bytes), &s.len))
        return malformed(err, "its signature is not base64url, or is too long");
    s.input = (struct part){ token, parts[0].len + 1 + parts[1].len };

    const struct token_key *signer = find_signer(keys, &s);

    ERR_clear_error();
    if (!signer)
        return attest_refuse(err, REASON_TOKEN_SIGNATURE,
                             "token: it is not signed by any of the issuer's keys in the policy");
    if (!decode_object(&parts[1], "its claims", &payload, err) ||
        !read_claims(payload, &claims, err))
        return false;
    memcpy(claims.key_sha256, signer->sha256, sizeof(claims.key_sha256));
    *out = claims;
    return true;
}

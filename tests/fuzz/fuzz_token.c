/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/token.h"
#include "tests/fuzz/fuzz.h"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The first byte chooses: a token without a valid signature, a key set, or claims. Claims are signed
 * here, because the parser reads nothing before it has verified the signature. */

#define KEYS                                                              \
    "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"example-2\"," \
    "\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","              \
    "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}]}"

static bool is_text(const char *text)
{
    return strnlen(text, CLAIMS_TEXT_MAX + 1) <= CLAIMS_TEXT_MAX;
}

static void check_claims(const struct token_claims *claims)
{
    if (!is_text(claims->issuer) || !is_text(claims->subject) || !is_text(claims->node) ||
        claims->issuer[0] == '\0' || claims->subject[0] == '\0' || claims->n_audiences == 0 ||
        claims->n_audiences > CLAIMS_AUDIENCES_MAX || claims->until < 0 || claims->not_before < 0)
        abort();
    for (size_t i = 0; i < claims->n_audiences; i++)
        if (!is_text(claims->audiences[i]) || claims->audiences[i][0] == '\0')
            abort();
}

static void unsigned_token(const char *token, size_t len)
{
    static struct token_keys keys;
    struct token_claims claims;
    struct error err = ERROR_INIT;

    if (keys.n == 0 && !token_keys_parse(KEYS, strlen(KEYS), &keys, &err))
        abort();
    if (token_verify(token, len, &keys, &claims, &err) || err.reason[0] == '\0')
        abort();
}

static void key_set(const char *json, size_t len)
{
    struct token_keys keys = { .n = 0 };
    struct error err = ERROR_INIT;

    if (!token_keys_parse(json, len, &keys, &err))
        return;
    if (keys.n == 0 || keys.n > TOKEN_KEYS_MAX)
        abort();
    for (size_t i = 0; i < keys.n; i++)
        if (!keys.keys[i].key || !is_text(keys.keys[i].id))
            abort();
    token_keys_free(&keys);
}

static size_t base64url(const uint8_t *bytes, size_t len, char *out)
{
    size_t n = (size_t)EVP_EncodeBlock((uint8_t *)out, bytes, (int)len);

    while (n > 0 && out[n - 1] == '=')
        n--;
    for (size_t i = 0; i < n; i++)
        out[i] = (char)(out[i] == '+' ? '-' : out[i] == '/' ? '_' : out[i]);
    return n;
}

static EVP_PKEY *signing_key(void)
{
    static EVP_PKEY *key;

    if (!key)
        key = EVP_RSA_gen(2048);
    if (!key)
        abort();
    return key;
}

static void signed_claims(const uint8_t *json, size_t len)
{
    static char token[2 * TOKEN_LEN_MAX] = "eyJhbGciOiJSUzI1NiJ9."; /* {"alg":"RS256"} */
    struct token_keys keys = { .n = 1, .keys = { { .is_rsa = true, .key = signing_key() } } };
    uint8_t signature[256];
    size_t at = 21, signature_len = sizeof(signature);
    struct token_claims claims;
    struct error err = ERROR_INIT;
    EVP_MD_CTX *context = EVP_MD_CTX_new();

    at += base64url(json, len, token + at);
    if (!context || EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, keys.keys[0].key) != 1 ||
        EVP_DigestSign(context, signature, &signature_len, (uint8_t *)token, at) != 1)
        abort();
    EVP_MD_CTX_free(context);
    token[at++] = '.';
    at += base64url(signature, signature_len, token + at);
    if (token_verify(token, at, &keys, &claims, &err))
        check_claims(&claims);
    else if (strcmp(err.reason, "TokenMalformed") != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    if (len < 2 || len > TOKEN_LEN_MAX)
        return 0;
    if (bytes[0] % 3 == 0)
        unsigned_token((const char *)bytes + 1, len - 1);
    else if (bytes[0] % 3 == 1)
        key_set((const char *)bytes + 1, len - 1);
    else
        signed_claims(bytes + 1, len - 1);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/claims.h"

/*
 * Owner proof by token: a service account's JWT (RFC 7519, RFC 7515 compact form; RS256 or ES256),
 * as Kubernetes projects it for one audience. A policy pins the keys as a JSON Web Key Set (RFC
 * 7517: what `kubectl get --raw /openid/v1/jwks` prints). OpenSSL verifies the signatures.
 */
#define TOKEN_LEN_MAX  16384u
#define TOKEN_KEYS_MAX 16

struct token_key {
    char id[CLAIMS_TEXT_MAX + 1]; /* kid; "" when it has none */
    bool is_rsa;                  /* otherwise EC P-256 */
    uint8_t sha256[32];           /* over its SubjectPublicKeyInfo */
    EVP_PKEY *key;                /* owned */
};

struct token_keys {
    size_t n;
    struct token_key keys[TOKEN_KEYS_MAX];
};

/* json: one JWK set as text. RSA below 2048 bits, other curves and symmetric keys are refused:
 * INVALID_ARGUMENT. Keys that are not for signatures are left out. */
MUST_USE bool token_keys_parse(const char *json, size_t len, struct token_keys *out,
                               struct error *err);
void token_keys_free(struct token_keys *keys);

/*
 * Checks the form, checks that one of the keys made the signature, and reads the claims. The policy
 * judges issuer, audience, subject and dates. DENIED: TokenMalformed, TokenAlgorithm,
 * TokenSignature.
 */
MUST_USE bool token_verify(const char *token, size_t len, const struct token_keys *keys,
                           struct token_claims *out, struct error *err);

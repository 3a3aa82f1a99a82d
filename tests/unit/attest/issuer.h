/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "policy/token.h"

/* Signs tokens and certificates for tests, right and wrong ones. Ends the test when OpenSSL fails.
 * The caller frees all texts. */

EVP_PKEY *rsa_key(unsigned bits);
EVP_PKEY *ec_key(const char *curve);

/* One JSON Web Key; kid and extra members (",\"use\":\"sig\"") may be "". */
char *jwk_of(EVP_PKEY *key, const char *kid, const char *extra);
/* {"keys":[...]} with up to two keys. */
char *jwks_of(const char *first, const char *second);

/* Signs header and payload as given, with the algorithm of the key's type. */
char *token_of(const char *header, const char *payload, EVP_PKEY *key);
char *base64url_of(const void *bytes, size_t len);

struct certificate_options {
    const char *name;
    bool is_ca;
    int64_t from, until; /* seconds since 1970 */
    const char *digest;  /* NULL: SHA256 */
};
/* issuer NULL: self-signed. */
X509 *certificate_of(const struct certificate_options *options, EVP_PKEY *key, X509 *issuer,
                     EVP_PKEY *issuer_key);
/* PEM of up to three certificates, one after the other; NULL ends the list. */
char *pem_of(X509 *first, X509 *second, X509 *third);
/* The same as the content of a JSON string: line ends are \n. */
char *pem_in_json(X509 *first, X509 *second);

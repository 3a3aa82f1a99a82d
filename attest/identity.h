/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"
#include "base/secret.h"

#include <stdint.h>

/*
 * A TLS key that is made in this process and dies with it. The quote vouches for this key. Its
 * certificate is self-signed and proves nothing.
 */
#define KEY_SHA256_LEN 32

struct identity {
    struct secret private_key_pem; /* EC P-256 */
    char *certificate_pem;         /* self-signed, valid for 10 years */
    char *request_pem;             /* PKCS#10, for an owner's CA to sign */
    uint8_t key_sha256[KEY_SHA256_LEN];
};

/* common_name: for people, at most 64 bytes. */
MUST_USE bool identity_new(const char *common_name, struct identity *out, struct error *err);
void identity_wipe(struct identity *identity);
#define auto_identity CLEANUP(identity_wipe)

/* SHA-256 over the SubjectPublicKeyInfo (DER) of the first certificate in pem. */
MUST_USE bool key_sha256_of_certificate(const char *pem, uint8_t out[static KEY_SHA256_LEN],
                                        struct error *err);

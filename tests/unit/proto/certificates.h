/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

/* Throw-away ECDSA certificates, made in the test. Ends the test when OpenSSL fails. */
struct test_identity {
    char *certificate_pem, *key_pem;
    void *certificate, *key; /* X509, EVP_PKEY */
};

void test_identity_make(struct test_identity *out, const char *name,
                        const struct test_identity *issuer);
void test_identity_free(struct test_identity *identity);

/* Connects by OpenSSL, without gRPC. identity NULL: shows no certificate. Returns whether the
 * handshake succeeded and the server sent something over the connection. */
int tls_connects(int port, int max_version, const struct test_identity *identity);

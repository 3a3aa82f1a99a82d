/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/claims.h"
#include "attest/identity.h"
#include "base/error.h"
#include "base/secret.h"

#include <stddef.h>

/* Wraps OpenSSL's X.509: which client certificates are valid, and what they say. */

struct pki_trust;

/* The CA certificates in one PEM file: roots and also intermediates, because a client sends only
 * its own certificate. INVALID_ARGUMENT when the file has none. */
MUST_USE bool pki_trust_new(const char *pem, struct pki_trust **out, struct error *err);
void pki_trust_free(struct pki_trust **trust);
#define auto_pki_trust CLEANUP(pki_trust_free)

/* A client's certificate as the client sent it; nothing is verified. */
struct pki_client {
    X509 *certificate;
    uint8_t key_sha256[KEY_SHA256_LEN];
};
/* UNAUTHENTICATED when it cannot be read. */
MUST_USE bool pki_client_read(const char *pem, struct pki_client *out, struct error *err);
void pki_client_free(struct pki_client *client);
#define auto_pki_client CLEANUP(pki_client_free)

/* UNAUTHENTICATED unless the chain, the dates and the purpose (client) are valid now. The common
 * name is "" unless there is exactly one and it is printable and short enough. Thread-safe. */
MUST_USE bool pki_verify_client(const struct pki_trust *trust, const struct pki_client *client,
                                struct certificate_claims *out, struct error *err);

/* Checks the broker's own certificate: it must have an EC key, be valid now and belong to
 * the private key. *until: when it expires, in seconds since 1970. */
MUST_USE bool pki_check_server(const char *certificate_pem, const struct secret *private_key_pem,
                               int64_t *until, struct error *err);

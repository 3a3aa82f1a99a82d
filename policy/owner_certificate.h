/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/certificate.h"
#include "attest/claims.h"

/*
 * Owner proof by certificate: a chain for the TLS client key that was made inside the TD. It comes
 * from a CA that the owner runs and a policy pins. The system's trust store and revocation lists
 * are not used: such certificates should live for days.
 */
#define OWNER_CHAIN_LEN_MAX 32768u /* bytes of PEM */
#define OWNER_CHAIN_MAX     5      /* certificates, without the pinned CA */

/* Reads 1 to max CA certificates from PEM; the caller frees each. INVALID_ARGUMENT. */
MUST_USE bool owner_cas_parse(const char *pem, size_t len, X509 **out, size_t max, size_t *n,
                              struct error *err);

/* pem: the leaf first. DENIED: OwnerCertificate. */
MUST_USE bool owner_certificate_verify(X509 *const *cas, size_t n_cas, const char *pem, size_t len,
                                       const uint8_t key_sha256[static 32], int64_t now,
                                       struct owner_claims *out, struct error *err);

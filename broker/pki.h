/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/claims.h"
#include "base/error.h"
#include "base/secret.h"

#include <stddef.h>

/* The door to OpenSSL's X.509: which client certificates are good, and what they say. */

struct pki_trust;

/* The CA certificates (roots and intermediates: a client sends its own certificate alone) in one
 * PEM file. INVALID_ARGUMENT when there is none. */
MUST_USE bool pki_trust_new(const char *pem, struct pki_trust **out, struct error *err);
void pki_trust_free(struct pki_trust **trust);
#define auto_pki_trust CLEANUP(pki_trust_free)

/* UNAUTHENTICATED unless the chain, the dates and the purpose (client) are good now. The common name
 * is "" unless there is exactly one, printable and short enough. Thread-safe. */
MUST_USE bool pki_verify_client(const struct pki_trust *trust, const char *pem,
                                struct certificate_claims *out, struct error *err);

/* For start-up: an EC certificate, valid now, that belongs to the key. */
MUST_USE bool pki_check_server(const char *certificate_pem, const struct secret *private_key_pem,
                               struct error *err);

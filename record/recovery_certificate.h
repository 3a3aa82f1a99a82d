/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/digest.h"
#include "record/record.h"

/*
 * The owner's offline recovery certificate: whoever has its private key opens the volumes that were
 * formatted with it, without the broker (docs/recovery.md). Policy, worker and tdvolctl accept the same
 * ones: RSA of 3072 to 8192 bits, or ECDH on P-256 or P-384. Its dates and its issuer do not count: it
 * names a key that somebody keeps for years.
 */
#define RECOVERY_SERIAL_MAX 20 /* bytes, as RFC 5280 demands */

struct recovery_certificate {
    uint32_t len;
    uint8_t der[RECOVERY_CERTIFICATE_MAX];
    uint8_t sha256[SHA256_LEN]; /* of der */
    char serial[2 * RECOVERY_SERIAL_MAX + 1];
};

/* INVALID_ARGUMENT says what is wrong with it. */
MUST_USE bool recovery_certificate_read(const uint8_t *der, size_t len,
                                        struct recovery_certificate *out, struct error *err);
/* PEM with this one certificate and nothing secret. */
MUST_USE bool recovery_certificate_read_pem(const char *pem, size_t len,
                                            struct recovery_certificate *out, struct error *err);

/* "RSA 4096, CN=..., until DATE", for people. */
#define RECOVERY_TEXT_LEN 192
MUST_USE bool recovery_certificate_text(const struct recovery_certificate *certificate,
                                        char out[static RECOVERY_TEXT_LEN], struct error *err);

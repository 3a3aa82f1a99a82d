/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

/* A certificate that signs itself, and its key, made for one test. */
struct certificate_wish {
    const char *kind;  /* "RSA-3072", "P-384", "ED25519" */
    const char *usage; /* keyUsage, as in OpenSSL's configuration; NULL: none */
    size_t name_len;   /* of the common name; 0: a short one */
    size_t serial_len; /* in bytes; 0: 8 */
};

struct made_certificate {
    char *key_pem, *pem;
    uint8_t *der;
    size_t der_len;
};
struct made_certificate make_certificate(const struct certificate_wish *wish);
void made_certificate_free(struct made_certificate *made);
#define auto_made_certificate CLEANUP(made_certificate_free)

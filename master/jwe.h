/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"
#include "base/secret.h"

#include <stddef.h>

/*
 * A short secret, encrypted to a key that lives for one exchange: JSON Web Encryption (RFC 7516) in its
 * flattened JSON form, with ECDH-ES+A256KW over P-256 (RFC 7518, 4.6) and A256GCM. Nothing else is read,
 * so that the sender cannot choose anything weaker.
 */
#define JWE_COORDINATE_LEN 32u
#define JWE_PLAIN_MAX      256u /* bytes */

struct jwe_key {
    struct secret private_key; /* 32 bytes, the number in the machine's byte order */
    uint8_t public_key[2 * JWE_COORDINATE_LEN]; /* x and y, big-endian */
};
#define JWE_KEY_INIT               \
    {                              \
        .private_key = SECRET_INIT \
    }
MUST_USE bool jwe_key_generate(struct jwe_key *out, struct error *err);
void jwe_key_wipe(struct jwe_key *key);
#define auto_jwe_key CLEANUP(jwe_key_wipe)

/* The public key as JSON Web Key (RFC 7517). It is in canonical form (RFC 8785), so it can be hashed. */
#define JWE_JWK_LEN 192u
void jwe_key_text(const struct jwe_key *key, char out[static JWE_JWK_LEN]);

/* INVALID_ARGUMENT names the member that is missing, additional or wrong. DENIED: the message was changed,
 * or encrypted to another key. */
MUST_USE bool jwe_open(const struct jwe_key *key, const void *text, size_t len, struct secret *out,
                       struct error *err);

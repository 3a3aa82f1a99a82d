/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/secret.h"
#include "record/recovery_certificate.h"

#include <jansson.h>

/*
 * The token in a volume's LUKS2 header from which the owner's offline key gets the volume's passphrase,
 * without the broker:
 *
 *   { "type": "tdvol-recovery", "keyslots": ["0"], "certificate": SHA-256 in hex, "serial": in hex,
 *     "cms": base64 }
 *
 * cms is a CMS message (RFC 5652, RFC 5083: AuthEnvelopedData, AES-256-GCM, RSA-OAEP or ECDH, one
 * recipient) of the 32 bytes that cryptsetup takes as key file. "openssl cms -decrypt" reads it. The
 * parts of other tokens are refused: the form is exactly this one.
 */
#define RECOVERY_TOKEN_TYPE "tdvol-recovery"
#define RECOVERY_CMS_MAX    3072

struct recovery_token {
    uint8_t certificate_sha256[SHA256_LEN];
    char serial[2 * RECOVERY_SERIAL_MAX + 1];
    size_t cms_len;
    uint8_t cms[RECOVERY_CMS_MAX];
};

/* Encrypts the passphrase to the certificate's key. */
MUST_USE bool recovery_token_make(const struct recovery_certificate *certificate,
                                  const struct secret *passphrase, struct recovery_token *out,
                                  struct error *err);

/* The caller releases it. NULL: no memory. */
json_t *recovery_token_json(const struct recovery_token *token);
/* False for anything that recovery_token_json() does not write. */
MUST_USE bool recovery_token_parse(const json_t *json, struct recovery_token *out);

/* An offline key as PEM, perhaps with a passphrase. */
struct recovery_key;
/* ask gives the passphrase of an encrypted key, at most size bytes; it returns their number, or -1.
 * INVALID_ARGUMENT when it is no private key, or the passphrase is wrong. */
typedef int recovery_ask(char *buffer, int size, void *cookie);
MUST_USE bool recovery_key_read(const struct secret *pem, recovery_ask *ask, void *cookie,
                                struct recovery_key **out, struct error *err);
void recovery_key_free(struct recovery_key **key);
#define auto_recovery_key CLEANUP(recovery_key_free)

/* FAILED_PRECONDITION "KeyMismatch" when the token is for another key, or was changed. */
MUST_USE bool recovery_token_open(const struct recovery_token *token,
                                  const struct recovery_key *key, struct secret *passphrase,
                                  struct error *err);

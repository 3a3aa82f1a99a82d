/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"
#include "base/secret.h"

#include <stddef.h>

/*
 * HPKE (RFC 9180), base mode, single shot: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.
 * Seals a short secret to a public key. All sizes are fixed, so that nothing is parsed. Tests check
 * it by the vectors of RFC 9180 appendix A (KEM, key schedule) and of the CFRG's file for this
 * suite.
 */
#define HPKE_PUBLIC_LEN 32
#define HPKE_TAG_LEN    16
/* A sealed message is the encapsulated key followed by ciphertext and tag. */
#define HPKE_SEALED_LEN(plain_len) (HPKE_PUBLIC_LEN + (plain_len) + HPKE_TAG_LEN)
#define HPKE_PLAIN_MAX             256

struct hpke_key_pair {
    struct secret private_key;
    uint8_t public_key[HPKE_PUBLIC_LEN];
};

/* inherited: forked children keep the private key (tdvol-blockd). */
MUST_USE bool hpke_generate(struct hpke_key_pair *out, bool inherited, struct error *err);
void hpke_key_pair_wipe(struct hpke_key_pair *pair);
#define auto_hpke_key_pair CLEANUP(hpke_key_pair_wipe)

/* out_len is HPKE_SEALED_LEN(plain->len). info binds the purpose, aad the circumstances. */
MUST_USE bool hpke_seal(const uint8_t public_key[static HPKE_PUBLIC_LEN], const void *info,
                        size_t info_len, const void *aad, size_t aad_len,
                        const struct secret *plain, uint8_t *out, size_t out_len,
                        struct error *err);

/* DENIED when the message was changed, or sealed to another key or with another info or aad. */
MUST_USE bool hpke_open(const struct hpke_key_pair *pair, const void *info, size_t info_len,
                        const void *aad, size_t aad_len, const uint8_t *sealed, size_t sealed_len,
                        struct secret *out, struct error *err);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/hpke.h"
#include "master/key.h"

/*
 * The master key on its way from an open broker to one that has none: sealed to the key that the other's quote
 * vouches for (Replicate in proto/keybroker.proto).
 */
#define REPLICA_NONCE_LEN  32u
#define REPLICA_SEALED_LEN HPKE_SEALED_LEN(MASTER_KEY_LEN)

/* What the sealed key is good for: one question, put to one broker. */
struct replica_binding {
    uint8_t broker_key_sha256[32]; /* of the TLS key of who sealed it */
    uint8_t nonce[REPLICA_NONCE_LEN];
};

MUST_USE bool replica_seal(const uint8_t public_key[static HPKE_PUBLIC_LEN],
                           const struct replica_binding *binding, const struct secret *key,
                           uint8_t out[static REPLICA_SEALED_LEN], struct error *err);

/* DENIED: it was changed, or sealed for another question, by another broker, or to another key. */
MUST_USE bool replica_open(const struct hpke_key_pair *pair, const struct replica_binding *binding,
                           const void *sealed, size_t len, struct secret *out, struct error *err);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/hpke.h"
#include "record/record.h"

/*
 * The broker seals a volume's secret to the worker that opens the volume (HPKE, base/hpke.h); the
 * worker unseals it. The sealed secret is bound to the record, the key and the key's generation: it
 * cannot be used for another one. See OpenVolumeResponse in proto/keybroker.proto.
 */
#define SEALED_SECRET_LEN HPKE_SEALED_LEN(VOLUME_SECRET_LEN)

struct sealed_secret {
    uint8_t bytes[SEALED_SECRET_LEN];
};

/* INVALID_ARGUMENT when public_key is not a valid key. */
MUST_USE bool secret_seal(const struct record *record, const struct secret *secret,
                          const uint8_t public_key[static HPKE_PUBLIC_LEN],
                          struct sealed_secret *out, struct error *err);

/* DENIED when the secret was sealed to another public key, or for another record. */
MUST_USE bool secret_unseal(const struct record *record, const struct sealed_secret *sealed,
                            const struct hpke_key_pair *pair, struct secret *out,
                            struct error *err);

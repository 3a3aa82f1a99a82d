/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/hpke.h"
#include "record/record.h"

/*
 * How the broker seals the secret of a volume to the worker that opens it (HPKE, base/hpke.h), and how
 * that opens it. Bound to the record, the key and its generation: a sealed secret is good for
 * nothing else. See OpenVolumeResponse in proto/keybroker.proto.
 */
#define SEALED_SECRET_LEN HPKE_SEALED_LEN(VOLUME_SECRET_LEN)

struct sealed_secret {
    uint8_t bytes[SEALED_SECRET_LEN];
};

/* INVALID_ARGUMENT for a public key that is none. */
MUST_USE bool secret_seal(const struct record *record, const struct secret *secret,
                          const uint8_t public_key[static HPKE_PUBLIC_LEN],
                          struct sealed_secret *out, struct error *err);

/* DENIED when it was sealed to another key, or for another record. */
MUST_USE bool secret_unseal(const struct record *record, const struct sealed_secret *sealed,
                            const struct hpke_key_pair *pair, struct secret *out,
                            struct error *err);

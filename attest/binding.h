/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stdint.h>

/*
 * REPORTDATA binds a session's keys to the TD. Node and broker each compute it from their own
 * knowledge; it is not sent. See AttestRequest in proto/keybroker.proto.
 */
#define BINDING_LEN 32 /* bytes of each part */

struct binding {
    uint8_t nonce[BINDING_LEN];              /* from the broker, for one attempt */
    uint8_t client_key_sha256[BINDING_LEN];  /* SubjectPublicKeyInfo of the TLS client key */
    uint8_t sealing_key_sha256[BINDING_LEN]; /* the X25519 key made in tdvol-blockd */
    uint8_t broker_key_sha256[BINDING_LEN];  /* SubjectPublicKeyInfo of the broker's certificate */
};

/* SHA-512("tdvol attest v1", padded with NUL to 32 bytes, then the four parts in this order). */
MUST_USE bool binding_report_data(const struct binding *binding, uint8_t out[static 64],
                                  struct error *err);

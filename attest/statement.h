/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/digest.h"

/*
 * What a broker says about itself (GetStatement and GetEvidence in proto/keybroker.proto): what it
 * signs, and what its quote is about. The nonce is from whoever asks.
 */
#define STATEMENT_NONCE_LEN    32
#define BROKER_EVIDENCE_REASON "BrokerEvidence" /* it was not shown, or is not good enough */
#define STATEMENT_SIGNED_LEN   (32 + STATEMENT_NONCE_LEN + SHA256_LEN)

/* "tdvol v1 statement", padded with NUL to 32 bytes; the nonce; the SHA-256 of the statement. */
MUST_USE bool statement_signed(const uint8_t nonce[static STATEMENT_NONCE_LEN],
                               const void *statement, size_t len,
                               uint8_t out[static STATEMENT_SIGNED_LEN], struct error *err);

/* REPORTDATA of the broker's own quote: SHA-512 over "tdvol v1 broker evidence", padded with NUL to 32
 * bytes, the nonce, and the SHA-256 of its TLS key (SubjectPublicKeyInfo). */
MUST_USE bool statement_report_data(const uint8_t nonce[static STATEMENT_NONCE_LEN],
                                    const uint8_t key_sha256[static SHA256_LEN],
                                    uint8_t out[static SHA512_LEN], struct error *err);

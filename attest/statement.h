/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/digest.h"

/*
 * What a broker says about itself (GetStatement in proto/keybroker.proto): what it signs. The nonce
 * is from whoever asks.
 */
#define STATEMENT_NONCE_LEN  32
#define STATEMENT_SIGNED_LEN (32 + STATEMENT_NONCE_LEN + SHA256_LEN)

/* "tdvol v1 statement", padded with NUL to 32 bytes; the nonce; the SHA-256 of the statement. */
MUST_USE bool statement_signed(const uint8_t nonce[static STATEMENT_NONCE_LEN],
                               const void *statement, size_t len,
                               uint8_t out[static STATEMENT_SIGNED_LEN], struct error *err);

/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/statement.h"

#include <string.h>

bool statement_signed(const uint8_t nonce[static STATEMENT_NONCE_LEN], const void *statement,
                      size_t len, uint8_t out[static STATEMENT_SIGNED_LEN], struct error *err)
{
    static const char label[32] = "tdvol v1 statement";

    memcpy(out, label, sizeof(label));
    memcpy(out + sizeof(label), nonce, STATEMENT_NONCE_LEN);
    return sha256(statement, len, out + sizeof(label) + STATEMENT_NONCE_LEN, err);
}

bool statement_report_data(const uint8_t nonce[static STATEMENT_NONCE_LEN],
                           const uint8_t key_sha256[static SHA256_LEN],
                           uint8_t out[static SHA512_LEN], struct error *err)
{
    static const uint8_t label[32] = "tdvol v1 broker evidence";
    uint8_t all[sizeof(label) + STATEMENT_NONCE_LEN + SHA256_LEN];
    uint8_t *end = mempcpy(all, label, sizeof(label));

    end = mempcpy(end, nonce, STATEMENT_NONCE_LEN);
    (void)mempcpy(end, key_sha256, SHA256_LEN);
    return sha512(all, sizeof(all), out, err);
}

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

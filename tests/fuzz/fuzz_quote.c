/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/quote.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>

/* An accepted quote points only into the input, and its lengths add up. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct error err = ERROR_INIT;
    struct quote quote;

    if (!quote_parse(bytes, len, &quote, &err)) {
        if (err.reason[0] == '\0')
            abort();
        return 0;
    }
    const uint8_t *chain = (const uint8_t *)quote.pck_chain_pem;
    if (quote.signed_bytes != bytes || quote.signature < bytes + quote.signed_len ||
        chain < quote.qe_auth_data + quote.qe_auth_len || chain + quote.pck_chain_len > bytes + len)
        abort();
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/state_block.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

/* A state block whose MAC is right: what is accepted is the same again after it was written. */

#define MAC_OFFSET (LAYOUT_STATE_BYTES - SHA256_LEN)

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static struct secret key = SECRET_INIT;
    static struct state_block first, second;
    uint8_t block[LAYOUT_STATE_BYTES] = { 0 };
    struct error err = ERROR_INIT;

    if (!key.bytes && !secret_alloc(&key, SHA256_LEN, &err))
        abort();
    memcpy(block, bytes, len < MAC_OFFSET ? len : MAC_OFFSET);
    if (!hmac_sha256(&key, block, MAC_OFFSET, block + MAC_OFFSET, &err))
        abort();
    if (!state_block_decode(block, &key, &first, &err))
        return 0;
    if (!state_block_encode(&first, &key, block, &err) ||
        !state_block_decode(block, &key, &second, &err))
        abort();
    bool same = first.sequence == second.sequence && first.open_counter == second.open_counter &&
                first.filesystem_bytes == second.filesystem_bytes;
    if (!same)
        abort();
    return 0;
}

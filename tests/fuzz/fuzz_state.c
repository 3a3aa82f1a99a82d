/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/state_block.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

/* A state block with a right MAC. An accepted one has extents in range, and is the same after it was
 * written and read again. */

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
    if (first.n_extents > RECORD_EXTENTS_MAX || !state_block_encode(&first, &key, block, &err) ||
        !state_block_decode(block, &key, &second, &err))
        abort();
    bool same = first.sequence == second.sequence && first.open_counter == second.open_counter &&
                first.filesystem_made == second.filesystem_made &&
                first.n_extents == second.n_extents;
    for (uint32_t i = 0; same && i < first.n_extents; i++)
        same = first.extents[i].start_bytes == second.extents[i].start_bytes &&
               first.extents[i].slot == second.extents[i].slot &&
               first.extents[i].done == second.extents[i].done;
    if (!same)
        abort();
    return 0;
}

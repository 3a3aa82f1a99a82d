/* SPDX-License-Identifier: Apache-2.0 */
#include "master/shares.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

/* What is taken for a share has all its parts, and combining it says yes or no. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct error err = ERROR_INIT;
    auto_secret struct secret text = SECRET_INIT, key = SECRET_INIT;
    auto_share struct share share = SHARE_INIT;

    if (len == 0 || len > 4096 || !secret_alloc(&text, len, &err))
        return 0;
    memcpy(text.bytes, bytes, len);
    if (!share_parse(&text, &share, &err))
        return 0;
    if (share.threshold < 1 || share.threshold > SHARES_MAX || share.number < 1 ||
        share.number > SHARES_MAX || share.value.len != MASTER_KEY_LEN)
        abort();
    if (shares_combine(&share, 1, &key, &err) && key.len != MASTER_KEY_LEN)
        abort();
    return 0;
}

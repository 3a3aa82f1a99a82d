/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/fuzz.h"
#include "tests/unit/blockd/lying_front.h"

/* A front that was taken over, against a worker; the first byte says for which operation. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static const enum block_operation operations[] = { BLOCK_STAGE, BLOCK_STAGE, BLOCK_UNSTAGE,
                                                       BLOCK_EXPAND };
    struct error err = ERROR_INIT;
    struct deeds deeds;

    if (len == 0)
        return 0;
    const struct front_script script = { .bytes = bytes + 1, .len = len - 1 };

    lying_front_run(operations[bytes[0] % 4], bytes[0] & 16, (bytes[0] & 96) == 96, &script, &deeds,
                    &err);
    return 0;
}

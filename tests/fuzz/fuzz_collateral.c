/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/collateral.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>

/* The first byte chooses: TCB info, QE identity, or a response with its signature. Levels that are
 * accepted are sorted, highest first. */

static void check_levels(const struct tcb_level *levels, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (levels[i].status > TCB_REVOKED || levels[i].advisories.n > ADVISORIES_MAX)
            abort();
        if (i > 0 && levels[i - 1].isv_svn < levels[i].isv_svn)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    auto_arena struct arena arena = { .limit = 8u * 1024 * 1024 };
    struct error err = ERROR_INIT;
    struct bytes_view object, signature;
    struct tcb_info info;
    struct qe_identity qe;

    if (len < 1)
        return 0;
    const struct bytes_view rest = { bytes + 1, len - 1 };
    if (bytes[0] % 3 == 0 && tcb_info_parse(rest, &arena, &info, &err))
        for (size_t i = 0; i < info.n_modules; i++)
            check_levels(info.modules[i].levels, info.modules[i].n_levels);
    else if (bytes[0] % 3 == 1 && qe_identity_parse(rest, &arena, &qe, &err))
        check_levels(qe.levels, qe.n_levels);
    else if (bytes[0] % 3 == 2 &&
             collateral_split_response("tcbInfo", rest, &object, &signature, &err) &&
             (object.bytes < bytes || signature.bytes + signature.len > bytes + len))
        abort();
    return 0;
}

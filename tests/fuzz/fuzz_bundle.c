/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/collateral_set.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

/* An accepted bundle can be written again, and reading that gives the same. */

static bool is_same(void *cookie, const struct collateral_set *set, struct error *err)
{
    const struct collateral_set *first = cookie;

    (void)err;
    if (set->ca != first->ca || memcmp(set->fmspc, first->fmspc, FMSPC_LEN) != 0 ||
        set->source.pck_crl.len != first->source.pck_crl.len ||
        memcmp(set->source.pck_crl.bytes, first->source.pck_crl.bytes, set->source.pck_crl.len) !=
            0)
        abort();
    return true;
}

static bool write_again(void *cookie, const struct collateral_set *set, struct error *err)
{
    struct collateral_set copy = *set;
    auto_free char *text = NULL;

    (void)cookie;
    if (!collateral_bundle_print(&set, 1, &text, err) ||
        !collateral_bundle_walk(text, strlen(text), is_same, &copy, err))
        abort();
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct error err = ERROR_INIT;

    if (collateral_bundle_walk((const char *)bytes, len, write_again, NULL, &err) ==
        (err.code != ERROR_NONE))
        abort();
    return 0;
}

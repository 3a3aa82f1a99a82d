/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/certificate.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>

/* An accepted extension has an SGX type that exists; a refused one has a reason. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct error err = ERROR_INIT;
    struct pck_platform platform;

    if (pck_extension_parse(bytes, len, &platform, &err) ? platform.sgx_type > 2
                                                         : err.reason[0] == '\0')
        abort();
    return 0;
}
